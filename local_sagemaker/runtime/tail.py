"""Copies a host's output, line by line, to the log stream from which CloudWatch Logs answers.

The host writes to a file, not to a pipe of the supervisor, so that it survives the supervisor. Each line is copied
exactly once, also over `kill -9`. The position is saved after the lines. A successor counts the lines that were written
behind the saved position and skips as many. That is possible because the cuts between lines are deterministic.
"""

from __future__ import annotations

import itertools
import os
import time
from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING

from local_sagemaker.runtime.workspace import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# 256 KB minus the 26 bytes that CloudWatch Logs counts for each event (its quotas page).
MAX_MESSAGE = 262_144 - 26
_BLOCK = 1 << 20  # bytes read at a time
_CONTINUATION_MASK, _CONTINUATION = 0b1100_0000, 0b1000_0000  # UTF-8's continuation bytes start with the bits 10


def cut(data: bytes, *, final: bool) -> list[bytes]:
    """Return the complete lines at the start of `data` with their line ends; split lines that are too long.

    The result does not depend on how much of the file was written when it was read. With `final`, the text after the
    last line end is a line too.
    """
    pieces = []
    start = 0
    while start < len(data):
        end = data.find(b"\n", start, start + MAX_MESSAGE + 1) + 1
        if not end and len(data) - start > MAX_MESSAGE:
            end = start + _boundary(data[start : start + MAX_MESSAGE + 1])
        if not end and not final:
            break
        end = end or len(data)
        pieces.append(data[start:end])
        start = end
    return pieces


def _boundary(data: bytes) -> int:
    """Return where to cut `data` so that no UTF-8 character (at most four bytes) is split."""
    for back in range(1, 5):
        if data[-back] & _CONTINUATION_MASK != _CONTINUATION:
            return len(data) - back
    return len(data) - 1


class Tail:
    """Follows the output of one host.

    Args:
        output: the file to which the host appends.
        log: the file of the log stream. Each line is a JSON object with `timestamp` (epoch milliseconds at which the
            line was read) and `message`.
        position: the file for the saved position.
        clock: returns epoch seconds.
    """

    def __init__(self, output: Path, log: Path, position: Path, clock: Callable[[], float] = time.time) -> None:
        self._position = position
        self._clock = clock
        log.parent.mkdir(parents=True, exist_ok=True)
        self._output = output.open("rb")
        self._log = os.open(log, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        kept = read_json(position) or {"read": 0, "written": 0}
        self._read: int = kept["read"]
        self._written: int = kept["written"]
        self._skip = self._lines_behind_position()

    def _lines_behind_position(self) -> int:
        """Count the lines that a killed predecessor wrote behind its saved position; remove a partial last line."""
        size = os.fstat(self._log).st_size
        behind = os.pread(self._log, size - self._written, self._written)
        whole = behind.rfind(b"\n") + 1
        os.ftruncate(self._log, self._written + whole)
        return behind[:whole].count(b"\n")

    def close(self) -> None:
        """Close the files."""
        self._output.close()
        os.close(self._log)

    @property
    def backlog(self) -> int:
        """The number of bytes that were printed and not yet read."""
        return os.fstat(self._output.fileno()).st_size - self._read

    def pump(self, *, final: bool = False) -> bool:
        """Copy new lines to the log, at most one block; return whether there were any.

        With `final`, for a host that has ended, copy all lines; the last one needs no line end.
        """
        moved = False
        # One block only, so that a job that never stops printing does not block the supervisor.
        for _ in itertools.count() if final else range(1):
            size = os.fstat(self._output.fileno()).st_size
            if size == self._read:
                break
            data = os.pread(self._output.fileno(), _BLOCK, self._read)
            pieces = cut(data, final=final and self._read + len(data) == size)
            if not pieces:
                break
            self._append(pieces)
            moved = True
        return moved

    def _append(self, pieces: list[bytes]) -> None:
        self._read += sum(map(len, pieces))
        done = min(self._skip, len(pieces))
        self._skip -= done
        stamp = int(self._clock() * 1000)
        left = "".join(log_event(stamp, piece) for piece in pieces[done:]).encode()
        while left:
            left = left[os.write(self._log, left) :]
        self._written = os.fstat(self._log).st_size
        if not self._skip:
            write_json(self._position, {"read": self._read, "written": self._written})


def log_event(stamp: int, piece: bytes) -> str:
    """Return one line for a log stream's file: the printed piece and its time in epoch milliseconds."""
    message = piece.decode("utf-8", "replace").removesuffix("\n").removesuffix("\r")
    # `json.dumps` of the whole object takes five times as long, for every line that a job prints.
    return f'{{"timestamp": {stamp}, "message": {encode_basestring_ascii(message)}}}\n'
