"""The operations on objects."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, BinaryIO

from starlette.responses import Response

from local_sagemaker.iam.roles import NotAuthorized
from local_sagemaker.s3.access import check_object_acl
from local_sagemaker.s3.checksums import FULL_OBJECT, HEADER, TYPE, checksum_of
from local_sagemaker.s3.conditions import DeleteConditions
from local_sagemaker.s3.documents import Value
from local_sagemaker.s3.encryption import ENCRYPTION_HEADER, encryption_of_new
from local_sagemaker.s3.errors import (
    AccessDenied,
    InvalidArgument,
    InvalidRequest,
    MalformedXML,
    NotModified,
    PreconditionFailed,
)
from local_sagemaker.s3.objects import Properties
from local_sagemaker.s3.payload import Payload
from local_sagemaker.s3.permissions import check_permissions, deleting
from local_sagemaker.s3.ranges import ByteRange, part_range, read_range
from local_sagemaker.s3.request import check_tags, check_version
from local_sagemaker.s3.responses import (
    BodyResponse,
    checksum_elements,
    checksum_headers,
    encryption_headers,
    iso_date,
    object_headers,
    quoted,
    safe_headers,
    xml_response,
)
from local_sagemaker.s3.schema import Structure, read_document

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local_sagemaker.s3.errors import S3Error
    from local_sagemaker.s3.objects import StoredObject
    from local_sagemaker.s3.request import S3Request
    from local_sagemaker.s3.service import Handlers, Service

_MOST_DELETIONS = 1000
_BLOCK = 1 << 20  # bytes read at a time


class PutObject:
    """The operation `PutObject`, with its body streamed in."""

    def __init__(self, service: Service, request: S3Request) -> None:
        self._request = request
        service.store.configuration.get(request.bucket)
        self._properties = properties_of_new(service, request)
        self._upload = service.store.new_upload()
        try:
            self._payload = Payload(request, self._upload)
        except BaseException:
            self._upload.abort()
            raise

    def write(self, data: bytes) -> None:
        """Consume the next bytes of the body."""
        self._payload.write(data)

    @property
    def size(self) -> int:
        """Bytes of the object so far."""
        return self._upload.size

    def finish(self) -> Response:
        """Verify the body, put the object, and return the response."""
        given, conditions = self._properties, self._request.write_conditions()
        checksums = self._payload.finish()
        new = self._upload.commit(
            *self._request.target,
            content_type=given.content_type,
            metadata=given.metadata,
            headers=given.headers,
            tags=given.tags,
            checksums=checksums,
            if_match=conditions.match,
            if_none_match=conditions.none_match,
        )
        return Response(
            headers={"etag": quoted(new.etag), **checksum_headers(checksums), **encryption_headers(new.headers)}
        )

    def abort(self) -> None:
        """Drop what was received so far; do nothing after `finish`."""
        self._upload.abort()


def properties_of_new(service: Service, request: S3Request) -> Properties:
    """Return the properties of a new object, with the encryption that the bucket adds.

    Raises:
        S3Error: a header has a value that S3 or this server does not accept.
    """
    given = request.properties()
    check_object_acl(service, request)
    encryption = encryption_of_new(service.store, request.bucket, request.headers, service.region)
    return replace(given, headers={**given.headers, **encryption})


def get_object(service: Service, request: S3Request, _body: bytes) -> Response:
    """Serve `GetObject`: the whole object, a range or a part."""
    check_version(request.query)
    found, file = service.store.open(*request.target)
    try:
        status, wanted, headers = _reading(request, found)
        return BodyResponse(file, wanted.start, wanted.length, status, headers)
    except BaseException:
        file.close()
        raise


def head_object(service: Service, request: S3Request, _body: bytes) -> Response:
    """Serve `HeadObject`: the headers of `GetObject`."""
    check_version(request.query)
    found = service.store.get(*request.target)
    status, wanted, headers = _reading(request, found)
    return Response(status_code=status, headers={**headers, "content-length": str(wanted.length)})


def _reading(request: S3Request, found: StoredObject) -> tuple[int, ByteRange, dict[str, str]]:
    """Return status, range and headers of a read.

    Raises:
        NotModified, PreconditionFailed: a condition does not hold.
        InvalidRange, InvalidPartNumber: the object does not have this range or part.
        InvalidRequest, InvalidArgument: the request asks for a range and a part, or has an invalid header or parameter.
    """
    if ENCRYPTION_HEADER in request.headers:
        raise InvalidArgument(
            f"{ENCRYPTION_HEADER} header is not supported for this operation.", ArgumentName=ENCRYPTION_HEADER
        )
    request.read_conditions().check(found.etag, found.last_modified)
    wanted = _wanted_range(request, found)
    headers = object_headers(found)
    if request.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED":
        headers |= _checksums_of_reading(request, found, wanted)
    if "partNumber" in request.query and found.parts:
        headers["x-amz-mp-parts-count"] = str(len(found.parts))
    headers |= request.overrides()
    if wanted is None:
        return 200, ByteRange(0, found.size, found.size), safe_headers(headers)
    headers["content-range"] = wanted.content_range
    return 206, wanted, safe_headers(headers)


def _checksums_of_reading(request: S3Request, found: StoredObject, wanted: ByteRange | None) -> dict[str, str]:
    """Return the checksum of the object or of the part that is read; any other range has none."""
    if wanted is None or wanted.length == found.size:
        return checksum_headers(found.checksums)
    if "partNumber" in request.query and found.checksums:
        algorithm = next(name for name in found.checksums if name != TYPE)
        part = found.parts[request.part_number() - 1]
        return checksum_headers({algorithm: part.checksum, TYPE: found.checksums[TYPE]}) if part.checksum else {}
    return {}


def _wanted_range(request: S3Request, found: StoredObject) -> ByteRange | None:
    header = request.headers.get("range")
    if "partNumber" in request.query:
        if header:
            raise InvalidRequest("Cannot specify both Range header and partNumber query parameter")
        sizes = tuple(part.size for part in found.parts)
        return part_range(request.part_number(), sizes, found.size) if found.size else None
    if request.headers.get("if-range", quoted(found.etag)) != quoted(found.etag):
        return None
    return read_range(header, found.size)


def delete_object(service: Service, request: S3Request, _body: bytes) -> Response:
    """Serve `DeleteObject`."""
    check_version(request.query)
    (refusal,) = service.store.delete_many(request.bucket, [(request.key, request.delete_conditions())])
    if refusal is not None:
        raise refusal
    return Response(status_code=204)


def delete_objects(service: Service, request: S3Request, body: bytes) -> Response:
    """Serve `DeleteObjects`: up to 1,000 keys, each with its own result."""
    given = read_document(request.operation, body)
    named = given["Objects"]
    if len(named) > _MOST_DELETIONS:
        raise MalformedXML("The request must name 1 to 1000 objects.")
    if any(not one["Key"] for one in named):
        raise MalformedXML("A Key is empty.")
    for one in named:
        check_version({"versionId": one.get("VersionId") or "null"})
    wanted = [(one["Key"], _conditions_of(one)) for one in named]
    denied = [_denied(request, one) for one in named]
    allowed = [one for one, refusal in zip(wanted, denied, strict=True) if refusal is None]
    others = iter(service.store.delete_many(request.bucket, allowed))
    refusals = [refusal or next(others) for refusal in denied]
    quiet = given.get("Quiet", False)
    results = zip(wanted, refusals, strict=True)
    return xml_response(
        "DeleteResult", [_deletion(key, refusal) for (key, _), refusal in results if refusal or not quiet]
    )


def _denied(request: S3Request, named: Structure) -> S3Error | None:
    try:
        if request.access:
            request.access.check(deleting(request, named["Key"], named.get("VersionId")))
    except NotAuthorized as error:
        return AccessDenied(str(error))
    return None


def _conditions_of(named: Structure) -> DeleteConditions:
    modified = named.get("LastModifiedTime")
    return DeleteConditions(named.get("ETag"), modified.timestamp() if modified else None, named.get("Size"))


def _deletion(key: str, refusal: S3Error | None) -> tuple[str, Value]:
    if refusal is None:
        return "Deleted", [("Key", key)]
    return "Error", [("Key", key), ("Code", refusal.code), ("Message", refusal.message)]


def copy_object(service: Service, request: S3Request, _body: bytes) -> Response:
    """Serve `CopyObject`."""
    new = _copied(service, request)
    content: list[tuple[str, Value]] = [
        ("LastModified", iso_date(new.last_modified)),
        ("ETag", quoted(new.etag)),
        *checksum_elements(new.checksums),
    ]
    return xml_response("CopyObjectResult", content, encryption_headers(new.headers))


class _SourceChanged(Exception):
    """The source was replaced after its checksum was computed."""


def _copied(service: Service, request: S3Request) -> StoredObject:
    """Copy an object.

    The checksum takes long, so it is computed before the transaction, and again if the source was replaced meanwhile.
    """
    source = request.copy_source()
    check_object_acl(service, request)
    encryption = encryption_of_new(service.store, request.bucket, request.headers, service.region)
    while True:
        seen, file = service.store.open(*source)
        with file:
            checksums = _checksums_of_copy(request, seen, file)

        def judge(
            found: StoredObject, seen: StoredObject = seen, checksums: Mapping[str, str] = checksums
        ) -> tuple[Properties, Mapping[str, str]]:
            if found.path != seen.path:
                raise _SourceChanged
            return _properties_of_copy(request, found, encryption), checksums

        try:
            return service.store.copy(source, request.target, judge=judge, conditions=request.write_conditions())
        except _SourceChanged:
            continue


def _checksums_of_copy(request: S3Request, found: StoredObject, file: BinaryIO) -> Mapping[str, str]:
    """Return the checksum of the copy: by the requested algorithm, or by that of the source.

    A copy has no parts, so it has a full-object checksum, even if its source has a composite one.
    """
    theirs = next((name for name in found.checksums if name != TYPE), "")
    algorithm = request.headers.get(f"{HEADER}algorithm", "").lower() or theirs
    if not algorithm or (algorithm == theirs and found.checksums.get(TYPE) == FULL_OBJECT):
        return found.checksums
    blocks = iter(partial(file.read, _BLOCK), b"")
    return {algorithm: checksum_of(algorithm, blocks), TYPE: FULL_OBJECT}


def _properties_of_copy(request: S3Request, found: StoredObject, encryption: Mapping[str, str]) -> Properties:
    """Return the properties of the copy of `found`.

    Raises:
        PreconditionFailed: a condition on the source does not hold.
        InvalidRequest: the request copies an object to itself without a change.
    """
    check_copy_source(request, found)
    replaced = request.choice("x-amz-metadata-directive", "COPY", "REPLACE") == "REPLACE"
    retagged = request.choice("x-amz-tagging-directive", "COPY", "REPLACE") == "REPLACE"
    given = request.properties()
    changed = replaced or retagged or any(name.startswith("x-amz-") for name in given.headers)
    changed = changed or "x-amz-server-side-encryption" in request.headers
    if (found.bucket, found.key) == request.target and not changed:
        raise InvalidRequest(
            "This copy request is illegal because it is trying to copy an object to itself without changing the"
            " object's metadata, storage class, website redirect location or encryption attributes."
        )
    tags = given.tags if retagged else found.tags
    if replaced:
        return replace(given, tags=tags, headers={**given.headers, **encryption})
    # Storage class and encryption are not copied with the metadata: this request sets them.
    own = {name: value for name, value in found.headers.items() if not name.startswith("x-amz-")}
    own |= {name: value for name, value in given.headers.items() if name.startswith("x-amz-")}
    return Properties(found.content_type, found.metadata, {**own, **encryption}, tags)


def check_copy_source(request: S3Request, found: StoredObject) -> None:
    """Check the conditions of a copy on its source.

    Raises:
        PreconditionFailed: a condition does not hold; a copy has no status 304.
    """
    try:
        request.read_conditions("x-amz-copy-source-").check(found.etag, found.last_modified)
    except NotModified as error:
        raise PreconditionFailed(Condition="x-amz-copy-source-If-None-Match") from error


def get_object_tagging(service: Service, request: S3Request, _body: bytes) -> Response:
    """Serve `GetObjectTagging`."""
    check_version(request.query)
    tags = service.store.get(*request.target).tags
    pairs: list[tuple[str, Value]] = [("Tag", [("Key", key), ("Value", value)]) for key, value in tags.items()]
    return xml_response("Tagging", [("TagSet", pairs)])


def put_object_tagging(service: Service, request: S3Request, body: bytes) -> Response:
    """Serve `PutObjectTagging`."""
    check_version(request.query)
    pairs = [(tag["Key"], tag["Value"]) for tag in read_document(request.operation, body)["TagSet"]]
    tags = check_tags(pairs)
    check_permissions(service, request, tags)
    service.store.retag(*request.target, tags)
    return Response()


def delete_object_tagging(service: Service, request: S3Request, _body: bytes) -> Response:
    """Serve `DeleteObjectTagging`."""
    check_version(request.query)
    service.store.retag(*request.target, {})
    return Response(status_code=204)


HANDLERS: Handlers = {
    "GetObject": get_object,
    "HeadObject": head_object,
    "DeleteObject": delete_object,
    "DeleteObjects": delete_objects,
    "CopyObject": copy_object,
    "GetObjectTagging": get_object_tagging,
    "PutObjectTagging": put_object_tagging,
    "DeleteObjectTagging": delete_object_tagging,
}
