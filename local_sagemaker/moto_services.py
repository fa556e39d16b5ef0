"""IAM, STS, SNS, Parameter Store, Secrets Manager and whatever else moto answers, inside our server.

moto holds everything in memory. So each request that changed something in a service of `_KEPT` is written to a journal
in the home, and the journal is replayed when a new server first needs moto. moto draws its random identifiers from one
generator; a request's seed is in the journal too, so that a role keeps its id. Creation dates are those of the replay.

Loaded at the first request and not at start: moto takes half a second, and many runs never ask for it. `application`
is its only user.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from local_sagemaker.policy_simulation import simulate

log = logging.getLogger(__name__)

_KEPT = frozenset({"iam", "sns", "ssm", "secretsmanager", "ecr"})
# How the operations begin that change nothing, in the services of `_KEPT`.
_READING = ("Get", "List", "Describe", "Simulate", "Generate", "Publish", "Batch", "Check")
_OF_THE_SIGNATURE = frozenset({"x-amz-date", "x-amz-content-sha256", "x-amz-security-token"})
_HTTP_ERROR = 400


@dataclass(frozen=True)
class Call:
    """One request to moto, with no more of it than a replay needs.

    Attributes:
        service: the service of the credential scope.
        region: its region.
        method: of HTTP.
        path: with the query.
        headers: those that mean something to a service, by lower-case name.
        body: text, as all protocols of `_KEPT` are.
    """

    service: str
    region: str
    method: str
    path: str
    headers: Mapping[str, str]
    body: str

    @property
    def target(self) -> str:
        """The target of the JSON protocols, which ends in the operation; empty in the others."""
        return self.headers.get("x-amz-target", "")

    @property
    def parameters(self) -> dict[str, list[str]]:
        """The parameters of the query protocol; none in the others."""
        is_form = self.headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
        return parse_qs(self.body, keep_blank_values=True) if is_form else {}

    @property
    def operation(self) -> str:
        """The operation's name; method and path in the REST protocols, which name none."""
        action = self.target.rpartition(".")[2] or self.parameters.get("Action", [""])[0]
        return action or f"{self.method} {self.path.partition('?')[0]}"

    @property
    def is_kept(self) -> bool:
        """Whether the journal must have it."""
        return self.service in _KEPT and not self.operation.startswith(_READING)


