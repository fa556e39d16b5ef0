"""The responses of S3: documents, errors and the bodies of objects."""

from __future__ import annotations

import base64
from datetime import datetime, timezone
from email.utils import formatdate
from typing import TYPE_CHECKING, BinaryIO

import anyio.to_thread
from starlette.responses import Response, StreamingResponse

from local_sagemaker.s3.checksums import HEADER
from local_sagemaker.s3.documents import Value, document
from local_sagemaker.s3.encryption import DEFAULT_ENCRYPTION, ENCRYPTION_HEADER
from local_sagemaker.s3.errors import NotModified, S3Error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from starlette.types import Receive, Scope, Send

    from local_sagemaker.s3.objects import StoredObject

_BLOCK = 1 << 18  # bytes read from a body at a time


def xml_response(root: str, content: Value, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response 200 with an XML document."""
    return Response(document(root, content), media_type="application/xml", headers=safe_headers(headers or {}))


def error_response(error: S3Error, *, resource: str, request_id: str, host_id: str) -> Response:
    """Return a response with S3's error document; 304 has no document."""
    if isinstance(error, NotModified):
        return Response(status_code=error.status, headers={"etag": quoted(str(error.details["ETag"]))})
    content: list[tuple[str, Value]] = [
        ("Code", error.code),
        ("Message", error.message),
        *error.details.items(),
        ("Resource", resource),
        ("RequestId", request_id),
        ("HostId", host_id),
    ]
    return Response(document("Error", content, namespace=None), error.status, media_type="application/xml")


class BodyResponse(StreamingResponse):
    """A part of an open file. The response closes the file, even if the client disconnects.

    Args:
        file: the file; its position does not matter.
        start: offset in bytes.
        length: bytes to send.
        status_code: 200, or 206 for a range.
        headers: headers of the response.
    """

    def __init__(self, file: BinaryIO, start: int, length: int, status_code: int, headers: Mapping[str, str]) -> None:
        self._file = file
        file.seek(start)
        # Read in the thread that opened the file: a small object needs one switch of threads.
        self._first = file.read(min(length, _BLOCK))
        self._rest = length - len(self._first)
        super().__init__(self._blocks(), status_code, headers={"content-length": str(length), **headers})

    async def _blocks(self) -> AsyncIterator[bytes]:
        yield self._first
        while self._rest:
            block = await anyio.to_thread.run_sync(self._file.read, min(self._rest, _BLOCK))
            if not block:  # the client sees a body shorter than its content-length
                return
            self._rest -= len(block)
            yield block

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._file.close()


def object_headers(found: StoredObject) -> dict[str, str]:
    """Return the response headers of a read."""
    headers = {
        "etag": quoted(found.etag),
        "last-modified": http_date(found.last_modified),
        "accept-ranges": "bytes",
        "content-type": found.content_type,
        **encryption_headers(found.headers),
        **found.headers,
        **{f"x-amz-meta-{name}": value for name, value in found.metadata.items()},
    }
    if found.tags:
        headers["x-amz-tagging-count"] = str(len(found.tags))
    return headers


def encryption_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the encryption headers of an object; SSE-S3 if it was stored without any."""
    found = {name: value for name, value in headers.items() if name.startswith(ENCRYPTION_HEADER)}
    return safe_headers(found or DEFAULT_ENCRYPTION)


def checksum_headers(checksums: Mapping[str, str]) -> dict[str, str]:
    """Return checksums as headers."""
    return {f"{HEADER}{name}": value for name, value in checksums.items()}


def checksum_elements(checksums: Mapping[str, str]) -> list[tuple[str, Value]]:
    """Return checksums as elements of a document (`ChecksumCRC32`, `ChecksumType`)."""
    return [
        ("ChecksumType" if name == "type" else f"Checksum{name.upper()}", value) for name, value in checksums.items()
    ]


def safe_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers with safe values: other than printable ASCII is encoded by RFC 2047, as S3 does.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html
    """
    return {name: value if _printable(value) else _encoded_word(value) for name, value in headers.items()}


def _printable(value: str) -> bool:
    return value.isascii() and value.isprintable()


def _encoded_word(value: str) -> str:
    return f"=?UTF-8?B?{base64.b64encode(value.encode(errors='replace')).decode()}?="


def quoted(etag: str) -> str:
    """Return an ETag as headers and documents have it."""
    return f'"{etag}"'


def http_date(epoch: float) -> str:
    """Return a time in the format of headers."""
    return formatdate(int(epoch), usegmt=True)


def iso_date(epoch: float) -> str:
    """Return a time in the format of documents; whole seconds, so that listings and headers agree, as on AWS."""
    return datetime.fromtimestamp(int(epoch), timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")
