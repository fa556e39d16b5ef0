"""Unpacking of an untrusted tarball: all of it or nothing, and never outside its directory.

An archive may come from a public bucket. It is unpacked into a new directory inside the destination, checked, and only
then moved into place. So a refused archive has written nothing, and one pass over a large model is enough. Links that
end inside the archive are kept, since a model may have `latest -> step-100`.

`tarfile`'s own filters are not used. Python 3.8 to 3.11 have them only in late releases, and chains of links have
escaped them (CVE-2025-4517). Here nothing is ever written through a link.

The module imports only `paths` and `errors` of this package, so that `tasks_lib` can unpack its downloads with it.
"""

from __future__ import annotations

import contextlib
import errno
import io
import itertools
import lzma
import os
import shutil
import tarfile
import zlib
from pathlib import Path
from typing import Iterable, Iterator

from .errors import BootstrapError
from .paths import relative_name

_BLOCK = 1 << 20
_TAR_BLOCK = 512
_DEEPEST = 100
"""Most levels of directories. No real model has more, and neither paths nor the code that walks them can handle more.
"""


class UnsafeArchive(BootstrapError):
    """An archive would write outside its directory, or has a special file."""


def unpack(archive: Path, destination: Path, *, spare_links: bool = False) -> list[Path]:
    """Unpack a tarball into a directory, over existing files; return the new files, sorted.

    Owner, time and special bits are not restored, and only the owner may write to a file.

    Args:
        archive: The tarball, compressed or not.
        destination: The directory; created if it is missing.
        spare_links: Whether to refuse a directory where the destination has a link, instead of replacing the link;
            default False. A user's own directory may have a link to a large disk.

    Raises:
        UnsafeArchive: The archive has an absolute path, `..`, a link that leads outside or nowhere, a device, a pipe,
            or too many levels of directories.
        BootstrapError: It is not a valid tarball.
    """
    with _unpacked(archive, destination) as folder:
        names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
        if spare_links:
            _check_way(archive, folder, destination)
        _move_in(folder, destination)
    return [destination / name for name in names]


def unpack_in_place(archive: Path) -> None:
    """Replace a tarball by its content, unpacked into the tarball's directory as by `unpack`."""
    with _unpacked(archive, archive.parent) as folder:
        archive.unlink()
        _move_in(folder, archive.parent)


@contextlib.contextmanager
def _unpacked(archive: Path, destination: Path) -> Iterator[Path]:
    """Yield a directory with the checked content, on the destination's file system; remove it afterwards."""
    folder = destination / f".unpacking-{os.getpid()}"
    # The first process of every container has the same id, so a killed one may have left this directory.
    if folder.exists():
        shutil.rmtree(folder)
    made = not destination.exists()
    folder.mkdir(parents=True)
    try:
        _check_links(archive, folder, _extract(archive, folder))
        yield folder
    finally:
        shutil.rmtree(folder)
        if made and not any(destination.iterdir()):
            destination.rmdir()  # a refused archive leaves nothing, not even the directory


def _extract(archive: Path, folder: Path) -> set[str]:
    """Write all members, and return the names of the symbolic links among them."""
    links: set[str] = set()
    try:
        with tarfile.open(archive, "r:*") as tar:
            for member in tar:
                _write(archive, tar, member, folder, links)
            _read_to_the_end(tar)
    except (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError) as error:
        raise BootstrapError(_unsound(archive, error)) from error
    except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
        raise BootstrapError(f"{archive} has a file where it also has a directory ({error}); make it again.") from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise BootstrapError(
                f"{archive} has a name that is too long for this disk, and nothing of it was unpacked: "
                f"{Path(str(error.filename)).name[:40]!r}…; make it again with shorter names."
            ) from error
        if error.errno is not None:
            raise  # an error of the operating system, such as a full disk; those of `gzip` and `bz2` have no errno
        raise BootstrapError(_unsound(archive, error)) from error
    return links


def _read_to_the_end(tar: tarfile.TarFile) -> None:
    """Read what follows the last member, where a compressed stream has its checksum.

    Raises:
        OSError: The checksum is wrong (`gzip.BadGzipFile`, and `bz2`).
        tarfile.ReadError: A member's header in a plain tarball is damaged, which `tarfile` takes for the end.
    """
    stream = tar.fileobj
    assert stream is not None
    if isinstance(stream, io.BufferedReader):
        stream.seek(tar.offset)
        if any(stream.read(_TAR_BLOCK)):
            raise tarfile.ReadError("a header is damaged")
        return
    while stream.read(_BLOCK):
        pass


