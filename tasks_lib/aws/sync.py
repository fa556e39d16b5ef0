"""A local directory and an S3 prefix made equal, and an archive unpacked without harm.

Local inputs go to a prefix named by their content, so what is there under the right name and size is there: nothing is
sent twice, nothing stale is left, and a later run cannot change what a waiting job will read.
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
    """Return the files of a directory by their relative names, or a single file by its own.

    Raises:
        MissingPath: There is nothing at the path, no file in the directory, or something that cannot be read.
        InvalidName: The name of a file is no UTF-8.
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
            f"The input directory {path.absolute()} holds no file.",
            fix="put a file into it, or leave the input out: SageMaker refuses an empty one.",
        )
    return files


def _files_below(folder: Path, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """Yield the files below a directory; links are followed, but never round in a circle."""
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
    """Return sizes and contents of local files. Modes do not enter: S3 does not keep them."""
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
    """Make a prefix that is named by its content hold these files; return how many were sent over the network.

    Args:
        objects: Access to S3.
        files: Local files by relative name.
        manifest: What they held when the prefix was named.
        target: Prefix, ending in `/`.
        earlier: Another prefix of ours with its manifest: what it has with the same content is copied within S3.

    Raises:
        InputsChanged: A file is no longer what it was.
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
        """Bring one file; return how many were sent."""
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
            fix="run again when nobody writes there any more.",
        )


def download(objects: Objects, source: Location, target: Path) -> list[Path]:
    """Fetch a prefix, or one object, into a directory; return the files written.

    Raises:
        MissingPath: There is nothing at the place.
        UnsafeArchive: A key would be written outside the directory.
    """
    base = source.key if source.key.endswith("/") else source.key.rpartition("/")[0] + "/"
    found = objects.listing(source)
    names = [name for name, _ in found] if source.key.endswith("/") else [""] if "" in found.items else []
    if not names:
        raise MissingPath(
            f"There is nothing at {source.uri}.",
            fix="look at the job's log (`result.logs()`) for where it wrote, or whether somebody deleted it.",
        )
    keys = {source.key + name: _inside(target, (source.key + name).removeprefix(base)) for name in names}

    def fetch(key: str) -> None:
        keys[key].parent.mkdir(parents=True, exist_ok=True)
        objects.download(Location(source.bucket, key), keys[key])

    wanted = [key for key in keys if not key.endswith("/")]
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(fetch, wanted))  # draws out what a thread raised
    return sorted(keys[key] for key in wanted)


def extract(archive: Path, target: Path, *, origin: str = "") -> list[Path]:
    """Unpack a tarball into a directory; return the files written, and the links to files.

    By the rule by which a job unpacks an input (`worker_toolkit.archive`): all of it or nothing.

    Args:
        archive: The tarball.
        target: The directory.
        origin: Where the archive comes from, such as its URI, for an error's fix.

    Raises:
        UnsafeArchive: It is no sound tarball, or has something that leads outside, is no file, directory or link, or
            lies behind a link of the target's.
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
