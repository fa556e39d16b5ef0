"""The control endpoint of faults, on the same port as the AWS services.

    PUT    /_local/faults                      replace all rules by those of the document in the body
    GET    /_local/faults                      return the rules with their counts, and the held requests
    DELETE /_local/faults                      delete all rules; release the held requests
    GET    /_local/faults/held?wait=SECONDS    wait until a request is held, for at most 60 seconds
    DELETE /_local/faults/held[/NUMBER]        release one held request, or all of them

Each response is what GET /_local/faults returns afterwards. `client` is a client of this endpoint.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from local_sagemaker.faults.middleware import FaultMiddleware
from local_sagemaker.faults.rules import Faults, FaultsInvalid, read_faults
from local_sagemaker.request_faults import FAULTS_PATH

_HELD_PATH = f"{FAULTS_PATH}/held"
_LONGEST_WAIT = 60.0  # seconds; a client that wants to wait longer asks again


class FaultControl:
    """The control endpoint as an ASGI application.

    Args:
        edge: the middleware that it controls.
    """

    def __init__(self, edge: FaultMiddleware) -> None:
        self._edge = edge

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        try:
            response: Response = JSONResponse(await self._do(request))
        except (FaultsInvalid, ValueError) as error:  # ValueError: the body is not JSON, or a number is invalid
            response = JSONResponse({"error": str(error)}, 400)
        await response(scope, receive, send)

    async def _do(self, request: Request) -> dict[str, Any]:
        path, method = request.url.path, request.method
        if path.startswith(_HELD_PATH):
            await self._do_held(request, path.removeprefix(_HELD_PATH).removeprefix("/"))
        elif path != FAULTS_PATH or method not in {"GET", "PUT", "DELETE"}:
            known = f"GET, PUT and DELETE {FAULTS_PATH}, and {_HELD_PATH}"
            raise FaultsInvalid(f"There is no {method} {path}: send {known}.")
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
