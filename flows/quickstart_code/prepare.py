"""Split the raw rows into train and test, and bring the features to comparable scales.

Runs on any number of hosts. With `ShardedByS3Key` each host sees only some of the files in channel `raw`, so nothing
here may depend on what a host happens to see: one row in, one row out.

- The split looks at the row itself (a hash of its text), not at its position, so a row is on the same side however the
  files are dealt out.
- The scaling is `log(1 + x)`, the same for every value. Mean and standard deviation would differ from host to host;
  they are learnt in `fit.py`, which sees all training rows, and travel inside the model.
"""

import argparse
import csv
import hashlib
import math
import os
from pathlib import Path


def belongs_to_test(row: list[str], fraction: float) -> bool:
    """Whether the row is in the test split: its hash, as a number from 0 to 1, is below the fraction."""
    digest = hashlib.sha256(",".join(row).encode()).digest()
    return int.from_bytes(digest[:8], "big") < fraction * 2**64


def scaled(row: list[str]) -> list[str]:
    """The features on a logarithmic scale (areas reach 4254, smoothness stays below 0.2); the label, last, as it is."""
    return [f"{math.log1p(float(value)):.6f}" for value in row[:-1]] + row[-1:]


def main() -> None:
    """Read this host's files, write this host's part of both splits."""
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
