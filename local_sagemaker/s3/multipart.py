"""Multipart uploads of an object store: parts on disk until they are joined; only `local_sagemaker.s3` imports it.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html
"""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from local_sagemaker.s3.buckets import require_bucket
from local_sagemaker.s3.checksums import COMPOSITE, FULL_OBJECT, TYPE, Hash, composite, encoded, is_crc, new_hash
from local_sagemaker.s3.errors import (
    BadDigest,
    EntityTooSmall,
    InvalidPart,
    InvalidPartOrder,
    InvalidRequest,
    MalformedXML,
    NoSuchUpload,
)
from local_sagemaker.s3.names import after, behind, check_key
from local_sagemaker.s3.objects import Content, ObjectPart, Properties

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


@dataclass(frozen=True)
class Expected:
    """What the client says of the whole object in a completion; empty or None: not said.

    Args:
        checksums: of the whole object, by lower-case algorithm; a composite one with or without its count of parts.
        checksum_type: `COMPOSITE` or `FULL_OBJECT`.
        size: bytes.
    """

    checksums: Mapping[str, str] = field(default_factory=dict)
    checksum_type: str = ""
    size: int | None = None

    def check_type(self, upload: MultipartUpload) -> None:
        """Check what can be known before the parts are joined.

        Raises:
            BadDigest: the upload was created with another type of checksum.
            InvalidRequest: it was created with another algorithm.
        """
        if self.checksum_type not in ("", upload.checksum_type):
            raise BadDigest(
                f"The upload was created with the checksum type {upload.checksum_type or 'of the default'}, the"
                f" completion says {self.checksum_type}."
            )
        for algorithm in self.checksums:
            if algorithm != upload.algorithm and not (upload.algorithm == "" and is_crc(algorithm)):
                raise InvalidRequest(type_mismatch(upload.algorithm, algorithm))

    def check_value(self, algorithm: str, value: str) -> None:
        """Compare the checksum that was computed.

        Raises:
            BadDigest: the client says another.
        """
        if self.checksums.get(algorithm, value) not in (value, value.partition("-")[0]):
            raise BadDigest(f"The {algorithm.upper()} you specified did not match the calculated checksum.")

    def check_size(self, size: int) -> None:
        """Compare the size.

        Raises:
            InvalidRequest: the client says another.
        """
        if self.size not in (None, size):
            raise InvalidRequest(f"The provided 'x-amz-mp-object-size' {self.size} does not match the size {size}.")


def type_mismatch(wanted: str, given: str) -> str:
    """Return S3's sentence about a checksum of another algorithm than the upload's; empty: none."""
    return (
        f"Checksum Type mismatch occurred, expected checksum Type: {wanted or 'null'}, actual checksum Type:"
        f" {given or 'null'}"
    )


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
        expected: Expected,
    ) -> StoredObject:
        """Join the named parts into the object. Done again, after the answer got lost, it answers the same.

        Args:
            target: bucket and key.
            upload_id: of the upload.
            named: the parts, in ascending order.
            conditions: on the present object.
            expected: what the client says of the whole.

        Raises:
            NoSuchUpload: the upload is not there.
            InvalidPart, InvalidPartOrder, EntityTooSmall: the parts cannot be joined so.
            BadDigest: the whole has another checksum, or one of another type.
            InvalidRequest: the whole has another size, or a checksum is missing.
            NoSuchKey, PreconditionFailed: a condition does not hold.
        """
        with self._store.index.reading() as db:
            upload = _upload(db, target, upload_id)
            present = {part.number: part for part in _parts(db, upload_id)}
        if upload.completed_etag is not None:
            return self._completed_before(upload)
        expected.check_type(upload)
        parts = _chosen(named, present)
        expected.check_size(sum(part.size for part in parts))
        composed = _composed(upload, named, parts, expected)
        with self._store.bodies.draft() as draft:
            checksums = composed or self._join(upload, parts, draft, expected)
            if composed:
                self._append(upload, parts, draft, None)
            digests = b"".join(bytes.fromhex(part.etag) for part in parts)
            etag = f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"
            kept = tuple(ObjectPart(part.size, part.checksums.get(upload.algorithm, "")) for part in parts)
            return self._store.adopt(
                draft,
                target,
                upload.properties,
                Content(draft.size, draft.md5.hex(), etag, checksums, kept),
                conditions=conditions,
                settle=lambda db: _close(db, upload, etag),
            )

    def _completed_before(self, upload: MultipartUpload) -> StoredObject:
        found = self._store.get(upload.bucket, upload.key)
        if found.etag != upload.completed_etag:
            raise NoSuchUpload(UploadId=upload.upload_id)
        return found

    def _join(self, upload: MultipartUpload, parts: Sequence[Part], draft: Draft, expected: Expected) -> dict[str, str]:
        """Write the parts into the draft; return the checksum of the whole, if one is asked for."""
        algorithm = upload.algorithm or next(iter(expected.checksums), "")
        running = new_hash(algorithm) if algorithm else None
        self._append(upload, parts, draft, running)
        if not running:
            return {}
        value = encoded(running.digest())
        expected.check_value(algorithm, value)
        return {algorithm: value, TYPE: FULL_OBJECT}

    def _append(self, upload: MultipartUpload, parts: Sequence[Part], draft: Draft, running: Hash | None) -> None:
        for part in parts:
            try:
                with self._store.bodies.path(part.body).open("rb") as file:
                    while block := file.read(_BLOCK):
                        draft.write(block)
                        if running:
                            running.update(block)
            except FileNotFoundError as error:  # noqa: PERF203 -- the part's number belongs into the error
                # Somebody has aborted the upload, completed it, or replaced the part.
                self.get((upload.bucket, upload.key), upload.upload_id)
                raise InvalidPart(UploadId=upload.upload_id, PartNumber=part.number) from error


def _composed(
    upload: MultipartUpload, named: Sequence[NamedPart], parts: Sequence[Part], expected: Expected
) -> dict[str, str]:
    """Return the composite checksum, which needs no bytes; empty for an upload of another type.

    Raises:
        BadDigest: the client says another.
        InvalidRequest: the completion lacks the checksum of a part.
    """
    if upload.checksum_type != COMPOSITE:
        return {}
    value = composite(upload.algorithm, [part.checksums[upload.algorithm] for part in parts])
    expected.check_value(upload.algorithm, value)
    for one in named:
        if upload.algorithm not in one.checksums:
            raise InvalidRequest(
                f"The upload was created using a {upload.algorithm} checksum. The complete request must include the"
                f" checksum for each part. It was missing for part {one.number} in the request."
            )
    return {upload.algorithm: value, TYPE: COMPOSITE}


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
