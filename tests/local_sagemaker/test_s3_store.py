"""The object store itself, in one process and in several, without HTTP."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from local_sagemaker.s3.errors import (
    BucketAlreadyOwnedByYou,
    BucketNotEmpty,
    InvalidArgument,
    InvalidBucketName,
    KeyTooLongError,
    NoSuchBucket,
    NoSuchKey,
    PreconditionFailed,
    S3Error,
)
from local_sagemaker.s3.store import ObjectStore, Properties

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local_sagemaker.s3.store import StoredObject


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ObjectStore]:
    with ObjectStore(tmp_path / "s3") as opened:
        opened.create_bucket("data")
        yield opened


def put(store: ObjectStore, key: str, body: bytes, **options: str) -> StoredObject:
    with store.new_upload() as upload:
        upload.write(body)
        return upload.commit("data", key, **options)  # type: ignore[arg-type]


def read(store: ObjectStore, key: str) -> bytes:
    _, file = store.open("data", key)
    with file:
        return file.read()


def body_files(store_directory: Path) -> list[Path]:
    return [path for name in ("bodies", "tmp") for path in (store_directory / name).rglob("*") if path.is_file()]


def test_put_file_gives_back_what_get_finds(store: ObjectStore, tmp_path: Path) -> None:
    """An object has its file's content, its MD5 as ETag, and the given properties; the file stays."""
    source = tmp_path / "model.bin"
    source.write_bytes(b"weights" * 1000)

    put_object = store.put_file("data", "a/b", source, content_type="text/x", metadata={"owner": "me"})

    found = store.get("data", "a/b")
    assert found == put_object
    assert found.path.read_bytes() == source.read_bytes()
    assert (found.size, found.etag) == (7000, hashlib.md5(source.read_bytes()).hexdigest())
    assert (found.content_type, found.metadata) == ("text/x", {"owner": "me"})


def test_time_is_the_clocks(tmp_path: Path) -> None:
    """`last_modified` and a bucket's `created` come from the given clock."""
    with ObjectStore(tmp_path / "s3", clock=lambda: 1234.5) as store:
        store.create_bucket("data")
        put(store, "k", b"x")

        assert store.get("data", "k").last_modified == 1234.5
        assert [one.created for one in store.buckets()] == [1234.5]


def test_what_is_not_there_has_its_own_error(store: ObjectStore) -> None:
    """A missing bucket is NoSuchBucket in every operation; a missing object is NoSuchKey, but its deletion succeeds."""
    with pytest.raises(NoSuchKey, match="missing"):
        store.get("data", "missing")
    with pytest.raises(NoSuchBucket):
        store.get("nowhere", "missing")
    with pytest.raises(NoSuchBucket):
        store.list("nowhere")
    with pytest.raises(NoSuchBucket):
        store.delete("nowhere", "k")
    with pytest.raises(NoSuchBucket), store.new_upload() as upload:
        upload.commit("nowhere", "k")
    store.delete("data", "missing")


def test_buckets(store: ObjectStore) -> None:
    """A bucket is created once, has a name by S3's rules, and is deleted only if it is empty."""
    put(store, "k", b"x")
    with pytest.raises(BucketAlreadyOwnedByYou):
        store.create_bucket("data")
    for name in ("ab", "Upper", "a_b", "a..b", "127.0.0.1", "-ab", "x" * 64, "../../etc"):
        with pytest.raises(InvalidBucketName):
            store.create_bucket(name)
    with pytest.raises(BucketNotEmpty):
        store.delete_bucket("data")

    store.delete("data", "k")
    store.delete_bucket("data")

    assert list(store.buckets()) == []


@pytest.mark.parametrize(
    ("key", "error"),
    [("x" * 1025, KeyTooLongError), ("ü" * 513, KeyTooLongError), ("", InvalidArgument), ("\ud800", InvalidArgument)],
)
def test_keys_that_s3_does_not_take(store: ObjectStore, key: str, error: type[S3Error]) -> None:
    """A key has 1 to 1,024 bytes of UTF-8; an upload with another key leaves nothing."""
    with pytest.raises(error):
        put(store, key, b"x")

    assert list(store.list("data")) == []


@pytest.mark.parametrize("name", ["", "Owner", "a b", "a\nb", "ü"])
def test_metadata_that_no_header_can_carry(store: ObjectStore, tmp_path: Path, name: str) -> None:
    """Metadata names must be valid header names, because metadata is later served over HTTP."""
    (tmp_path / "file").write_bytes(b"x")

    with pytest.raises(InvalidArgument):
        store.put_file("data", "k", tmp_path / "file", metadata={name: "x"})


@pytest.mark.parametrize(
    "key", ["../../x", "/", "//", "a/", "a", ".", "..", "\0", "\n", "ü €😀", "x" * 1024, "a%2Fb", "+ "]
)
def test_keys_never_become_file_names(store: ObjectStore, tmp_path: Path, key: str) -> None:
    """Any key is stored unchanged, and no file is written outside the store's own directory."""
    put(store, key, b"body")

    assert read(store, key) == b"body"
    assert [one.key for one in store.list("data")] == [key]
    assert {path.name for path in tmp_path.iterdir()} == {"s3"}
    assert len(body_files(tmp_path / "s3")) == 1


