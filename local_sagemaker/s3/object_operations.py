"""The operations on one object, and the deletion of many; only `local_sagemaker.s3` imports it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from starlette.responses import Response

from local_sagemaker.iam.roles import NotAuthorized
from local_sagemaker.s3.documents import Value, parse, text
from local_sagemaker.s3.errors import AccessDenied, InvalidRequest, MalformedXML, NotModified, PreconditionFailed
from local_sagemaker.s3.errors import NotImplementedByThisServer as NotBuilt
from local_sagemaker.s3.needs import deleting
from local_sagemaker.s3.objects import Properties
from local_sagemaker.s3.payload import Payload
from local_sagemaker.s3.ranges import ByteRange, part_range, read_range
from local_sagemaker.s3.request import check_version, checked_tags
from local_sagemaker.s3.responses import (
    BodyResponse,
    checksum_elements,
    checksum_headers,
    iso_date,
    object_headers,
    quoted,
    safe_headers,
    xml_response,
)

if TYPE_CHECKING:
    from local_sagemaker.s3.errors import S3Error
    from local_sagemaker.s3.objects import StoredObject
    from local_sagemaker.s3.request import S3Request
    from local_sagemaker.s3.service import Handlers, Service

_MOST_DELETIONS = 1000


class PutObject:
    """`PutObject`: an object on its way in."""

    def __init__(self, service: Service, request: S3Request) -> None:
        self._request = request
        self._properties = request.properties()
        service.store.configuration.get(request.bucket)
        self._upload = service.store.new_upload()
        try:
            self._payload = Payload(request, self._upload)
        except BaseException:
            self._upload.abort()
            raise

    def write(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        self._payload.write(data)

    def finish(self) -> Response:
        """Verify the body, put the object, answer."""
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
        """Drop what came so far; nothing to do after `finish`."""
        self._upload.abort()


def encryption_headers(headers: dict[str, str]) -> dict[str, str]:
    """Return those of an object's headers that an answer to a write repeats."""
    prefix = "x-amz-server-side-encryption"
    return safe_headers({name: value for name, value in headers.items() if name.startswith(prefix)})


def get_object(service: Service, request: S3Request, _body: bytes) -> Response:
    """`GetObject`, whole, by range or by part."""
    check_version(request.query)
    found, file = service.store.open(*request.target)
    try:
        status, wanted, headers = _reading(request, found)
        return BodyResponse(file, wanted.start, wanted.length, status, headers)
    except BaseException:
        file.close()
        raise


def head_object(service: Service, request: S3Request, _body: bytes) -> Response:
    """`HeadObject`: the headers of `GetObject`."""
    check_version(request.query)
    found = service.store.get(*request.target)
    status, wanted, headers = _reading(request, found)
    return Response(status_code=status, headers={**headers, "content-length": str(wanted.length)})


def _reading(request: S3Request, found: StoredObject) -> tuple[int, ByteRange, dict[str, str]]:
    """Return status, range and headers of a read.

    Raises:
        NotModified, PreconditionFailed: a condition does not hold.
        InvalidRange: there is no such range or part.
    """
    request.read_conditions().check(found.etag, found.last_modified)
    wanted = _wanted_range(request, found)
    with_checksums = wanted is None and request.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED"
    headers = object_headers(found, with_checksums=with_checksums)
    if "partNumber" in request.query and found.part_sizes:
        headers["x-amz-mp-parts-count"] = str(len(found.part_sizes))
    headers |= request.overrides()
    if wanted is None:
        return 200, ByteRange(0, found.size, found.size), safe_headers(headers)
    headers["content-range"] = wanted.content_range
    return 206, wanted, safe_headers(headers)


def _wanted_range(request: S3Request, found: StoredObject) -> ByteRange | None:
    header = request.headers.get("range")
    if "partNumber" in request.query:
        if header:
            raise InvalidRequest("Cannot specify both Range header and partNumber query parameter")
        return part_range(request.part_number(), found.part_sizes, found.size) if found.size else None
    if request.headers.get("if-range", quoted(found.etag)) != quoted(found.etag):
        return None
    return read_range(header, found.size)


def delete_object(service: Service, request: S3Request, _body: bytes) -> Response:
    """`DeleteObject`."""
    check_version(request.query)
    service.store.delete(*request.target, if_match=request.headers.get("if-match"))
    return Response(status_code=204)


