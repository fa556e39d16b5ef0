"""S3's REST API as an ASGI application.

Only path-style addressing is supported. **Signatures are not checked here**: `local_sagemaker.authentication` checks
them before. Object bodies stream to and from disk, and the store is used in worker threads. An operation that is not
implemented answers 501 `NotImplemented`.

`S3Application` first sets `scope["aws.operation"]` to the operation's name in botocore (`GetObject`, or `Unknown`), so
that the mounting application can count requests. The optional `scope["access"]` holds the caller's permissions
(`iam.roles.Access`).
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

import anyio
import anyio.to_thread

from local_sagemaker.account import ACCOUNT, REGION
from local_sagemaker.iam.roles import NotAuthorized
from local_sagemaker.s3 import (
    attributes,
    bucket_operations,
    listing_operations,
    multipart_operations,
    object_operations,
)
from local_sagemaker.s3.checksums import given_checksums
from local_sagemaker.s3.errors import (
    AccessDenied,
    EntityTooLarge,
    InternalError,
    MissingContentLength,
    NoSuchKey,
    S3Error,
)
from local_sagemaker.s3.errors import NotImplementedByThisServer as NotBuilt
from local_sagemaker.s3.forms import POST_OBJECT, boundary_of
from local_sagemaker.s3.members import check_members
from local_sagemaker.s3.operations import UNKNOWN
from local_sagemaker.s3.payload import Document, Payload
from local_sagemaker.s3.permissions import about, check_permissions, listing
from local_sagemaker.s3.post_operations import PostObject
from local_sagemaker.s3.request import S3Request
from local_sagemaker.s3.responses import error_response
from local_sagemaker.s3.service import Service

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.responses import Response
    from starlette.types import Message, Receive, Scope, Send

    from local_sagemaker.s3.service import Handlers
    from local_sagemaker.s3.store import ObjectStore

_LOG = logging.getLogger(__name__)
_BLOCK = 1 << 20  # bytes of a body that a thread gets at a time
_THREADS = 32  # concurrent requests; a limiter of its own, which slow requests to other services cannot use up
_LARGEST_PUT = 5 << 30  # bytes, https://docs.aws.amazon.com/AmazonS3/latest/userguide/upload-objects.html
_T = TypeVar("_T")


class Receiver(Protocol):
    """An operation whose body is streamed in: `PutObject`, `UploadPart`, `PostObject`."""

    def write(self, data: bytes) -> None:
        """Consume the next bytes of the body."""

    def finish(self) -> Response:
        """Complete the operation and return the response."""

    def abort(self) -> None:
        """Undo the operation; do nothing after `finish`."""


_RECEIVERS: Mapping[str, Callable[[Service, S3Request], Receiver]] = {
    POST_OBJECT: PostObject,
    "PutObject": object_operations.PutObject,
    "UploadPart": multipart_operations.UploadPart,
}
_HANDLERS: Handlers = {
    **attributes.HANDLERS,
    **bucket_operations.HANDLERS,
    **listing_operations.HANDLERS,
    **multipart_operations.HANDLERS,
    **object_operations.HANDLERS,
}
# The operations of botocore's model that this server implements.
SERVED = frozenset({*_RECEIVERS, *_HANDLERS}) - {POST_OBJECT}


class _Reading:
    """ASGI `receive` that records whether the body was requested.

    Attributes:
        begun: True after the first call. Until then the client may hold the body back (`Expect: 100-continue`).
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.begun = False

    async def __call__(self) -> Message:
        self.begun = True
        return await self._receive()


def requested_operation(scope: Scope) -> str:
    """Return the S3 operation that a request asks for, or `Unknown`."""
    try:
        return S3Request.from_scope(scope).operation
    except S3Error:
        return UNKNOWN


def form_boundary(scope: Scope) -> str:
    """Return the boundary of the form in a `PostObject` request. Return "" for any other request.

    Authentication must see the same boundary as `PostObject`, even if the client sends a header twice.
    """
    try:
        request = S3Request.from_scope(scope)
    except S3Error:
        return ""
    return boundary_of(request.headers["content-type"]) if request.operation == POST_OBJECT else ""


class _Disconnected(Exception):
    """The client disconnected before the end of its body."""


