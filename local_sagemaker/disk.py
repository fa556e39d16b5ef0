"""Disk space of a home: what is free, a reserve for the end of a job, and the use by each host of a job.

A job that fills the disk would also block the writes that end it, to the table of jobs and the progress file. So a home
keeps a reserve, and releases it if a write fails. Quotas of the file system need root, so the space of a job is
measured. Standard library only.
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
"""Free bytes that a running job needs at least: with less, its log and its end could not be written."""

_RESERVE = 8 << 20  # bytes; the end of a job takes some hundred kilobytes
_SHARE = 0.1  # of the disk, the most that the reserve takes
_LOOK = 1.0  # seconds between checks
_MEASURED_PART = 0.02  # of the time, the most that measuring takes
_BLOCK = 512  # bytes, the unit of st_blocks
_GB = 1 << 30
_T = TypeVar("_T")


class Reserve:
    """A file that reserves disk space for the end of a job.

    Args:
        home: the data directory.
    """

    def __init__(self, home: Path) -> None:
        self._file = home / "reserve"

    def keep(self) -> None:
        """Create the reserve: 8 MB, or a tenth of a smaller disk. Skip it if less than twice that is free."""
        usage = shutil.disk_usage(self._file.parent)
        size = int(min(_RESERVE, usage.total * _SHARE))
        if self._file.exists() or usage.free < 2 * size:
            return
        part = self._file.with_name(f"reserve.{os.getpid()}")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            for _ in range(0, size, LEAST):
                os.write(descriptor, bytes(LEAST))  # a sparse file would take no space
        except OSError:
            part.unlink()
            return
        finally:
            os.close(descriptor)
        part.replace(self._file)

    def spend(self) -> None:
        """Delete the reserve."""
        self._file.unlink(missing_ok=True)

    def release_if_low(self) -> None:
        """Delete the reserve if less than `LEAST` is free."""
        if self._file.exists() and free(self._file.parent) < LEAST:
            self.spend()


def free(directory: Path) -> int:
    """Return the free bytes of a directory's file system."""
    return shutil.disk_usage(directory).free


def is_full(error: BaseException) -> bool:
    """Tell whether an error means that no disk space or quota is left."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return isinstance(error, sqlite3.OperationalError) and "disk is full" in str(error)


def with_space(act: Callable[[], _T], *makes_room: Callable[[], None]) -> _T:
    """Run a function that writes. If the disk is full, make room and retry.

    Args:
        act: the function; must change nothing if it fails.
        makes_room: functions that make room; each is called once, in order, before the next retry.
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
    """Limits the disk space of a job's hosts by measuring their files.

    Args:
        home: the data directory.
        hosts: the name and the directory of each host.
        size_gb: how much each host may use (`VolumeSizeInGB`), in GiB.
        clock: returns monotonic seconds.
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

    def violation(self) -> str | None:
        """Return what is wrong with the space that the job uses, or None. Check once a second at most."""
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
    """Return the message for a full disk."""
    return f"No space is left on the disk of {home}: free some, or let the job write less."


def _size(directory: Path) -> int:
    """Return the bytes that a directory's files take on the disk. Ignore files that vanish meanwhile."""
    total, waiting = 0, [str(directory)]
    while waiting:
        with suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                total += entry.stat(follow_symlinks=False).st_blocks * _BLOCK
    return total
