"""Evaluation of the conditions in S3 requests.

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
    """Return whether a header's value is `*` or contains an ETag.

    Args:
        wanted: the header's ETags, quoted or not, separated by commas.
        etag: the ETag, unquoted.
    """
    return any(one.strip().removeprefix("W/").strip('"') in ("*", etag) for one in wanted.split(","))


@dataclass(frozen=True)
class WriteConditions:
    """Conditions on the present object for a write; None for a condition that is not given.

    Args:
        match: ETag that the object must have, or `*` for any object.
        none_match: `*`: there must be no object.
    """

    match: str | None = None
    none_match: str | None = None

    def check(self, present: str | None, key: str) -> None:
        """Check the conditions.

        Args:
            present: ETag of the present object; None if there is none.
            key: key of the object, for the message.

        Raises:
            NoSuchKey: `match` is given and there is no object.
            PreconditionFailed: a condition does not hold.
            NotImplementedByThisServer: `none_match` is an ETag, which S3 refuses as well.
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
    """Conditions on an object for its deletion; None for a condition that is not given.

    Args:
        match: ETag that the object must have, or `*` for any object. There must be an object.
        modified: last-modified time in epoch seconds, compared in whole seconds. A missing object meets it, as AWS
            documents.
        size: bytes. A missing object meets it.
    """

    match: str | None = None
    modified: float | None = None
    size: int | None = None

    def check(self, present: StoredObject | None, key: str) -> None:
        """Check the conditions.

        Args:
            present: the object; None if there is none.
            key: key of the object, for the message.

        Raises:
            NoSuchKey: `match` is given and there is no object.
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
    """Conditions of a read, or on a copy's source; times in epoch seconds, None for one that is not given."""

    match: str | None = None
    none_match: str | None = None
    modified_since: float | None = None
    unmodified_since: float | None = None

    def check(self, etag: str, last_modified: float) -> None:
        """Check the conditions against an object.

        `If-Match` overrides `If-Unmodified-Since`, and `If-None-Match` overrides `If-Modified-Since`.

        Raises:
            PreconditionFailed: `If-Match` or `If-Unmodified-Since` does not hold.
            NotModified: `If-None-Match` or `If-Modified-Since` does not hold.
        """
        # HTTP dates have whole seconds. With fractions, an object would be newer than its own Last-Modified.
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