def test_listing_is_in_the_order_of_bytes_over_pages(store: ObjectStore) -> None:
    """Keys are in UTF-8 byte order, filtered by prefix and `start_after`, even over several pages of the index."""
    keys = [f"n/{number:04}" for number in range(2100)] + ["n", "n0", "m\uffff", "m\U0001f600", "m/", "z"]
    for key in keys:
        put(store, key, b"")
    ordered = sorted(keys, key=str.encode)

    assert [one.key for one in store.list("data")] == ordered
    assert [one.key for one in store.list("data", "n/")] == [key for key in ordered if key.startswith("n/")]
    assert [one.key for one in store.list("data", "n/", "n/2050")] == [f"n/{number}" for number in range(2051, 2100)]
    assert [one.key for one in store.list("data", "", "n/2099")] == ["n0", "z"]
    assert [one.key for one in store.list("data", "m", "a")] == ["m/", "m\uffff", "m\U0001f600"]


def test_conditions_of_a_write(store: ObjectStore) -> None:
    """`if_none_match='*'` only creates an object, and `if_match` only replaces a known one.

    A refused write leaves the object and the directory unchanged.
    """
    first = put(store, "k", b"1", if_none_match="*")
    for refused in ({"if_none_match": "*"}, {"if_match": "0" * 32}):
        with pytest.raises(PreconditionFailed):
            put(store, "k", b"2", **refused)
    with pytest.raises(NoSuchKey):
        put(store, "other", b"2", if_match=first.etag)

    assert read(store, "k") == b"1"
    assert put(store, "k", b"2", if_match=f'"{first.etag}"').etag == hashlib.md5(b"2").hexdigest()
    assert len(body_files(first.path.parents[2])) == 1


def test_an_open_reader_reads_on(store: ObjectStore) -> None:
    """An open reader reads its whole object, even if the object is overwritten and deleted meanwhile."""
    put(store, "k", b"old" * 1000)
    _, file = store.open("data", "k")

    put(store, "k", b"new")
    store.delete("data", "k")

    with file:
        assert file.read() == b"old" * 1000


def test_readers_and_writers_at_once(store: ObjectStore) -> None:
    """A reader gets one whole version with its ETag, while other threads overwrite the object."""
    put(store, "k", b"0" * 5000)
    done = threading.Event()

    def overwrite(digit: int) -> None:
        while not done.is_set():
            put(store, "k", str(digit).encode() * 5000)

    def look() -> None:
        for _ in range(300):
            found, file = store.open("data", "k")
            with file:
                assert hashlib.md5(file.read()).hexdigest() == found.etag

    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(overwrite, digit) for digit in (1, 2)]
        try:
            for reader in [pool.submit(look), pool.submit(look)]:
                reader.result()
        finally:
            done.set()
        for writer in writers:
            writer.result()


def test_copies_beyond_the_links_of_a_file_system(store: ObjectStore, tmp_path: Path) -> None:
    """A body whose file cannot have another link is copied."""
    first = put(store, "k", b"body")
    try:
        for number in range(70_000):
            os.link(first.path, tmp_path / str(number))
    except OSError as error:
        if error.errno != errno.EMLINK:
            raise
    else:
        pytest.skip("this file system has no limit of links within reach")

    copied = store.copy(("data", "k"), ("data", "copy"), judge=lambda found: (Properties(), found.checksums))

    assert read(store, "copy") == b"body"
    assert not copied.path.samefile(first.path)


