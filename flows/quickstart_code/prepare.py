"""Split the raw rows into train and test, and bring the features to comparable scales.

The script runs on any number of hosts. With `ShardedByS3Key` each host sees only some of the files in channel `raw`, so
the output for a row must depend only on that row.

- The split depends on a hash of the row's text, not on its position. So a row is in the same split however the files
  are distributed.
- The scaling is `log(1 + x)` for every value. Mean and standard deviation would differ from host to host. `fit.py`,
  which sees all training rows, computes them and stores them in the model.
"""

import argparse
import csv
import hashlib
import math
import os
from pathlib import Path


def belongs_to_test(row: list[str], fraction: float) -> bool:
    """Return whether the row is in the test split: its hash, as a number from 0 to 1, is below the fraction."""
    digest = hashlib.sha256(",".join(row).encode()).digest()
    return int.from_bytes(digest[:8], "big") < fraction * 2**64


def scaled(row: list[str]) -> list[str]:
    """Return the features on a log scale (areas reach 4254, smoothness stays below 0.2) and the unchanged label."""
    return [f"{math.log1p(float(value)):.6f}" for value in row[:-1]] + row[-1:]


def main() -> None:
    """Read this host's files and write this host's part of both splits."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--test-fraction", type=float, default=0.25)
    args = parser.parse_args()

    host = os.environ["SM_CURRENT_HOST"]
    header: list[str] = []
    splits: dict[str, list[list[str]]] = {"train": [], "test": []}
    for path in sorted(Path(os.environ["SM_CHANNEL_RAW"]).rglob("*.csv")):
        with path.open(newline="") as file:
            header, *rows = csv.reader(file)
        for row in rows:
            splits["test" if belongs_to_test(row, args.test_fraction) else "train"].append(scaled(row))
        print(f"{path.name}: {len(rows)} rows", flush=True)

    for split, rows in splits.items():
        part = Path(os.environ["SM_OUTPUT_DATA_DIR"], split, f"part-{host}.csv")
        part.parent.mkdir(parents=True, exist_ok=True)
        with part.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([header, *rows] if header else [])
    print(f"{len(splits['train'])} rows to train, {len(splits['test'])} to test", flush=True)


if __name__ == "__main__":
    main()
