"""Uploads local files to an S3 prefix, downloads a prefix, and unpacks an archive safely.

Local inputs go to a prefix that is named by their content. So an object of the right name and size is already the right
one: nothing is uploaded twice, nothing stale is left, and a later run cannot change what a waiting job will read.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from tasks_lib.aws.objects import Objects
from tasks_lib.errors import InputsChanged, MissingPath, UnsafeArchive
from tasks_lib.jobs.manifest import Item, Manifest
from tasks_lib.jobs.naming import check_file_name
from tasks_lib.jobs.s3_layout import Location
from worker_toolkit.archive import unpack
from worker_toolkit.errors import BootstrapError

_THREADS = 8


def local_files(path: Path) -> dict[str, Path]:
    """Return the files of a directory by their relative names, or a single file by its own name.

    Raises:
        MissingPath: The path does not exist, the directory has no files, or an entry is neither file nor directory.
        InvalidName: A file's name is not UTF-8.
    """
    if path.is_file():
        return {check_file_name(path.name, path.parent): path}
    if not path.is_dir():
        raise MissingPath(
            f"The input path {path.absolute()} does not exist.",
            fix=f"give a file or a directory; relative paths start at {Path.cwd()}.",
        )
    files = {check_file_name(file.relative_to(path).as_posix(), path): file for file in _files_below(path)}
    if not files:
        raise MissingPath(
            f"The input directory {path.absolute()} has no files.",
            fix="put a file into it, or leave the input out: SageMaker refuses an empty one.",
        )
    return files


def _files_below(folder: Path, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """Yield the files below a directory. Links are followed, except those back to a directory above."""
    here = above | {folder.resolve()}
    for path in sorted(folder.iterdir()):
        if path.is_file():
            yield path
        elif not path.is_dir():
            raise MissingPath(
                f"The input {path.absolute()} is neither a file nor a directory, or a link that leads nowhere.",
                fix="remove it, or give a directory without it.",
            )
        elif path.resolve() not in here:
            yield from _files_below(path, here)


def hash_file(path: Path) -> Item:
    """Return size, SHA-256 and executable flag of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as content:
        facts = os.fstat(content.fileno())
        while block := content.read(1 << 20):
            digest.update(block)
    return Item(facts.st_size, digest.hexdigest(), bool(facts.st_mode & stat.S_IXUSR))


def manifest_of(files: Mapping[str, Path]) -> Manifest:
    """Return sizes and hashes of local files. Modes are left out: S3 does not keep them."""
    with ThreadPoolExecutor(_THREADS) as pool:
        items = pool.map(hash_file, files.values())
        return Manifest({name: type(item)(item.size, item.digest) for name, item in zip(files, items, strict=True)})


def upload(
    objects: Objects,
    files: Mapping[str, Path],
    manifest: Manifest,
    target: Location,
    earlier: tuple[Location, Manifest] | None = None,
) -> int:
    """Upload files to a prefix that is named by their content; return how many were sent over the network.

    Args:
        objects: Access to S3.
        files: Local files by relative name.
        manifest: Their manifest when the prefix was named.
        target: Prefix, ending in `/`.
        earlier: Another prefix of the project, and its manifest: files of the same content are copied from it within
            S3; default None.

    Raises:
        InputsChanged: A file has changed since.
    """
    present = objects.listing(target)
    missing = {
        name: path
        for name, path in files.items()
        if name not in present.items or present.items[name].size != path.stat().st_size
    }
    wanted = manifest_of(missing)
    _check_unchanged(wanted, manifest, files)
    known = {item.digest: name for name, item in earlier[1]} if earlier else {}

    def bring(name: str) -> int:
        """Copy or upload one file; return the number of files sent."""
        place = target.below(name)
        before = known.get(wanted.items[name].digest)
        if earlier and before and objects.copy(earlier[0].below(before), place):
            return 0
        objects.upload(missing[name], place)
        return 1

    with ThreadPoolExecutor(_THREADS) as pool:
        return sum(pool.map(bring, missing))


def _check_unchanged(now: Manifest, then: Manifest, files: Mapping[str, Path]) -> None:
    changed = [name for name, item in now if then.items[name] != item]
    if changed:
        raise InputsChanged(
            f"{files[changed[0]].absolute()} was changed while its task was being prepared.",
            fix="run again when that input no longer changes.",
        )


def download(objects: Objects, source: Location, target: Path) -> list[Path]:
    """Download a prefix, or one object, to a directory; return the files written.

    Raises:
        MissingPath: There is nothing at that place.
        UnsafeArchive: A key would be written outside the directory.
    """
    base = source.key if source.key.endswith("/") else source.key.rpartition("/")[0] + "/"
    found = objects.listing(source)
    names = [name for name, _ in found] if source.key.endswith("/") else [""] if "" in found.items else []
    if not names:
        raise MissingPath(
            f"There is nothing at {source.uri}.",
            fix="look at the job's log (`result.logs()`) for where it wrote; the output may also have been deleted.",
        )
    keys = {source.key + name: _inside(target, (source.key + name).removeprefix(base)) for name in names}

    def fetch(key: str) -> None:
        keys[key].parent.mkdir(parents=True, exist_ok=True)
        objects.download(Location(source.bucket, key), keys[key])

    wanted = [key for key in keys if not key.endswith("/")]
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(fetch, wanted))  # `list` raises what a thread raised
    return sorted(keys[key] for key in wanted)


def extract(archive: Path, target: Path, *, origin: str = "") -> list[Path]:
    """Unpack a tarball into a directory; return the files written, and the links to files.

    A job unpacks its inputs by the same rule (`worker_toolkit.archive`): all of the tarball or nothing.

    Args:
        archive: The tarball.
        target: The directory.
        origin: Where the archive comes from, such as its URI, for the error's fix; default empty.

    Raises:
        UnsafeArchive: It is not a valid tarball, or a member leads outside, is not a file, directory or link, or would
            be written through a link in the target.
    """
    try:
        return unpack(archive, target, spare_links=True)
    except BootstrapError as error:
        raise UnsafeArchive(
            str(error).replace(str(archive), archive.name),
            fix=f"download {origin or 'it'} without unpacking (`unpack=False`), and look at it with `tar tvf`.",
        ) from error


def _inside(target: Path, name: str) -> Path:
    if ".." in PurePosixPath(name).parts or name.startswith("/"):
        raise UnsafeArchive(
            f"The object name {name!r} would be written outside {target.absolute()}; nothing was downloaded.",
            fix="fetch it by its key with an S3 client.",
        )
    return target / name
