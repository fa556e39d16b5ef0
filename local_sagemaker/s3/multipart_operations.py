"""The operations of multipart uploads; only `local_sagemaker.s3` imports it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

from local_sagemaker.s3.checksums import (
    COMPOSITE,
    FULL_OBJECT,
    HEADER,
    default_type,
    encoded,
    given_checksums,
    new_hash,
)
from local_sagemaker.s3.documents import Value, parse, text
from local_sagemaker.s3.errors import InvalidRequest, MalformedXML
from local_sagemaker.s3.errors import NotImplementedByThisServer as NotBuilt
from local_sagemaker.s3.listing_operations import MOST, name_writer
from local_sagemaker.s3.multipart import MultipartUpload, NamedPart, Part
from local_sagemaker.s3.object_operations import check_copy_source, encryption_headers
from local_sagemaker.s3.payload import Payload
from local_sagemaker.s3.ranges import copy_range
from local_sagemaker.s3.responses import (
    checksum_elements,
    checksum_headers,
    iso_date,
    quoted,
    xml_response,
)

if TYPE_CHECKING:
    from xml.etree import ElementTree as ET

    from local_sagemaker.s3.request import S3Request
    from local_sagemaker.s3.service import Handlers, Service

_BLOCK = 1 << 20  # bytes copied at a time


class UploadPart:
    """`UploadPart`: a part on its way in."""

    def __init__(self, service: Service, request: S3Request) -> None:
        self._uploads = service.uploads
        self._number = request.part_number()
        self._upload = service.uploads.get(request.target, request.query["uploadId"])
        self._draft = service.store.bodies.draft()
        try:
            self._payload = Payload(request, self._draft, self._upload.algorithm)
        except BaseException:
            self._draft.drop()
            raise

    def write(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        self._payload.write(data)

    def finish(self) -> Response:
        """Verify the body, keep the part, answer."""
        checksums = _without_type(self._payload.finish())
        part = self._uploads.put_part(self._upload, self._number, self._draft, checksums)
        return Response(headers={"etag": quoted(part.etag), **checksum_headers(checksums)})

    def abort(self) -> None:
        """Drop what came so far; nothing to do after `finish`."""
        self._draft.drop()


def _without_type(checksums: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in checksums.items() if name != "type"}


def create_multipart_upload(service: Service, request: S3Request, _body: bytes) -> Response:
    """`CreateMultipartUpload`."""
    algorithm = request.headers.get(f"{HEADER}algorithm", "").lower()
    if algorithm:
        new_hash(algorithm)  # refuses one that is not there
    kind = request.choice(f"{HEADER}type", default_type(algorithm), FULL_OBJECT, COMPOSITE) if algorithm else ""
    if kind == FULL_OBJECT and not algorithm.startswith("crc"):
        raise InvalidRequest(f"The FULL_OBJECT checksum type cannot be used with the {algorithm.upper()} algorithm.")
    upload = service.uploads.create(request.target, request.properties(), algorithm=algorithm, checksum_type=kind)
    headers = {f"{HEADER}algorithm": algorithm.upper(), f"{HEADER}type": kind} if algorithm else {}
    headers |= encryption_headers(dict(upload.properties.headers))
    content = [("Bucket", request.bucket), ("Key", request.key), ("UploadId", upload.upload_id)]
    return xml_response("InitiateMultipartUploadResult", content, headers)


def upload_part_copy(service: Service, request: S3Request, _body: bytes) -> Response:
    """`UploadPartCopy`: a part from an object that is here already, or from a range of it."""
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
    return xml_response("CopyPartResult", [*content, *checksum_elements(checksums)])


def complete_multipart_upload(service: Service, request: S3Request, body: bytes) -> Response:
    """`CompleteMultipartUpload`."""
    tree = parse(body, "CompleteMultipartUpload")
    new = service.uploads.complete(
        request.target,
        request.query["uploadId"],
        [_named_part(element) for element in tree.findall("Part")],
        request.write_conditions(),
        expected=given_checksums(request.headers),
    )
    content: list[tuple[str, Value]] = [
        ("Location", f"http://{request.headers.get('host', '')}/{request.bucket}/{request.key}"),
        ("Bucket", request.bucket),
        ("Key", request.key),
        ("ETag", quoted(new.etag)),
        *checksum_elements(new.checksums),
    ]
    return xml_response("CompleteMultipartUploadResult", content, encryption_headers(new.headers))


def _named_part(element: ET.Element) -> NamedPart:
    prefix = "Checksum"
    number = text(element, "PartNumber")
    if not number.strip().isdecimal():
        raise MalformedXML(f"PartNumber is {number!r}.")
    checksums = {
        child.tag.removeprefix(prefix).lower(): child.text or "" for child in element if child.tag.startswith(prefix)
    }
    return NamedPart(int(number), text(element, "ETag"), checksums)


def abort_multipart_upload(service: Service, request: S3Request, _body: bytes) -> Response:
    """`AbortMultipartUpload`."""
    service.uploads.abort(request.target, request.query["uploadId"])
    return Response(status_code=204)


def list_parts(service: Service, request: S3Request, _body: bytes) -> Response:
    """`ListParts`."""
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
    """`ListMultipartUploads`; without a delimiter, which nobody was seen to use here."""
    query, write = request.query, name_writer(request)
    if query.get("delimiter"):
        raise NotBuilt("ListMultipartUploads with a delimiter is not built into this server.")
    limit = request.number("max-uploads", MOST, lowest=1, highest=MOST)
    prefix, marker = query.get("prefix", ""), (query.get("key-marker", ""), query.get("upload-id-marker", ""))
    found = service.uploads.list(request.bucket, prefix, marker=marker, limit=limit + 1)
    shown, truncated = found[:limit], len(found) > limit
    return xml_response(
        "ListMultipartUploadsResult",
        [
            ("Bucket", request.bucket),
            ("KeyMarker", write(marker[0])),
            ("UploadIdMarker", marker[1]),
            ("NextKeyMarker", write(shown[-1].key) if truncated else None),
            ("NextUploadIdMarker", shown[-1].upload_id if truncated else None),
            ("Prefix", write(prefix)),
            ("EncodingType", query.get("encoding-type")),
            ("MaxUploads", limit),
            ("IsTruncated", truncated),
            *(("Upload", _upload_element(one, write(one.key), service.owner)) for one in shown),
        ],
    )


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
