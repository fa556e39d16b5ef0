"""The body of a request: decoded, counted and verified as it arrives."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import TYPE_CHECKING, Protocol

from local_sagemaker.s3.checksums import FULL_OBJECT, HEADER, TYPE, Hash, encoded, given_checksums, new_hash
from local_sagemaker.s3.chunked import ChunkedDecoder
from local_sagemaker.s3.errors import (
    BadDigest,
    EntityTooLarge,
    IncompleteBody,
    InvalidDigest,
    InvalidRequest,
    MalformedTrailerError,
    XAmzContentChecksumMismatch,
    XAmzContentSHA256Mismatch,
)
from local_sagemaker.s3.operations import requires_checksum, takes_checksum

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from local_sagemaker.s3.request import S3Request

_MD5_SIZE = 16  # bytes
_SHA256_DIGITS = 64
_LARGEST_DOCUMENT = 8 << 20  # bytes; room for 1,000 keys of 1,024 bytes with their markup


class Sink(Protocol):
    """The destination of a payload: an `Upload`, a `Draft`, or a `Document`."""

    def write(self, data: bytes) -> None:
        """Append `data`."""

    @property
    def md5(self) -> bytes:
        """The MD5 digest of what was written."""

    @property
    def size(self) -> int:
        """Bytes written."""


class Document:
    """A payload that is kept in memory."""

    def __init__(self) -> None:
        self._content = bytearray()

    def write(self, data: bytes) -> None:
        """Append `data`.

        Raises:
            EntityTooLarge: the document is longer than any that S3 accepts.
        """
        self._content += data
        if self.size > _LARGEST_DOCUMENT:
            raise EntityTooLarge(MaxSizeAllowed=_LARGEST_DOCUMENT)

    @property
    def content(self) -> bytes:
        """What was written."""
        return bytes(self._content)

    @property
    def md5(self) -> bytes:
        """The MD5 digest of what was written."""
        return hashlib.md5(self._content, usedforsecurity=False).digest()

    @property
    def size(self) -> int:
        """Bytes written."""
        return len(self._content)


class Payload:
    """Writes a request's body to a sink, and verifies it against the request's headers and trailers.

    Args:
        request: the request, with framing, length and digests in its headers.
        sink: destination of the bytes.
        algorithm: checksum to compute in any case; empty for none.
        given: expected checksums by algorithm; None for those of the `x-amz-checksum-<algorithm>` headers.

    Raises:
        InvalidDigest: `Content-MD5` is not an MD5 digest.
        InvalidRequest: the headers contradict each other, or lack a checksum that the operation requires.
    """

    def __init__(
        self, request: S3Request, sink: Sink, algorithm: str = "", given: Mapping[str, str] | None = None
    ) -> None:
        headers = request.headers
        self._headers = headers
        self._sink = sink
        self._md5 = _content_md5(headers.get("content-md5"))
        self._given = given_checksums(headers) if given is None else given
        self._trailer = _announced_trailer(headers.get("x-amz-trailer", ""))
        _check_named(request, {*self._given, self._trailer} - {""})
        wanted = {*self._given, self._trailer, algorithm}
        self._hashes: dict[str, Hash] = {name: new_hash(name) for name in wanted if name}
        sha256 = headers.get("x-amz-content-sha256", "")
        self._sha256 = hashlib.sha256() if len(sha256) == _SHA256_DIGITS else None
        # The content encoding `aws-chunked` alone means no framing:
        # https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html
        self._decoder = ChunkedDecoder() if sha256.startswith("STREAMING-") else None

    def write(self, data: bytes) -> None:
        """Consume the next bytes of the body, as received."""
        payload = self._decoder.feed(data) if self._decoder else data
        self._sink.write(payload)
        for running in self._hashes.values():
            running.update(payload)
        if self._sha256:
            self._sha256.update(payload)

    def finish(self) -> dict[str, str]:
        """Verify the whole body and return its checksums.

        Raises:
            IncompleteBody: the body does not have the announced length, or lacks its announced trailer.
            MalformedTrailerError: the body has a checksum trailer that was not announced.
            BadDigest, XAmzContentSHA256Mismatch, XAmzContentChecksumMismatch: the body does not match a header or
                trailer.
        """
        trailers = self._trailers()
        length = self._headers.get("x-amz-decoded-content-length")
        if self._decoder and length is not None and length != str(self._sink.size):
            raise IncompleteBody(
                f"The payload has {self._sink.size} bytes, x-amz-decoded-content-length says {length}."
            )
        if self._md5 is not None and self._md5 != self._sink.md5:
            raise BadDigest("The Content-MD5 you specified did not match what we received.")
        if self._sha256 and self._sha256.hexdigest() != self._headers["x-amz-content-sha256"].lower():
            raise XAmzContentSHA256Mismatch
        computed = {name: encoded(running.digest()) for name, running in self._hashes.items()}
        for name, value in self._given.items():
            if computed[name] != value:
                raise BadDigest(f"The {name.upper()} you specified did not match the calculated checksum.")
        for name, value in trailers.items():
            if computed[name] != value:
                raise XAmzContentChecksumMismatch(f"The trailer {HEADER}{name} does not match what was computed.")
        return {**computed, TYPE: FULL_OBJECT} if computed else {}

    def _trailers(self) -> dict[str, str]:
        """Return the checksum of the trailer, if one was announced."""
        if not self._decoder:
            return {}
        self._decoder.finish()
        found = given_checksums(self._decoder.trailers)
        if found.keys() - {self._trailer}:
            raise MalformedTrailerError(f"x-amz-trailer does not announce the trailer {HEADER}{next(iter(found))}.")
        if not self._trailer:
            return {}
        if self._trailer not in found:
            raise IncompleteBody(f"The body lacks the trailer {HEADER}{self._trailer} that x-amz-trailer announces.")
        return {self._trailer: found[self._trailer]}


def _check_named(request: S3Request, checksums: Collection[str]) -> None:
    """Check that a request has the checksum that it names or that its operation requires.

    Args:
        request: the request.
        checksums: algorithms of the checksums in its headers and trailers.

    Raises:
        InvalidRequest: the checksum is missing, or of another algorithm.
    """
    named = request.headers.get("x-amz-sdk-checksum-algorithm", "").lower()
    if requires_checksum(request.operation) and not checksums and "content-md5" not in request.headers:
        raise InvalidRequest("Missing required header for this request: Content-MD5")
    if not named or not takes_checksum(request.operation):
        return
    if not checksums:
        raise InvalidRequest(
            "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers"
            " were found."
        )
    if named not in checksums:
        raise InvalidRequest("Value for x-amz-sdk-checksum-algorithm header is invalid.")


def _content_md5(header: str | None) -> bytes | None:
    if header is None:
        return None
    try:
        digest = base64.b64decode(header, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidDigest(**{"Content-MD5": header}) from error
    if len(digest) != _MD5_SIZE:
        raise InvalidDigest(**{"Content-MD5": header})
    return digest


def _announced_trailer(header: str) -> str:
    """Return the algorithm of the checksum that `x-amz-trailer` announces. Return "" if there is none."""
    name = header.strip().lower()
    if name and not name.startswith(HEADER):
        raise InvalidRequest(f"The value of x-amz-trailer must name an {HEADER} header.")
    return name.removeprefix(HEADER)
