"""Error responses in the protocol of the requested service, so that a client shows their code and message.

Sources: the error sections of the Smithy specifications of each protocol; `ErrorResponse` of S3 and EC2 in their API
references. A test checks that botocore's parsers read the errors of every service that botocore knows. The module does
no I/O.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal
from xml.etree.ElementTree import Element, SubElement, tostring

from starlette.responses import Response

from local_sagemaker.wire.json_service import json_response

if TYPE_CHECKING:
    from collections.abc import Mapping

Wire = Literal["json", "cbor", "rest", "s3", "xml", "query", "ec2"]
"""The format of an error response."""

Protocol = Literal["json", "s3", "query", "rest"]
"""The protocol family that gives an error its code: services of one family use the same codes."""

_WORDS_OF: Mapping[Wire, Protocol] = {
    "json": "json",
    "cbor": "json",
    "rest": "rest",
    "s3": "s3",
    "xml": "query",
    "query": "query",
    "ec2": "query",
}
_REST_XML = frozenset({"cloudfront", "route53"})  # all in botocore but S3, whose errors have a format of their own
_FAULTS_OF_THE_SERVER = 500
_CBOR_MAP_OF_TWO = b"\xa2"
_CBOR_TEXT = 0x60
_CBOR_SHORT, _CBOR_ONE_BYTE = 24, 0x78
_CBOR_TWO_BYTES = b"\x79"
_ONE_BYTE, _TWO_BYTES = 1 << 8, 1 << 16


@dataclass(frozen=True)
class ErrorContent:
    """The content of an error response.

    Attributes:
        code: the code as clients see it in `Error.Code`.
        status: the HTTP status.
        message: the message.
        details: further members of an S3 error.
        headers: further headers of the response.
    """

    code: str
    status: int
    message: str
    details: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


def error_format_of(service: str, headers: Mapping[str, str]) -> Wire:
    """Return the format in which the client of a request expects errors.

    Args:
        service: the service of the credential scope.
        headers: the headers of the request, by lower-case name.
    """
    if headers.get("smithy-protocol") == "rpc-v2-cbor":
        return "cbor"
    if "x-amz-target" in headers:
        return "json"
    if service == "s3":
        return "s3"
    if headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return "ec2" if service == "ec2" else "query"
    return "xml" if service in _REST_XML else "rest"


def protocol_of(wire: Wire) -> Protocol:
    """Return the protocol family of an error format."""
    return _WORDS_OF[wire]


def answer(words: ErrorContent, wire: Wire, path: str) -> Response:
    """Return the error response.

    Args:
        words: the content of the error.
        wire: the format that the client expects.
        path: the path of the request, which S3's errors contain.
    """
    response = _answer(words, wire, path, str(uuid.uuid4()))
    response.headers.update(words.headers)
    return response


def _answer(words: ErrorContent, wire: Wire, path: str, request_id: str) -> Response:
    if wire == "json":
        return json_response(words.status, {"__type": words.code, "message": words.message})
    headers = {"x-amzn-requestid": request_id}
    if wire == "cbor":
        content = _CBOR_MAP_OF_TWO + b"".join(map(_cbor, ("__type", words.code, "message", words.message)))
        return Response(content, words.status, {**headers, "smithy-protocol": "rpc-v2-cbor"}, "application/cbor")
    if wire == "rest":
        headers["x-amzn-errortype"] = words.code
        return Response(json.dumps({"message": words.message}), words.status, headers, "application/json")
    if wire == "s3":
        members = {"Code": words.code, "Message": words.message, **words.details}
        members |= {"Resource": path, "RequestId": request_id}
        return _xml(_element("Error", members), words.status, {"x-amz-request-id": request_id})
    members = {"Code": words.code, "Message": words.message}
    if wire == "ec2":
        document = Element("Response")
        SubElement(document, "Errors").append(_element("Error", members))
        SubElement(document, "RequestID").text = request_id
    else:
        fault = "Sender" if words.status < _FAULTS_OF_THE_SERVER else "Receiver"
        document = Element("ErrorResponse")
        document.append(_element("Error", {"Type": fault, **members}))
        SubElement(document, "RequestId").text = request_id
    return _xml(document, words.status, headers)


def _element(name: str, members: Mapping[str, str]) -> Element:
    element = Element(name)
    for member, text in members.items():
        SubElement(element, member).text = text
    return element


def _xml(document: Element, status: int, headers: Mapping[str, str]) -> Response:
    content: bytes = tostring(document, encoding="utf-8", xml_declaration=True)
    return Response(content, status, dict(headers), "application/xml")


def _cbor(text: str) -> bytes:
    """Encode a text in CBOR (RFC 8949, 3.1), cut to 65,535 bytes."""
    data = text.encode()
    size = len(data)
    if size < _CBOR_SHORT:
        return bytes([_CBOR_TEXT + size]) + data
    if size < _ONE_BYTE:
        return bytes([_CBOR_ONE_BYTE, size]) + data
    data = data[: _TWO_BYTES - 1]
    return _CBOR_TWO_BYTES + len(data).to_bytes(2, "big") + data


_EXPIRED = "The security token included in the request is expired"
EXPIRED_TOKEN: Mapping[Protocol, ErrorContent] = {
    "json": ErrorContent("ExpiredTokenException", 400, _EXPIRED),  # autogluon/autogluon-cloud issue 133 has the words
    # ibi-group/datatools-ui issue 10: "… Status Code: 400; Error Code: ExpiredToken"
    "s3": ErrorContent("ExpiredToken", 400, "The provided token has expired."),
    # aws-samples/aws-iot-twinmaker-samples issue 147 (CreateRole)
    "query": ErrorContent("ExpiredToken", 403, _EXPIRED),
    "rest": ErrorContent("ExpiredTokenException", 403, _EXPIRED),
}
"""The error of expired credentials, as the services were seen to answer it; the sources are beside the entries."""
