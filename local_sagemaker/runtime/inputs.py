"""Input data: which objects a host gets, under which names, and their download.

`local_name` and `share` are pure functions; `objects_of` and `fetch` read from the object store.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from local_sagemaker.runtime.runtime_spec import JobFailure, S3Location
from local_sagemaker.s3.errors import AccessDenied, NoSuchBucket, NoSuchKey

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from local_sagemaker.runtime.role_store import RoleStore
    from local_sagemaker.runtime.runtime_spec import Input

_T = TypeVar("_T")
_BLOCK = 1 << 20  # bytes copied at a time


@dataclass(frozen=True)
class InputObject:
    """One object of an input, and its file name below the input's directory."""

    key: str
    bucket: str
    name: str


def local_name(key: str, prefix: str) -> str:
    """Return the file name of an object below the directory of an `S3Prefix` input.

    The name of an object in the folder `prefix` is its path below that folder. A prefix need not be a folder:
    `data/train` also matches `data/train-1.csv`. AWS then keeps the key after the last slash of the prefix
    (aws/sagemaker-python-sdk issue 3612).
    """
    folder = prefix if prefix.endswith("/") or not prefix else prefix + "/"
    if key.startswith(folder):
        return key[len(folder) :]
    return key[prefix.rfind("/") + 1 :]


def share(pieces: Sequence[_T], index: int, count: int) -> Sequence[_T]:
    """Return the pieces of host `index` of `count` under `ShardedByS3Key`: sorted object i goes to host i mod n."""
    return pieces[index::count]


def objects_of(store: RoleStore, source: Input, *, region: str, role: str) -> list[InputObject]:
    """Return the objects of an input, sorted by key; keys that end with a slash (folder markers) are left out.

    Args:
        store: the object store, accessed with the job's role.
        source: the input.
        region: the region, for error messages.
        role: the role's ARN, for error messages.

    Raises:
        JobFailure: a required input has no objects, the role may not list them, or a manifest cannot be read.
    """
    try:
        pieces = _from_manifest(store, source.source) if source.manifest else _from_prefix(store, source.source)
    except (NoSuchBucket, NoSuchKey):
        pieces = []
    except AccessDenied as error:
        if source.manifest:
            raise JobFailure(_not_readable(source.source, error)) from error
        # SageMaker gives the same reason for a prefix that it may not list and for an empty one.
        raise JobFailure(f"{_nothing_found(source.source, region, role)} ({error.message})") from error
    if not pieces and source.required:
        raise JobFailure(_nothing_found(source.source, region, role))
    return pieces


def _from_prefix(store: RoleStore, place: S3Location) -> list[InputObject]:
    return [
        InputObject(found.key, place.bucket, local_name(found.key, place.key))
        for found in store.list(place.bucket, place.key)
        if not found.key.endswith("/")
    ]


def _from_manifest(store: RoleStore, place: S3Location) -> list[InputObject]:
    """Read `[{"prefix": "s3://…"}, "name", …]` (API reference, `S3DataSource`)."""
    _, file = store.open(place.bucket, place.key)
    with file:
        content = file.read()
    try:
        head, *names = json.loads(content)
        base = S3Location.parse(head["prefix"])
        pieces = [InputObject(base.key + name, base.bucket, name.lstrip("/")) for name in names]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise JobFailure(
            f"ClientError: Data download failed: the manifest {place} cannot be read: {error!r}."
        ) from error
    return sorted(pieces, key=lambda piece: piece.key.encode())


def _nothing_found(place: S3Location, region: str, role: str) -> str:
    return (
        f'ClientError: Data download failed: No S3 objects found under S3 URL "{place}" given in input data source.'
        f" Please ensure that the bucket exists in the selected region ({region}), that objects exist under that S3"
        f' prefix, and that the role "{role}" has "s3:ListBucket" permissions on bucket "{place.bucket}".'
    )


def _not_readable(place: S3Location, error: AccessDenied) -> str:
    """Return the failure reason as aws/amazon-sagemaker-examples issue 4384 shows it."""
    return f"ClientError: Data download failed:Unable to download object {place} ({error.code}: {error.message})"


def fetch(store: RoleStore, piece: InputObject, directory: Path) -> None:
    """Download one object to its file name below `directory`.

    Raises:
        JobFailure: the object is gone, the role may not read it, or its name is not a possible file name there.
    """
    target = directory.joinpath(*_parts(piece))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _, body = store.open(piece.bucket, piece.key)
        with body, target.open("wb") as file:
            shutil.copyfileobj(body, file, _BLOCK)
    except (NoSuchKey, NoSuchBucket) as error:
        raise JobFailure(
            f"ClientError: Data download failed: s3://{piece.bucket}/{piece.key} does not exist."
        ) from error
    except AccessDenied as error:
        raise JobFailure(_not_readable(S3Location(piece.bucket, piece.key), error)) from error
    except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
        raise JobFailure(
            f"ClientError: Data download failed: Cannot download s3://{piece.bucket}/{piece.key}, a previously"
            " downloaded file/folder clashes with it. Please check your s3 objects and ensure that there is no object"
            " that is both a folder as well as a file."
        ) from error


def _parts(piece: InputObject) -> list[str]:
    parts = [part for part in piece.name.split("/") if part not in {"", "."}]
    if not parts or ".." in parts or "\0" in piece.name:
        raise JobFailure(
            f"ClientError: Data download failed: s3://{piece.bucket}/{piece.key} has no name that a file can have."
        )
    return parts
