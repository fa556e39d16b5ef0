"""Multipart uploads of an object store: parts on disk until they are joined; only `local_sagemaker.s3` imports it.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html
"""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from local_sagemaker.s3.buckets import require_bucket
from local_sagemaker.s3.checksums import FULL_OBJECT, TYPE, Hash, composite, encoded, new_hash
from local_sagemaker.s3.errors import (
    BadDigest,
    EntityTooSmall,
    InvalidPart,
    InvalidPartOrder,
    MalformedXML,
    NoSuchUpload,
)
from local_sagemaker.s3.names import after, behind, check_key
from local_sagemaker.s3.objects import Content, Properties

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from local_sagemaker.s3.bodies import Draft
    from local_sagemaker.s3.conditions import WriteConditions
    from local_sagemaker.s3.objects import StoredObject
    from local_sagemaker.s3.store import ObjectStore

_SMALLEST_PART = 5 << 20  # bytes, the last one excepted
_BLOCK = 1 << 20  # bytes copied at a time
# How long a completed upload is remembered for a client that lost the answer and completes it again.
_MEMORY = 86_400.0  # seconds
_UPLOAD = "id, bucket, key, created, properties, algorithm, checksum_type, completed_etag"
_PART = "number, body, size, etag, modified, checksums"


@dataclass(frozen=True)
class MultipartUpload:
    """An upload in parts.

    Attributes:
        created: epoch seconds.
        algorithm: lower-case name of the checksum that every part gets; empty: none was asked for.
        checksum_type: `COMPOSITE` or `FULL_OBJECT`; empty without an algorithm.
        completed_etag: of the object that it became; None while it is open.
    """

    upload_id: str
    bucket: str
    key: str
    created: float
    properties: Properties
    algorithm: str
    checksum_type: str
    completed_etag: str | None = None


@dataclass(frozen=True)
class Part:
    """A part of an upload; `body` is the name of its file, `modified` in epoch seconds."""

    number: int
    body: str
    size: int
    etag: str
    modified: float
    checksums: dict[str, str]


@dataclass(frozen=True)
class NamedPart:
    """A part as the client names it in a completion."""

    number: int
    etag: str
    checksums: Mapping[str, str]


