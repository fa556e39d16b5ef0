"""The quickstart's raw data: scikit-learn's breast cancer data as CSV shards.

The file that scikit-learn ships is read without an import of scikit-learn. That import takes about a second, also in a
flow that skips every step.
"""

from __future__ import annotations

import csv
import importlib.util
import io
from pathlib import Path

LABEL = "malignant"

# In the order of the data set: the mean, the standard error and the worst value of ten measurements of a cell nucleus.
# Source: W. Street, W. Wolberg, O. Mangasarian, "Nuclear feature extraction for breast tumor diagnosis", 1993.
MEASUREMENTS = (
    "radius",
    "texture",
    "perimeter",
    "area",
    "smoothness",
    "compactness",
    "concavity",
    "concave_points",
    "symmetry",
    "fractal_dimension",
)
FEATURES = tuple(f"{kind}_{name}" for kind in ("mean", "error", "worst") for name in MEASUREMENTS)


def write_shards(directory: str | Path, *, shards: int = 8) -> Path:
    """Write the data as CSV files with a header each; the same arguments always give the same bytes.

    Files that already have the right content are not written again. Shards of a call with another number are deleted.

    Args:
        directory: The directory for the files; created if it does not exist.
        shards: Number of files, at least 1; default 8.

    Returns:
        The absolute path of the directory.

    Raises:
        FileNotFoundError: scikit-learn is not installed, or no longer ships the file.
    """
    target = Path(directory).absolute()
    target.mkdir(parents=True, exist_ok=True)
    files = shard_files(_rows(), shards)
    for stale in set(target.glob("breast-cancer-*-of-*.csv")) - {target / name for name in files}:
        stale.unlink()
    for name, content in files.items():
        path = target / name
        if not path.is_file() or path.read_bytes() != content:
            path.write_bytes(content)
    return target


def shard_files(rows: list[list[str]], shards: int) -> dict[str, bytes]:
    """Split the rows into `shards` files of consecutive rows; return file name -> content."""
    if shards < 1:
        raise ValueError(f"The data cannot be written to {shards} files: name at least 1 shard.")
    cuts = [len(rows) * number // shards for number in range(shards + 1)]
    return {
        f"breast-cancer-{number:02d}-of-{shards:02d}.csv": _csv(rows[cuts[number] : cuts[number + 1]])
        for number in range(shards)
    }


def _csv(rows: list[list[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([[*FEATURES, LABEL], *rows])
    return text.getvalue().encode()


def _rows() -> list[list[str]]:
    """Return the rows as text: 30 features in shortest form, and the label: 1 for malignant (0 in the file)."""
    with _shipped_file().open(newline="") as file:
        lines = list(csv.reader(file))[1:]
    return [[*(repr(float(value)) for value in line[:-1]), str(1 - int(line[-1]))] for line in lines]


def _shipped_file() -> Path:
    spec = importlib.util.find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise FileNotFoundError(
            "scikit-learn is not installed. To resolve this: pip install 'prefect-sagemaker[quickstart]'."
        )
    path = Path(spec.origin).parent / "datasets" / "data" / "breast_cancer.csv"
    if not path.is_file():
        raise FileNotFoundError(
            f"This scikit-learn ships no {path}. To resolve this: install the version in the constraints file."
        )
    return path