def _unsound(archive: Path, error: Exception) -> str:
    why = (str(error).splitlines() or [type(error).__name__])[0].rstrip(":")
    return f"{archive} is not a valid tarball ({why}), and nothing of it was unpacked; make or upload it again."


def _write(archive: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, links: set[str]) -> None:
    """Write one member; `links` has the names of the symbolic links so far."""
    if member.isdir() and not set(member.name.split("/")) - {"", "."} and not member.name.startswith("/"):
        return  # the root directory, as `tar -C model .` writes it
    name = _safe_name(archive, member.name)
    if any(prefix in links for prefix in _prefixes(name if member.isdir() else str(Path(name).parent))):
        raise UnsafeArchive(_refusal(archive, member.name, "lies behind a link of the same archive"))
    target = folder / name
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(target):  # in an archive that was appended to, the last member of a name counts
        target.unlink()
        links.discard(name)
    if member.issym():
        target.symlink_to(member.linkname)
        links.add(name)
    elif member.islnk():
        _write_hard_link(archive, member, folder, target)
    elif member.isreg():
        _write_file(tar, member, target)
    else:
        raise UnsafeArchive(_refusal(archive, member.name, "is a device, a pipe or something unknown"))


def _write_file(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    content = tar.extractfile(member)
    assert content is not None
    with content, target.open("xb") as file:
        shutil.copyfileobj(content, file, _BLOCK)
    target.chmod(member.mode & 0o755 | 0o600)


def _write_hard_link(archive: Path, member: tarfile.TarInfo, folder: Path, target: Path) -> None:
    try:
        original = folder / relative_name(member.linkname)
    except ValueError as error:
        raise UnsafeArchive(_refusal(archive, member.name, f"leads to {member.linkname!r}")) from error
    # A link on the way could lead outside, so the resolved path is compared. No other process writes to the folder, so
    # nothing changes before `os.link`.
    if not original.is_file() or original.resolve() != folder.resolve() / original.relative_to(folder):
        raise UnsafeArchive(_refusal(archive, member.name, f"is a hard link to {member.linkname!r}, no earlier file"))
    os.link(original, target)


def _check_links(archive: Path, folder: Path, links: Iterable[str]) -> None:
    """Refuse links that do not end inside the archive.

    They are followed on disk, since names alone cannot tell where a chain of links ends. A link that leads nowhere is
    refused, too: through the existing content of the destination it might lead outside.
    """
    root = os.path.realpath(folder)
    for name in sorted(links):
        path = folder / name
        there = os.path.exists(path)  # noqa: PTH110  `Path.exists` raises for a name that is too long
        if not there or os.path.commonpath([root, os.path.realpath(path)]) != root:
            raise UnsafeArchive(_refusal(archive, name, f"leads to {os.readlink(path)!r}"))


def _check_way(archive: Path, folder: Path, destination: Path) -> None:
    """Refuse a directory of the archive where the destination has a link."""
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if _is_directory(path) and (destination / name).is_symlink():
            raise UnsafeArchive(_refusal(archive, str(name), f"is a directory, and a link in {destination.absolute()}"))


def _move_in(folder: Path, destination: Path) -> None:
    """Move the content of a directory into another; directories are merged, anything else is replaced."""
    for source in folder.iterdir():
        target = destination / source.name
        if _is_directory(source) and _is_directory(target):
            _move_in(source, target)
            continue
        if _is_directory(target):
            shutil.rmtree(target)
        elif _is_directory(source) and os.path.lexists(target):
            target.unlink()
        source.replace(target)


def _is_directory(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _safe_name(archive: Path, name: str) -> str:
    try:
        safe = relative_name(name)
    except ValueError as error:
        raise UnsafeArchive(_refusal(archive, name, "lies outside")) from error
    if safe.count("/") > _DEEPEST:
        raise UnsafeArchive(_refusal(archive, f"{safe[:40]}…", f"lies more than {_DEEPEST} directories deep"))
    return safe


def _prefixes(name: str) -> Iterator[str]:
    """Yield `a`, `a/b` and `a/b/c` for `a/b/c`."""
    return itertools.accumulate(name.split("/"), lambda above, part: f"{above}/{part}")


def _refusal(archive: Path, member: str, why: str) -> str:
    return f"{archive} is refused, and nothing of it was unpacked: {member!r} {why}. Make it without that entry."
