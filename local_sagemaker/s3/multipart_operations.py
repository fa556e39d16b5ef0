"""The operations of multipart uploads."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from starlette.responses import Response

from local_sagemaker.s3.checksums import (
    COMPOSITE,
    FULL_OBJECT,
    HEADER,
    TYPE,
    encoded,
    given_checksums,
    named_checksums,
    new_hash,
    upload_type,
)
from local_sagemaker.s3.documents import Value
from local_sagemaker.s3.errors import InvalidArgument, InvalidRequest, MalformedXML
from local_sagemaker.s3.listing import common_prefix
from local_sagemaker.s3.listing_operations import MOST, name_writer
from local_sagemaker.s3.multipart import Expected, MultipartUpload, NamedPart, Part, type_mismatch
from local_sagemaker.s3.object_operations import check_copy_source, properties_of_new
from local_sagemaker.s3.payload import Payload
from local_sagemaker.s3.ranges import copy_range
from local_sagemaker.s3.responses import (
    checksum_elements,
    checksum_headers,
    encryption_headers,
    iso_date,
    quoted,
    xml_response,
)
from local_sagemaker.s3.schema import Structure, read_document

if TYPE_CHECKING:
    from local_sagemaker.s3.request import S3Request
    from local_sagemaker.s3.service import Handlers, Service

_BLOCK = 1 << 20  # bytes copied at a time


class UploadPart:
    """The operation `UploadPart`, with its body streamed in."""

    def __init__(self, service: Service, request: S3Request) -> None:
        self._uploads = service.uploads
        self._number = request.part_number()
        self._upload = service.uploads.get(request.target, request.query["uploadId"])
        _check_algorithm(self._upload, request)
        self._draft = service.store.bodies.draft()
        try:
            self._payload = Payload(request, self._draft, self._upload.algorithm)
        except BaseException:
            self._draft.drop()
            raise

    def write(self, data: bytes) -> None:
        """Consume the next bytes of the body."""
        self._payload.write(data)

    def finish(self) -> Response:
        """Verify the body, store the part, and return the response."""
        checksums = {name: value for name, value in self._payload.finish().items() if name != TYPE}
        part = self._uploads.put_part(self._upload, self._number, self._draft, checksums)
        encryption = encryption_headers(self._upload.properties.headers)
        return Response(headers={"etag": quoted(part.etag), **checksum_headers(checksums), **encryption})

    def abort(self) -> None:
        """Drop what was received so far; do nothing after `finish`."""
        self._draft.drop()


def _check_algorithm(upload: MultipartUpload, request: S3Request) -> None:
    """Check that a part has a checksum of the algorithm with which its upload was created.

    Raises:
        InvalidRequest: it has another one, or none although a composite checksum needs it.
    """
    trailer = request.headers.get("x-amz-trailer", "").strip().lower().removeprefix(HEADER)
    given = next(iter(given_checksums(request.headers)), trailer)
    needed = upload.checksum_type == COMPOSITE
    if upload.algorithm and given != upload.algorithm and (given or needed):
        raise InvalidRequest(type_mismatch(upload.algorithm, given))


def create_multipart_upload(service: Service, request: S3Request, _body: bytes) -> Response:
    """Serve `CreateMultipartUpload`."""
    algorithm = request.headers.get(f"{HEADER}algorithm", "").lower()
    kind = upload_type(algorithm, request.choice(f"{HEADER}type", "", FULL_OBJECT, COMPOSITE))
    service.store.configuration.get(request.bucket)
    given = properties_of_new(service, request)
    upload = service.uploads.create(request.target, given, algorithm=algorithm, checksum_type=kind)
    headers = {f"{HEADER}algorithm": algorithm.upper(), f"{HEADER}type": kind} if algorithm else {}
    headers |= encryption_headers(upload.properties.headers)
    content = [("Bucket", request.bucket), ("Key", request.key), ("UploadId", upload.upload_id)]
    return xml_response("InitiateMultipartUploadResult", content, headers)


def upload_part_copy(service: Service, request: S3Request, _body: bytes) -> Response:
    """Serve `UploadPartCopy`: copy an object of this store, or a range of it, into a part."""
    number = request.part_number()
    upload = service.uploads.get(request.target, request.query["uploadId"])
    found, file = service.store.open(*request.copy_source())
    with file, service.store.bodies.draft() as draft:
        check_copy_source(request, found)
        wanted = copy_range(request.headers.get("x-amz-copy-source-range"), found.size)
        running = new_hash(upload.algorithm) if upload.algorithm else None
        file.seek(wanted.start)
        while block := file.read(min(_BLOCK, wanted.length - draft.size)):
            draft.write(block)
            if running:
                running.update(block)
        checksums = {upload.algorithm: encoded(running.digest())} if running else {}
        part = service.uploads.put_part(upload, number, draft, checksums)
    content: list[tuple[str, Value]] = [("LastModified", iso_date(part.modified)), ("ETag", quoted(part.etag))]
    encryption = encryption_headers(upload.properties.headers)
    return xml_response("CopyPartResult", [*content, *checksum_elements(checksums)], encryption)


def complete_multipart_upload(service: Service, request: S3Request, body: bytes) -> Response:
    """Serve `CompleteMultipartUpload`."""
    named = read_document(request.operation, body).get("Parts", [])
    new = service.uploads.complete(
        request.target,
        request.query["uploadId"],
        [_named_part(one) for one in named],
        request.write_conditions(),
        expected=_expected(request),
    )
    content: list[tuple[str, Value]] = [
        ("Location", f"http://{request.headers.get('host', '')}/{request.bucket}/{request.key}"),
        ("Bucket", request.bucket),
        ("Key", request.key),
        ("ETag", quoted(new.etag)),
        *checksum_elements(new.checksums),
    ]
    return xml_response("CompleteMultipartUploadResult", content, encryption_headers(new.headers))


def _named_part(given: Structure) -> NamedPart:
    if not {"PartNumber", "ETag"} <= given.keys():
        raise MalformedXML("A part must have a PartNumber and an ETag.")
    checksums = {name.removeprefix("Checksum").lower(): given[name] for name in given if name.startswith("Checksum")}
    return NamedPart(given["PartNumber"], given["ETag"], checksums)


def _expected(request: S3Request) -> Expected:
    """Return what a completion states about the whole object.

    Raises:
        InvalidArgument: the size or the checksum type is invalid.
        InvalidRequest: there is more than one checksum.
    """
    size = request.headers.get("x-amz-mp-object-size")
    if size is not None and not re.fullmatch(r"\d{1,18}", size):
        raise InvalidArgument(ArgumentName="x-amz-mp-object-size", ArgumentValue=size)
    kind = request.choice(f"{HEADER}type", "", FULL_OBJECT, COMPOSITE)
    checksums = named_checksums(request.headers)
    return Expected(checksums, kind, None if size is None else int(size))


def abort_multipart_upload(service: Service, request: S3Request, _body: bytes) -> Response:
    """Serve `AbortMultipartUpload`."""
    service.uploads.abort(request.target, request.query["uploadId"])
    return Response(status_code=204)


def list_parts(service: Service, request: S3Request, _body: bytes) -> Response:
    """Serve `ListParts`."""
    upload = service.uploads.get(request.target, request.query["uploadId"])
    limit = request.number("max-parts", MOST, highest=MOST)
    marker = request.number("part-number-marker", 0)
    found = service.uploads.parts(upload, behind_number=marker, limit=limit + 1)
    shown = found[:limit]
    return xml_response(
        "ListPartsResult",
        [
            ("Bucket", upload.bucket),
            ("Key", upload.key),
            ("UploadId", upload.upload_id),
            ("PartNumberMarker", marker),
            ("NextPartNumberMarker", shown[-1].number if shown else 0),
            ("MaxParts", limit),
            ("IsTruncated", bool(shown) and len(found) > limit),
            ("ChecksumAlgorithm", upload.algorithm.upper() or None),
            ("ChecksumType", upload.checksum_type or None),
            *(("Part", _part_element(part)) for part in shown),
            ("Initiator", service.owner),
            ("Owner", service.owner),
            ("StorageClass", _storage_class(upload)),
        ],
    )


def _part_element(part: Part) -> list[tuple[str, Value]]:
    return [
        ("PartNumber", part.number),
        ("LastModified", iso_date(part.modified)),
        ("ETag", quoted(part.etag)),
        ("Size", part.size),
        *checksum_elements(part.checksums),
    ]


def _storage_class(upload: MultipartUpload) -> str:
    return upload.properties.headers.get("x-amz-storage-class", "STANDARD")


def list_multipart_uploads(service: Service, request: S3Request, _body: bytes) -> Response:
    """Serve `ListMultipartUploads`, with keys grouped by a delimiter."""
    query, write = request.query, name_writer(request)
    limit = request.number("max-uploads", MOST, lowest=1, highest=MOST)
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    marker = query.get("key-marker", ""), query.get("upload-id-marker", "")
    shown, prefixes, following = _page_of_uploads(service, request.bucket, prefix, delimiter, marker, limit)
    return xml_response(
        "ListMultipartUploadsResult",
        [
            ("Bucket", request.bucket),
            ("KeyMarker", write(marker[0])),
            ("UploadIdMarker", marker[1]),
            ("NextKeyMarker", write(following[0]) if following else None),
            ("NextUploadIdMarker", following[1] if following else None),
            ("Prefix", write(prefix)),
            ("Delimiter", write(delimiter) if delimiter else None),
            ("EncodingType", query.get("encoding-type")),
            ("MaxUploads", limit),
            ("IsTruncated", following is not None),
            *(("Upload", _upload_element(one, write(one.key), service.owner)) for one in shown),
            *(("CommonPrefixes", [("Prefix", write(one))]) for one in prefixes),
        ],
    )


def _page_of_uploads(  # noqa: PLR0917 -- the parameters of the operation
    service: Service, bucket: str, prefix: str, delimiter: str, marker: tuple[str, str], limit: int
) -> tuple[list[MultipartUpload], list[str], tuple[str, str] | None]:
    """Return uploads, common prefixes, and the marker of the next page; None if this is the last page."""
    shown: list[MultipartUpload] = []
    prefixes: list[str] = []
    seen = last = marker
    while True:
        found = service.uploads.list(bucket, prefix, marker=seen, limit=limit + 1)
        for one in found:
            seen = (one.key, one.upload_id)
            group = common_prefix(one.key, prefix, delimiter)
            if group and group in (last[0], *prefixes[-1:]):
                continue
            if len(shown) + len(prefixes) == limit:
                return shown, prefixes, last
            if group:
                prefixes.append(group)
            else:
                shown.append(one)
            last = (group, "") if group else seen
        if len(found) <= limit:
            return shown, prefixes, None


def _upload_element(upload: MultipartUpload, key: str, owner: Value) -> list[tuple[str, Value]]:
    return [
        ("Key", key),
        ("UploadId", upload.upload_id),
        ("Initiator", owner),
        ("Owner", owner),
        ("StorageClass", _storage_class(upload)),
        ("Initiated", iso_date(upload.created)),
        ("ChecksumAlgorithm", upload.algorithm.upper() or None),
        ("ChecksumType", upload.checksum_type or None),
    ]


HANDLERS: Handlers = {
    "CreateMultipartUpload": create_multipart_upload,
    "UploadPartCopy": upload_part_copy,
    "CompleteMultipartUpload": complete_multipart_upload,
    "AbortMultipartUpload": abort_multipart_upload,
    "ListParts": list_parts,
    "ListMultipartUploads": list_multipart_uploads,
}
