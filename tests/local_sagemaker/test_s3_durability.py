"""The S3 server under `kill -9`, with clients that disconnect, and with large bodies."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

pytestmark = pytest.mark.sampled(3, group="all")

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import S3Server


@pytest.fixture
def server(make_s3_server: Callable[..., S3Server]) -> Iterator[S3Server]:
    """Yield a server for one test, which may kill it."""
    own = make_s3_server()
    yield own
    own.close()


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition that another process fulfils."""
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def drafts(server: S3Server) -> list[Path]:
    return list((server.directory / "tmp").glob("*"))


def half_a_put(server: S3Server, path: str) -> socket.socket:
    """Send half of a body of 8 MB, and wait until the server has started to write it."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    connection.sendall(f"PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 8000000\r\n\r\n".encode())
    connection.sendall(b"x" * 4_000_000)
    until(lambda: any(draft.stat().st_size > 1_000_000 for draft in drafts(server)))
    return connection


def test_what_was_acknowledged_survives_a_kill(server: S3Server) -> None:
    """A kill during an upload loses nothing that was acknowledged, and the interrupted upload leaves no file.

    Buckets, objects, metadata, configuration and open uploads with their parts exist after the restart.
    """
    client = server.client()
    client.create_bucket(Bucket="data")
    target = {"Bucket": "data", "Key": "parts"}
    deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::data/*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": deny})
    for number in range(30):
        client.put_object(
            Bucket="data", Key=f"k{number}", Body=str(number).encode() * 1000, Metadata={"n": str(number)}
        )
    client.put_object(Bucket="data", Key="half", Body=b"before")
    client.put_bucket_policy(Bucket="data", Policy=policy)
    upload = {**target, "UploadId": client.create_multipart_upload(**target)["UploadId"]}
    part = client.upload_part(**upload, PartNumber=1, Body=b"p" * 6_000_000)["ETag"]
    with half_a_put(server, "/data/half"):
        server.kill()
    assert len(drafts(server)) == 1

    server.start()

    client = server.client()
    for number in range(30):
        got = client.get_object(Bucket="data", Key=f"k{number}")
        assert (got["Body"].read(), got["Metadata"]) == (str(number).encode() * 1000, {"n": str(number)})
    assert client.get_object(Bucket="data", Key="half")["Body"].read() == b"before"
    assert client.get_bucket_policy(Bucket="data")["Policy"] == policy
    assert drafts(server) == []
    client.complete_multipart_upload(**upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part}]})
    assert client.get_object(**target)["Body"].read() == b"p" * 6_000_000
    bodies = [path for path in (server.directory / "bodies").rglob("*") if path.is_file()]
    assert len(bodies) == 32
    client.close()


def test_a_client_that_goes_away_leaves_nothing(server: S3Server) -> None:
    """An upload whose client disconnects is discarded at once, and no object is created."""
    client = server.client()
    client.create_bucket(Bucket="data")

    half_a_put(server, "/data/k").close()

    until(lambda: not drafts(server))
    with pytest.raises(ClientError) as refused:
        client.head_object(Bucket="data", Key="k")
    assert refused.value.response["Error"]["Code"] == "404"
    client.close()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files of a process are read from /proc")
def test_a_reader_that_goes_away_leaves_no_open_file(server: S3Server) -> None:
    """The body of an aborted download is closed, and the next download is served."""
    client = server.client()
    client.create_bucket(Bucket="data")
    client.put_object(Bucket="data", Key="k", Body=b"x" * 50_000_000)

    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(b"GET /data/k HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        assert open_bodies(server) == 1

    until(lambda: open_bodies(server) == 0)
    assert client.get_object(Bucket="data", Key="k", Range="bytes=-1")["Body"].read() == b"x"
    client.close()


def open_bodies(server: S3Server) -> int:
    """Return how many bodies the server has open."""
    assert server.process
    found = 0
    for link in Path(f"/proc/{server.process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found += "/bodies/" in str(link.readlink())
    return found


def test_a_reader_is_not_disturbed_by_an_overwrite(server: S3Server) -> None:
    """A download that has started returns the object's old content, even after an overwrite and a deletion."""
    client = server.client()
    client.create_bucket(Bucket="data")
    body = os.urandom(20_000_000)
    client.put_object(Bucket="data", Key="k", Body=body)
    got = client.get_object(Bucket="data", Key="k")
    first = got["Body"].read(1000)

    client.put_object(Bucket="data", Key="k", Body=b"new")
    client.delete_object(Bucket="data", Key="k")

    assert first + got["Body"].read() == body
    client.close()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory of a process is read from /proc")
def test_large_bodies_stream(server: S3Server, tmp_path: Path) -> None:
    """400 MB are uploaded, copied and downloaded while the server's memory grows by less than 60 MB."""
    client = server.client()
    client.create_bucket(Bucket="data")
    client.put_object(Bucket="data", Key="warm", Body=b"x")
    before = peak_memory(server)
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(400_000_000)

    with large.open("rb") as file:
        etag = client.put_object(Bucket="data", Key="k", Body=file)["ETag"]
    client.copy_object(Bucket="data", Key="copy", CopySource="data/k")
    digest, size = hashlib.md5(), 0
    for chunk in client.get_object(Bucket="data", Key="copy")["Body"].iter_chunks(1 << 20):
        digest.update(chunk)
        size += len(chunk)

    assert (size, f'"{digest.hexdigest()}"') == (400_000_000, etag)
    assert peak_memory(server) - before < 60_000_000
    client.close()


def peak_memory(server: S3Server) -> int:
    """Return the peak resident memory of the server, in bytes."""
    assert server.process
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def test_two_servers_on_one_directory(server: S3Server, make_s3_server: Callable[..., S3Server]) -> None:
    """Two servers on one directory serve each other's objects at once; a start keeps the other's unfinished upload."""
    client = server.client()
    client.create_bucket(Bucket="data")
    with half_a_put(server, "/data/k") as connection:
        second = make_s3_server(directory=server.directory)
        other: Any = second.client()
        other.put_object(Bucket="data", Key="other", Body=b"other")
        connection.sendall(b"x" * 4_000_000)
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")

    assert other.get_object(Bucket="data", Key="k")["ContentLength"] == 8_000_000
    assert client.get_object(Bucket="data", Key="other")["Body"].read() == b"other"
    for one in (client, other):
        one.close()
    second.close()
