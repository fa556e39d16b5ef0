"""A durable object store with S3's semantics: streamed bodies and atomic conditional writes.

An SQLite index over immutable files, not a plain directory tree. Keys such as `a` beside `a/b`, `../x` or 1,024 bytes
are not valid file names, and a check before a write in a tree is a race.

The REST API serves the store. The supervisors of jobs use it in-process, even while the server is down. It uses the
standard library only, so that a supervisor starts fast.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO

from local_sagemaker.s3.bodies import Bodies, Draft
from local_sagemaker.s3.buckets import Bucket, Buckets, require_bucket
from local_sagemaker.s3.conditions import DeleteConditions, WriteConditions
from local_sagemaker.s3.errors import NoSuchKey, S3Error
from local_sagemaker.s3.index import Index
from local_sagemaker.s3.names import after, behind, check_key
from local_sagemaker.s3.objects import DEFAULT_CONTENT_TYPE, Content, ObjectTable, Properties, StoredObject, stored
from local_sagemaker.s3.upload import Upload

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

__all__ = ["DEFAULT_CONTENT_TYPE", "Bucket", "ObjectStore", "Properties", "StoredObject", "Upload"]

_PAGE = 1000  # rows read from the index at a time
_BLOCK = 1 << 20  # bytes copied at a time
_ANY = WriteConditions()


class ObjectStore:
    """Buckets and objects in one directory; safe for threads and processes. Fork before creating a store, not after.

    Args:
        directory: created if missing; nothing else may write to it.
        fsync: whether a completed write survives a power cut; it survives `kill -9` in any case.
        clock: returns the time in epoch seconds; tests can replace it.
    """

    def __init__(self, directory: Path, *, fsync: bool = False, clock: Callable[[], float] = time.time) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.clock = clock
        self.bodies = Bodies(directory, fsync=fsync)
        self.index = Index(directory, fsync=fsync)
        self.objects = ObjectTable(self.bodies.path)
        self.configuration = Buckets(self.index, clock)

    def close(self) -> None:
        """Close the index. The store cannot be used afterwards."""
        self.index.close()

    def __enter__(self) -> ObjectStore:  # noqa: PYI034 -- Self came with Python 3.11
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def sweep(self) -> int:
        """Remove the files that crashed writers left, and return how many. The server calls it once at startup."""
        swept = self.bodies.sweep_drafts()
        stray = set(self.bodies.names())
        with self.index.reading() as db:
            stray -= _named_bodies(db)
        if stray:
            # Read the index again, without other writers: a body found above may have been added to it since.
            with self.index.writing() as db:
                stray -= _named_bodies(db)
                self.bodies.discard(*stray)
        return swept + len(stray)

    def create_bucket(
        self,
        bucket: str,
        region: str = "us-east-1",
        documents: Mapping[str, bytes] = {},
    ) -> None:
        """Create a bucket.

        Args:
            bucket: name of the bucket.
            region: region of the bucket.
            documents: its configurations by kind.

        Raises:
            InvalidBucketName: the name breaks S3's rules.
            BucketAlreadyOwnedByYou: the bucket exists.
        """
        self.configuration.create(bucket, region, documents)

    def buckets(self) -> Sequence[Bucket]:
        """Return all buckets, sorted by name."""
        return self.configuration.all()

    def delete_bucket(self, bucket: str) -> None:
        """Delete an empty bucket with its open multipart uploads.

        Raises:
            NoSuchBucket: the bucket does not exist.
            BucketNotEmpty: the bucket contains objects.
        """
        self.bodies.discard(*self.configuration.delete(bucket))

    def put_file(
        self,
        bucket: str,
        key: str,
        source: Path,
        *,
        content_type: str = DEFAULT_CONTENT_TYPE,
        metadata: Mapping[str, str] | None = None,
        if_match: str | None = None,
        if_none_match: str | None = None,
    ) -> StoredObject:
        """Store a copy of a file as an object. Conditions and errors are those of `Upload.commit`."""
        with self.new_upload() as upload, source.open("rb") as file:
            while block := file.read(_BLOCK):
                upload.write(block)
            return upload.commit(
                bucket,
                key,
                content_type=content_type,
                metadata=metadata,
                if_match=if_match,
                if_none_match=if_none_match,
            )

    def new_upload(self) -> Upload:
        """Begin an object whose body is written piece by piece."""
        return Upload(self)

    def get(self, bucket: str, key: str) -> StoredObject:
        """Return an object.

        Raises:
            NoSuchBucket: the bucket does not exist.
            NoSuchKey: the bucket has no such object.
        """
        with self.index.reading() as db:
            return self._existing(db, bucket, key)

    def open(self, bucket: str, key: str) -> tuple[StoredObject, BinaryIO]:
        """Return an object and its open body. The file stays readable if the object is overwritten or deleted.

        Raises:
            NoSuchBucket: the bucket does not exist.
            NoSuchKey: the bucket has no such object.
        """
        found = self.get(bucket, key)
        while True:
            try:
                return found, found.path.open("rb")
            except FileNotFoundError:  # noqa: PERF203 -- seldom runs twice
                # Overwritten or deleted between look-up and open. If the entry is unchanged, its file is really lost.
                again = self.get(bucket, key)
                if again.path == found.path:
                    raise
                found = again

    def list(self, bucket: str, prefix: str = "", start_after: str = "") -> Iterator[StoredObject]:
        """Yield the objects with `prefix` and keys after `start_after`, in the order of UTF-8 bytes.

        Objects that are added or deleted in the meantime may or may not appear.

        Raises:
            NoSuchBucket: the bucket does not exist; raised by the call, not by the first object.
        """
        first, end = max(prefix, after(start_after)) if start_after else prefix, behind(prefix)
        return self._pages(bucket, self.scan(bucket, first, end, _PAGE), end)

    def _pages(self, bucket: str, page: Sequence[StoredObject], end: str | None) -> Iterator[StoredObject]:
        while page:
            yield from page
            page = self.scan(bucket, after(page[-1].key), end, _PAGE) if len(page) == _PAGE else ()

    def scan(self, bucket: str, first: str, end: str | None, limit: int) -> Sequence[StoredObject]:
        """Return up to `limit` objects with `first <= key < end`; no upper bound if `end` is None.

        Raises:
            NoSuchBucket: the bucket does not exist.
        """
        with self.index.reading() as db:
            return self.objects.scan(db, bucket, first, end, limit)

    def delete(self, bucket: str, key: str, *, if_match: str | None = None) -> None:
        """Delete an object. A missing object is not an error unless `if_match` is given.

        Raises:
            NoSuchBucket: the bucket does not exist.
            NoSuchKey, PreconditionFailed: `if_match` does not hold.
        """
        (refusal,) = self.delete_many(bucket, [(key, DeleteConditions(if_match))])
        if refusal is not None:
            raise refusal

    def delete_many(self, bucket: str, wanted: Sequence[tuple[str, DeleteConditions]]) -> Sequence[S3Error | None]:
        """Delete objects in one transaction, each under its own conditions.

        Returns:
            For each key the error that prevented its deletion; None if the object is gone.

        Raises:
            NoSuchBucket: the bucket does not exist.
        """
        refusals: list[S3Error | None] = []
        freed = []
        with self.index.writing() as db:
            require_bucket(db, bucket)
            for key, conditions in wanted:
                found = self.objects.find(db, bucket, key)
                refusal = _refusal(found, key, conditions)
                refusals.append(refusal)
                if found and not refusal:
                    self.objects.remove(db, bucket, key)
                    freed.append(found.path.name)
        self.bodies.discard(*freed)
        return refusals

    def copy(
        self,
        source: tuple[str, str],
        target: tuple[str, str],
        *,
        judge: Callable[[StoredObject], tuple[Properties, Mapping[str, str]]],
        conditions: WriteConditions = _ANY,
    ) -> StoredObject:
        """Copy an object within the store, by a hard link to its body if the file system allows it.

        Args:
            source: bucket and key.
            target: bucket and key.
            judge: called with the source inside the transaction. It raises to refuse the copy, or returns the
                properties and the checksums of the copy.
            conditions: conditions on the present target.

        Raises:
            NoSuchBucket, NoSuchKey: the source or the target's bucket does not exist.
            PreconditionFailed: a condition does not hold.
            KeyTooLongError, InvalidArgument: S3 does not accept the target's key.
        """
        check_key(target[1])
        with self.index.writing() as db:
            found = self._existing(db, *source)
            given, checksums = judge(found)
            old = self._target(db, target, conditions)
            # A copy has no parts, so its ETag is the MD5.
            content = Content(found.size, found.md5, found.md5, checksums)
            # The copy has its own name for the body: overwriting the source discards the source's name only.
            path = self.bodies.path(self.bodies.duplicate(found.path.name))
            new = stored(target, given, content, path=path, last_modified=self.clock())
            self.objects.put(db, new)
        self._discard(old)
        return new

    def adopt(
        self,
        draft: Draft,
        target: tuple[str, str],
        given: Properties,
        content: Content,
        *,
        conditions: WriteConditions = _ANY,
        settle: Callable[[sqlite3.Connection], Sequence[str]] = lambda _db: (),
    ) -> StoredObject:
        """Make a draft an object; conditions, body and index entry are one transaction.

        Args:
            draft: the body; it belongs to the object afterwards.
            target: bucket and key.
            given: properties of the object.
            content: the facts about the body.
            conditions: conditions on the present object.
            settle: further work in the transaction; returns the names of the bodies that it freed.

        Raises:
            NoSuchBucket: the bucket does not exist.
            NoSuchKey, PreconditionFailed: a condition does not hold.
            KeyTooLongError, InvalidArgument: S3 does not accept the key.
        """
        check_key(target[1])
        self.bodies.settle(draft)
        with self.index.writing() as db:
            old = self._target(db, target, conditions)
            freed = settle(db)
            path = self.bodies.path(self.bodies.keep(draft))
            new = stored(target, given, content, path=path, last_modified=self.clock())
            self.objects.put(db, new)
        draft.release()
        self.bodies.discard(*freed)
        self._discard(old)
        return new

    def retag(self, bucket: str, key: str, tags: Mapping[str, str]) -> None:
        """Replace the tags of an object and leave everything else unchanged.

        Raises:
            NoSuchBucket, NoSuchKey: the object does not exist.
        """
        with self.index.writing() as db:
            self.objects.put(db, replace(self._existing(db, bucket, key), tags=dict(tags)))

    def _existing(self, db: sqlite3.Connection, bucket: str, key: str) -> StoredObject:
        found = self.objects.find(db, bucket, key)
        if found is None:
            require_bucket(db, bucket)
            raise NoSuchKey(Key=key, BucketName=bucket)
        return found

    def _target(
        self, db: sqlite3.Connection, target: tuple[str, str], conditions: WriteConditions
    ) -> StoredObject | None:
        """Return the object that a write will replace, after checking the write's conditions on it."""
        bucket, key = target
        require_bucket(db, bucket)
        old = self.objects.find(db, bucket, key)
        conditions.check(old.etag if old else None, key)
        return old

    def _discard(self, old: StoredObject | None) -> None:
        if old:
            self.bodies.discard(old.path.name)


def _refusal(found: StoredObject | None, key: str, conditions: DeleteConditions) -> S3Error | None:
    try:
        conditions.check(found, key)
    except S3Error as error:
        return error
    return None


def _named_bodies(db: sqlite3.Connection) -> set[str]:
    return {row[0] for row in db.execute("SELECT body FROM objects UNION ALL SELECT body FROM parts")}
