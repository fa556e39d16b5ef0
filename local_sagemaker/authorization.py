"""Authorization: checks each request of a role session against the role's policies.

Other callers may do everything. S3 checks its own requests by `scope["access"]`, because their permissions depend on
paths, headers and streamed bodies.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Scope

from local_sagemaker.asgi_request import Request
from local_sagemaker.authentication import Principal, refusal
from local_sagemaker.iam.permissions import required_permissions
from local_sagemaker.iam.request_context import RequestContext
from local_sagemaker.iam.roles import Access, NotAuthorized, RoleTable
from local_sagemaker.job_table import JobTable
from local_sagemaker.keys import UnknownKey
from local_sagemaker.moto_services import MotoServices
from local_sagemaker.resource_lookup import lookup_in
from local_sagemaker.services import BY_SIGNATURE
from local_sagemaker.wire.call import Call
from local_sagemaker.wire.protocols import ErrorContent, answer, error_format_of, protocol_of

# Services of the query protocol, such as IAM, answer `AccessDenied`; those of JSON answer `AccessDeniedException`.
_REFUSED = {
    "json": ("AccessDeniedException", 400),
    "query": ("AccessDenied", 403),
    "rest": ("AccessDeniedException", 403),
}
_UNREADABLE = {
    "json": ("SerializationException", 400),
    "query": ("MalformedInput", 400),
    "rest": ("SerializationException", 400),
}
# STS API reference: only the keys of users may call these.
_OF_USERS = frozenset({("sts", "GetSessionToken"), ("sts", "GetFederationToken")})


class _Unreadable(Exception):
    """The body of a request cannot be read, so its permissions are unknown."""


class Authorizer:
    """Checks the permissions of requests, and answers those that it refuses.

    Args:
        roles: the roles of the home.
        jobs: the table of jobs, for conditions on their tags.
        others: moto's services, for the ARNs of secrets, keys and users.
    """

    def __init__(self, roles: RoleTable, jobs: JobTable, others: MotoServices) -> None:
        self._roles = roles
        self._known = lookup_in(roles, jobs, others)

    async def authorize(self, principal: Principal, scope: Scope) -> Principal | None:
        """Return the principal to continue with. Return None if the request was refused or the client disconnected."""
        access = Access(principal.session, self._roles, principal.region)
        if principal.session is None or principal.service not in BY_SIGNATURE:
            return principal
        if access.is_over:
            headers = Headers(scope=scope)
            gone = UnknownKey(f"The role {principal.session.role_arn} of this key was deleted.")
            await refusal(gone, error_format_of(principal.service, headers), scope["path"])(
                scope, principal.receive, principal.send
            )
            return None
        if principal.service == "s3":
            scope["access"] = access
            return principal
        request = await Request(0, _nowhere, scope, principal.receive, principal.send).whole()
        if request is None:
            return None
        call = Call.of(scope, request.body)
        if refused := await run_in_threadpool(self._refusal, access, call, scope["path"]):
            scope["aws.operation"] = call.operation or "Unknown"
            await refused(scope, request.receive, principal.send)
            return None
        return replace(principal, receive=request.receive)

    def _refusal(self, access: Access, call: Call, path: str) -> Response | None:
        """Return the refusal of a call; None if the call is allowed."""
        wire = error_format_of(call.service, call.headers)
        protocol = protocol_of(wire)
        try:
            self._check(access, call)
        except NotAuthorized as error:
            return answer(ErrorContent(*_REFUSED[protocol], str(error)), wire, path)
        except _Unreadable as error:
            return answer(ErrorContent(*_UNREADABLE[protocol], str(error)), wire, path)
        return None

    def _check(self, access: Access, call: Call) -> None:
        if (call.service, call.operation) in _OF_USERS:
            raise NotAuthorized(f"Cannot call {call.operation} with session credentials")
        if not access.is_bounded:
            return
        if not call.is_readable:
            raise _Unreadable("The body of the request is not a document, or has members of a wrong type or encoding.")
        if not call.operation:
            raise NotAuthorized("The request names no operation of the service, or more than one.")
        access.check(
            *required_permissions(
                RequestContext(call.service, call.region, call.operation, call.parameters, self._known)
            )
        )


async def _nowhere(scope: Any, receive: Any, send: Any) -> None:
    """Take the place of the service, which is not called here."""
