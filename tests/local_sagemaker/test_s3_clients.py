"""Other unmodified clients of the S3 server: s3fs and s5cmd."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import s3fs

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import S3Server


@pytest.fixture
def filesystem(s3_server: S3Server) -> Any:
    """Return an s3fs file system without caches, which sees the bucket as another process does."""
    return s3fs.S3FileSystem(
        key="local",
        secret="local",
        client_kwargs={"endpoint_url": s3_server.endpoint, "region_name": "us-east-1"},
        use_listings_cache=False,
        skip_instance_cache=True,
    )


def test_s3fs_writes_and_reads(filesystem: Any, bucket: str) -> None:
    """s3fs writes and reads small files, multipart files, appended files and ranges, and reports missing files."""
    large = bytes(range(256)) * 50_000
    with filesystem.open(f"{bucket}/large", "wb", block_size=5 << 20) as file:
        file.write(large)
    filesystem.pipe(f"{bucket}/small", b"small")

    assert filesystem.cat(f"{bucket}/small") == b"small"
    assert filesystem.cat_file(f"{bucket}/large", start=1000, end=1010) == large[1000:1010]
    with filesystem.open(f"{bucket}/large", "rb") as file:
        file.seek(6_000_000)
        assert file.read(10) == large[6_000_000:6_000_010]
    with filesystem.open(f"{bucket}/large", "ab") as file:
        file.write(b"more")
    assert filesystem.cat(f"{bucket}/large") == large + b"more"
    assert not filesystem.exists(f"{bucket}/missing")
    with pytest.raises(FileNotFoundError):
        filesystem.cat(f"{bucket}/missing")


def test_s3fs_walks_a_tree(filesystem: Any, bucket: str) -> None:
    """The s3fs commands ls, glob, find, du, info, cp, mv and recursive rm see the same tree."""
    for name in ("a/1.csv", "a/2.csv", "a/b/3.csv", "a b/ü.csv"):
        filesystem.pipe(f"{bucket}/{name}", name.encode())

    assert filesystem.ls(f"{bucket}/a", detail=False) == [f"{bucket}/a/{name}" for name in ("1.csv", "2.csv", "b")]
    assert filesystem.glob(f"{bucket}/**/*.csv") == [
        f"{bucket}/{name}" for name in ("a b/ü.csv", "a/1.csv", "a/2.csv", "a/b/3.csv")
    ]
    assert filesystem.du(f"{bucket}/a") == len("a/1.csv" + "a/2.csv" + "a/b/3.csv")
    assert filesystem.info(f"{bucket}/a/1.csv")["size"] == 7
    assert filesystem.isdir(f"{bucket}/a")
    filesystem.cp(f"{bucket}/a", f"{bucket}/copy", recursive=True)
    filesystem.mv(f"{bucket}/a/1.csv", f"{bucket}/moved")
    filesystem.rm(f"{bucket}/a", recursive=True)
    assert filesystem.find(bucket) == [
        f"{bucket}/{name}" for name in ("a b/ü.csv", "copy/1.csv", "copy/2.csv", "copy/b/3.csv", "moved")
    ]
    assert filesystem.cat(f"{bucket}/moved") == b"a/1.csv"


@pytest.fixture
def s5cmd(s3_server: S3Server) -> Callable[..., str]:
    """Return a function that runs s5cmd and returns its output; an error of s5cmd fails the test."""
    beside = Path(sys.executable).with_name("s5cmd")
    command = str(beside) if beside.exists() else shutil.which("s5cmd")
    if command is None:
        pytest.skip("s5cmd is not installed (extra `dev`)")

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [command, "--endpoint-url", s3_server.endpoint, *arguments],
            env=s3_server.environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def tree(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_s5cmd_moves_a_tree(s5cmd: Callable[..., str], bucket: str, tmp_path: Path) -> None:
    """s5cmd copies many files up and down in parallel; sync uploads changed files and deletes removed ones."""
    up, down = tmp_path / "up", tmp_path / "down"
    for number in range(120):
        file = up / f"{number % 7}" / f"file {number} ü+.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x" * number)
        # S3's times have whole seconds, so a file of the same second as its object may seem newer.
        os.utime(file, (1e9, 1e9))
    (up / "large.bin").write_bytes(b"0123456789abcdef" * 1_000_000)

    s5cmd("cp", "--part-size", "5", f"{up}/", f"s3://{bucket}/tree/")
    s5cmd("cp", f"s3://{bucket}/tree/*", f"{down}/")

    assert tree(down) == tree(up)
    assert len(s5cmd("ls", f"s3://{bucket}/tree/*").splitlines()) == 121
    (up / "large.bin").unlink()
    (up / "new").write_bytes(b"new")
    synced = s5cmd("sync", "--delete", f"{up}/", f"s3://{bucket}/tree/")
    assert sorted(line.split()[0] for line in synced.splitlines()) == ["cp", "rm"]
    assert len(s5cmd("ls", f"s3://{bucket}/tree/*").splitlines()) == 121
    assert s5cmd("cat", f"s3://{bucket}/tree/new") == "new"
    s5cmd("cp", f"s3://{bucket}/tree/*", f"s3://{bucket}/copy/")
    assert s5cmd("du", f"s3://{bucket}/copy/*").split()[0] == str(sum(range(120)) + 3)
    s5cmd("rm", f"s3://{bucket}/*")
    assert s5cmd("ls", f"s3://{bucket}") == ""
