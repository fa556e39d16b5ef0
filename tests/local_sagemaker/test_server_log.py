"""The server's log does not fill the disk: what repeats is written seldom, and a large one begins anew."""

import logging

from local_sagemaker.lifecycle import _rotate
from local_sagemaker.server import RepeatedMessageFilter


def record(text, moment):
    """A log record of that time."""
    made = logging.makeLogRecord({"msg": text})
    made.created = moment
    return made


def test_what_repeats_is_written_once_in_ten_seconds():
    """As asyncio's complaint where no descriptor is left; other messages are not held back."""
    seldom = RepeatedMessageFilter()
    told = [seldom.filter(record("out of system resource", 100 + n / 1000)) for n in range(5000)]

    assert told.count(True) == 1
    assert seldom.filter(record("something else", 101))
    assert seldom.filter(record("out of system resource", 111))


def test_a_large_log_begins_anew(tmp_path):
    """At the next start; the last one is kept."""
    log = tmp_path / "server.log"
    log.write_bytes(b"x" * 1000)
    _rotate(log)
    assert log.exists()

    log.write_bytes(b"x" * (11 << 20))
    _rotate(log)
    assert not log.exists()
    assert (tmp_path / "server.log.1").stat().st_size == 11 << 20
