"""The control address of faults, beside the AWS protocols on the same port.

    PUT    /_local/faults                      a document of faults; it takes the place of all rules
    GET    /_local/faults                      rules with their counts, held requests
    DELETE /_local/faults                      no rules; what is held goes on
    GET    /_local/faults/held?wait=SECONDS    the held requests, as soon as there are some
    DELETE /_local/faults/held[/NUMBER]        let one or all of them go on

Each answers with what GET /_local/faults shows afterwards. `application` imports it; `client` is the other end.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from local_sagemaker.faults.middleware import FaultMiddleware
from local_sagemaker.faults.rules import Faults, FaultsInvalid, read_faults

FAULTS_PATH = "/_local/faults"
_HELD_PATH = f"{FAULTS_PATH}/held"
_LONGEST_WAIT = 60.0  # seconds; clients ask again


class FaultControl:
    """The control address as an ASGI application.

    Args:
        edge: what it controls.
    """

    def __init__(self, edge: FaultMiddleware) -> None:
        self._edge = edge

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        try:
            response: Response = JSONResponse(await self._do(request))
        except (FaultsInvalid, ValueError) as error:  # ValueError: what was sent is not JSON, or not a number
            response = JSONResponse({"error": str(error)}, 400)
        await response(scope, receive, send)

    async def _do(self, request: Request) -> dict[str, Any]:
        path, method = request.url.path, request.method
        if path.startswith(_HELD_PATH):
            await self._do_held(request, path.removeprefix(_HELD_PATH).removeprefix("/"))
        elif path != FAULTS_PATH or method not in {"GET", "PUT", "DELETE"}:
            raise FaultsInvalid(f"There is no {method} {path}: GET, PUT and DELETE {FAULTS_PATH}, see its module.")
        elif method != "GET":
            self._edge.replace(read_faults(await request.json()) if method == "PUT" else Faults())
        return self._edge.shown()

    async def _do_held(self, request: Request, number: str) -> None:
        if request.method == "DELETE":
            released = self._edge.held.release(int(number) if number else None)
            if number and not released:
                raise FaultsInvalid(f"No request {number} is held.")
        else:
            await self._edge.held.wait(min(float(request.query_params.get("wait", 0)), _LONGEST_WAIT))
