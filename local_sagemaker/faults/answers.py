"""How AWS words an error in the protocol of the service that is asked: JSON 1.1, S3's XML, the query protocol, REST.

The codes and messages are those that the services were seen to answer; sources beside each. Pure; the edge imports it.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from xml.etree.ElementTree import Element, SubElement, tostring

from starlette.responses import Response

from local_sagemaker.wire.json_service import json_answer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local_sagemaker.faults.rules import RequestRule

Protocol = Literal["json", "s3", "query", "rest"]


@dataclass(frozen=True)
class Words:
    """An error as a service says it."""

    code: str
    status: int
    message: str


_INTERNAL = "We encountered an internal error. Please try again."
_RATE = "Rate exceeded"
_EXPIRED = "The security token included in the request is expired"

_THROTTLED: Mapping[Protocol, Words] = {
    # aws/deep-learning-containers pull request 1018: "(ThrottlingException) … CreateTrainingJob …: Rate exceeded"
    "json": Words("ThrottlingException", 400, _RATE),
    # aws/aws-sdk-net issue 1949: "Please reduce your request rate. (… Status Code: 503; Error Code: SlowDown …"
    "s3": Words("SlowDown", 503, "Please reduce your request rate."),
    "query": Words("Throttling", 400, _RATE),  # IAM API reference, "Common Errors"
    "rest": Words("ThrottlingException", 429, _RATE),  # botocore's model of sagemaker-runtime and others
}
EXPIRED_AS: Mapping[Protocol, Words] = {
    "json": Words("ExpiredTokenException", 400, _EXPIRED),  # autogluon/autogluon-cloud issue 133 has the words
    # ibi-group/datatools-ui issue 10: "… Status Code: 400; Error Code: ExpiredToken"
    "s3": Words("ExpiredToken", 400, "The provided token has expired."),
    "query": Words("ExpiredToken", 403, _EXPIRED),  # aws-samples/aws-iot-twinmaker-samples issue 147 (CreateRole)
    "rest": Words("ExpiredTokenException", 403, _EXPIRED),
}
# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html, and the "Common Errors" of the other services.
_KNOWN: Mapping[str, Words] = {
    one.code: one
    for one in (
        *_THROTTLED.values(),
        *EXPIRED_AS.values(),
        Words("InternalError", 500, _INTERNAL),
        Words("InternalFailure", 500, "The request processing has failed because of an unknown error."),
        Words("InternalServerError", 500, _INTERNAL),
        Words("ServiceUnavailable", 503, "The request has failed due to a temporary failure of the server."),
        Words("AccessDenied", 403, "Access Denied"),
        Words("AccessDeniedException", 400, "User is not authorized to perform this operation."),
        Words("PreconditionFailed", 412, "At least one of the pre-conditions you specified did not hold"),
        Words(
            "ConditionalRequestConflict",
            409,
            "The conditional request cannot succeed due to a conflicting operation against this resource.",
        ),
        Words(
            "OperationAborted",
            409,
            "A conflicting conditional operation is currently in progress against this resource. Please try again.",
        ),
        Words("NoSuchKey", 404, "The specified key does not exist."),
        Words("RequestTimeout", 400, "Your socket connection to the server was not read from or written to in time."),
    )
}
_DEFAULT: Mapping[Protocol, str] = {
    "json": "InternalFailure",
    "s3": "InternalError",
    "query": "InternalFailure",
    "rest": "InternalFailure",
}


def protocol_of(service: str, headers: Mapping[str, str]) -> Protocol:
    """Return the protocol in which a request was made."""
    if "x-amz-target" in headers:
        return "json"
    if service == "s3":
        return "s3"
    is_form = headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
    return "query" if is_form else "rest"


def words_of(rule: RequestRule, protocol: Protocol) -> Words:
    """Return the error that a rule of the kinds `throttle`, `expire` or `error` asks for."""
    if rule.kind != "error":
        return (_THROTTLED if rule.kind == "throttle" else EXPIRED_AS)[protocol]
    code = rule.code or _DEFAULT[protocol]
    known = _KNOWN.get(code, Words(code, 400, f"{code}, as a rule of faults demands."))
    return Words(code, rule.status or known.status, rule.message or known.message)


def answer(words: Words, protocol: Protocol, path: str) -> Response:
    """Put an error on the wire."""
    request_id = str(uuid.uuid4())
    if protocol == "json":
        return json_answer(words.status, {"__type": words.code, "message": words.message})
    if protocol == "rest":
        headers = {"x-amzn-errortype": words.code, "x-amzn-requestid": request_id}
        return Response(json.dumps({"message": words.message}), words.status, headers, "application/json")
    if protocol == "s3":
        members = {"Code": words.code, "Message": words.message, "Resource": path, "RequestId": request_id}
        return _xml(_element("Error", members), words.status, {"x-amz-request-id": request_id})
    # Error of the query protocol: the sender's fault up to 499, the receiver's from 500 on.
    fault = "Sender" if words.status < 500 else "Receiver"  # noqa: PLR2004 -- HTTP
    document = Element("ErrorResponse")
    document.append(_element("Error", {"Type": fault, "Code": words.code, "Message": words.message}))
    SubElement(document, "RequestId").text = request_id
    return _xml(document, words.status, {"x-amzn-requestid": request_id})


def _element(name: str, members: Mapping[str, str]) -> Element:
    element = Element(name)
    for member, text in members.items():
        SubElement(element, member).text = text
    return element


def _xml(document: Element, status: int, headers: Mapping[str, str]) -> Response:
    content: bytes = tostring(document, encoding="utf-8", xml_declaration=True)
    return Response(content, status, dict(headers), "application/xml")