class S3Application:
    """S3's REST API over one object store. The constructor removes files that crashed writers left.

    Args:
        store: the object store.
        account: account that owns all buckets, 12 digits.
        region: region of all buckets.
    """

    def __init__(self, store: ObjectStore, *, account: str = ACCOUNT, region: str = REGION) -> None:
        store.sweep()
        self._service = Service(store, account, region)
        self._threads = anyio.CapacityLimiter(_THREADS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request. The mounting server handles other scopes (`lifespan`, `websocket`)."""
        if scope["type"] != "http":
            raise NotImplementedError(f"S3 has no {scope['type']}.")
        reading = _Reading(receive)
        body = _blocks(reading)
        request_id, host_id = secrets.token_hex(8).upper(), secrets.token_urlsafe(48)
        try:
            response = await self._respond(scope, body)
        except _Disconnected:
            return
        except S3Error as error:
            resource = (scope.get("raw_path") or b"").decode("latin-1")
            response = error_response(error, resource=resource, request_id=request_id, host_id=host_id)
            # A client that waits for "100 Continue" and gets an error sends no body. The server would then read the
            # client's next request as that body (RFC 9110, 10.1.1). Otherwise uvicorn reads and discards the rest.
            if isinstance(error, EntityTooLarge) or not reading.begun:
                response.headers["connection"] = "close"
        response.headers["x-amz-request-id"] = request_id
        response.headers["x-amz-id-2"] = host_id
        await response(scope, receive, send)

    async def _respond(self, scope: Scope, body: AsyncIterator[bytes]) -> Response:
        scope["aws.operation"] = UNKNOWN
        request = S3Request.from_scope(scope)
        scope["aws.operation"] = request.operation
        self._check_owner(request)
        check_members(request.operation, request.query, request.headers)
        try:
            if request.access:
                await self._in_thread(partial(check_permissions, self._service, request))
            if request.operation in _RECEIVERS:
                return await self._receive(request, body)
            return await self._handle(request, body)
        except NoSuchKey as error:
            raise _as_told_to(request, error) from error
        except (S3Error, _Disconnected):
            raise
        except Exception as error:
            _LOG.exception("%s of %s/%s failed", request.operation, request.bucket, request.key)
            raise InternalError(f"The local S3 failed: {error!r}. Its log has the details.") from error

    def _check_owner(self, request: S3Request) -> None:
        for header in ("x-amz-expected-bucket-owner", "x-amz-source-expected-bucket-owner"):
            if request.headers.get(header, self._service.account) != self._service.account:
                raise AccessDenied(BucketName=request.bucket)

    async def _handle(self, request: S3Request, body: AsyncIterator[bytes]) -> Response:
        handler = _HANDLERS.get(request.operation)
        if handler is None:
            raise _not_built(request)
        document = Document()
        payload = Payload(request, document, given=_checksums_of_document(request))
        async for block in body:
            payload.write(block)
        payload.finish()
        return await self._in_thread(partial(handler, self._service, request, document.content))

    async def _receive(self, request: S3Request, body: AsyncIterator[bytes]) -> Response:
        _check_length(request.headers)
        first = await anext(body, b"")
        second = await anext(body, b"")
        begin = partial(_RECEIVERS[request.operation], self._service, request)
        if not second:
            return await self._in_thread(partial(_receive_at_once, begin, first))
        receiver = await self._in_thread(begin)
        try:
            await self._in_thread(partial(receiver.write, first))
            await self._in_thread(partial(receiver.write, second))
            async for block in body:
                await self._in_thread(partial(receiver.write, block))
            return await self._in_thread(receiver.finish)
        finally:
            receiver.abort()

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        return await anyio.to_thread.run_sync(work, limiter=self._threads)


def _as_told_to(request: S3Request, error: NoSuchKey) -> S3Error:
    """Return the error for a missing object: `AccessDenied` if the caller may not list the bucket.

    S3 API reference, `GetObject` and `HeadObject`, "Permissions".
    """
    if request.access is None or not request.key:
        return error
    try:
        request.access.check(listing(*request.target, about(request)))
    except NotAuthorized as refusal:
        return AccessDenied(str(refusal))
    return error


def _checksums_of_document(request: S3Request) -> Mapping[str, str]:
    """Return the checksum that the headers give for a document.

    In `CompleteMultipartUpload` these headers describe the whole object, not the document.
    """
    return {} if request.operation == "CompleteMultipartUpload" else given_checksums(request.headers)


def _receive_at_once(begin: Callable[[], Receiver], data: bytes) -> Response:
    """Run a small upload in one thread: switching threads costs more than such a body."""
    receiver = begin()
    try:
        receiver.write(data)
        return receiver.finish()
    finally:
        receiver.abort()


def _not_built(request: S3Request) -> S3Error:
    asked = request.operation if request.operation != UNKNOWN else f"{request.method} with these parameters"
    return NotBuilt(f"{asked} is not built into this server.", Operation=request.operation)


def _check_length(headers: Mapping[str, str]) -> None:
    """Check the length that a request declares.

    Raises:
        NotImplementedByThisServer: it has HTTP's chunked transfer coding and no length, which S3 refuses as well.
        MissingContentLength: it declares no length, or one that is not a number.
        EntityTooLarge: the length is more than 5 GiB.
    """
    # boto3 sends a body with a trailer as `aws-chunked`, inside HTTP's chunked transfer coding: no Content-Length.
    length = headers.get("x-amz-decoded-content-length", headers.get("content-length"))
    if length is None and "transfer-encoding" in headers:
        raise NotBuilt(Header="Transfer-Encoding")
    if length is None or not length.isdecimal():
        raise MissingContentLength
    if int(length) > _LARGEST_PUT:
        raise EntityTooLarge(MaxSizeAllowed=_LARGEST_PUT)


async def _blocks(receive: Receive) -> AsyncIterator[bytes]:
    """Yield the body of a request in blocks large enough to be worth a switch of threads.

    Raises:
        _Disconnected: the client disconnected before the end of the body.
    """
    block = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Disconnected
        block += message.get("body", b"")
        more = message.get("more_body", False)
        if len(block) >= _BLOCK:
            yield bytes(block)
            block = bytearray()
    if block:
        yield bytes(block)
