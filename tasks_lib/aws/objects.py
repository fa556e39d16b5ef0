"""Reads, writes and lists objects in S3.

Every write that others could race with is conditional. A refused write is read back: a retried PUT that finds its own
object has succeeded.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from blocks import SageMakerProject
from tasks_lib.aws.errors import is_conflict, is_missing, translating
from tasks_lib.jobs.manifest import Item, Manifest
from tasks_lib.jobs.s3_layout import Location

if TYPE_CHECKING:
    from s3fs import S3FileSystem

_DELETE_BATCH = 1000  # keys; the most that DeleteObjects takes


@dataclass(frozen=True)
class Document:
    """A JSON document as read from S3: its value, and its ETag for the next conditional write."""

    value: dict[str, Any]
    etag: str


class DocumentDamaged(Exception):
    """A JSON document in S3 that cannot be read. The reader decides what that means.

    Args:
        place: Where it is.
        why: What is wrong with it.
        etag: Its ETag, for a conditional write that replaces it; default None.
    """

    def __init__(self, place: Location, why: str, etag: str | None = None) -> None:
        super().__init__(f"{place.uri} cannot be read: {why}.")
        self.etag = etag


class Objects:
    """Objects in S3, with the project's encryption and its bucket's expected owner."""

    def __init__(self, project: SageMakerProject) -> None:
        with translating(f"reach the bucket {project.bucket}"):
            self._project = project
        self._own_bucket = project.bucket
        self._owner = project.expected_bucket_owner
        self._encryption = (
            {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": project.output_kms_key} if project.output_kms_key else {}
        )

    @property
    def _s3(self) -> Any:  # the stubs cannot check arguments that are merged from dictionaries
        # Ask the project each time: it replaces its clients when credentials have expired.
        return self._project.client("s3")

    @property
    def storage_options(self) -> dict[str, Any]:
        """Options with which s3fs, fsspec and pandas reach the project's bucket."""
        with translating(f"reach the bucket {self._own_bucket}"):
            return self._project.storage_options

    def filesystem(self) -> S3FileSystem:
        """Return the bucket as a file system of fsspec, with credentials that are valid now."""
        from s3fs import S3FileSystem  # noqa: PLC0415 - most flows never open a file, and it takes 0.4 s

        more = {"ExpectedBucketOwner": self._owner} if self._owner else {}
        # Not one of fsspec's cached instances: its credentials may have expired.
        return S3FileSystem(**self.storage_options, s3_additional_kwargs=more, skip_instance_cache=True)

    def _at(self, place: Location) -> dict[str, str]:
        return {"Bucket": place.bucket, "Key": place.key, **self._owner_of(place)}

    def _owner_of(self, place: Location) -> dict[str, str]:
        return {"ExpectedBucketOwner": self._owner} if self._owner and place.bucket == self._own_bucket else {}

    def read(self, place: Location) -> Document | None:
        """Return a JSON document; None if it does not exist.

        Raises:
            DocumentDamaged: It is not a JSON object.
        """
        with translating(f"read {place.uri}"):
            try:
                answer = self._s3.get_object(**self._at(place))
                body = answer["Body"].read()
            except ClientError as error:
                if is_missing(error):
                    return None
                raise
        return Document(_parsed(body, place, answer["ETag"]), answer["ETag"])

    def write(self, place: Location, value: Mapping[str, Any], *, etag: str | None = None) -> str | None:
        """Write a JSON document if it was not changed since it was read.

        Args:
            place: Where.
            value: What.
            etag: The ETag that was read; None if there was no document.

        Returns:
            The new ETag; None if another writer was faster.
        """
        body = _json(value)
        condition = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
        with translating(f"write {place.uri}"):
            try:
                return str(self._put(place, body, "application/json", **condition)["ETag"])
            except ClientError as error:
                if not (is_conflict(error) or (etag and is_missing(error))):
                    raise
        found = self.read(place)  # a PUT that is retried after a lost answer finds its own object
        return found.etag if found and found.value == json.loads(body) else None

    def write_once(self, place: Location, value: Mapping[str, Any]) -> None:
        """Write a JSON document whose key names its content; an existing one is left as it is."""
        with translating(f"write {place.uri}"):
            try:
                self._put(place, _json(value), "application/json", IfNoneMatch="*")
            except ClientError as error:
                if not is_conflict(error):
                    raise

    def put(self, place: Location, body: bytes, content_type: str = "application/octet-stream") -> None:
        """Write an object, replacing any that exists."""
        with translating(f"write {place.uri}"):
            self._put(place, body, content_type)

    def _put(self, place: Location, body: bytes, content_type: str, **condition: str) -> dict[str, Any]:
        answer: dict[str, Any] = self._s3.put_object(
            Body=body, ContentType=content_type, **self._at(place), **self._encryption, **condition
        )
        return answer

    def upload(self, path: Path, place: Location) -> None:
        """Upload a file, in parts if it is large."""
        extra = {**self._owner_of(place), **self._encryption}
        with translating(f"upload {path} to {place.uri}"):
            self._s3.upload_file(str(path), place.bucket, place.key, ExtraArgs=extra)

    def download(self, place: Location, path: Path) -> None:
        """Download an object to a file."""
        with translating(f"download {place.uri}"):
            self._s3.download_file(place.bucket, place.key, str(path), ExtraArgs=self._owner_of(place))

    def open(self, place: Location) -> Any:
        """Return an object's body as a stream."""
        with translating(f"read {place.uri}"):
            return self._s3.get_object(**self._at(place))["Body"]

    def copy(self, source: Location, target: Location) -> bool:
        """Copy an object within S3, in parts if it is large; return whether the source exists."""
        origin = {"Bucket": source.bucket, "Key": source.key}
        extra = {**self._owner_of(target), **self._encryption}
        with translating(f"copy {source.uri} to {target.uri}"):
            try:
                self._s3.copy(origin, target.bucket, target.key, ExtraArgs=extra)
            except ClientError as error:
                if is_missing(error):
                    return False
                raise
        return True

    def delete(self, place: Location) -> None:
        """Delete an object. An object that does not exist is not an error."""
        with translating(f"delete {place.uri}"):
            self._s3.delete_object(**self._at(place))

    def empty(self, prefix: Location) -> int:
        """Delete all objects under a prefix that ends in `/`; return their number."""
        assert prefix.key.endswith("/"), "a prefix without its slash would take its siblings along"
        keys = [row["Key"] for row in self._rows(prefix)]
        for start in range(0, len(keys), _DELETE_BATCH):
            batch = [{"Key": key} for key in keys[start : start + _DELETE_BATCH]]
            with translating(f"empty {prefix.uri}"):
                self._s3.delete_objects(
                    Bucket=prefix.bucket, Delete={"Objects": batch, "Quiet": True}, **self._owner_of(prefix)
                )
        return len(keys)

    def listing(self, prefix: Location) -> Manifest:
        """Return all objects under a prefix by their names relative to it; one request per 1,000."""
        start = len(prefix.key)
        return Manifest({row["Key"][start:]: Item(row["Size"], row["ETag"].strip('"')) for row in self._rows(prefix)})

    def ages(self, prefix: Location) -> dict[str, timedelta]:
        """Return the time since each object under a prefix was written, by its name relative to it.

        Both times are S3's: the object's `LastModified` and the answer's `Date`. Two machines that compared their own
        clocks with S3's could disagree about which process is gone.
        """
        start = len(prefix.key)
        return {
            row["Key"][start:]: parsedate_to_datetime(page["ResponseMetadata"]["HTTPHeaders"]["date"])
            - row["LastModified"]
            for page in self._pages(prefix)
            for row in page.get("Contents", ())
        }

    def _rows(self, prefix: Location) -> Iterator[dict[str, Any]]:
        for page in self._pages(prefix):
            yield from page.get("Contents", ())

    def _pages(self, prefix: Location) -> Iterator[dict[str, Any]]:
        request = {"Bucket": prefix.bucket, "Prefix": prefix.key, **self._owner_of(prefix)}
        with translating(f"list {prefix.uri}"):
            yield from self._s3.get_paginator("list_objects_v2").paginate(**request)


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, indent=1, allow_nan=False).encode()


def _parsed(body: bytes, place: Location, etag: str) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except ValueError as error:
        raise DocumentDamaged(place, str(error), etag) from error
    if not isinstance(value, dict):
        raise DocumentDamaged(place, f"it is a {type(value).__name__}", etag)
    return value
