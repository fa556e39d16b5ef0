"""Fit price = slope * area + offset by gradient descent. Needs only Python 3.9 and its standard library.

Each epoch writes a checkpoint to `$SSM_STATE`, which is kept after the job. If a job is interrupted, or a later one has
more epochs, training continues from there.
"""

import argparse
import csv
import hashlib
import json
import os
from math import sqrt
from pathlib import Path
from statistics import mean

RATE = 0.3
Line = dict[str, float]
Points = list[tuple[float, float]]


def read_points(name: str) -> Points:
    """Return area and price of each house in a file of the channel `train`."""
    with Path(os.environ["SM_CHANNEL_TRAIN"], name).open() as file:
        return [(float(row["area"]), float(row["price"])) for row in csv.DictReader(file)]


def mistake(line: Line, area: float, price: float) -> float:
    """Return how far the line lies above a point: the error of its prediction."""
    return line["slope"] * area + line["offset"] - price


def step(line: Line, points: Points) -> Line:
    """Return the line after one more epoch: one step down the gradient of the mean squared error."""
    return {
        "epoch": line["epoch"] + 1,
        "slope": line["slope"] - RATE * 2 * mean(mistake(line, area, price) * area for area, price in points),
        "offset": line["offset"] - RATE * 2 * mean(mistake(line, *point) for point in points),
    }


def load(checkpoint: Path, epochs: int) -> Line:
    """Return the line of the checkpoint, or a new one if there is none or it has more epochs than wanted."""
    line: Line = json.loads(checkpoint.read_text()) if checkpoint.exists() else {}
    return line if line.get("epoch", epochs + 1) <= epochs else {"epoch": 0, "slope": 0.0, "offset": 0.0}


def save(path: Path, line: Line) -> None:
    """Write, then rename: the state is copied to S3 while the job runs, and must never contain half a file."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(line))
    partial.replace(path)


def report(line: Line, points: Points) -> None:
    """Print the root mean squared error, from which the flow reads its metric."""
    error = sqrt(mean(mistake(line, *point) ** 2 for point in points))
    print(f"epoch={line['epoch']} error={error:.4f}", flush=True)


def main() -> None:
    """Train the line and write model.json."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=12)
    epochs = parser.parse_args().epochs

    train, test = read_points("train.csv"), read_points("test.csv")
    made_from = hashlib.sha256(Path(__file__).read_bytes() + repr(train).encode()).hexdigest()[:16]
    checkpoint = Path(os.environ["SSM_STATE"], f"{made_from}.json")  # other data or code use another checkpoint
    line = load(checkpoint, epochs)
    report(line, test)
    while line["epoch"] < epochs:
        line = step(line, train)
        save(checkpoint, line)
        report(line, test)
    save(Path(os.environ["SM_MODEL_DIR"], "model.json"), line)


if __name__ == "__main__":
    main()
