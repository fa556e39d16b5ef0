"""Drop incomplete rows, scale areas and prices, and keep every fourth row for the test."""

import csv
import os
from pathlib import Path


def in_handy_units(row: dict[str, str]) -> dict[str, float]:
    """Return the area in 100 m2 and the price in 100,000 EUR: gradient descent works well with values near 1."""
    return {"area": float(row["area_m2"]) / 100, "price": float(row["price_eur"]) / 100_000}


def main() -> None:
    """Read the channel `raw`; write train.csv and test.csv to the output."""
    with Path(os.environ["SM_CHANNEL_RAW"], "houses.csv").open() as file:
        rows = [in_handy_units(row) for row in csv.DictReader(file) if all(row.values())]
    test = rows[::4]
    train = [row for number, row in enumerate(rows) if number % 4]
    for name, part in {"train": train, "test": test}.items():
        with Path(os.environ["SM_OUTPUT_DATA_DIR"], f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ["area", "price"])
            writer.writeheader()
            writer.writerows(part)
        print(f"{name}: {len(part)} rows")


if __name__ == "__main__":
    main()
