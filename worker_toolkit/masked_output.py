"""Masking of secrets in the container's output and in its failure reason.

The job's log goes to CloudWatch and from there to Prefect, and neither knows the secret values. So if a job has
secrets, standard output and standard error of the whole container go through one pipe, which keeps their order. A
thread replaces each secret in it by `****`. It finds a value as it is, and as URLs, JSON and Python write it. It does
not find other encodings, and the job's other files are not masked.
"""

from __future__ import annotations

import os
import re
import select
import signal
import sys
import threading
from pathlib import Path
from typing import Iterable, Pattern

from .masking import MASK, spellings

_MASK = MASK.encode()
_BLOCK = 65536
_OUT, _ERR = 1, 2


class Mask:
    """Masks secrets in bytes, also if they arrive in pieces.

    Args:
        texts: The secrets.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        # A secret of several lines is masked line by line, as the log is read.
        found = {
            spelling.encode("utf-8", "surrogateescape")
            for text in texts
            for spelling in spellings(text)
            if "\n" not in spelling
        }
        values = sorted(found, key=len, reverse=True)
        self._pattern: Pattern[bytes] | None = re.compile(b"|".join(map(re.escape, values))) if values else None
        self._longest = max(map(len, values), default=0)
        self._by_first: dict[int, list[bytes]] = {}
        for value in values:
            self._by_first.setdefault(value[0], []).append(value)

    def __bool__(self) -> bool:
        """Return whether there is anything to mask."""
        return self._pattern is not None

    def __call__(self, data: bytes) -> bytes:
        """Return bytes with `****` in place of each secret."""
        return self._pattern.sub(_MASK, data) if self._pattern else data

    def text(self, text: str) -> str:
        """Return a text with `****` in place of each secret."""
        return self(text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")

    def split(self, data: bytes) -> tuple[bytes, bytes]:
        """Return the masked part of `data` that can be shown, and the rest, which may be the start of a secret."""
        shown, done, start = [], 0, self._unfinished(data)
        for found in self._pattern.finditer(data) if self._pattern else ():
            if found.start() >= start:
                break
            shown += [data[done : found.start()], _MASK]
            done = found.end()
        cut = max(start, done)
        return b"".join([*shown, data[done:cut]]), data[cut:]

    def _unfinished(self, data: bytes) -> int:
        """Return where an incomplete secret may start; the end of `data` if nowhere. No known secret spans lines."""
        first = max(data.rfind(b"\n") + 1, len(data) - self._longest + 1)
        for start in range(first, len(data)):
            rest = data[start:]
            if any(len(rest) < len(value) and value.startswith(rest) for value in self._by_first.get(data[start], ())):
                return start
        return len(data)


class MaskedOutput:
    """The masked standard output and error of this process and of all that it starts. A context manager."""

    def __init__(self) -> None:
        self._mask = Mask(())
        self._stream: _Stream | None = None

    def __enter__(self) -> MaskedOutput:  # noqa: PYI034  `Self` came with Python 3.11
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Show the remaining output, but do not wait for a process that was left behind and holds the pipe open."""
        _flush()
        if self._stream:
            self._stream.close()

    def hide(self, texts: Iterable[str]) -> None:
        """Mask these texts from now on; without any, the output is not redirected."""
        self._mask = Mask(texts)
        if self._mask:
            _flush()
            self._stream = _Stream(self._mask)

    def text(self, text: str) -> str:
        """Return a text with the secrets masked."""
        return self._mask.text(text)

    def clean(self, path: Path) -> None:
        """Mask secrets in the failure reason that the user's code has written.

        A file without secrets is not changed. Of others only the beginning is kept, which is all that SageMaker reads.
        """
        if not self._mask or not path.is_file():
            return
        with path.open("rb") as file:
            content = file.read(_BLOCK)
        if self._mask(content) != content:
            path.write_bytes(self._mask(content))


class _Stream:
    """Sends standard output and standard error through one pipe and a thread to the original standard output.

    Args:
        mask: Masks the secrets.
    """

    def __init__(self, mask: Mask) -> None:
        self._mask = mask
        self._originals = {descriptor: os.dup(descriptor) for descriptor in (_OUT, _ERR)}
        self._source, sink = os.pipe()
        self._over, self._end = os.pipe()
        for descriptor in self._originals:
            os.dup2(sink, descriptor)
        os.close(sink)
        self._thread = threading.Thread(target=self._follow, daemon=True)
        # The new thread blocks signals. They must reach the thread that waits for the program, to wake it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._thread.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def close(self) -> None:
        """Restore the descriptors, and return when all output is shown."""
        for descriptor, original in self._originals.items():
            os.dup2(original, descriptor)
        os.close(self._end)
        self._thread.join()
        os.close(self._over)
        for original in self._originals.values():
            os.close(original)

    def _follow(self) -> None:
        kept = b""
        try:
            while block := self._next():
                shown, kept = self._mask.split(kept + block)
                _write(self._originals[_OUT], shown)
            _write(self._originals[_OUT], self._mask(kept))
        except BrokenPipeError:
            return  # the log has no reader; the pipe is closed below, so the program sees that as without masking
        finally:
            os.close(self._source)

    def _next(self) -> bytes:
        ready, _, _ = select.select([self._source, self._over], [], [])
        return os.read(self._source, _BLOCK) if self._source in ready else b""


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
