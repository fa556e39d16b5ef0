"""The error responses of fault rules, with the code and message of the requested service.

Codes and messages are those that AWS's services were seen to return; the sources are beside them. The module does no
I/O.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from local_sagemaker.wire.protocols import EXPIRED_TOKEN, ErrorContent, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local_sagemaker.faults.rules import RequestRule

_INTERNAL = "We encountered an internal error. Please try again."
_RATE = "Rate exceeded"

_THROTTLED: Mapping[Protocol, ErrorContent] = {
    # aws/deep-learning-containers pull request 1018: "(ThrottlingException) … CreateTrainingJob …: Rate exceeded"
    "json": ErrorContent("ThrottlingException", 400, _RATE),
    # aws/aws-sdk-net issue 1949: "Please reduce your request rate. (… Status Code: 503; Error Code: SlowDown …"
    "s3": ErrorContent("SlowDown", 503, "Please reduce your request rate."),
    "query": ErrorContent("Throttling", 400, _RATE),  # IAM API reference, "Common Errors"
    "rest": ErrorContent("ThrottlingException", 429, _RATE),  # botocore's model of sagemaker-runtime and others
}
# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html, and the "Common Errors" of the other services.
_KNOWN: Mapping[str, ErrorContent] = {
    one.code: one
    for one in (
        *_THROTTLED.values(),
        *EXPIRED_TOKEN.values(),
        ErrorContent("InternalError", 500, _INTERNAL),
        ErrorContent("InternalFailure", 500, "The request processing has failed because of an unknown error."),
        ErrorContent("InternalServerError", 500, _INTERNAL),
        ErrorContent("ServiceUnavailable", 503, "The request has failed due to a temporary failure of the server."),
        ErrorContent("AccessDenied", 403, "Access Denied"),
        ErrorContent("AccessDeniedException", 400, "User is not authorized to perform this operation."),
        ErrorContent("PreconditionFailed", 412, "At least one of the pre-conditions you specified did not hold"),
        ErrorContent(
            "ConditionalRequestConflict",
            409,
            "The conditional request cannot succeed due to a conflicting operation against this resource.",
        ),
        ErrorContent(
            "OperationAborted",
            409,
            "A conflicting conditional operation is currently in progress against this resource. Please try again.",
        ),
        ErrorContent("NoSuchKey", 404, "The specified key does not exist."),
        ErrorContent(
            "RequestTimeout", 400, "Your socket connection to the server was not read from or written to in time."
        ),
    )
}
_DEFAULT: Mapping[Protocol, str] = {
    "json": "InternalFailure",
    "s3": "InternalError",
    "query": "InternalFailure",
    "rest": "InternalFailure",
}


def error_for(rule: RequestRule, protocol: Protocol) -> ErrorContent:
    """Return the error for a rule of the kind `throttle`, `expire` or `error`."""
    if rule.kind != "error":
        return (_THROTTLED if rule.kind == "throttle" else EXPIRED_TOKEN)[protocol]
    code = rule.code or _DEFAULT[protocol]
    known = _KNOWN.get(code, ErrorContent(code, 400, f"{code}, as a rule of faults demands."))
    return ErrorContent(code, rule.status or known.status, rule.message or known.message)
