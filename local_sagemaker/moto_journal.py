"""The journal of what moto holds: each request that changed something, so that a new server can do it again.

moto holds everything in memory. What passes is not written down: messages of queues, events, metric data.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from local_sagemaker.services import BY_SIGNATURE
from local_sagemaker.wire.call import Call

log = logging.getLogger(__name__)

# How the operations begin that change nothing that is kept.
_READING = ("Get", "List", "Describe", "Simulate", "Generate", "Check", "Test", "BatchGet", "BatchCheck")
_PASSING: Mapping[str, tuple[str, ...]] = {
    "sns": ("Publish",),
    "kms": ("Encrypt", "Decrypt", "ReEncrypt", "Sign", "Verify"),
    "sqs": ("SendMessage", "ReceiveMessage", "DeleteMessage", "ChangeMessageVisibility", "PurgeQueue"),
    "events": ("PutEvents",),
    "monitoring": ("PutMetricData",),
}
_PASSED_BY_NAME = frozenset({"sts"})  # its keys are made of the home's, and carry their own end


def is_kept(call: Call) -> bool:
    """Return whether the journal must have a call."""
    served = BY_SIGNATURE.get(call.service)
    if served is None or not served.in_moto or call.service in _PASSED_BY_NAME:
        return False
    return not call.operation.startswith((*_READING, *_PASSING.get(call.service, ())))


class Journal:
    """The journal of one home.

    Args:
        path: its file; made at the first entry.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, call: Call, seed: int) -> int:
        """Write a call down; return what `take_back` needs to undo that.

        Args:
            call: the call.
            seed: of moto's generator of identifiers.

        Raises:
            OSError: it could not be written; the journal is as it was.
        """
        return append_line(self._path, json.dumps({**asdict(call), "seed": seed}))

    def take_back(self, mark: int) -> None:
        """Remove the entry that `append` returned `mark` for, and all after it."""
        os.truncate(self._path, mark)

    def entries(self) -> Iterator[tuple[Call, int]]:
        """Yield all calls with their seeds. A line that cannot be read was never answered, and is passed over."""
        for number, line in enumerate(_lines(self._path), 1):
            try:
                kept = json.loads(line)
                seed = int(kept.pop("seed"))
                call = Call(**kept)
            except (ValueError, TypeError, KeyError, AttributeError):
                log.warning("line %s of %s cannot be read, and is passed over: %.80r", number, self._path, line)
                continue
            yield call, seed

    @property
    def size(self) -> int:
        """How long the journal is, in bytes."""
        return self._path.stat().st_size if self._path.exists() else 0

    def has(self, service: str, position: int = 0) -> bool:
        """Return whether a service may have an entry; as cheaply as can be, for a server that starts.

        Args:
            service: the service.
            position: where to begin, in bytes.
        """
        mark = json.dumps({"service": service})[1:-1]
        return any(line.startswith(f"{{{mark},") for line in _lines(self._path, position))


def append_line(path: Path, line: str) -> int:
    """Write a line to the end of a file, wholly or not at all; return the file's size before.

    Half a line would swallow the next one: one that a killed writer left is ended first, and one of our own that does
    not fit on the disk is taken back.

    Args:
        path: the file; made, for its user alone, where it is missing: a journal has secrets in it.
        line: without its end.

    Raises:
        OSError: it could not be written; the file is as it was.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        data = (b"\n" if torn else b"") + line.encode() + b"\n"
        try:
            written = 0
            while written < len(data):
                written += os.write(descriptor, data[written:])
        except OSError:
            os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)
    return size


def _lines(path: Path, position: int = 0) -> list[str]:
    if not path.exists():
        return []
    with path.open("rb") as file:
        file.seek(position)
        return file.read().decode(errors="replace").split("\n")[:-1]
