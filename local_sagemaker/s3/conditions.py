"""The conditions of S3's requests, judged; pure, only `local_sagemaker.s3` imports it.

Writes: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
Reads: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-reads.html and RFC 9110, section 13.2.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from local_sagemaker.s3.errors import NoSuchKey, NotImplementedByThisServer, NotModified, PreconditionFailed

if TYPE_CHECKING:
    from local_sagemaker.s3.objects import StoredObject


def matches(wanted: str, etag: str) -> bool:
    """Whether one of a header's ETags (quoted or not, separated by commas) is `etag`, or the header is `*`."""
    return any(one.strip().removeprefix("W/").strip('"') in ("*", etag) for one in wanted.split(","))


@dataclass(frozen=True)
class WriteConditions:
    """What must hold of the present object for a write to happen; None: not asked.

    Args:
        match: the ETag that it must have, or `*` for any.
        none_match: `*`: there must be no object.
    """

    match: str | None = None
    none_match: str | None = None

    def check(self, present: str | None, key: str) -> None:
        """Check them.

        Args:
            present: the ETag of the present object; None: there is none.
            key: its key, for the message.

        Raises:
            NoSuchKey: `match`, and there is no object.
            PreconditionFailed: a condition does not hold.
            NotImplementedByThisServer: `none_match` is an ETag, which S3 refuses too.
        """
        if self.none_match is not None:
            if self.none_match != "*":
                raise NotImplementedByThisServer("If-None-Match of a write takes * only.", Header="If-None-Match")
            if present is not None:
                raise PreconditionFailed(Condition="If-None-Match")
        if self.match is not None:
            if present is None:
                raise NoSuchKey(Key=key)
            if not matches(self.match, present):
                raise PreconditionFailed(Condition="If-Match")


@dataclass(frozen=True)
class DeleteConditions:
    """What must hold of an object for its deletion to happen; None: not asked.

    Args:
        match: the ETag that it must have, or `*` for any; there must be an object.
        modified: epoch seconds, whole; an object that is not there meets it, as AWS documents.
        size: bytes; an object that is not there meets it.
    """

    match: str | None = None
    modified: float | None = None
    size: int | None = None

    def check(self, present: StoredObject | None, key: str) -> None:
        """Check them.

        Args:
            present: the object; None: there is none.
            key: its key, for the message.

        Raises:
            NoSuchKey: `match`, and there is no object.
            PreconditionFailed: a condition does not hold.
        """
        WriteConditions(self.match).check(present.etag if present else None, key)
        if present is None:
            return
        if self.modified is not None and int(present.last_modified) != int(self.modified):
            raise PreconditionFailed(Condition="x-amz-if-match-last-modified-time")
        if self.size is not None and present.size != self.size:
            raise PreconditionFailed(Condition="x-amz-if-match-size")


@dataclass(frozen=True)
class ReadConditions:
    """The four conditions of a read, or of a copy's source; times in epoch seconds, None: not asked."""

    match: str | None = None
    none_match: str | None = None
    modified_since: float | None = None
    unmodified_since: float | None = None

    def check(self, etag: str, last_modified: float) -> None:
        """Check them against an object.

        An `If-Match` that holds outranks `If-Unmodified-Since`, an `If-None-Match` that holds `If-Modified-Since`.

        Raises:
            PreconditionFailed: the first or the last does not hold.
            NotModified: one of the others does not.
        """
        # HTTP's dates have whole seconds, and an object is not newer than its own date.
        second = int(last_modified)
        if self.match is not None:
            if not matches(self.match, etag):
                raise PreconditionFailed(Condition="If-Match")
        elif self.unmodified_since is not None and second > self.unmodified_since:
            raise PreconditionFailed(Condition="If-Unmodified-Since")
        if self.none_match is not None:
            if matches(self.none_match, etag):
                raise NotModified(ETag=etag)
        elif self.modified_since is not None and second <= self.modified_since:
            raise NotModified(ETag=etag)
