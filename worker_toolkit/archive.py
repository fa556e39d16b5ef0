"""Unpacking a tarball that we do not trust: all of it or nothing, and never outside of its directory.

An archive may come from a public bucket. It is unpacked into a directory of its own inside the destination, looked at,
and only then moved into place: so whatever is refused has written nothing, and one pass over a large model is enough.
`tarfile`'s own filters are not used because Python 3.8 to 3.11 have them only in late releases, and because they were
escaped once through chains of links (CVE-2025-4517); here nothing is ever written through a link.
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import os
import shutil
import tarfile
import zlib
from pathlib import Path
from typing import Iterable, Iterator

from .errors import BootstrapError
from .paths import relative_name

_BLOCK = 1 << 20


class UnsafeArchive(BootstrapError):
    """An archive would write outside of its directory, or something that is no file."""


def unpack(archive: Path, destination: Path) -> None:
    """Unpack a tarball into a directory, over what is there.

    Files lose owner, time and every special bit; of their mode the executable flag stays.

    Raises:
        UnsafeArchive: The archive holds an absolute path, `..`, a link that leads out, a device or a pipe.
        BootstrapError: It is no tarball, or broken.
    """
    with _unpacked(archive, destination) as folder:
        _move_in(folder, destination)


def unpack_in_place(archive: Path) -> None:
    """Replace a tarball by its content, like `unpack` into its own directory."""
    with _unpacked(archive, archive.parent) as folder:
        archive.unlink()
        _move_in(folder, archive.parent)


@contextlib.contextmanager
def _unpacked(archive: Path, destination: Path) -> Iterator[Path]:
    """Give a directory with the checked content, on the destination's own file system; it is gone afterwards."""
    folder = destination / f".unpacking-{os.getpid()}"
    # The first process of every container has the same number, so an earlier one may have been killed here.
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    try:
        _check_links(archive, folder, _extract(archive, folder))
        yield folder
    finally:
        shutil.rmtree(folder)


def _extract(archive: Path, folder: Path) -> set[str]:
    """Write all members, and return the names of those that are symbolic links."""
    links: set[str] = set()
    try:
        with tarfile.open(archive, "r:*") as tar:
            for member in tar:
                _write(archive, tar, member, folder, links)
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise BootstrapError(f"{archive} is no sound tarball ({error}); make or upload it again.") from error
    except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
        raise BootstrapError(f"{archive} has a file where it also has a directory ({error}); make it again.") from error
    return links


def _write(archive: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, links: set[str]) -> None:
    """Write one member; `links` are the names of the symbolic links so far."""
    if member.isdir() and os.path.normpath(member.name) == ".":
        return
    name = _safe_name(archive, member.name)
    if any(prefix in links for prefix in _prefixes(name if member.isdir() else str(Path(name).parent))):
        raise UnsafeArchive(_refusal(archive, member.name, "lies behind a link of the same archive"))
    target = folder / name
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(target):  # an archive that was appended to: the last one counts
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
    target.chmod(0o755 if member.mode & 0o100 else 0o644)


def _write_hard_link(archive: Path, member: tarfile.TarInfo, folder: Path, target: Path) -> None:
    original = folder / _safe_name(archive, member.linkname)
    # Resolved, since a link on the way would lead out; the folder is ours alone, so nothing changes in between.
    if not original.is_file() or original.resolve() != folder.resolve() / original.relative_to(folder):
        raise UnsafeArchive(_refusal(archive, member.name, f"is a hard link to {member.linkname!r}, no earlier file"))
    os.link(original, target)


def _check_links(archive: Path, folder: Path, links: Iterable[str]) -> None:
    """Refuse links that do not end in the archive itself.

    They are followed where they lie, since names alone cannot tell where a chain of links ends. One that leads nowhere
    is refused too: over what is already in the destination it might lead out.
    """
    root = os.path.realpath(folder)
    for name in sorted(links):
        path = folder / name
        if not path.exists() or os.path.commonpath([root, os.path.realpath(path)]) != root:
            raise UnsafeArchive(_refusal(archive, name, f"leads to {os.readlink(path)!r}"))


def _move_in(folder: Path, destination: Path) -> None:
    """Move the content of a directory into another: directories are merged, anything else takes the old one's place."""
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
        return relative_name(name)
    except ValueError as error:
        raise UnsafeArchive(_refusal(archive, name, "lies outside")) from error


def _prefixes(name: str) -> Iterator[str]:
    """Yield `a`, `a/b` and `a/b/c` for `a/b/c`."""
    return itertools.accumulate(name.split("/"), lambda above, part: f"{above}/{part}")


def _refusal(archive: Path, member: str, why: str) -> str:
    return f"{archive} is refused, and nothing of it was unpacked: {member!r} {why}. Make it without that entry."
