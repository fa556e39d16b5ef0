"""The bodies of an object store: immutable files under random names, so that no key ever becomes a file name.

Life of a body: written to `tmp/<name>`, moved to `bodies/<2 digits>/<name>` inside the transaction that puts it into
the index, unlinked after the transaction that takes it out. A crash in between leaves a file that the index does not
name, never an index entry without a file; `sweep_drafts` and the store's `sweep` remove such files.
Only `local_sagemaker.s3` imports it.
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

# A body is never changed in place: not by us, and not by a job that got hold of its path.
_MODE = 0o444
# A file has had its 65,000 links (ext4), or the file system has none.
_NO_LINK = frozenset({errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP, errno.EXDEV})


class Draft:
    """A body that is being written; counts and hashes as it goes. Leaving its `with` block drops it, unless released.

    The file is locked (`flock`) until the draft is kept or dropped, so that a sweep, in whatever process, can tell the
    draft of a live writer from one that a dead writer left: the lock dies with its holder.
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
        """Force what has been written to the disk."""
        os.fsync(self._fd)

    def release(self) -> None:
        """Leave the file to the index, which names it now; a later `drop` does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def drop(self) -> None:
        """Remove the file, wherever it lies by now, unless it was released; may be repeated."""
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
        # A sweep may have taken the file for a dead writer's between open and lock.
        if os.fstat(fd).st_nlink:
            return name, path, fd
        os.close(fd)


class Bodies:
    """All body files below `directory`.

    Args:
        directory: gets the folders `bodies` and `tmp`.
        fsync: force files and folders to the disk before a body counts as kept.
    """

    def __init__(self, directory: Path, *, fsync: bool) -> None:
        self._root = directory / "bodies"
        self._drafts = directory / "tmp"
        self._fsync = fsync
        for folder in (self._root, self._drafts):
            folder.mkdir(parents=True, exist_ok=True)

    def path(self, name: str) -> Path:
        """Where the body `name` lies."""
        return self._root / name[:2] / name

    def draft(self) -> Draft:
        """Begin a new body."""
        return Draft(self._drafts)

    def settle(self, draft: Draft) -> None:
        """Bring a draft's content to the disk; the slow half of `keep`, done before the transaction."""
        if self._fsync:
            draft.sync()

    def keep(self, draft: Draft) -> str:
        """Move a draft among the bodies; return its name.

        Belongs inside the transaction that puts it into the index: a sweep takes any other body for a stray.
        """
        target = self._target(draft.name)
        draft.path.rename(target)
        draft.path = target
        self._sync_folder(target.parent)
        return draft.name

    def duplicate(self, name: str) -> str:
        """Make a second name for a body, by a hard link where that goes; same transaction as for `keep`."""
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
        """Unlink bodies that the index has let go; whoever has one open reads on."""
        for name in names:
            self.path(name).unlink(missing_ok=True)

    def names(self) -> Iterator[str]:
        """Yield the names of all bodies."""
        for shard in self._root.iterdir():
            yield from (entry.name for entry in os.scandir(shard))

    def sweep_drafts(self) -> int:
        """Remove the drafts of writers that are gone; return how many."""
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
    except FileNotFoundError:  # its writer has just kept or dropped it
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
