"""What is left of the disk under a home, and a reserve by which a job's end can be written down when nothing is.

A job that fills the disk would take from us what is needed to end it: the table of jobs and the progress are files,
too. So a home keeps some space, and gives it up where writing fails. There is no quota without root, so the space of a
job is measured. Standard library only.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

LEAST = 1 << 20
"""Bytes that are to be free while a job runs: with less, neither its log nor its end could be written."""

_RESERVE = 8 << 20  # bytes; the end of a job takes some hundred kilobytes
_SHARE = 0.1  # of a small disk
_LOOK = 1.0  # seconds between looks
_MEASURED_PART = 0.02  # of the time may go into measuring
_BLOCK = 512  # bytes, the unit of st_blocks
_GB = 1 << 30
_T = TypeVar("_T")


class Reserve:
    """Some space that a home keeps back.

    Args:
        home: the data directory.
    """

    def __init__(self, home: Path) -> None:
        self._file = home / "reserve"

    def keep(self) -> None:
        """Take the space, where there is enough; no more of a small disk than a tenth."""
        usage = shutil.disk_usage(self._file.parent)
        size = int(min(_RESERVE, usage.total * _SHARE))
        if self._file.exists() or usage.free < 2 * size:
            return
        part = self._file.with_name(f"reserve.{os.getpid()}")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            for _ in range(0, size, LEAST):
                os.write(descriptor, bytes(LEAST))  # really: a file with holes takes no space
        except OSError:
            part.unlink()
            return
        finally:
            os.close(descriptor)
        part.replace(self._file)

    def spend(self) -> None:
        """Give the space up."""
        self._file.unlink(missing_ok=True)

    def spend_if_needed(self) -> None:
        """Give the space up where nearly nothing else is left."""
        if self._file.exists() and free(self._file.parent) < LEAST:
            self.spend()


def free(directory: Path) -> int:
    """Return the bytes that are free where a directory lies."""
    return shutil.disk_usage(directory).free


def is_full(error: BaseException) -> bool:
    """Tell whether something failed because no space is left."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return isinstance(error, sqlite3.OperationalError) and "disk is full" in str(error)


def with_space(act: Callable[[], _T], *makes_room: Callable[[], None]) -> _T:
    """Do something that writes; where no space is left, make room and do it again.

    Args:
        act: what is to be done; it changes nothing where it fails.
        makes_room: the ways to make room, tried one after the other.
    """
    for make_room in makes_room:
        try:
            return act()
        except (OSError, sqlite3.OperationalError) as error:
            if not is_full(error):
                raise
        make_room()
    return act()


class Volumes:
    """The disks of a job's hosts, as far as one that is not root can have them.

    Args:
        home: the data directory.
        hosts: each host's name and its files.
        size_gb: how much each may use, `VolumeSizeInGB`.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        home: Path,
        hosts: Iterable[tuple[str, Path]],
        size_gb: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._home, self._hosts, self._size_gb = home, tuple(hosts), size_gb
        self._clock = clock
        self._look = self._measure = 0.0

    def complaint(self) -> str | None:
        """Return what is wrong with the space that the job uses; looked at once a second at most."""
        now = self._clock()
        if now < self._look:
            return None
        self._look = now + _LOOK
        if free(self._home) < LEAST:
            return used_up(self._home)
        if now < self._measure:
            return None
        try:
            return self._too_large()
        finally:
            ended = self._clock()
            self._measure = ended + max(_LOOK, (ended - now) / _MEASURED_PART)

    def _too_large(self) -> str | None:
        for host, files in self._hosts:
            used = _size(files)
            if used > self._size_gb * _GB:
                return (
                    f"{host} used {used / _GB:.1f} GB, and the VolumeSizeInGB of the job is {self._size_gb:g}: "
                    "write less, or ask for a larger volume."
                )
        return None


def used_up(home: Path) -> str:
    """Return the sentence that says so, with the place."""
    return f"No space is left on the disk of {home}: free some, or let the job write less."


def _size(directory: Path) -> int:
    """Return the bytes that the files of a directory take on the disk; what vanishes meanwhile does not count."""
    total, waiting = 0, [str(directory)]
    while waiting:
        with suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                total += entry.stat(follow_symlinks=False).st_blocks * _BLOCK
    return total
