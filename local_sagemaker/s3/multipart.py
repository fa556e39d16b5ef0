"""Multipart uploads of an object store: parts stay on disk until they are joined.

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

_SMALLEST_PART = 5 << 20  # bytes; the last part may be smaller
_BLOCK = 1 << 20  # bytes copied at a time
# A completed upload is remembered, because a client that lost the response completes it again.
_MEMORY = 86_400.0  # seconds since its creation; the next creation of an upload forgets older ones
_UPLOAD = "id, bucket, key, created, properties, algorithm, checksum_type, completed_etag"
_PART = "number, body, size, etag, modified, checksums"


@dataclass(frozen=True)
class MultipartUpload:
    """A multipart upload.

    Attributes:
        created: epoch seconds.
        algorithm: lower-case name of the checksum algorithm of its parts; empty if none was requested.
        checksum_type: `COMPOSITE` or `FULL_OBJECT`; empty without an algorithm.
        completed_etag: ETag of the completed object; None while the upload is open.
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
    """A part of an upload; `body` is the name of its file, `modified` is in epoch seconds."""

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
    """What a completion states about the whole object; empty or None for a value that is not given.

    Args:
        checksums: checksums of the whole object by lower-case algorithm; a composite one with or without its part
            count.
        checksum_type: `COMPOSITE` or `FULL_OBJECT`.
        size: bytes.
    """

    checksums: Mapping[str, str] = field(default_factory=dict)
    checksum_type: str = ""
    size: int | None = None

    def check_type(self, upload: MultipartUpload) -> None:
        """Check what is known before the parts are joined.

        Raises:
            BadDigest: the upload was created with another checksum type.
            InvalidRequest: the upload was created with another algorithm.
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
        """Compare a computed checksum with the client's.

        Raises:
            BadDigest: the client stated another checksum.
        """
        if self.checksums.get(algorithm, value) not in (value, value.partition("-")[0]):
            raise BadDigest(f"The {algorithm.upper()} you specified did not match the calculated checksum.")

    def check_size(self, size: int) -> None:
        """Compare the size with the client's.

        Raises:
            InvalidRequest: the client stated another size.
        """
        if self.size not in (None, size):
            raise InvalidRequest(f"The provided 'x-amz-mp-object-size' {self.size} does not match the size {size}.")


def type_mismatch(wanted: str, given: str) -> str:
    """Return S3's message for a checksum of another algorithm than the upload's; an empty name means none."""
    return (
        f"Checksum Type mismatch occurred, expected checksum Type: {wanted or 'null'}, actual checksum Type:"
        f" {given or 'null'}"
    )


class MultipartUploads:
    """The multipart uploads of an object store."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def create(
        self, target: tuple[str, str], properties: Properties, *, algorithm: str = "", checksum_type: str = ""
    ) -> MultipartUpload:
        """Create an upload.

        Args:
            target: bucket and key.
            properties: properties of the object.
            algorithm: lower-case name of the checksum algorithm; empty if none was requested.
            checksum_type: `COMPOSITE` or `FULL_OBJECT`; empty without an algorithm.

        Raises:
            NoSuchBucket: the bucket does not exist.
            KeyTooLongError, InvalidArgument: S3 does not accept the key.
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
            NoSuchBucket: the bucket does not exist.
            NoSuchUpload: the upload does not exist, or was aborted or completed.
        """
        with self._store.index.reading() as db:
            return _open_upload(db, target, upload_id)

    def put_part(self, upload: MultipartUpload, number: int, draft: Draft, checksums: Mapping[str, str]) -> Part:
        """Store a draft as part `number`, and replace an earlier part of that number.

        Raises:
            NoSuchUpload: the upload was aborted or completed in the meantime.
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
        """Return the parts with numbers above `behind_number`, in order. A `limit` of -1 means all."""
        with self._store.index.reading() as db:
            return _parts(db, upload.upload_id, behind_number, limit)

    def list(
        self, bucket: str, prefix: str = "", *, marker: tuple[str, str] = ("", ""), limit: int = -1
    ) -> Sequence[MultipartUpload]:
        """Return the open uploads of a bucket, sorted by key and upload ID.

        Args:
            bucket: name of the bucket.
            prefix: prefix of the keys.
            marker: key and upload ID after which to continue. Without an upload ID, continue after all uploads of that
                key.
            limit: maximum number of uploads; -1 for all.

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
        """Delete an open upload with its parts.

        Raises:
            NoSuchBucket: the bucket does not exist.
            NoSuchUpload: the upload does not exist, or was aborted or completed.
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
        """Join the named parts into the object. Repeating it after a lost response returns the same object.

        Args:
            target: bucket and key.
            upload_id: ID of the upload.
            named: the parts, in ascending order.
            conditions: conditions on the present object.
            expected: what the client states about the whole object.

        Raises:
            NoSuchUpload: the upload does not exist.
            InvalidPart, InvalidPartOrder, EntityTooSmall, MalformedXML: the named parts cannot be joined.
            BadDigest: the object has another checksum or checksum type.
            InvalidRequest: the object has another size, or a checksum is missing or of another algorithm.
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
        """Write the parts to the draft; return the checksum of the whole object if one is requested."""
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
            except FileNotFoundError as error:  # noqa: PERF203 -- the error needs the part's number
                # Another client aborted or completed the upload, or replaced the part.
                self.get((upload.bucket, upload.key), upload.upload_id)
                raise InvalidPart(UploadId=upload.upload_id, PartNumber=part.number) from error


def _composed(
    upload: MultipartUpload, named: Sequence[NamedPart], parts: Sequence[Part], expected: Expected
) -> dict[str, str]:
    """Return the composite checksum, computed without reading bodies. Return {} for another checksum type.

    Raises:
        BadDigest: the client stated another checksum.
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
        MalformedXML, InvalidPart, InvalidPartOrder, EntityTooSmall: the named parts cannot be joined.
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
    """Mark an upload as completed, inside the transaction that adds its object; return the bodies of its parts."""
    _open_upload(db, (upload.bucket, upload.key), upload.upload_id)  # another client may have ended it
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