@dataclass(frozen=True)
class Answer:
    """What goes back to the client."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class MotoServices:
    """moto as an ASGI application with a memory.

    Args:
        journal: the file of the requests to replay.
    """

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        # moto is not made for threads, and the journal must have the order in which things happened.
        self._lock = threading.Lock()
        self._application: Any = None
        self._ready = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request; `scope` has service and region, and gets the operation as `aws.operation`."""
        request = Request(scope, receive)
        query = f"?{request.url.query}" if request.url.query else ""
        call = Call(
            scope["service"],
            scope["region"],
            request.method,
            scope["raw_path"].decode("ascii") + query,
            {name: value for name, value in request.headers.items() if _is_meant_for_service(name)},
            (await request.body()).decode("utf-8", "surrogateescape"),
        )
        scope["aws.operation"] = call.operation
        answer = await run_in_threadpool(self._answer, call)
        await Response(answer.body, answer.status, dict(answer.headers))(scope, receive, send)

    @property
    def awake(self) -> bool:
        """Whether anybody has needed moto yet."""
        return self._ready

    def ask(self, call: Call) -> Answer:
        """Answer a call of this server itself."""
        return self._answer(call)

    def _answer(self, call: Call) -> Answer:
        with self._lock:
            if not self._ready:
                self._application = _load()
                self._replay()
                self._ready = True
            if (call.service, call.operation) == ("iam", "SimulatePrincipalPolicy"):
                return self._simulate(call)
            seed = secrets.randbits(64)
            answer = self._run(call, seed)
            if call.is_kept and answer.status < _HTTP_ERROR:
                self._keep(call, seed)
            return answer

    def _simulate(self, call: Call) -> Answer:
        """`SimulatePrincipalPolicy`, which moto lacks; for a role that is not there, moto's own error."""
        source = call.parameters.get("PolicySourceArn", [""])[0]
        kind, _, path = source.rpartition(":")[2].partition("/")
        if kind == "role":
            body = f"Action=GetRole&RoleName={path.rpartition('/')[2]}&Version=2010-05-08"
            found = self._run(Call(**{**asdict(call), "body": body}), 0)
            if found.status >= _HTTP_ERROR:
                return found
        return Answer(200, {"content-type": "text/xml"}, simulate(call.parameters))

    def _run(self, call: Call, seed: int) -> Answer:
        from moto.moto_api._internal import mock_random  # noqa: PLC0415 -- see the module's docstring
        from werkzeug.datastructures import Headers  # noqa: PLC0415 -- the same
        from werkzeug.test import EnvironBuilder  # noqa: PLC0415 -- the same
        from werkzeug.wrappers import Response as WsgiResponse  # noqa: PLC0415 -- the same

        mock_random.seed(seed)
        environ = EnvironBuilder(
            path=call.path,
            method=call.method,
            headers=Headers(_headers(call)),
            data=call.body.encode("utf-8", "surrogateescape"),
            base_url="http://127.0.0.1",
        ).get_environ()
        try:
            given = WsgiResponse.from_app(self._application, environ, buffered=True)
        except Exception as error:
            log.exception("moto failed on %s:%s", call.service, call.operation)
            return _not_built(call, error)
        headers = {name: value for name, value in given.headers if not name.lower().startswith("access-control-")}
        return Answer(given.status_code, headers, given.get_data())

    def _keep(self, call: Call, seed: int) -> None:
        with _open_private(self._journal) as journal:
            journal.write(json.dumps({**asdict(call), "seed": seed}) + "\n")

    def _replay(self) -> None:
        """Bring back what earlier servers held; half a line, left by `kill -9`, was never answered and is dropped."""
        if not self._journal.exists():
            return
        lines = self._journal.read_text().splitlines(keepends=True)
        if lines and not lines[-1].endswith("\n"):
            part = self._journal.with_name(self._journal.name + ".part")
            with _open_private(part) as whole:
                whole.writelines(lines := lines[:-1])
            part.replace(self._journal)
        for line in lines:
            kept = json.loads(line)
            seed = kept.pop("seed")
            call = Call(**kept)
            answer = self._run(call, seed)
            if answer.status >= _HTTP_ERROR:
                log.error("%s:%s of the journal is refused now: %r", call.service, call.operation, answer.body[:500])


def _load() -> Any:
    """Import moto, with the policies that AWS manages: `AmazonSageMakerFullAccess` can be attached to a role."""
    from moto.core.config import default_user_config  # noqa: PLC0415 -- see the module's docstring
    from moto.moto_server.werkzeug_app import (  # noqa: PLC0415 -- the same
        DomainDispatcherApplication,
        create_backend_app,
    )

    default_user_config["iam"] = {"load_aws_managed_policies": True}
    return DomainDispatcherApplication(create_backend_app)


def _headers(call: Call) -> dict[str, str]:
    """The headers by which moto knows service, region and operation; a signature would mean nothing to it."""
    scope = f"local/20260101/{call.region}/{call.service}/aws4_request"
    signature = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"
    return {**call.headers, "authorization": signature}


def _is_meant_for_service(header: str) -> bool:
    return header == "content-type" or (header.startswith("x-amz-") and header not in _OF_THE_SIGNATURE)


def _not_built(call: Call, error: Exception) -> Answer:
    """Tell the client in its protocol that neither we nor moto have this operation."""
    message = f"{call.service}:{call.operation} is not built in local_sagemaker ({type(error).__name__}: {error})"
    if call.target:
        body = json.dumps({"__type": "UnknownOperationException", "message": message}).encode()
        return Answer(_HTTP_ERROR, {"content-type": "application/x-amz-json-1.1"}, body)
    element = f"<Error><Code>InvalidAction</Code><Message>{escape(message)}</Message></Error>"
    document = f"<ErrorResponse>{element}</ErrorResponse>".encode()
    return Answer(_HTTP_ERROR, {"content-type": "text/xml"}, document)


def _open_private(path: Path) -> IO[str]:
    """Open for appending; a journal has secrets in it, such as parameters."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "a")
