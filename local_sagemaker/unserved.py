"""The answer to requests for services that are not served: an error that lists those that are.

Such a request is not passed to moto, whose resources would not match this backend's: a bucket that moto's
CloudFormation creates would be missing in this backend's S3.
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from local_sagemaker.services import not_served
from local_sagemaker.wire.protocols import ErrorContent, answer, error_format_of, protocol_of

_BAD_REQUEST = 400  # not 404 or 501: clients do not retry it


async def unserved(scope: Scope, receive: Receive, send: Send) -> None:
    """Refuse one HTTP request. `scope` has the service of its signature."""
    wire = error_format_of(scope["service"], Headers(scope=scope))
    code = "InvalidAction" if protocol_of(wire) == "query" else "UnknownOperationException"
    scope["aws.operation"] = "NotServed"
    await answer(ErrorContent(code, _BAD_REQUEST, not_served(scope["service"])), wire, scope["path"])(
        scope, receive, send
    )
