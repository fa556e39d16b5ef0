"""Authentication: requests signed with a key of this home, and not sent by a web page.

It runs before every service, so that no service can omit it. A web page may only read from S3 by a presigned URL.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.datastructures import Headers, QueryParams
from starlette.responses import PlainTextResponse, Response
from starlette.types import Message, Receive, Scope, Send

from local_sagemaker.asgi_request import BodyTooLarge
from local_sagemaker.asgi_request import Request as Arriving
from local_sagemaker.iam.sessions import Session
from local_sagemaker.keys import ExpiredKey, HomeKey, UnknownKey
from local_sagemaker.loopback import host_refusal, web_page_refusal
from local_sagemaker.s3.application import form_boundary
from local_sagemaker.s3.errors import AccessDenied, S3Error
from local_sagemaker.s3.forms import FormReader
from local_sagemaker.s3.post_policy import check_expiry
from local_sagemaker.services import BY_SIGNATURE
from local_sagemaker.signatures import (
    UNSIGNED_PAYLOAD,
    FormSignature,
    PresignedV2Signature,
    Refused,
    Request,
    Signature,
)
from local_sagemaker.wire.protocols import (
    EXPIRED_TOKEN,
    ErrorContent,
    Protocol,
    Wire,
    answer,
    error_format_of,
    protocol_of,
)

_HINT = 'The keys of this home: eval "$(python -m local_sagemaker env)".'
_FORBIDDEN = 403
# A body is read before its signature is verified. SQS and CloudWatch accept the largest bodies: 1 MB a request.
_LARGEST_BODY = 8 << 20  # bytes
_REFUSALS: Mapping[str, Mapping[Protocol, tuple[str, int]]] = {
    # The "Common Errors" of SageMaker, IAM and STS, and S3's "Error responses".
    "missing": {
        "json": ("MissingAuthenticationTokenException", 400),
        "s3": ("AccessDenied", 403),
        "query": ("MissingAuthenticationToken", 403),
        "rest": ("MissingAuthenticationTokenException", 403),
    },
    "unknown": {
        "json": ("UnrecognizedClientException", 400),
        "s3": ("InvalidAccessKeyId", 403),
        "query": ("InvalidClientTokenId", 403),
        "rest": ("UnrecognizedClientException", 403),
    },
    "malformed": {
        "json": ("IncompleteSignatureException", 400),
        "s3": ("AuthorizationHeaderMalformed", 400),
        "query": ("IncompleteSignature", 400),
        "rest": ("IncompleteSignatureException", 400),
    },
    "query": {
        "json": ("IncompleteSignatureException", 400),
        "s3": ("AuthorizationQueryParametersError", 400),
        "query": ("IncompleteSignature", 400),
        "rest": ("IncompleteSignatureException", 400),
    },
    "signature": {
        "json": ("InvalidSignatureException", 400),
        "s3": ("SignatureDoesNotMatch", 403),
        "query": ("SignatureDoesNotMatch", 403),
        "rest": ("InvalidSignatureException", 403),
    },
    "late": {
        "json": ("InvalidSignatureException", 400),
        "s3": ("RequestTimeTooSkewed", 403),
        "query": ("SignatureDoesNotMatch", 403),
        "rest": ("InvalidSignatureException", 403),
    },
    "region": {  # AWS's answer if the credential is "scoped" to another region
        "json": ("InvalidSignatureException", 400),
        "s3": ("AuthorizationHeaderMalformed", 400),
        "query": ("SignatureDoesNotMatch", 403),
        "rest": ("InvalidSignatureException", 403),
    },
    "large": {
        "json": ("RequestEntityTooLargeException", 413),
        "s3": ("EntityTooLarge", 400),
        "query": ("RequestEntityTooLarge", 413),
        "rest": ("RequestEntityTooLargeException", 413),
    },
    "policy": {"s3": ("InvalidPolicyDocument", 400)},
    "unsigned": {"s3": ("AccessDenied", 403)},
    "expired": {
        "json": ("ExpiredTokenException", 400),
        "s3": ("AccessDenied", 403),
        "query": ("ExpiredToken", 403),
        "rest": ("ExpiredTokenException", 403),
    },
}


@dataclass(frozen=True)
class Principal:
    """The caller of an authenticated request, and the channels of that request.

    Attributes:
        service: the service of the credential scope.
        region: the region of the home.
        access_key: the access key that signed the request.
        session: the role session of the key; None if the key is not one of a role session.
        identity: the ARN that `GetCallerIdentity` returns; empty for the key of an IAM user.
        receive: ASGI's `receive`, which replays what was read of the body.
        send: ASGI's `send`, which adds headers against browsers.
    """

    service: str
    region: str
    access_key: str
    session: Session | None
    identity: str
    receive: Receive
    send: Send


class Authenticator:
    """Authenticates requests, and answers those that it refuses.

    Args:
        key: the home's key.
        region: the home's region.
    """

    def __init__(self, key: HomeKey, region: str) -> None:
        self._key, self._region = key, region

    async def authenticate(self, scope: Scope, receive: Receive, send: Send) -> Principal | None:
        """Return the principal of a request. Return None if the request was refused and answered."""
        headers = Headers(scope=scope)
        page = web_page_refusal(headers)
        if refused := host_refusal(headers) or (None if _is_presigned_read(scope) else page):
            await PlainTextResponse(f"{refused}\n", _FORBIDDEN)(scope, receive, send)
            return None
        try:
            signature, receive = await self._check(headers, scope, receive, send)
        except (Refused, UnknownKey, ExpiredKey) as error:
            wire = error_format_of(_service_of(headers), headers)
            await refusal(error, wire, scope["path"])(scope, receive, send)
            return None
        session = self._key.session_of(signature.token)
        identity = self._key.caller_of(signature.access_key, signature.token)
        guarded = _guarded(send, download=bool(page))
        return Principal(signature.service, self._region, signature.access_key, session, identity, receive, guarded)

    async def _check(
        self, headers: Headers, scope: Scope, receive: Receive, send: Send
    ) -> tuple[Signature | PresignedV2Signature | FormSignature, Receive]:
        """Verify a request. Return its signature, and the `receive` for its body."""
        signature = Signature.of(headers, QueryParams(scope["query_string"]))
        # Only PostObject takes a form: its policy covers one upload, and cannot restrict another operation.
        if signature is None and (boundary := form_boundary(scope)):
            form, receive = await _signature_of_form(FormReader(boundary), receive)
            if form is not None:
                form.check(self._key.secret_of)
                _check_expiry(form)
                self._check_region(form)
                return form, receive
        if signature is None:
            raise Refused("missing", f"The request is not signed. {_HINT}")
        payload, receive = await _payload(signature, headers, scope, receive, send)
        path, query = scope["raw_path"].decode("latin-1"), scope["query_string"].decode("latin-1")
        signature.check(Request(scope["method"], path, query, headers, payload), self._key.secret_of, time.time())
        self._check_region(signature)
        return signature, receive

    def _check_region(self, signature: Signature | PresignedV2Signature | FormSignature) -> None:
        """Refuse a client of another region, because its jobs, logs and queues would be in the home's region.

        boto3's S3 client reads the region from the error and signs again for it, as on AWS for a bucket in another
        region.
        """
        served = BY_SIGNATURE.get(signature.service)
        if signature.region in ("", self._region) or (served and served.is_global):
            return
        raise Refused(
            "region",
            f"Credential should be scoped to a valid region. This home of local_sagemaker is in {self._region}, and "
            f"the request is for {signature.region}: set the client's region to {self._region}, or make a home for "
            f"{signature.region}: python -m local_sagemaker up --home DIRECTORY --region {signature.region}",
            Region=self._region,
        )

    def controls(self, headers: Mapping[str, str]) -> bool:
        """Tell whether a request may use the `/_local/` paths: it has the control token and is not from a web page."""
        given = headers.get("authorization", "").removeprefix("Bearer ")
        known = hmac.compare_digest(given.encode(), self._key.control.encode())
        return known and not (host_refusal(headers) or web_page_refusal(headers))


async def _signature_of_form(form: FormReader, receive: Receive) -> tuple[FormSignature | None, Receive]:
    """Return the signature from a form's fields, and a `receive` that replays the form.

    It stops reading where the file begins. S3 limits the fields before it to 20 KB, and the reader enforces that.
    """
    messages: list[Message] = []
    while not form.has_file and (not messages or messages[-1].get("more_body", False)):
        messages.append(await receive())
        try:
            form.feed(messages[-1].get("body", b""))
        except S3Error as error:
            raise Refused("malformed", error.message) from error
    left = iter(messages)

    async def again() -> Message:
        found = next(left, None)
        return await receive() if found is None else found

    return FormSignature.of(form.fields), again


def _check_expiry(form: FormSignature) -> None:
    try:
        check_expiry(form.policy, time.time())
    except AccessDenied as error:
        raise Refused("expired", error.message) from error
    except S3Error as error:
        raise Refused("policy", error.message) from error


def _is_presigned_read(scope: Scope) -> bool:
    """Tell whether a request is a presigned read from S3, the only request that a web page may send."""
    query = QueryParams(scope["query_string"])
    presigned = "/s3/" in query.get("X-Amz-Credential", "") or "AWSAccessKeyId" in query
    return scope["method"] in ("GET", "HEAD") and presigned


def _service_of(headers: Mapping[str, str]) -> str:
    """Return the service of the credential scope, whose error format a refusal uses; `s3` if there is none."""
    found = re.search(r"/([a-z0-9-]+)/aws4_request", headers.get("authorization", ""))
    return found[1] if found else "s3"


async def _payload(
    signature: Signature | PresignedV2Signature, headers: Headers, scope: Scope, receive: Receive, send: Send
) -> tuple[str, Receive]:
    """Return the payload hash that was signed, and the `receive` for the body.

    S3 compares a body with its digest while it streams. The bodies of other services are small, so they are read whole
    and compared here.
    """
    said = headers.get("x-amz-content-sha256")
    if signature.service == "s3":
        return said or UNSIGNED_PAYLOAD, receive
    try:
        arriving = await Arriving(0, _nobody, scope, receive, send).whole(_LARGEST_BODY)
    except BodyTooLarge as error:
        raise Refused("large", f"The body of a request has at most {_LARGEST_BODY} bytes.") from error
    if arriving is None:
        raise Refused("malformed", "The client left.")
    digest = hashlib.sha256(arriving.body).hexdigest()
    if said not in (None, UNSIGNED_PAYLOAD, digest):
        raise Refused("signature", "The body is not the one that was signed.")
    return said or digest, arriving.receive


async def _nobody(scope: Scope, receive: Receive, send: Send) -> None:
    """Take the place of the service, which is not called here."""


def refusal(error: Exception, wire: Wire, path: str) -> Response:
    """Return the response to a refused request, in the error format of its service."""
    protocol = protocol_of(wire)
    if isinstance(error, ExpiredKey):
        words = EXPIRED_TOKEN[protocol]
    else:
        code, status = _REFUSALS[error.reason if isinstance(error, Refused) else "unknown"][protocol]
        text = "The security token included in the request is invalid" if isinstance(error, UnknownKey) else ""
        details = error.details if isinstance(error, Refused) else {}
        headers = {"x-amz-bucket-region": details["Region"]} if protocol == "s3" and "Region" in details else {}
        words = ErrorContent(code, status, f"{text}: {error} {_HINT}" if text else str(error), details, headers)
    response = answer(words, wire, path)
    response.headers["connection"] = "close"  # a client that waits for `100 Continue` has not sent its body
    return response


def _guarded(send: Send, *, download: bool) -> Send:
    """Return a `send` that adds headers which keep a browser from running an answer as a page of this server.

    Args:
        send: ASGI's `send`.
        download: whether the browser must save the answer as a file.
    """

    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [(name, value) for name, value in message["headers"] if name.lower() != b"content-disposition"]
            placed = [value for name, value in message["headers"] if name.lower() == b"content-disposition"]
            if download:
                placed = [b"attachment" + (placed[0][placed[0].find(b";") :] if placed and b";" in placed[0] else b"")]
            headers += [(b"content-disposition", value) for value in placed]
            headers += [(b"content-security-policy", b"sandbox"), (b"x-content-type-options", b"nosniff")]
            message = {**message, "headers": headers}
        await send(message)

    return guarded