def test_an_upload_without_commit_leaves_nothing(store: ObjectStore, tmp_path: Path) -> None:
    """An upload that ends without a commit, by an abort or by an error leaves nothing."""
    with store.new_upload() as upload:
        upload.write(b"x")
    aborted = store.new_upload()
    aborted.write(b"x")
    aborted.abort()
    with pytest.raises(ZeroDivisionError), store.new_upload() as upload:
        upload.write(b"x" * (1 // 0))

    assert body_files(tmp_path / "s3") == []


def test_a_sweep_leaves_live_writers_alone(store: ObjectStore, tmp_path: Path) -> None:
    """A sweep by a second store removes stray files, but neither objects nor the draft of a live writer."""
    put(store, "kept", b"kept")
    (tmp_path / "s3" / "tmp" / "dead").write_bytes(b"x")
    stray = tmp_path / "s3" / "bodies" / "ff"
    stray.mkdir(exist_ok=True)
    (stray / "ff00").write_bytes(b"x")
    with store.new_upload() as upload, ObjectStore(tmp_path / "s3") as second:
        upload.write(b"live")

        assert second.sweep() == 2
        upload.commit("data", "live")

    assert (read(store, "kept"), read(store, "live")) == (b"kept", b"live")
    assert len(body_files(tmp_path / "s3")) == 2


def test_a_sweep_among_writers(store: ObjectStore, tmp_path: Path) -> None:
    """Repeated sweeps remove nothing that concurrent writers need."""
    done = threading.Event()

    def sweep() -> None:
        with ObjectStore(tmp_path / "s3") as second:
            while not done.is_set():
                second.sweep()

    def write(name: str) -> None:
        for number in range(250):
            put(store, f"{name}/{number}", name.encode())

    with ThreadPoolExecutor(3) as pool:
        sweeper, *writers = pool.submit(sweep), pool.submit(write, "a"), pool.submit(write, "b")
        try:
            for writer in writers:
                writer.result()
        finally:
            done.set()
        sweeper.result()

    assert [read(store, one.key).decode() for one in store.list("data")] == ["a"] * 250 + ["b"] * 250


def test_fsync_store_keeps_the_same_promises(tmp_path: Path) -> None:
    """A store with `fsync` behaves as one without."""
    with ObjectStore(tmp_path / "s3", fsync=True) as store:
        store.create_bucket("data")
        put(store, "k", b"1")
        put(store, "k", b"2")

        assert read(store, "k") == b"2"


_RACER = """
import json, sys
from pathlib import Path
from local_sagemaker.s3.errors import PreconditionFailed
from local_sagemaker.s3.store import ObjectStore

me, directory = sys.argv[1:]
won = []
with ObjectStore(Path(directory)) as store:
    print("ready", flush=True)
    sys.stdin.readline()
    def put(key, body, **condition):
        with store.new_upload() as upload:
            upload.write(body)
            upload.commit("data", key, **condition)
    for number in range(100):
        try:
            put(f"race/{number}", me.encode(), if_none_match="*")
            won.append(number)
        except PreconditionFailed:
            pass
    added = 0
    while added < 50:
        found, file = store.open("data", "counter")
        with file:
            count = int(file.read())
        try:
            put("counter", str(count + 1).encode(), if_match=found.etag)
            added += 1
        except PreconditionFailed:
            pass
print(json.dumps(won))
"""


def test_conditional_writes_of_processes_have_one_winner_each(store: ObjectStore, tmp_path: Path) -> None:
    """Four processes create the same 100 keys, and increment one object by compare-and-swap.

    Each key has one creator, whose content it has, and no increment is lost.
    """
    put(store, "counter", b"0")
    racers = {
        str(number): subprocess.Popen(
            [sys.executable, "-c", _RACER, str(number), str(tmp_path / "s3")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    }
    for racer in racers.values():
        assert racer.stdout
        assert racer.stdout.readline() == "ready\n"
    won = {}
    for racer in racers.values():
        assert racer.stdin
        racer.stdin.write("go\n")
        racer.stdin.flush()
    for name, racer in racers.items():
        output, _ = racer.communicate()
        assert racer.returncode == 0
        won[name] = json.loads(output)

    makers = {f"race/{number}": name for name, numbers in won.items() for number in numbers}
    assert sorted(number for numbers in won.values() for number in numbers) == list(range(100))
    assert {one.key: read(store, one.key).decode() for one in store.list("data", "race/")} == makers
    assert read(store, "counter") == b"200"


_WRITER = """
import sys
from pathlib import Path
from local_sagemaker.s3.store import ObjectStore, Properties

with ObjectStore(Path(sys.argv[1])) as store:
    number = 0
    while True:
        with store.new_upload() as upload:
            upload.write(str(number).encode() * 2000)
            upload.commit("data", f"k{number % 7}")
        store.copy(("data", f"k{number % 7}"), ("data", "copy"), judge=lambda found: (Properties(), found.checksums))
        store.delete("data", f"k{(number + 3) % 7}")
        print(number, flush=True)
        number += 1
"""


@pytest.mark.parametrize("after", [1, 8, 60])
def test_a_killed_writer_loses_nothing_that_it_acknowledged(store: ObjectStore, tmp_path: Path, after: int) -> None:
    """A writer that is killed during puts, copies and deletions loses nothing that it acknowledged.

    Every object is complete, and a sweep leaves exactly one file for each.
    """
    writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path / "s3")], stdout=subprocess.PIPE, text=True)
    assert writer.stdout
    for _ in range(after):
        writer.stdout.readline()
    writer.send_signal(signal.SIGKILL)
    rest = writer.communicate()[0].split("\n")
    acknowledged = int(rest[-2]) if len(rest) > 1 else after - 1

    with ObjectStore(tmp_path / "s3") as again:
        again.sweep()
        objects = {one.key: one for one in again.list("data")}
        bodies = {key: read(again, key) for key in objects}

    for key, body in bodies.items():
        assert hashlib.md5(body).hexdigest() == objects[key].etag
    # What follows the last acknowledgement may or may not have happened: one step, or a part of it.
    assert bodies[f"k{acknowledged % 7}"] == str(acknowledged).encode() * 2000
    assert bodies["copy"] in [str(number).encode() * 2000 for number in (acknowledged, acknowledged + 1)]
    assert len(body_files(tmp_path / "s3")) == len(objects)
