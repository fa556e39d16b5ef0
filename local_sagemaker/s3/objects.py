"""Stored objects, and their table in the index."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from local_sagemaker.s3.buckets import require_bucket

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping
    from pathlib import Path

DEFAULT_CONTENT_TYPE = "binary/octet-stream"  # S3's default for an object
_COLUMNS = "bucket, key, body, size, etag, modified, content_type, metadata, headers, tags, checksums, part_sizes, md5"


@dataclass(frozen=True)
class ObjectPart:
    """A part of an object that was uploaded in parts.

    Attributes:
        size: bytes.
        checksum: checksum in base64, by the object's algorithm; empty if the object has none.
    """

    size: int
    checksum: str = ""


@dataclass(frozen=True)
class StoredObject:
    """An object as the index has it.

    Attributes:
        etag: MD5 of the body in hexadecimal, or MD5 of its parts' digests and `-<parts>`; without quotes.
        md5: MD5 of the body in hexadecimal, for multipart uploads as well.
        last_modified: epoch seconds.
        path: file with the body. It may vanish when the object is overwritten or deleted: `ObjectStore.open` returns an
            open file instead.
        headers: further headers that a read returns, by lower-case names (`cache-control`).
        checksums: lower-case algorithm to base64 value; `type` is `FULL_OBJECT` or `COMPOSITE`.
        parts: parts of a multipart upload; empty for other objects.
    """

    bucket: str
    key: str
    size: int
    etag: str
    last_modified: float
    content_type: str
    metadata: dict[str, str]
    path: Path
    headers: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    checksums: dict[str, str] = field(default_factory=dict)
    parts: tuple[ObjectPart, ...] = ()
    md5: str = ""


@dataclass(frozen=True)
class Properties:
    """The properties that a client gives to an object, with the fields of `StoredObject`."""

    content_type: str = DEFAULT_CONTENT_TYPE
    metadata: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Content:
    """The facts about a body, with the fields of `StoredObject`."""

    size: int
    md5: str
    etag: str
    checksums: Mapping[str, str] = field(default_factory=dict)
    parts: tuple[ObjectPart, ...] = ()


def stored(
    target: tuple[str, str], given: Properties, content: Content, *, path: Path, last_modified: float
) -> StoredObject:
    """Assemble an object; `target` is bucket and key."""
    return StoredObject(
        *target,
        content.size,
        content.etag,
        last_modified,
        given.content_type,
        metadata=dict(given.metadata),
        path=path,
        headers=dict(given.headers),
        tags=dict(given.tags),
        checksums=dict(content.checksums),
        parts=content.parts,
        md5=content.md5,
    )


class ObjectTable:
    """The table of objects. Every method runs inside its caller's transaction.

    Args:
        locate: returns the path of a body by its name.
    """

    def __init__(self, locate: Callable[[str], Path]) -> None:
        self._locate = locate

    def find(self, db: sqlite3.Connection, bucket: str, key: str) -> StoredObject | None:
        """Return an object. Return None if the object or its bucket does not exist."""
        row = db.execute(f"SELECT {_COLUMNS} FROM objects WHERE bucket = ? AND key = ?", (bucket, key)).fetchone()  # noqa: S608 -- a constant
        return None if row is None else self._from_row(row)

    def scan(self, db: sqlite3.Connection, bucket: str, first: str, end: str | None, limit: int) -> list[StoredObject]:
        """Return up to `limit` objects with `first <= key < end`; no upper bound if `end` is None.

        Raises:
            NoSuchBucket: the bucket does not exist.
        """
        require_bucket(db, bucket)
        bound, ends = ("", ()) if end is None else (" AND key < ?", (end,))
        rows = db.execute(
            f"SELECT {_COLUMNS} FROM objects WHERE bucket = ? AND key >= ?{bound} ORDER BY key LIMIT ?",  # noqa: S608 -- constants
            (bucket, first, *ends, limit),
        )
        return [self._from_row(row) for row in rows]

    def put(self, db: sqlite3.Connection, entry: StoredObject) -> None:
        """Add an object, or replace the one with the same key."""
        db.execute(
            "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                entry.bucket,
                entry.key,
                entry.path.name,
                entry.size,
                entry.etag,
                entry.last_modified,
                entry.content_type,
                _packed(entry.metadata),
                _packed(entry.headers),
                _packed(entry.tags),
                _packed(entry.checksums),
                _packed_parts(entry.parts),
                entry.md5,
            ),
        )

    def remove(self, db: sqlite3.Connection, bucket: str, key: str) -> None:
        """Remove an object."""
        db.execute("DELETE FROM objects WHERE bucket = ? AND key = ?", (bucket, key))

    def _from_row(self, row: tuple[Any, ...]) -> StoredObject:
        bucket, key, body, size, etag, modified, content_type, *packed, parts, md5 = row
        metadata, headers, tags, checksums = map(_unpacked, packed)
        return StoredObject(
            bucket,
            key,
            size,
            etag,
            modified,
            content_type,
            metadata=metadata,
            path=self._locate(body),
            headers=headers,
            tags=tags,
            checksums=checksums,
            parts=_unpacked_parts(parts),
            md5=md5,
        )


def _packed_parts(parts: tuple[ObjectPart, ...]) -> str:
    # Without a checksum, a part is its size alone: the format of older homes.
    rows = [[part.size, part.checksum] if part.checksum else part.size for part in parts]
    return json.dumps(rows, separators=(",", ":")) if rows else ""


def _unpacked_parts(text: str) -> tuple[ObjectPart, ...]:
    rows = json.loads(text) if text else ()
    return tuple(ObjectPart(row) if isinstance(row, int) else ObjectPart(*row) for row in rows)


def _packed(value: Mapping[str, str]) -> str:
    # Most mappings are empty, and a listing reads 1,000 rows at a time.
    return json.dumps(value, separators=(",", ":")) if value else ""


def _unpacked(text: str) -> dict[str, str]:
    unpacked: dict[str, str] = json.loads(text) if text else {}
    return unpacked
