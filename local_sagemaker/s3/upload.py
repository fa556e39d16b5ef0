"""An object that is being written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from local_sagemaker.s3.conditions import WriteConditions
from local_sagemaker.s3.names import check_metadata
from local_sagemaker.s3.objects import DEFAULT_CONTENT_TYPE, Content, Properties, StoredObject

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from local_sagemaker.s3.store import ObjectStore


class Upload:
    """An object that is being written. Leaving its `with` block without a commit drops it."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._draft = store.bodies.draft()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append to the body."""
        self._draft.write(data)

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._draft.size

    @property
    def md5(self) -> bytes:
        """The MD5 digest of the bytes written so far."""
        return self._draft.md5

    def commit(
        self,
        bucket: str,
        key: str,
        *,
        content_type: str = DEFAULT_CONTENT_TYPE,
        metadata: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        checksums: Mapping[str, str] | None = None,
        if_match: str | None = None,
        if_none_match: str | None = None,
    ) -> StoredObject:
        """Make what was written the object `key`. Readers see either the old object or the new one.

        Args:
            bucket: an existing bucket.
            key: 1 to 1,024 bytes of UTF-8.
            content_type: returned by a read.
            metadata: user-defined metadata, by lower-case names.
            headers: as in `StoredObject`.
            tags: as in `StoredObject`.
            checksums: as in `StoredObject`; trusted, not verified.
            if_match: ETag that the present object must have, or `*` for any object.
            if_none_match: `*`: there must be no object.

        Raises:
            NoSuchBucket: the bucket does not exist.
            NoSuchKey: `if_match` is given and there is no object.
            PreconditionFailed: a condition does not hold.
            NotImplementedByThisServer: `if_none_match` is not `*`.
            KeyTooLongError, InvalidArgument: S3 does not accept the key or the metadata.
        """
        check_metadata(metadata or {})
        given = Properties(content_type, metadata or {}, headers or {}, tags or {})
        content = Content(self._draft.size, self._draft.md5.hex(), self._draft.md5.hex(), checksums or {})
        conditions = WriteConditions(if_match, if_none_match)
        return self._store.adopt(self._draft, (bucket, key), given, content, conditions=conditions)

    def abort(self) -> None:
        """Drop what was written; do nothing after a commit."""
        self._draft.drop()

    def __enter__(self) -> Upload:  # noqa: PYI034 -- Self came with Python 3.11
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.abort()
