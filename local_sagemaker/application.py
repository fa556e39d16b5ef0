"""All services behind one endpoint, as one ASGI application: who is asked, is told from the request's signature.

One port and not one per service, because every AWS client takes one `AWS_ENDPOINT_URL`. Made by `server`; nothing else
imports it.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import Headers, QueryParams
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from local_sagemaker.account import ACCOUNT, REGION
from local_sagemaker.home import Endpoint, Home
from local_sagemaker.jobs import JobTable, Kind
from local_sagemaker.lifecycle import STATUS_PATH
from local_sagemaker.logs.service import logs_service
from local_sagemaker.moto_services import MotoServices
from local_sagemaker.routing import credential_scope, refusal
from local_sagemaker.runtime.supervisor import start_supervisor
from local_sagemaker.s3.application import S3Application
from local_sagemaker.s3.store import ObjectStore
from local_sagemaker.sagemaker.service import sagemaker_service

log = logging.getLogger(__name__)

_OWN_PATHS = "/_local/"  # no bucket's name begins with an underscore
_FORBIDDEN = 403
_NOT_FOUND = 404


class Application:
    """The front of the server.

    Args:
        home: the data directory.
        endpoint: where this server is reached.
    """

    def __init__(self, home: Home, endpoint: Endpoint) -> None:
        self._home = home
        self._endpoint = endpoint
        self._requests: Counter[str] = Counter()
        jobs = JobTable(home.directory)
        self._services: Mapping[str, ASGIApp] = {
            "s3": S3Application(ObjectStore(home.objects), account=ACCOUNT),
            "sagemaker": sagemaker_service(jobs, self._start),
            "logs": logs_service(home.logs),
        }
        self._others = MotoServices(home.moto_journal)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; the server speaks nothing but HTTP."""
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        refused = refusal(headers)
        if refused is not None:
            await PlainTextResponse(f"{refused}\n", _FORBIDDEN)(scope, receive, send)
        elif scope["path"].startswith(_OWN_PATHS):
            await self._own(scope["path"])(scope, receive, send)
        else:
            await self._dispatch(headers, scope, receive, send)

    async def _dispatch(self, headers: Headers, scope: Scope, receive: Receive, send: Send) -> None:
        signed_for = credential_scope(headers, QueryParams(scope["query_string"]))
        scope["service"], scope["region"] = signed_for.service, signed_for.region
        try:
            await self._services.get(signed_for.service, self._others)(scope, receive, send)
        finally:
            self._requests[f"{signed_for.service}:{scope.get('aws.operation', 'Unknown')}"] += 1

    def _start(self, kind: Kind, name: str) -> None:
        try:
            start_supervisor(self._home.directory, kind, name)
        except OSError:
            # The job is in the table, and a client must not create it again: the server's care for jobs starts it.
            log.exception("no supervisor could be started for %s; trying again", name)

    def _own(self, path: str) -> ASGIApp:
        if path == STATUS_PATH:
            return JSONResponse(self._status())
        return PlainTextResponse(f"Here is only {STATUS_PATH}.\n", _NOT_FOUND)

    def _status(self) -> dict[str, Any]:
        return {
            "endpoint": self._endpoint.endpoint,
            "pid": os.getpid(),
            "home": str(self._home.directory),
            "region": REGION,
            "account": ACCOUNT,
            "requests": dict(sorted(self._requests.items())),
        }
