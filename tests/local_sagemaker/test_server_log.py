"""The server's log does not fill the disk: repeated messages are written rarely, and a large file is rotated."""

import logging

from local_sagemaker.lifecycle import _rotate
from local_sagemaker.server import RepeatedMessageFilter


def record(text, moment):
    """Return a log record with a message and a time."""
    made = logging.makeLogRecord({"msg": text})
    made.created = moment
    return made


def test_what_repeats_is_written_once_in_ten_seconds():
    """A repeated message, such as asyncio's without free descriptors, is written once in 10 s; others always are."""
    seldom = RepeatedMessageFilter()
    told = [seldom.filter(record("out of system resource", 100 + n / 1000)) for n in range(5000)]

    assert told.count(True) == 1
    assert seldom.filter(record("something else", 101))
    assert seldom.filter(record("out of system resource", 111))


def test_large_log_is_rotated(tmp_path):
    """A large log is renamed at the next start, and the last one is kept."""
    log = tmp_path / "server.log"
    log.write_bytes(b"x" * 1000)
    _rotate(log)
    assert log.exists()

    log.write_bytes(b"x" * (11 << 20))
    _rotate(log)
    assert not log.exists()
    assert (tmp_path / "server.log.1").stat().st_size == 11 << 20