def delete_objects(service: Service, request: S3Request, body: bytes) -> Response:
    """`DeleteObjects`: up to 1,000, each with a result of its own."""
    tree = parse(body, "Delete")
    wanted = [(text(one, "Key"), one.findtext("ETag")) for one in tree.findall("Object")]
    if not 1 <= len(wanted) <= _MOST_DELETIONS:
        raise MalformedXML("The request must name 1 to 1000 objects.")
    for one in tree.findall("Object"):
        check_version({"versionId": one.findtext("VersionId") or "null"})
    denied = {key: refusal for key, _ in wanted if (refusal := _denied(request, key))}
    allowed = [one for one in wanted if one[0] not in denied]
    others = iter(service.store.delete_many(request.bucket, allowed))
    refusals = [denied.get(key) or next(others) for key, _ in wanted]
    quiet = (tree.findtext("Quiet") or "").strip() == "true"
    results = zip(wanted, refusals, strict=True)
    return xml_response(
        "DeleteResult", [_deletion(key, refusal) for (key, _), refusal in results if refusal or not quiet]
    )


def _denied(request: S3Request, key: str) -> S3Error | None:
    try:
        if request.access:
            request.access.check(deleting(request.bucket, key))
    except NotAuthorized as error:
        return AccessDenied(str(error))
    return None


def _deletion(key: str, refusal: S3Error | None) -> tuple[str, Value]:
    if refusal is None:
        return "Deleted", [("Key", key)]
    return "Error", [("Key", key), ("Code", refusal.code), ("Message", refusal.message)]


def copy_object(service: Service, request: S3Request, _body: bytes) -> Response:
    """`CopyObject`."""
    source = request.copy_source()
    new = service.store.copy(
        source,
        request.target,
        judge=lambda found: _properties_of_copy(request, found),
        conditions=request.write_conditions(),
    )
    content: list[tuple[str, Value]] = [
        ("LastModified", iso_date(new.last_modified)),
        ("ETag", quoted(new.etag)),
        *checksum_elements(new.checksums),
    ]
    return xml_response("CopyObjectResult", content, encryption_headers(new.headers))


def _properties_of_copy(request: S3Request, found: StoredObject) -> Properties:
    """Return the properties of the copy of `found`.

    Raises:
        PreconditionFailed: a condition on the source does not hold.
        InvalidRequest: a copy onto itself that changes nothing.
        NotImplementedByThisServer: a checksum that the source does not have.
    """
    check_copy_source(request, found)
    algorithm = request.headers.get("x-amz-checksum-algorithm", "").lower()
    if algorithm and (algorithm not in found.checksums or found.checksums["type"] != "FULL_OBJECT"):
        raise NotBuilt("A copy with a checksum that its source lacks is not built into this server.")
    replaced = request.choice("x-amz-metadata-directive", "COPY", "REPLACE") == "REPLACE"
    retagged = request.choice("x-amz-tagging-directive", "COPY", "REPLACE") == "REPLACE"
    given = request.properties()
    if (found.bucket, found.key) == request.target and not (replaced or retagged or given.headers):
        raise InvalidRequest(
            "This copy request is illegal because it is trying to copy an object to itself without changing the"
            " object's metadata, storage class, website redirect location or encryption attributes."
        )
    tags = given.tags if retagged else found.tags
    if replaced:
        return replace(given, tags=tags)
    # Storage class and encryption belong to the copy, not to the metadata: they are as this request says.
    own = {name: value for name, value in found.headers.items() if not name.startswith("x-amz-")}
    own |= {name: value for name, value in given.headers.items() if name.startswith("x-amz-")}
    return Properties(found.content_type, found.metadata, own, tags)


def check_copy_source(request: S3Request, found: StoredObject) -> None:
    """Check the conditions of a copy on its source.

    Raises:
        PreconditionFailed: one does not hold; a copy knows no 304.
    """
    try:
        request.read_conditions("x-amz-copy-source-").check(found.etag, found.last_modified)
    except NotModified as error:
        raise PreconditionFailed(Condition="x-amz-copy-source-If-None-Match") from error


def get_object_tagging(service: Service, request: S3Request, _body: bytes) -> Response:
    """`GetObjectTagging`."""
    check_version(request.query)
    tags = service.store.get(*request.target).tags
    pairs: list[tuple[str, Value]] = [("Tag", [("Key", key), ("Value", value)]) for key, value in tags.items()]
    return xml_response("Tagging", [("TagSet", pairs)])


def put_object_tagging(service: Service, request: S3Request, body: bytes) -> Response:
    """`PutObjectTagging`."""
    check_version(request.query)
    pairs = [(text(tag, "Key"), text(tag, "Value")) for tag in parse(body, "Tagging").iterfind("TagSet/Tag")]
    service.store.retag(*request.target, checked_tags(pairs))
    return Response()


def delete_object_tagging(service: Service, request: S3Request, _body: bytes) -> Response:
    """`DeleteObjectTagging`."""
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
