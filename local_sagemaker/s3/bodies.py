"""The bodies of objects: immutable files under random names, so that no key becomes a file name.

A body is written to `tmp/<name>`. The transaction that adds it to the index moves it to `bodies/<2 digits>/<name>`.
It is unlinked after the transaction that removes it from the index. A crash in between leaves a file that is not in
the index, never an index entry without a file. `sweep_drafts` and the store's `sweep` remove such files.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import uuid
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

# Read-only: neither this module nor a job that got the path changes a body in place.
_MODE = 0o444
# The file has the maximum of links (65,000 on ext4), or the file system cannot make this link.
_NO_LINK = frozenset({errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP, errno.EXDEV})


class Draft:
    """A body that is being written, with its size and MD5. Leaving its `with` block drops it, unless released.

    The file is locked (`flock`) until the draft is kept or dropped. The kernel releases the lock when the process ends,
    so that a sweep in any process can tell a live writer's draft from a dead writer's.
    """

    def __init__(self, directory: Path) -> None:
        self.size = 0
        self._md5 = hashlib.md5(usedforsecurity=False)
        self.name, self.path, self._fd = _locked_file(directory)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append `data`."""
        view = memoryview(data)
        self._md5.update(view)
        self.size += len(view)
        while view:
            view = view[os.write(self._fd, view) :]

    @property
    def md5(self) -> bytes:
        """The MD5 digest of what has been written so far, 16 bytes."""
        return self._md5.digest()

    def sync(self) -> None:
        """Flush what has been written to disk."""
        os.fsync(self._fd)

    def release(self) -> None:
        """Leave the file to the index, which names it now. A later `drop` does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def drop(self) -> None:
        """Remove the file at its current path, unless it was released. Can be called repeatedly."""
        if self._fd >= 0:
            self.path.unlink(missing_ok=True)
            self.release()

    def __enter__(self) -> Draft:  # noqa: PYI034 -- Self came with Python 3.11
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.drop()


def _locked_file(directory: Path) -> tuple[str, Path, int]:
    while True:
        name = uuid.uuid4().hex
        path = directory / name
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
        fcntl.flock(fd, fcntl.LOCK_EX)
        # Between `open` and `flock` a sweep may have removed the file as a dead writer's.
        if os.fstat(fd).st_nlink:
            return name, path, fd
        os.close(fd)


class Bodies:
    """All body files below a directory.

    Args:
        directory: gets the folders `bodies` and `tmp`.
        fsync: flush files and folders to disk before a body counts as kept.
    """

    def __init__(self, directory: Path, *, fsync: bool) -> None:
        self._root = directory / "bodies"
        self._drafts = directory / "tmp"
        self._fsync = fsync
        for folder in (self._root, self._drafts):
            folder.mkdir(parents=True, exist_ok=True)

    def path(self, name: str) -> Path:
        """Return the path of the body `name`."""
        return self._root / name[:2] / name

    def draft(self) -> Draft:
        """Begin a new body."""
        return Draft(self._drafts)

    def settle(self, draft: Draft) -> None:
        """Flush a draft to disk if `fsync` is set. This slow half of `keep` comes before the transaction."""
        if self._fsync:
            draft.sync()

    def keep(self, draft: Draft) -> str:
        """Move a draft to the bodies and return its name.

        Call this inside the transaction that adds the body to the index: a sweep removes bodies that are not in the
        index.
        """
        target = self._target(draft.name)
        draft.path.rename(target)
        draft.path = target
        self._sync_folder(target.parent)
        return draft.name

    def duplicate(self, name: str) -> str:
        """Give a body a second name: by a hard link, or else by a copy. Same transaction as for `keep`."""
        copy = uuid.uuid4().hex
        target = self._target(copy)
        try:
            os.link(self.path(name), target)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            shutil.copyfile(self.path(name), target)
            target.chmod(_MODE)
        self._sync_folder(target.parent)
        return copy

    def discard(self, *names: str) -> None:
        """Unlink bodies that were removed from the index. Files that are already open stay readable."""
        for name in names:
            self.path(name).unlink(missing_ok=True)

    def names(self) -> Iterator[str]:
        """Yield the names of all bodies."""
        for shard in self._root.iterdir():
            yield from (entry.name for entry in os.scandir(shard))

    def sweep_drafts(self) -> int:
        """Remove the drafts of dead writers and return how many."""
        return sum(_remove_if_unlocked(path) for path in self._drafts.iterdir())

    def _target(self, name: str) -> Path:
        target = self.path(name)
        if not target.parent.is_dir():
            target.parent.mkdir(exist_ok=True)
            self._sync_folder(self._root)
        return target

    def _sync_folder(self, folder: Path) -> None:
        if self._fsync:
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)


def _remove_if_unlocked(path: Path) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # its writer has just moved or removed it
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        path.unlink(missing_ok=True)
        return True
    finally:
        os.close(fd)
