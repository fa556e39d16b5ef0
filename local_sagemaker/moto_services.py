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
import re
import secrets
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from local_sagemaker.iam.roles import RoleTable
from local_sagemaker.keys import HomeKey, Keys
from local_sagemaker.moto_roles import roles_of_moto
from local_sagemaker.policy_simulation import simulate

log = logging.getLogger(__name__)

_KEPT = frozenset({"iam", "sns", "ssm", "secretsmanager", "ecr"})
# How the operations begin that change nothing, in the services of `_KEPT`.
_READING = ("Get", "List", "Describe", "Simulate", "Generate", "Publish", "Batch", "Check")
_GIVING_KEYS = frozenset(
    {
        *(("sts", f"AssumeRole{how}") for how in ("", "WithWebIdentity", "WithSAML")),
        *(("sts", "GetSessionToken"), ("sts", "GetFederationToken"), ("iam", "CreateAccessKey")),
    }
)
_OF_THE_SIGNATURE = frozenset({"x-amz-date", "x-amz-content-sha256", "x-amz-security-token"})
_HTTP_ERROR = 400
_HTTP_FAILURE = 500


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
        key: the home's key, of which all others are made.
        roles: gets what roles may do, after each change.
    """

    def __init__(self, journal: Path, key: HomeKey, roles: RoleTable) -> None:
        self._journal = journal
        self._key = key
        self._roles = roles
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

    def catch_up(self) -> None:
        """Write the roles down where the journal knows more of them: a server was killed in between, or was older."""
        if any('"service": "iam"' in line for line in _lines(self._journal, self._roles.position)):
            with self._lock:
                self._wake()

    def _wake(self) -> None:
        if not self._ready:
            self._application = _load()
            self._replay()
            self._ready = True

    def _answer(self, call: Call) -> Answer:
        with self._lock:
            self._wake()
            if (call.service, call.operation) == ("iam", "SimulatePrincipalPolicy"):
                return self._simulate(call)
            seed = secrets.randbits(64)
            answer = self._run(call, seed)
            if call.is_kept and answer.status < _HTTP_ERROR:
                return self._keep(call, seed) or answer
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
        return Answer(200, {"content-type": "text/xml"}, simulate(call.parameters, self._roles))

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
        body = given.get_data()
        if (call.service, call.operation) in _GIVING_KEYS and given.status_code < _HTTP_ERROR:
            body = with_our_keys(body, self._key)
            headers["Content-Length"] = str(len(body))
        return Answer(given.status_code, headers, body)

    def _keep(self, call: Call, seed: int) -> Answer | None:
        """Write down what was done; `None` if that succeeded, else the answer that says so."""
        try:
            append_line(self._journal, json.dumps({**asdict(call), "seed": seed}))
            if call.service == "iam":
                self._write_roles()
        except OSError as error:
            log.exception("%s:%s could not be written to the journal", call.service, call.operation)
            return _not_kept(call, error)
        return None

    def _replay(self) -> None:
        """Bring back what earlier servers held. A line that cannot be read was never answered, and is passed over."""
        for number, line in enumerate(_lines(self._journal), 1):
            try:
                kept = json.loads(line)
                seed = kept.pop("seed")
                call = Call(**kept)
            except (ValueError, TypeError, KeyError, AttributeError):
                log.warning("line %s of %s cannot be read, and is passed over: %.80r", number, self._journal, line)
                continue
            answer = self._run(call, seed)
            if answer.status >= _HTTP_ERROR:
                log.error("%s:%s of the journal is refused now: %r", call.service, call.operation, answer.body[:500])
        if self._journal.exists():
            self._write_roles()

    def _write_roles(self) -> None:
        self._roles.write(roles_of_moto(), self._journal.stat().st_size)


def with_our_keys(body: bytes, key: HomeKey) -> bytes:
    """Return an answer that gives out a key, with a secret and a token that this server knows again.

    Args:
        body: moto's answer: `AccessKeyId`, `SecretAccessKey` and, for a temporary key, `SessionToken`, `Expiration`
            and the caller's `Arn`.
        key: the home's key.
    """
    text = body.decode()
    access_key = _element_of(text, "AccessKeyId")
    keys = Keys(access_key, key.derived(access_key))
    if _element_of(text, "SessionToken"):
        until = datetime.fromisoformat(_element_of(text, "Expiration").replace("Z", "+00:00"))
        seconds = (until - datetime.now(timezone.utc)).total_seconds()
        keys = key.temporary(_element_of(text, "Arn"), seconds, access_key)
    for name, value in (("SecretAccessKey", keys.secret_key), ("SessionToken", keys.token)):
        text = re.sub(rf"<{name}>[^<]*</{name}>", f"<{name}>{value}</{name}>", text)
    return text.encode()


def _element_of(text: str, name: str) -> str:
    found = re.search(rf"<{name}>([^<]*)</{name}>", text)
    return found[1].strip() if found else ""


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
    """Tell the client that neither we nor moto have this operation."""
    message = f"{call.service}:{call.operation} is not built in local_sagemaker ({type(error).__name__}: {error})"
    code = "UnknownOperationException" if call.target else "InvalidAction"
    return _in_protocol(call, _HTTP_ERROR, code, message)


def _not_kept(call: Call, error: OSError) -> Answer:
    """Tell the client that its wish will be forgotten with this server: the disk is full, most likely."""
    message = f"{call.service}:{call.operation} could not be written down ({error.strerror}), and will be forgotten."
    return _in_protocol(call, _HTTP_FAILURE, "InternalFailure", message)


def _in_protocol(call: Call, status: int, code: str, message: str) -> Answer:
    """Return an error as the client's protocol has it: JSON where the call has a target, else XML."""
    if call.target:
        body = json.dumps({"__type": code, "message": message}).encode()
        return Answer(status, {"content-type": "application/x-amz-json-1.1"}, body)
    element = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
    return Answer(status, {"content-type": "text/xml"}, f"<ErrorResponse>{element}</ErrorResponse>".encode())


def append_line(path: Path, line: str) -> None:
    """Write a line to the end of a file, wholly or not at all.

    Half a line would swallow the next one: one that a killed writer left is ended first, and one of our own that does
    not fit on the disk is taken back.

    Args:
        path: the file; made, for its user alone, where it is missing: a journal has secrets in it.
        line: without its end.

    Raises:
        OSError: it could not be written; the file is as it was.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        data = (b"\n" if torn else b"") + line.encode() + b"\n"
        try:
            written = 0
            while written < len(data):
                written += os.write(descriptor, data[written:])
        except OSError:
            os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)


def _lines(path: Path, position: int = 0) -> list[str]:
    """Return the whole lines of a file, from a position in bytes on."""
    if not path.exists():
        return []
    with path.open("rb") as file:
        file.seek(position)
        return file.read().decode(errors="replace").split("\n")[:-1]
