"""The services that moto implements, inside this server: IAM, STS, SNS, SQS, Parameter Store and so on.

moto holds everything in memory. So each request that changes something is written to a journal in the home. A new
server replays the journal when it first needs moto. moto draws its random identifiers from one generator. The journal
has the seed of each request, so that a role keeps its id. Creation dates are those of the replay.

moto is imported at the first request and not at start: the import takes half a second, and many runs never need moto.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import secrets
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlencode
from xml.sax.saxutils import escape

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from local_sagemaker.account import ROLE, partition_of
from local_sagemaker.iam.roles import RoleTable
from local_sagemaker.iam.sessions import Session
from local_sagemaker.keys import HomeKey, Keys
from local_sagemaker.moto_journal import Journal, is_kept
from local_sagemaker.moto_roles import roles_of_moto
from local_sagemaker.policy_simulation import simulate
from local_sagemaker.wire.call import Call
from local_sagemaker.wire.protocols import ErrorContent, answer, error_format_of, protocol_of

log = logging.getLogger(__name__)

_GIVING_KEYS = frozenset(
    {
        *(("sts", f"AssumeRole{how}") for how in ("", "WithWebIdentity", "WithSAML")),
        *(("sts", "GetSessionToken"), ("sts", "GetFederationToken"), ("iam", "CreateAccessKey")),
    }
)
_HTTP_ERROR = 400
_HTTP_FAILURE = 500


@dataclass(frozen=True)
class Answer:
    """An HTTP response for the client."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class MotoServices:
    """moto as an ASGI application whose state survives a restart.

    Args:
        journal: the requests to replay.
        key: the home's key, from which all others are derived.
        roles: the table of roles, written after each change in IAM.
        region: the region of the home.
    """

    def __init__(self, journal: Journal, key: HomeKey, roles: RoleTable, region: str) -> None:
        self._journal = journal
        self._has_rules = journal.has("events")
        self._key = key
        self._roles = roles
        self._region = region
        # moto is not thread-safe, and the journal must have the order of execution.
        self._lock = threading.Lock()
        self._application: Any = None
        self._ready = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request. `scope` has `service` and `region`, and gets the operation as `aws.operation`."""
        call = Call.of(scope, await Request(scope, receive).body())
        scope["aws.operation"] = call.operation or "Unknown"
        if (call.service, call.operation) == ("sts", "GetCallerIdentity"):
            given = await run_in_threadpool(self._identify, call, scope["access_key"], scope["identity"])
        else:
            given = await run_in_threadpool(self._answer, call)
        await Response(given.body, given.status, dict(given.headers))(scope, receive, send)

    @property
    def awake(self) -> bool:
        """Whether EventBridge may have rules: moto is loaded, or the journal has entries of EventBridge."""
        return self._ready or self._has_rules

    def ask(self, call: Call) -> Answer:
        """Answer a call that this server makes itself."""
        return self._answer(call)

    def catch_up(self) -> None:
        """Write the roles if the journal has newer entries of IAM.

        That is so if an earlier server was killed between the two writes, or was of a version that wrote no roles.
        """
        if self._journal.has("iam", self._roles.position):
            with self._lock:
                self._wake()

    def _wake(self) -> None:
        if not self._ready:
            self._application = _load()
            self._make_role()
            self._replay()
            self._ready = True

    def _answer(self, call: Call) -> Answer:
        if not call.operation:
            return _not_built(call, "")
        with self._lock:
            self._wake()
            if (call.service, call.operation) == ("iam", "SimulatePrincipalPolicy"):
                return self._simulate(call)
            return self._keep(call) if is_kept(call) else self._run(call, secrets.randbits(64))

    def _keep(self, call: Call) -> Answer:
        """Record a call that changes something, and run it.

        It is recorded first. So if the disk is full, nothing is done, and a client that retries does not get an error
        that its resource exists.
        """
        seed = secrets.randbits(64)
        try:
            mark = self._journal.append(call, seed)
        except OSError as error:
            log.exception("%s:%s could not be written to the journal", call.service, call.operation)
            return _not_kept(call, error)
        given = self._run(call, seed)
        if given.status >= _HTTP_ERROR:
            self._journal.take_back(mark)
        elif call.service == "iam":
            try:
                self._write_roles()
            except OSError as error:
                log.exception("the roles could not be written")
                return _not_in_force(call, error)
        return given

    def _identify(self, call: Call, access_key: str, caller: str) -> Answer:
        """Answer `GetCallerIdentity`. moto identifies IAM users by their keys, and does not know other callers."""
        answer = self._answer(replace(call, access_key=access_key))
        return replace(answer, body=replace_caller(answer.body, caller)) if caller else answer

    def _make_role(self) -> None:
        """Create the role of the home's user, before the replay, which may delete it again."""
        trust = {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}
        named = {"RoleName": ROLE, "Version": "2010-05-08"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        # It may do everything, like a role that IAM does not have.
        policy = f"arn:{partition_of(self._region)}:iam::aws:policy/AdministratorAccess"
        for parameters in (
            {"Action": "CreateRole", "AssumeRolePolicyDocument": document, **named},
            {"Action": "AttachRolePolicy", "PolicyArn": policy, **named},
        ):
            headers = {"content-type": "application/x-www-form-urlencoded"}
            self._run(Call("iam", self._region, "POST", "/", headers, urlencode(parameters)), 0)

    def _simulate(self, call: Call) -> Answer:
        """Answer `SimulatePrincipalPolicy`, which moto lacks. For an unknown role, answer moto's error of `GetRole`."""
        source = call.parameters.get("PolicySourceArn", "")
        kind = source.rpartition(":")[2].partition("/")[0]
        if kind == "role" and self._roles.get(source) is None:
            body = urlencode({"Action": "GetRole", "RoleName": source, "Version": "2010-05-08"})
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
            return _not_built(call, f"{type(error).__name__}: {error}")
        if given.status_code >= _HTTP_ERROR and given.mimetype == "text/html":
            return _not_built(call, "")  # moto's HTML page for an unknown path
        left_out = ("access-control-", "content-length")  # the body may be changed below
        headers = {name: value for name, value in given.headers if not name.lower().startswith(left_out)}
        body = given.get_data()
        if (call.service, call.operation) in _GIVING_KEYS and given.status_code < _HTTP_ERROR:
            body = replace_keys(body, self._key, self._session_of(call, body))
        return Answer(given.status_code, headers, body)

    def _replay(self) -> None:
        """Run all calls of the journal, and write the roles."""
        for call, seed in self._journal.entries():
            given = self._run(call, seed)
            if given.status >= _HTTP_ERROR:
                log.error("%s:%s of the journal is refused now: %r", call.service, call.operation, given.body[:500])
        self._write_roles()

    def _session_of(self, call: Call, body: bytes) -> Session | None:
        """Return the role session that an answer begins; None if the answer has a key of another kind."""
        if not call.operation.startswith("AssumeRole"):
            return None
        name = element_of(body.decode(), "Arn").rpartition("/")[2]
        return self._roles.session(str(call.parameters.get("RoleArn", "")), name)

    def _write_roles(self) -> None:
        self._roles.write(roles_of_moto(), self._journal.size)


def replace_keys(body: bytes, key: HomeKey, session: Session | None) -> bytes:
    """Replace the secret and the token in an answer by ones that this server can verify.

    Args:
        body: moto's answer: `AccessKeyId`, `SecretAccessKey` and, for a temporary key, `SessionToken`, `Expiration`
            and the caller's `Arn`.
        key: the home's key.
        session: the role session that the key is for; None if the key is of another kind.
    """
    text = body.decode()
    access_key = element_of(text, "AccessKeyId")
    keys = Keys(access_key, key.derived(access_key))
    if element_of(text, "SessionToken"):
        until = datetime.fromisoformat(element_of(text, "Expiration").replace("Z", "+00:00"))
        seconds = (until - datetime.now(timezone.utc)).total_seconds()
        keys = key.temporary(session or element_of(text, "Arn"), seconds, access_key)
    for name, value in (("SecretAccessKey", keys.secret_key), ("SessionToken", keys.token)):
        text = re.sub(rf"<{name}>[^<]*</{name}>", f"<{name}>{value}</{name}>", text)
    return text.encode()


def replace_caller(body: bytes, arn: str) -> bytes:
    """Return moto's answer to `GetCallerIdentity` with the caller's ARN and a user id made from it.

    Args:
        body: moto's answer.
        arn: the ARN of a role session or a federated user; its last part is the session's name.
    """
    role, _, session = arn.rpartition("/")
    digest = hashlib.sha256(role.encode()).hexdigest().upper()
    text = re.sub(r"<Arn>[^<]*</Arn>", f"<Arn>{escape(arn)}</Arn>", body.decode())
    return re.sub(r"<UserId>[^<]*</UserId>", f"<UserId>AROA{digest[:17]}:{escape(session)}</UserId>", text).encode()


def element_of(text: str, name: str) -> str:
    """Return the text of the first XML element of a name; empty if there is none."""
    found = re.search(rf"<{name}>([^<]*)</{name}>", text)
    return found[1].strip() if found else ""


def _load() -> Any:
    """Import moto, with AWS's managed policies, so that a role can have `AmazonSageMakerFullAccess`."""
    from moto.core.config import default_user_config  # noqa: PLC0415 -- see the module's docstring
    from moto.moto_server.werkzeug_app import (  # noqa: PLC0415 -- the same
        DomainDispatcherApplication,
        create_backend_app,
    )

    default_user_config["iam"] = {"load_aws_managed_policies": True}
    _let_targets_stand_alone()
    return DomainDispatcherApplication(create_backend_app)


def _let_targets_stand_alone() -> None:
    """Patch moto's `Rule.send_to_targets` so that an event reaches every target that can take it.

    moto stops at the first target that fails, such as a deleted queue or a service that moto does not send to. moto
    also sends events to a rule that has only a schedule; such a rule gets none here.
    """
    from moto.events.models import Rule  # noqa: PLC0415 -- see the module's docstring

    send = Rule.send_to_targets

    def send_to_each(rule: Any, event: Any, transform_input: bool = True) -> None:
        if not rule.event_pattern.get_pattern():
            return
        targets = rule.targets
        try:
            for target in list(targets):
                rule.targets = [target]
                try:
                    send(rule, event, transform_input)
                except Exception as error:  # noqa: BLE001 -- whatever fails, the next target must get the event
                    log.warning("The rule %s cannot send an event to %s: %r", rule.name, target.get("Arn"), error)
        finally:
            rule.targets = targets

    Rule.send_to_targets = send_to_each  # type: ignore[method-assign, assignment]


def _headers(call: Call) -> dict[str, str]:
    """Return the headers from which moto reads service, region and operation. moto does not verify the signature."""
    scope = f"{call.access_key}/20260101/{call.region}/{call.service}/aws4_request"
    signature = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"
    return {**call.headers, "authorization": signature}


def _not_built(call: Call, why: str) -> Answer:
    """Return the error for an operation that neither this server nor moto has."""
    operation = call.operation or f"{call.method} {call.path}"
    message = f"{call.service}:{operation} is not built in local_sagemaker{f' ({why})' if why else ''}."
    code = "InvalidAction" if _speaks_query(call) else "UnknownOperationException"
    return _refusal(call, ErrorContent(code, _HTTP_ERROR, message))


def _not_kept(call: Call, error: OSError) -> Answer:
    """Return the error for a call that was not done because it could not be recorded, most likely for a full disk."""
    message = f"{call.service}:{call.operation} could not be written down ({error.strerror}), and was not done."
    return _refusal(call, ErrorContent("InternalFailure", _HTTP_FAILURE, message))


def _speaks_query(call: Call) -> bool:
    return protocol_of(error_format_of(call.service, call.headers)) == "query"


def _not_in_force(call: Call, error: OSError) -> Answer:
    """Return the error for a change that IAM has, but that `roles.json` and so the jobs do not have yet."""
    message = (
        f"{call.service}:{call.operation} was done, but is not in force ({error.strerror}): the roles that jobs read "
        "could not be written. The next change in IAM writes all of them, and so does a new server."
    )
    return _refusal(call, ErrorContent("InternalFailure", _HTTP_FAILURE, message))


def _refusal(call: Call, words: ErrorContent) -> Answer:
    response = answer(words, error_format_of(call.service, call.headers), call.path)
    return Answer(response.status_code, dict(response.headers), bytes(response.body))
