"""The quickstart's raw data, compared with what scikit-learn loads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from flows.quickstart_data import FEATURES, write_shards


@pytest.fixture(scope="module")
def theirs():
    """The data set as scikit-learn loads it; the import is in the function because it takes seconds."""
    from sklearn.datasets import load_breast_cancer

    return load_breast_cancer()


def read(directory: Path) -> tuple[list[str], np.ndarray]:
    """Return the common header of all files, and their rows in the order of the file names."""
    parts = [path.read_text().splitlines() for path in sorted(directory.glob("*.csv"))]
    (header,) = {part[0] for part in parts}
    return header.split(","), np.array([row.split(",") for part in parts for row in part[1:]], dtype=float)


def stamps(directory: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in directory.iterdir()}


@pytest.mark.sampled(1)
@pytest.mark.parametrize("shards", [1, 8, 13])
def test_any_number_of_shards_holds_scikit_learns_data(tmp_path: Path, theirs, shards: int):
    """Any number of files together holds each value of the data set exactly, with the label 1 for malignant."""
    header, table = read(write_shards(tmp_path / "raw", shards=shards))

    assert len(list((tmp_path / "raw").iterdir())) == shards
    assert [*FEATURES, "malignant"] == header
    assert np.array_equal(theirs.data, table[:, :-1])
    assert theirs.target_names[0] == "malignant"
    assert np.array_equal(theirs.target == 0, table[:, -1])


def test_names_are_scikit_learns(theirs):
    """Features have scikit-learn's names, with "error" always first: `radius error` is `error radius` here."""
    ours = [name.replace("_", " ") for name in FEATURES]
    names = [
        f"error {name.removesuffix(' error')}" if name.endswith(" error") else name for name in theirs.feature_names
    ]

    assert names == ours


def test_the_bytes_do_not_depend_on_the_place(tmp_path: Path):
    """Two calls write identical files: a changed byte would make every step run again."""
    one, other = (write_shards(tmp_path / name) for name in ("one", "other"))

    assert {path.name: path.read_bytes() for path in one.iterdir()} == {
        path.name: path.read_bytes() for path in other.iterdir()
    }


def test_what_is_there_is_not_touched(tmp_path: Path):
    """A second call returns the same path and writes nothing."""
    first = write_shards(tmp_path)
    before = stamps(tmp_path)

    assert first == write_shards(tmp_path)
    assert before == stamps(tmp_path)


def test_only_what_differs_is_written_again(tmp_path: Path):
    """A damaged shard and a missing shard are restored; the others are not written."""
    write_shards(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    whole = {name: (tmp_path / name).read_bytes() for name in names}
    (tmp_path / names[0]).write_bytes(whole[names[0]] + b"1,2,3\n")
    (tmp_path / names[1]).unlink()
    before = stamps(tmp_path)
    write_shards(tmp_path)

    assert whole == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert {name: before[name] for name in names[2:]} == {name: stamps(tmp_path)[name] for name in names[2:]}


def test_another_number_of_shards_leaves_no_row_twice(tmp_path: Path):
    """Shards of an earlier call with another number are removed; other files are kept."""
    foreign = tmp_path / "mine.txt"
    foreign.write_text("keep")
    write_shards(tmp_path, shards=8)
    write_shards(tmp_path, shards=3)

    assert len(list(tmp_path.glob("*.csv"))) == 3
    assert len(read(tmp_path)[1]) == 569
    assert foreign.read_text() == "keep"


def test_no_shards_is_an_error(tmp_path: Path):
    """An invalid number of shards is refused before a file is removed."""
    write_shards(tmp_path, shards=2)
    with pytest.raises(ValueError, match="at least 1"):
        write_shards(tmp_path, shards=0)

    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.processes
def test_scikit_learn_is_not_imported(tmp_path: Path):
    """Writing the data does not import scikit-learn or NumPy, so a flow that skips every step stays fast."""
    code = f"""
import sys
from flows.quickstart_data import write_shards
write_shards({str(tmp_path)!r})
sys.exit("sklearn" in sys.modules or "numpy" in sys.modules)
"""
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=root, timeout=60).returncode == 0
