"""The buckets of an object store and their configuration documents."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING

from local_sagemaker.s3.errors import BucketAlreadyOwnedByYou, BucketNotEmpty, NoSuchBucket
from local_sagemaker.s3.names import check_bucket_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from local_sagemaker.s3.index import Index


@dataclass(frozen=True)
class Bucket:
    """A bucket; `created` is in epoch seconds."""

    name: str
    created: float
    region: str


def require_bucket(db: sqlite3.Connection, bucket: str) -> None:
    """Check, inside the caller's transaction, that a bucket exists.

    Raises:
        NoSuchBucket: the bucket does not exist.
    """
    if not db.execute("SELECT 1 FROM buckets WHERE name = ?", (bucket,)).fetchone():
        raise NoSuchBucket(BucketName=bucket)


class Buckets:
    """The tables of buckets and of their configurations.

    A configuration (policy, encryption, tags…) is stored as a document and not interpreted here.
    """

    def __init__(self, index: Index, clock: Callable[[], float]) -> None:
        self._index = index
        self._clock = clock

    def create(self, bucket: str, region: str, documents: Mapping[str, bytes] = {}) -> None:
        """Create a bucket with its initial configurations.

        Raises:
            InvalidBucketName: the name breaks S3's rules.
            BucketAlreadyOwnedByYou: the bucket exists.
        """
        check_bucket_name(bucket)
        with self._index.writing() as db:
            try:
                db.execute("INSERT INTO buckets VALUES (?, ?, ?)", (bucket, self._clock(), region))
            except sqlite3.IntegrityError as error:
                raise BucketAlreadyOwnedByYou(BucketName=bucket) from error
            db.executemany(
                "INSERT INTO documents VALUES (?, ?, ?)", [(bucket, kind, each) for kind, each in documents.items()]
            )

    def all(self) -> list[Bucket]:
        """Return all buckets, sorted by name."""
        with self._index.reading() as db:
            return [Bucket(*row) for row in db.execute("SELECT name, created, region FROM buckets ORDER BY name")]

    def get(self, bucket: str) -> Bucket:
        """Return a bucket.

        Raises:
            NoSuchBucket: the bucket does not exist.
        """
        with self._index.reading() as db:
            row = db.execute("SELECT name, created, region FROM buckets WHERE name = ?", (bucket,)).fetchone()
        if row is None:
            raise NoSuchBucket(BucketName=bucket)
        return Bucket(*row)

    def delete(self, bucket: str) -> list[str]:
        """Delete an empty bucket with its configurations and uploads; return the bodies of their parts.

        Raises:
            NoSuchBucket: the bucket does not exist.
            BucketNotEmpty: the bucket contains objects.
        """
        with self._index.writing() as db:
            require_bucket(db, bucket)
            if db.execute("SELECT 1 FROM objects WHERE bucket = ? LIMIT 1", (bucket,)).fetchone():
                raise BucketNotEmpty(BucketName=bucket)
            of_bucket = "FROM parts WHERE upload IN (SELECT id FROM uploads WHERE bucket = ?)"
            freed = [row[0] for row in db.execute(f"SELECT body {of_bucket}", (bucket,))]
            db.execute(f"DELETE {of_bucket}", (bucket,))
            db.execute("DELETE FROM uploads WHERE bucket = ?", (bucket,))
            db.execute("DELETE FROM documents WHERE bucket = ?", (bucket,))
            db.execute("DELETE FROM buckets WHERE name = ?", (bucket,))
        return freed

    def document(self, bucket: str, kind: str) -> bytes | None:
        """Return a bucket's configuration document. Return None if it was never set.

        Raises:
            NoSuchBucket: the bucket does not exist.
        """
        with self._index.reading() as db:
            require_bucket(db, bucket)
            row = db.execute("SELECT content FROM documents WHERE bucket = ? AND kind = ?", (bucket, kind)).fetchone()
        return None if row is None else row[0]

    def documents(self, kind: str) -> dict[str, bytes]:
        """Return one kind of configuration of all buckets that have it, by bucket name."""
        with self._index.reading() as db:
            return dict(db.execute("SELECT bucket, content FROM documents WHERE kind = ? ORDER BY bucket", (kind,)))

    def put_document(self, bucket: str, kind: str, content: bytes) -> None:
        """Set a configuration of a bucket.

        Raises:
            NoSuchBucket: the bucket does not exist.
        """
        with self._index.writing() as db:
            require_bucket(db, bucket)
            db.execute("INSERT OR REPLACE INTO documents VALUES (?, ?, ?)", (bucket, kind, content))

    def delete_document(self, bucket: str, kind: str) -> None:
        """Delete a configuration of a bucket. A configuration that was never set is not an error.

        Raises:
            NoSuchBucket: the bucket does not exist.
        """
        with self._index.writing() as db:
            require_bucket(db, bucket)
            db.execute("DELETE FROM documents WHERE bucket = ? AND kind = ?", (bucket, kind))
