"""The quickstart's raw data, held against what scikit-learn itself loads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from flows.quickstart_data import FEATURES, write_shards


@pytest.fixture(scope="module")
def theirs():
    """What scikit-learn loads; its import takes seconds, so not while tests are collected."""
    from sklearn.datasets import load_breast_cancer

    return load_breast_cancer()


def read(directory: Path) -> tuple[list[str], np.ndarray]:
    """Header, which all files must share, and the rows of all files in the order of their names."""
    parts = [path.read_text().splitlines() for path in sorted(directory.glob("*.csv"))]
    (header,) = {part[0] for part in parts}
    return header.split(","), np.array([row.split(",") for part in parts for row in part[1:]], dtype=float)


def stamps(directory: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in directory.iterdir()}


@pytest.mark.sampled(1)
@pytest.mark.parametrize("shards", [1, 8, 13])
def test_any_number_of_shards_holds_scikit_learns_data(tmp_path: Path, theirs, shards: int):
    """However many files: together they hold each value of the data set exactly, with 1 for malignant."""
    header, table = read(write_shards(tmp_path / "raw", shards=shards))

    assert len(list((tmp_path / "raw").iterdir())) == shards
    assert [*FEATURES, "malignant"] == header
    assert np.array_equal(theirs.data, table[:, :-1])
    assert theirs.target_names[0] == "malignant"
    assert np.array_equal(theirs.target == 0, table[:, -1])


def test_names_are_scikit_learns(theirs):
    """Each feature has scikit-learn's name, and its words in one order: `radius error` is `error radius` here."""
    ours = [name.replace("_", " ") for name in FEATURES]
    names = [
        f"error {name.removesuffix(' error')}" if name.endswith(" error") else name for name in theirs.feature_names
    ]

    assert names == ours


def test_the_bytes_do_not_depend_on_the_place(tmp_path: Path):
    """Two calls write the same files: a changed byte would make every step run again."""
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
    """A damaged and a missing shard are restored, and the others are left alone."""
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
    """Shards of an earlier call with another number go; files of somebody else stay."""
    foreign = tmp_path / "mine.txt"
    foreign.write_text("keep")
    write_shards(tmp_path, shards=8)
    write_shards(tmp_path, shards=3)

    assert len(list(tmp_path.glob("*.csv"))) == 3
    assert len(read(tmp_path)[1]) == 569
    assert foreign.read_text() == "keep"


def test_no_shards_is_an_error(tmp_path: Path):
    """A number that makes no sense is refused before a file is removed."""
    write_shards(tmp_path, shards=2)
    with pytest.raises(ValueError, match="at least 1"):
        write_shards(tmp_path, shards=0)

    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.processes
def test_scikit_learn_is_not_imported(tmp_path: Path):
    """Writing the data does not pay for scikit-learn's import: a flow that skips everything would, too."""
    code = f"""
import sys
from flows.quickstart_data import write_shards
write_shards({str(tmp_path)!r})
sys.exit("sklearn" in sys.modules or "numpy" in sys.modules)
"""
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=root, timeout=60).returncode == 0
