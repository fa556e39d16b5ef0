"""The answer to a client of a service that is not served: an error that says which services are.

Refused and not handed to moto: moto would answer for what is not here, such as a bucket of CloudFormation's that this
backend's S3 has never seen. Mounted by `application`.
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from local_sagemaker.services import not_served
from local_sagemaker.wire.protocols import Words, answer, protocol_of, wire_of

_BAD_REQUEST = 400  # not 404 or 501: no client tries again


async def unserved(scope: Scope, receive: Receive, send: Send) -> None:
    """Refuse one HTTP request; `scope` has the service of its signature."""
    wire = wire_of(scope["service"], Headers(scope=scope))
    code = "InvalidAction" if protocol_of(wire) == "query" else "UnknownOperationException"
    scope["aws.operation"] = "NotServed"
    await answer(Words(code, _BAD_REQUEST, not_served(scope["service"])), wire, scope["path"])(scope, receive, send)