class MultipartUploads:
    """The uploads in parts of a store."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def create(
        self, target: tuple[str, str], properties: Properties, *, algorithm: str = "", checksum_type: str = ""
    ) -> MultipartUpload:
        """Begin an upload for `target`, bucket and key.

        Raises:
            NoSuchBucket: the bucket does not exist.
            KeyTooLongError, InvalidArgument: S3 takes no such key.
        """
        check_key(target[1])
        now = self._store.clock()
        new = MultipartUpload(uuid.uuid4().hex, *target, now, properties, algorithm, checksum_type)
        with self._store.index.writing() as db:
            require_bucket(db, new.bucket)
            db.execute("DELETE FROM uploads WHERE completed_etag IS NOT NULL AND created < ?", (now - _MEMORY,))
            db.execute(
                "INSERT INTO uploads VALUES (?, ?, ?, ?, ?, ?, ?, NULL)",
                (new.upload_id, *target, now, json.dumps(asdict(properties)), algorithm, checksum_type),
            )
        return new

    def get(self, target: tuple[str, str], upload_id: str) -> MultipartUpload:
        """Return an open upload.

        Raises:
            NoSuchUpload: it never was, was aborted, or is complete.
        """
        with self._store.index.reading() as db:
            return _open_upload(db, target, upload_id)

    def put_part(self, upload: MultipartUpload, number: int, draft: Draft, checksums: Mapping[str, str]) -> Part:
        """Make a written draft part `number`, in the place of an earlier one.

        Raises:
            NoSuchUpload: the upload was aborted or completed meanwhile.
        """
        self._store.bodies.settle(draft)
        with self._store.index.writing() as db:
            _open_upload(db, (upload.bucket, upload.key), upload.upload_id)
            old = db.execute(
                "SELECT body FROM parts WHERE upload = ? AND number = ?", (upload.upload_id, number)
            ).fetchone()
            body = self._store.bodies.keep(draft)
            part = Part(number, body, draft.size, draft.md5.hex(), self._store.clock(), dict(checksums))
            db.execute(
                f"INSERT OR REPLACE INTO parts (upload, {_PART}) VALUES (?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 -- a constant
                (upload.upload_id, number, body, part.size, part.etag, part.modified, json.dumps(part.checksums)),
            )
        draft.release()
        if old:
            self._store.bodies.discard(old[0])
        return part

    def parts(self, upload: MultipartUpload, *, behind_number: int = 0, limit: int = -1) -> list[Part]:
        """Return the parts with numbers above `behind_number`, in order; `limit` -1: all."""
        with self._store.index.reading() as db:
            return _parts(db, upload.upload_id, behind_number, limit)

    def list(
        self, bucket: str, prefix: str = "", *, marker: tuple[str, str] = ("", ""), limit: int = -1
    ) -> Sequence[MultipartUpload]:
        """Return the open uploads of a bucket by key and identifier.

        Args:
            bucket: its name.
            prefix: of the keys.
            marker: key and identifier to go on behind; without an identifier, behind all uploads of that key.
            limit: how many; -1: all.

        Raises:
            NoSuchBucket: the bucket does not exist.
        """
        key, upload_id = marker
        first = (key, upload_id) if upload_id or not key else (after(key), "")
        end = behind(prefix)
        bound, ends = ("", ()) if end is None else (" AND key < ?", (end,))
        with self._store.index.reading() as db:
            require_bucket(db, bucket)
            rows = db.execute(
                f"SELECT {_UPLOAD} FROM uploads WHERE bucket = ? AND completed_etag IS NULL AND key >= ?{bound}"  # noqa: S608 -- constants
                " AND (key, id) > (?, ?) ORDER BY key, id LIMIT ?",
                (bucket, prefix, *ends, *first, limit),
            )
            return [_upload_from(row) for row in rows]

    def abort(self, target: tuple[str, str], upload_id: str) -> None:
        """Drop an open upload with its parts.

        Raises:
            NoSuchUpload: it is not there.
        """
        with self._store.index.writing() as db:
            _open_upload(db, target, upload_id)
            freed = _take_parts(db, upload_id)
            db.execute("DELETE FROM uploads WHERE id = ?", (upload_id,))
        self._store.bodies.discard(*freed)

    def complete(
        self,
        target: tuple[str, str],
        upload_id: str,
        named: Sequence[NamedPart],
        conditions: WriteConditions,
        *,
        expected: Mapping[str, str],
    ) -> StoredObject:
        """Join the named parts into the object. Done again, after the answer got lost, it answers the same.

        Args:
            target: bucket and key.
            upload_id: of the upload.
            named: the parts, in ascending order.
            conditions: on the present object.
            expected: checksum of the whole, by algorithm, as the client says it; empty: not said.

        Raises:
            NoSuchUpload: the upload is not there.
            InvalidPart, InvalidPartOrder, EntityTooSmall: the parts cannot be joined so.
            BadDigest: the whole has another checksum.
            NoSuchKey, PreconditionFailed: a condition does not hold.
        """
        with self._store.index.reading() as db:
            upload = _upload(db, target, upload_id)
            present = {part.number: part for part in _parts(db, upload_id)}
        if upload.completed_etag is not None:
            return self._completed_before(upload)
        parts = _chosen(named, present)
        with self._store.bodies.draft() as draft:
            checksums = self._join(upload, parts, draft, expected)
            digests = b"".join(bytes.fromhex(part.etag) for part in parts)
            etag = f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"
            content = Content(draft.size, draft.md5.hex(), etag, checksums, tuple(part.size for part in parts))
            return self._store.adopt(
                draft,
                target,
                upload.properties,
                content,
                conditions=conditions,
                settle=lambda db: _close(db, upload, etag),
            )

    def _completed_before(self, upload: MultipartUpload) -> StoredObject:
        found = self._store.get(upload.bucket, upload.key)
        if found.etag != upload.completed_etag:
            raise NoSuchUpload(UploadId=upload.upload_id)
        return found

    def _join(
        self, upload: MultipartUpload, parts: Sequence[Part], draft: Draft, expected: Mapping[str, str]
    ) -> dict[str, str]:
        """Write the parts into the draft; return the checksums of the whole."""
        whole = upload.checksum_type == FULL_OBJECT
        running = new_hash(upload.algorithm) if whole else None
        for part in parts:
            self._append(upload, part, draft, running)
        if not upload.algorithm:
            return {}
        if running:
            value = encoded(running.digest())
        else:
            value = composite(upload.algorithm, [part.checksums[upload.algorithm] for part in parts])
        said = expected.get(upload.algorithm, value)
        if said not in (value, value.partition("-")[0]):
            raise BadDigest(f"The {upload.algorithm.upper()} you specified did not match the calculated checksum.")
        return {upload.algorithm: value, TYPE: upload.checksum_type}

    def _append(self, upload: MultipartUpload, part: Part, draft: Draft, running: Hash | None) -> None:
        try:
            with self._store.bodies.path(part.body).open("rb") as file:
                while block := file.read(_BLOCK):
                    draft.write(block)
                    if running:
                        running.update(block)
        except FileNotFoundError as error:
            # Somebody has aborted the upload, completed it, or replaced the part.
            self.get((upload.bucket, upload.key), upload.upload_id)
            raise InvalidPart(UploadId=upload.upload_id, PartNumber=part.number) from error


def _chosen(named: Sequence[NamedPart], present: Mapping[int, Part]) -> list[Part]:
    """Return the parts that a completion names.

    Raises:
        MalformedXML, InvalidPart, InvalidPartOrder, EntityTooSmall, InvalidRequest: they cannot be joined so.
    """
    if not named:
        raise MalformedXML("You must specify at least one part")
    numbers = [one.number for one in named]
    if any(first >= second for first, second in zip(numbers, numbers[1:])):  # noqa: B905, RUF007 -- the second is shorter
        raise InvalidPartOrder
    parts = []
    for one in named:
        part = present.get(one.number)
        if part is None or part.etag != one.etag.strip('"'):
            raise InvalidPart(PartNumber=one.number, ETag=one.etag)
        for algorithm, value in one.checksums.items():
            if part.checksums.get(algorithm, value) != value:
                raise InvalidPart(PartNumber=one.number, ETag=one.etag)
        parts.append(part)
    for part in parts[:-1]:
        if part.size < _SMALLEST_PART:
            raise EntityTooSmall(
                ProposedSize=part.size, MinSizeAllowed=_SMALLEST_PART, PartNumber=part.number, ETag=part.etag
            )
    return parts


def _close(db: sqlite3.Connection, upload: MultipartUpload, etag: str) -> Sequence[str]:
    """End an upload inside the transaction that makes it an object; return the bodies of its parts."""
    _open_upload(db, (upload.bucket, upload.key), upload.upload_id)  # somebody else may have ended it meanwhile
    db.execute("UPDATE uploads SET completed_etag = ? WHERE id = ?", (etag, upload.upload_id))
    return _take_parts(db, upload.upload_id)


def _take_parts(db: sqlite3.Connection, upload_id: str) -> Sequence[str]:
    bodies = [row[0] for row in db.execute("SELECT body FROM parts WHERE upload = ?", (upload_id,))]
    db.execute("DELETE FROM parts WHERE upload = ?", (upload_id,))
    return bodies


def _parts(db: sqlite3.Connection, upload_id: str, behind_number: int = 0, limit: int = -1) -> list[Part]:
    rows = db.execute(
        f"SELECT {_PART} FROM parts WHERE upload = ? AND number > ? ORDER BY number LIMIT ?",  # noqa: S608 -- a constant
        (upload_id, behind_number, limit),
    )
    return [
        Part(number, body, size, etag, modified, json.loads(checksums))
        for number, body, size, etag, modified, checksums in rows
    ]


def _upload(db: sqlite3.Connection, target: tuple[str, str], upload_id: str) -> MultipartUpload:
    row = db.execute(
        f"SELECT {_UPLOAD} FROM uploads WHERE id = ? AND bucket = ? AND key = ?",  # noqa: S608 -- a constant
        (upload_id, *target),
    ).fetchone()
    if row is None:
        require_bucket(db, target[0])
        raise NoSuchUpload(UploadId=upload_id)
    return _upload_from(row)


def _open_upload(db: sqlite3.Connection, target: tuple[str, str], upload_id: str) -> MultipartUpload:
    upload = _upload(db, target, upload_id)
    if upload.completed_etag is not None:
        raise NoSuchUpload(UploadId=upload_id)
    return upload


def _upload_from(row: tuple[Any, ...]) -> MultipartUpload:
    upload_id, bucket, key, created, properties, algorithm, checksum_type, completed_etag = row
    given = Properties(**json.loads(properties))
    return MultipartUpload(upload_id, bucket, key, created, given, algorithm, checksum_type, completed_etag)
