"""The journal of moto's state: each request that changed it, so that a new server can replay them.

moto holds everything in memory. Transient data is not recorded: messages of queues, events, metric data.
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

# Prefixes of the operations that do not change lasting state, in all services and by service.
_READING = ("Get", "List", "Describe", "Simulate", "Generate", "Check", "Test", "BatchGet", "BatchCheck")
_PASSING: Mapping[str, tuple[str, ...]] = {
    "sns": ("Publish",),
    "kms": ("Encrypt", "Decrypt", "ReEncrypt", "Sign", "Verify"),
    "sqs": ("SendMessage", "ReceiveMessage", "DeleteMessage", "ChangeMessageVisibility", "PurgeQueue"),
    "events": ("PutEvents",),
    "monitoring": ("PutMetricData",),
}
_PASSED_BY_NAME = frozenset({"sts"})  # its keys are derived from the home's, and their tokens have the expiry


def is_kept(call: Call) -> bool:
    """Tell whether the journal must record a call."""
    served = BY_SIGNATURE.get(call.service)
    if served is None or not served.in_moto or call.service in _PASSED_BY_NAME:
        return False
    return not call.operation.startswith((*_READING, *_PASSING.get(call.service, ())))


class Journal:
    """The journal of one home.

    Args:
        path: its file; created at the first entry.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, call: Call, seed: int) -> int:
        """Append a call. Return the mark that `take_back` needs to remove it.

        Args:
            call: the call.
            seed: the seed of moto's random identifiers.

        Raises:
            OSError: the call could not be written; the journal is unchanged.
        """
        return append_line(self._path, json.dumps({**asdict(call), "seed": seed}))

    def take_back(self, mark: int) -> None:
        """Remove the entry for which `append` returned `mark`, and all later ones."""
        os.truncate(self._path, mark)

    def entries(self) -> Iterator[tuple[Call, int]]:
        """Yield all calls with their seeds. Skip a damaged line: its request was never answered."""
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
        """The size of the journal, in bytes."""
        return self._path.stat().st_size if self._path.exists() else 0

    def has(self, service: str, position: int = 0) -> bool:
        """Tell whether a service has an entry, without parsing the lines, so that a server starts fast.

        Args:
            service: the service's name in signatures.
            position: the offset of the first line to look at, in bytes.
        """
        # `service` is the first field of `Call`, and so the first member of each line.
        mark = json.dumps({"service": service})[1:-1]
        return any(line.startswith(f"{{{mark},") for line in _lines(self._path, position))


def append_line(path: Path, line: str) -> int:
    """Append a line to a file, completely or not at all. Return the file's size before.

    A partial line would corrupt the next one. So a partial line of a killed writer is ended first, and a partial line
    of this call is truncated if the disk is full.

    Args:
        path: the file; if missing, created readable by its user only, because a journal has secrets.
        line: the text, without its newline.

    Raises:
        OSError: the line could not be written; the file is unchanged.
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
