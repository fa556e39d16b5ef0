"""The operations that list objects."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING
from urllib.parse import quote

from local_sagemaker.s3.documents import Value
from local_sagemaker.s3.errors import InvalidArgument
from local_sagemaker.s3.listing import list_page, start_behind
from local_sagemaker.s3.responses import iso_date, quoted, xml_response

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.responses import Response

    from local_sagemaker.s3.listing import Page
    from local_sagemaker.s3.objects import StoredObject
    from local_sagemaker.s3.request import S3Request
    from local_sagemaker.s3.service import Handlers, Service

MOST = 1000  # entries per page: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html


def list_objects(service: Service, request: S3Request, _body: bytes) -> Response:
    """Serve `ListObjects`, version 1: the next page continues after a key."""
    query, write = request.query, name_writer(request)
    prefix, delimiter, marker = query.get("prefix", ""), query.get("delimiter", ""), query.get("marker", "")
    limit = request.number("max-keys", MOST, highest=MOST)
    start = start_behind(marker, prefix, delimiter) if marker else ""
    page = list_page(service.store, request.bucket, prefix, delimiter, start=start, limit=limit)
    # S3 sends NextMarker only with a delimiter. Without one, clients continue after the last key.
    next_marker = write(page.last) if page.following is not None and delimiter else None
    head: list[tuple[str, Value]] = [("Marker", write(marker)), ("NextMarker", next_marker)]
    return xml_response("ListBucketResult", [*head, *_body_of(page, request, limit, service.owner)])


def list_objects_v2(service: Service, request: S3Request, _body: bytes) -> Response:
    """Serve `ListObjectsV2`: the next page continues from an opaque token."""
    query, write = request.query, name_writer(request)
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    start_after, token = query.get("start-after", ""), query.get("continuation-token")
    limit = request.number("max-keys", MOST, highest=MOST)
    start = start_behind(start_after, prefix, delimiter) if start_after else ""
    if token is not None:
        start = _read_token(token)
    page = list_page(service.store, request.bucket, prefix, delimiter, start=start, limit=limit)
    head: list[tuple[str, Value]] = [
        ("KeyCount", page.count),
        ("ContinuationToken", token),
        ("NextContinuationToken", None if page.following is None else _token(page.following)),
        ("StartAfter", write(start_after) if start_after else None),
    ]
    owner = service.owner if query.get("fetch-owner") == "true" else None
    return xml_response("ListBucketResult", [*head, *_body_of(page, request, limit, owner)])


def list_object_versions(service: Service, request: S3Request, _body: bytes) -> Response:
    """Serve `ListObjectVersions` for buckets without versioning.

    Each object is its own latest version, with the version ID `null`.
    """
    query, write = request.query, name_writer(request)
    prefix, delimiter, marker = query.get("prefix", ""), query.get("delimiter", ""), query.get("key-marker", "")
    version = query.get("version-id-marker", "")
    if version and not marker:
        raise InvalidArgument(
            "A version-id marker cannot be specified without a key marker.",
            ArgumentName="version-id-marker",
            ArgumentValue=version,
        )
    limit = request.number("max-keys", MOST, highest=MOST)
    start = start_behind(marker, prefix, delimiter) if marker else ""
    page = list_page(service.store, request.bucket, prefix, delimiter, start=start, limit=limit)
    more = page.following is not None
    return xml_response(
        "ListVersionsResult",
        [
            ("Name", request.bucket),
            ("Prefix", write(prefix)),
            ("KeyMarker", write(marker)),
            ("VersionIdMarker", version),
            ("NextKeyMarker", write(page.last) if more else None),
            ("NextVersionIdMarker", "null" if more and page.last_is_object else None),
            ("MaxKeys", limit),
            ("Delimiter", write(delimiter) if delimiter else None),
            ("EncodingType", query.get("encoding-type")),
            ("IsTruncated", more),
            *(("Version", _version(one, write(one.key), service.owner)) for one in page.objects),
            *(("CommonPrefixes", [("Prefix", write(one))]) for one in page.prefixes),
        ],
    )


def _version(found: StoredObject, key: str, owner: Value) -> list[tuple[str, Value]]:
    name, *rest = _entry(found, key, owner)
    return [name, ("VersionId", "null"), ("IsLatest", True), *rest]


def name_writer(request: S3Request) -> Callable[[str], str]:
    """Return the function that writes keys in the response: unchanged, or percent-encoded on request.

    Raises:
        InvalidArgument: the request asks for another encoding.
    """
    encoding = request.query.get("encoding-type")
    if encoding not in (None, "url"):
        raise InvalidArgument(
            "Invalid Encoding Method specified in Request", ArgumentName="encoding-type", ArgumentValue=encoding or ""
        )
    return (lambda name: quote(name, safe="/-_.~")) if encoding else (lambda name: name)


def _body_of(page: Page, request: S3Request, limit: int, owner: Value) -> list[tuple[str, Value]]:
    """Return the elements that both versions of the response share."""
    write = name_writer(request)
    delimiter = request.query.get("delimiter")
    return [
        ("Name", request.bucket),
        ("Prefix", write(request.query.get("prefix", ""))),
        ("Delimiter", write(delimiter) if delimiter else None),
        ("MaxKeys", limit),
        ("EncodingType", request.query.get("encoding-type")),
        ("IsTruncated", page.following is not None),
        *(("Contents", _entry(one, write(one.key), owner)) for one in page.objects),
        *(("CommonPrefixes", [("Prefix", write(one))]) for one in page.prefixes),
    ]


def _entry(found: StoredObject, key: str, owner: Value) -> list[tuple[str, Value]]:
    algorithms = [name.upper() for name in found.checksums if name != "type"]
    return [
        ("Key", key),
        ("LastModified", iso_date(found.last_modified)),
        ("ETag", quoted(found.etag)),
        *(("ChecksumAlgorithm", name) for name in algorithms),
        ("ChecksumType", found.checksums.get("type")),
        ("Size", found.size),
        ("Owner", owner),
        ("StorageClass", found.headers.get("x-amz-storage-class", "STANDARD")),
    ]


def _token(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode()


def _read_token(token: str) -> str:
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise InvalidArgument(
            "The continuation token provided is incorrect", ArgumentName="continuation-token", ArgumentValue=token
        ) from error


HANDLERS: Handlers = {
    "ListObjects": list_objects,
    "ListObjectsV2": list_objects_v2,
    "ListObjectVersions": list_object_versions,
}
