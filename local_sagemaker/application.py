"""The ASGI application: all services behind one endpoint.

There is one port for all services, because an AWS client takes one `AWS_ENDPOINT_URL`. The credential scope of the
request's signature names the service. `authentication` verifies the signature, and `authorization` checks the policies
of a role.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from local_sagemaker.account import ACCOUNT
from local_sagemaker.asgi_request import Request
from local_sagemaker.authentication import Authenticator, Principal
from local_sagemaker.authorization import Authorizer
from local_sagemaker.cloudwatch import CloudWatch
from local_sagemaker.events import EventPublisher
from local_sagemaker.home import Endpoint, Home
from local_sagemaker.iam.roles import RoleTable
from local_sagemaker.job_faults import JobFaults
from local_sagemaker.job_table import JobTable
from local_sagemaker.jobs import Job
from local_sagemaker.keys import HomeKey
from local_sagemaker.lifecycle import STATUS_PATH
from local_sagemaker.logs.service import logs_service
from local_sagemaker.long_polling import LongPolling
from local_sagemaker.moto_journal import Journal
from local_sagemaker.moto_services import MotoServices
from local_sagemaker.request_faults import FAULTS_PATH, RequestFaults
from local_sagemaker.runtime.settings import read_settings
from local_sagemaker.runtime.simulator import Simulator
from local_sagemaker.runtime.supervisor import start_supervisor
from local_sagemaker.s3.application import S3Application
from local_sagemaker.s3.store import ObjectStore
from local_sagemaker.sagemaker.service import sagemaker_service
from local_sagemaker.service_quotas import quotas_service
from local_sagemaker.services import SERVICES
from local_sagemaker.tagging import tagging_service
from local_sagemaker.unserved import unserved

log = logging.getLogger(__name__)

_OWN_PATHS = "/_local/"  # cannot be a bucket: bucket names have no underscores
_FORBIDDEN = 403
_NOT_FOUND = 404


class Application:
    """The ASGI application of one home.

    Args:
        home: the data directory.
        endpoint: the endpoint of this server.
        close_connection: closes the connection of a request, for the faults `lose` and `drop`.
    """

    def __init__(self, home: Home, endpoint: Endpoint, close_connection: Callable[[Scope], None]) -> None:
        self._home = home
        self._endpoint = endpoint
        self._requests: Counter[str] = Counter()
        self._sequence = 0
        jobs, store = JobTable(home.directory), ObjectStore(home.objects)
        key = HomeKey.of(home.directory)
        self._entrance = Authenticator(key, home.region)
        roles = RoleTable(home.directory)
        self._others = MotoServices(Journal(home.moto_journal), key, roles, home.region)
        self._others.catch_up()
        self._gate = Authorizer(roles, jobs, self._others)
        self._services: Mapping[str, ASGIApp] = {
            **{service.signed_as: self._others for service in SERVICES if service.in_moto},
            "s3": S3Application(store, account=ACCOUNT, region=home.region),
            "sagemaker": sagemaker_service(jobs, JobFaults(jobs.database), self._quotas, roles, self._start),
            "servicequotas": quotas_service(self._quotas),  # the name in signatures; boto3's is service-quotas
            "logs": logs_service(home.logs),
            "tagging": tagging_service(jobs, store, self._others),
            "monitoring": CloudWatch(home.metrics, self._others),
            "sqs": LongPolling(self._others),
        }
        self._faults = RequestFaults(jobs.database, close_connection)
        self._simulator = Simulator(home.directory, jobs, store)
        self._simulator.start()
        EventPublisher(jobs, self._others, home.region).start()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request. Ignore other ASGI scopes."""
        if scope["type"] != "http":
            return
        if scope["path"].startswith(_OWN_PATHS):
            await self._own(scope["path"], Headers(scope=scope))(scope, receive, send)
        elif principal := await self._entrance.authenticate(scope, receive, send):
            await self._dispatch(principal, scope)

    async def _dispatch(self, principal: Principal, scope: Scope) -> None:
        scope["service"], scope["region"] = principal.service, principal.region
        scope["access_key"], scope["identity"] = principal.access_key, principal.identity
        self._sequence += 1
        service = self._services.get(principal.service, unserved)
        try:
            allowed = await self._gate.authorize(principal, scope)
            if allowed is None:
                return
            principal = allowed
            if self._faults.active:
                await self._faults.serve(Request(self._sequence, service, scope, principal.receive, principal.send))
            else:
                await service(scope, principal.receive, principal.send)
        finally:
            self._requests[f"{principal.service}:{scope.get('aws.operation', 'Unknown')}"] += 1

    def _quotas(self) -> Mapping[str, int]:
        return read_settings(self._home.directory).quotas

    def _start(self, job: Job) -> None:
        if job.runner == "simulated":
            self._simulator.add(job)
            return
        try:
            start_supervisor(self._home.directory, job.kind, job.name)
        except OSError:
            # An error would make the client retry Create, but the job is in the table. `reconcile` starts its
            # supervisor later.
            log.exception("no supervisor could be started for %s; trying again", job.name)

    def _own(self, path: str, headers: Headers) -> ASGIApp:
        if not self._entrance.controls(headers):
            text = "This address is for the command line of this home, which has its key."
            return JSONResponse({"error": text}, _FORBIDDEN)
        if path == STATUS_PATH:
            return JSONResponse(self._status())
        if path.startswith(FAULTS_PATH):
            return self._faults.control()
        return PlainTextResponse(f"Here are only {STATUS_PATH} and {FAULTS_PATH}.\n", _NOT_FOUND)

    def _status(self) -> dict[str, Any]:
        return {
            "endpoint": self._endpoint.endpoint,
            "pid": os.getpid(),
            "home": str(self._home.directory),
            "region": self._home.region,
            "account": ACCOUNT,
            "requests": dict(sorted(self._requests.items())),
            "sequence": self._sequence,
        }
