"""Holds each request of a role against the role's policies; the home's user may do everything.

`entrance` says whose key signed a request, this module what that role may do. S3 reads `scope["access"]` itself, since
what it needs stands in paths, headers and bodies that stream. `application` is the only user.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.types import Scope

from local_sagemaker.entrance import Guest
from local_sagemaker.faults.request import Request
from local_sagemaker.iam.needs import Asked, needs_of
from local_sagemaker.iam.roles import Access, NotAuthorized, RoleTable
from local_sagemaker.job_table import JobTable
from local_sagemaker.moto_services import MotoServices
from local_sagemaker.services import BY_SIGNATURE
from local_sagemaker.wire.call import Call
from local_sagemaker.wire.protocols import Words, answer, protocol_of, wire_of

# IAM and the other services of the query protocol say `AccessDenied`, those of JSON `AccessDeniedException`.
_REFUSED = {
    "json": ("AccessDeniedException", 400),
    "query": ("AccessDenied", 403),
    "rest": ("AccessDeniedException", 403),
}


class Gate:
    """Lets a guest's request on, or answers it.

    Args:
        roles: the roles of the home.
        jobs: whose tags conditions look at.
        others: knows the ARNs of secrets.
    """

    def __init__(self, roles: RoleTable, jobs: JobTable, others: MotoServices) -> None:
        self._roles = roles
        self._jobs = jobs
        self._others = others

    async def let_on(self, guest: Guest, scope: Scope) -> Guest | None:
        """Return the guest to go on with; None after the request was refused, or its client left."""
        access = Access(guest.caller, self._roles, guest.region)
        if not access.is_bounded or guest.service not in BY_SIGNATURE:
            return guest
        if guest.service == "s3":
            scope["access"] = access
            return guest
        request = await Request(0, _nowhere, scope, guest.receive, guest.send).whole()
        if request is None:
            return None
        call = Call.of(scope, request.body)
        wire = wire_of(call.service, call.headers)
        try:
            await run_in_threadpool(self._check, access, call)
        except NotAuthorized as error:
            scope["aws.operation"] = call.operation
            words = Words(*_REFUSED[protocol_of(wire)], str(error))
            await answer(words, wire, scope["path"])(scope, request.receive, guest.send)
            return None
        return replace(guest, receive=request.receive)

    def _check(self, access: Access, call: Call) -> None:
        if not call.operation:
            raise NotAuthorized("The request names no operation, or more than one.")
        asked = Asked(call.service, call.region, call.operation, call.parameters, self._jobs.tags, self._secret_arn)
        access.check(*needs_of(asked))

    def _secret_arn(self, region: str, name: str) -> str | None:
        headers = {"content-type": "application/x-amz-json-1.1", "x-amz-target": "secretsmanager.DescribeSecret"}
        found = self._others.ask(Call("secretsmanager", region, "POST", "/", headers, json.dumps({"SecretId": name})))
        arn: str | None = json.loads(found.body).get("ARN")
        return arn


async def _nowhere(scope: Any, receive: Any, send: Any) -> None:
    """Stand for a service, which is not asked here."""
