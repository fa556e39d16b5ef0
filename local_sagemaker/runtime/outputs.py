"""Uploads directories of a host to S3, as plain files or as one `tar.gz`.

A job may leave links to any file of this machine. An archive stores a link as a link; a plain upload follows a link
only if its target is inside the uploaded directory.
"""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
from typing import TYPE_CHECKING

from local_sagemaker.runtime.runtime_spec import S3Location

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from typing_extensions import Buffer

    from local_sagemaker.runtime.role_store import RoleStore, RoleUpload


Signature = tuple[int, int, int]  # mtime in ns, size, inode: a change of one of them means that the file changed

_BLOCK = 1 << 20  # bytes copied at a time
_LEVEL = 1  # gzip's fastest level: a user waits for the archive, which stays on the same disk


def directory_inside(root: Path, path: str) -> Path | None:
    """Return the directory of a container path below `root`; None if it is missing or reached through a link."""
    found = root / path.lstrip("/")
    return found if found.is_dir() and found.resolve() == root.resolve() / path.lstrip("/") else None


def read_inside(root: Path, path: str, limit: int) -> bytes | None:
    """Return the first `limit` bytes of a regular file of the job; None if there is no such file."""
    folder, _, name = path.rpartition("/")
    directory = directory_inside(root, folder)
    try:
        descriptor = os.open(directory / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK) if directory else None
    except OSError:  # missing, a link, or not readable
        return None
    if descriptor is None:
        return None
    with os.fdopen(descriptor, "rb") as file:
        return file.read(limit) if stat.S_ISREG(os.fstat(descriptor).st_mode) else None


def entries(directory: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield all entries below `directory` with relative names, a directory before its children; follow no links."""
    pending = [("", str(directory))]
    while pending:
        prefix, path = pending.pop()
        try:
            with os.scandir(path) as found:
                children = sorted(found, key=lambda entry: entry.name)
        except FileNotFoundError:  # a running job removed it meanwhile
            continue
        yield from ((prefix + child.name, child) for child in children)
        pending += [(f"{prefix}{child.name}/", child.path) for child in children if child.is_dir(follow_symlinks=False)]


def files(directory: Path) -> Iterator[tuple[str, str, Signature]]:
    """Yield (name, real path, signature) of the files below `directory`, including links to files inside it."""
    inside = os.path.realpath(directory) + "/"
    for name, entry in entries(directory):
        path = os.path.realpath(entry.path) if entry.is_symlink() else entry.path
        try:
            found = os.lstat(path)
        except FileNotFoundError:  # a running job removed it, or the link is broken
            continue
        if stat.S_ISREG(found.st_mode) and (path == entry.path or path.startswith(inside)):
            yield name, path, (found.st_mtime_ns, found.st_size, found.st_ino)


def put(store: RoleStore, path: str, target: S3Location) -> None:
    """Upload a regular file as one object."""
    # `O_NOFOLLOW` and `O_NONBLOCK`: since the scan a running job may have replaced the file by a link or a pipe.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file, store.new_upload() as upload:
        while block := file.read(_BLOCK):
            upload.write(block)
        upload.commit(target.bucket, target.key)


def put_tree(store: RoleStore, directory: Path, target: S3Location) -> None:
    """Upload all files below `directory` to the folder `target`."""
    for name, path, _ in files(directory):
        put(store, path, S3Location(target.bucket, target.below(name)))


def put_archive(store: RoleStore, directories: Sequence[Path], target: S3Location) -> None:
    """Upload the merged content of `directories` as one `tar.gz`; upload nothing if they are all empty.

    If several directories hold the same name, the first one wins ("they should ensure no file/directory names clash":
    Developer Guide, "How Amazon SageMaker AI Processes Training Output").
    """
    if not any(True for directory in directories for _ in entries(directory)):
        return
    with store.new_upload() as upload:
        with (
            gzip.GzipFile("", "wb", _LEVEL, _Sink(upload), mtime=0) as packed,
            tarfile.open(mode="w|", fileobj=packed, format=tarfile.PAX_FORMAT) as archive,
        ):
            _add_all(archive, directories)
        upload.commit(target.bucket, target.key, content_type="application/x-tar")


def _add_all(archive: tarfile.TarFile, directories: Sequence[Path]) -> None:
    taken: set[str] = set()
    for directory in directories:
        for name, entry in entries(directory):
            info = archive.gettarinfo(entry.path, name)
            # `gettarinfo` returns None for a socket. Pipes and devices are useless on another machine.
            if info is None or name in taken or not (info.isfile() or info.isdir() or info.issym() or info.islnk()):
                continue
            taken.add(name)
            _add(archive, info, entry.path)


def _add(archive: tarfile.TarFile, info: tarfile.TarInfo, path: str) -> None:
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    if not info.isfile():
        archive.addfile(info)
        return
    with open(path, "rb") as file:  # noqa: PTH123 -- a string from scandir, for ten thousand files
        archive.addfile(info, file)


class _Sink(io.RawIOBase):
    """A writable file object over an upload, for `gzip`."""

    def __init__(self, upload: RoleUpload) -> None:
        self._upload = upload

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer) -> int:
        block = bytes(data)
        self._upload.write(block)
        return len(block)
