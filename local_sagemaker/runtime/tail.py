"""A host's output, line by line, into the log stream that CloudWatch Logs will answer from.

The host writes to a plain file and not to a pipe of ours, so that it survives us; this module follows that file. Each
line comes out exactly once over `kill -9`: the position is written after the lines, and whoever starts again skips the
lines that were written behind the position (cutting a line is deterministic, so they can be counted).
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

# 256 KB less the 26 bytes that CloudWatch Logs counts for each event (its quotas page).
MAX_MESSAGE = 262_144 - 26
_BLOCK = 1 << 20  # bytes read at a time
_CONTINUATION_MASK, _CONTINUATION = 0b1100_0000, 0b1000_0000  # UTF-8's bytes that begin no character


def cut(data: bytes, *, final: bool) -> list[bytes]:
    """Return the whole lines at the beginning of `data` with their ends; too long ones in pieces.

    The pieces do not depend on how much of the file had been written when it was read. With `final`, what follows the
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
    """Return where to cut `data` so that no UTF-8 character is torn (they have at most four bytes)."""
    for back in range(1, 5):
        if data[-back] & _CONTINUATION_MASK != _CONTINUATION:
            return len(data) - back
    return len(data) - 1


class Tail:
    """Follows one host's output.

    Args:
        output: the file that the host appends to.
        log: the stream's file: a JSON object a line, `timestamp` (epoch milliseconds, when the line was read) and
            `message`.
        position: where the position is kept.
        clock: epoch seconds.
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
        """Count the lines that a killed predecessor wrote without noting it, and remove the torn one at the end."""
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
        """How many bytes were printed and have not been read."""
        return os.fstat(self._output.fileno()).st_size - self._read

    def pump(self, *, final: bool = False) -> bool:
        """Move what is new, at most a block of it; return whether there was any.

        With `final`, when the host has ended, move all, and a last line needs no end.
        """
        moved = False
        # Bounded: a job that prints without end must not keep the supervisor from looking after it.
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
    """Return one line of a stream's file: what the host printed, at epoch milliseconds."""
    message = piece.decode("utf-8", "replace").removesuffix("\n").removesuffix("\r")
    # json.dumps of the whole costs five times as much, for every line that any job prints.
    return f'{{"timestamp": {stamp}, "message": {encode_basestring_ascii(message)}}}\n'
