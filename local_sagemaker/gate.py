"""Holds each request of a role against the role's policies; the home's user may do everything.

`entrance` says whose key signed a request, this module what that role may do. S3 reads `scope["access"]` itself, since
what it needs stands in paths, headers and bodies that stream. `application` is the only user.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

from botocore.parsers import ResponseParserError, RpcV2CBORParser
from starlette.concurrency import run_in_threadpool
from starlette.types import Scope

from local_sagemaker.entrance import Guest
from local_sagemaker.faults.request import Request
from local_sagemaker.iam.needs import Asked, needs_of
from local_sagemaker.iam.roles import Access, NotAuthorized, RoleTable
from local_sagemaker.job_table import JobTable
from local_sagemaker.moto_journal import Call
from local_sagemaker.moto_services import MotoServices
from local_sagemaker.wire.protocols import Words, answer, protocol_of, wire_of

# IAM and the other services of the query protocol say `AccessDenied`, those of JSON `AccessDeniedException`.
_REFUSED = {"json": ("AccessDeniedException", 400), "query": ("AccessDenied", 403)}

_REST = frozenset({"scheduler"})  # of `services.SERVICES`, S3 aside
_CBOR = RpcV2CBORParser()
_EMPTY_MAP = b"\xa0"


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
        if not access.is_bounded:
            return guest
        if guest.service == "s3":
            scope["access"] = access
            return guest
        request = await Request(0, _nowhere, scope, guest.receive, guest.send).whole()
        if request is None:
            return None
        wire = wire_of(guest.service, request.headers)
        protocol = protocol_of(wire)
        if protocol == "rest" and guest.service not in _REST:
            # moto reads an `Action` in the query string too, and in a body of any type.
            wire, protocol = "query", "query"
        if protocol not in _REFUSED:  # a REST service of moto's: which operation it is, no header says
            return replace(guest, receive=request.receive)
        try:
            await run_in_threadpool(self._check, access, guest, request)
        except NotAuthorized as error:
            scope["aws.operation"] = _operation(request)
            words = Words(*_REFUSED[protocol], str(error))
            await answer(words, wire, scope["path"])(scope, request.receive, guest.send)
            return None
        return replace(guest, receive=request.receive)

    def _check(self, access: Access, guest: Guest, request: Request) -> None:
        operation, parameters = _operation(request), _parameters(request)
        asked = Asked(guest.service, guest.region, operation, parameters, self._jobs.tags, self._secret_arn)
        access.check(*needs_of(asked))

    def _secret_arn(self, region: str, name: str) -> str | None:
        headers = {"content-type": "application/x-amz-json-1.1", "x-amz-target": "secretsmanager.DescribeSecret"}
        found = self._others.ask(Call("secretsmanager", region, "POST", "/", headers, json.dumps({"SecretId": name})))
        arn: str | None = json.loads(found.body).get("ARN")
        return arn


def _operation(request: Request) -> str:
    if _is_cbor(request):
        return str(request.scope["path"]).rpartition("/")[2]
    target = request.headers.get("x-amz-target", "")
    return target.rpartition(".")[2] or _form(request).get("Action", "")


def _parameters(request: Request) -> Mapping[str, Any]:
    """Return the members of a request; none if it cannot be read, which the service tells."""
    try:
        if _is_cbor(request):
            found = _CBOR.parse_data_item(_CBOR.get_peekable_stream_from_bytes(request.body or _EMPTY_MAP))
        elif "x-amz-target" in request.headers:
            found = json.loads(request.body or b"{}")
        else:
            return _form(request)
    except (ValueError, RecursionError, ResponseParserError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_cbor(request: Request) -> bool:
    return wire_of("", request.headers) == "cbor"


def _form(request: Request) -> dict[str, str]:
    query, body = request.scope["query_string"].decode("latin-1"), request.body.decode("latin-1")
    return dict(parse_qsl(f"{query}&{body}", keep_blank_values=True))


async def _nowhere(scope: Any, receive: Any, send: Any) -> None:
    """Stand for a service, which is not asked here."""
