"""The services that moto holds, inside our server: IAM, STS, SNS, SQS, Parameter Store and so on.

moto holds everything in memory. So each request that changes something is written to a journal in the home, and the
journal is replayed when a new server first needs moto. moto draws its random identifiers from one generator; a
request's seed is in the journal too, so that a role keeps its id. Creation dates are those of the replay.

Loaded at the first request and not at start: moto takes half a second, and many runs never ask for it.
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
from local_sagemaker.wire.protocols import Words, answer, protocol_of, wire_of

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
    """What goes back to the client."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class MotoServices:
    """moto as an ASGI application with a memory.

    Args:
        journal: the requests to replay.
        key: the home's key, of which all others are made.
        roles: gets what roles may do, after each change.
        region: of the home.
    """

    def __init__(self, journal: Journal, key: HomeKey, roles: RoleTable, region: str) -> None:
        self._journal = journal
        self._has_rules = journal.has("events")
        self._key = key
        self._roles = roles
        self._region = region
        # moto is not made for threads, and the journal must have the order in which things happened.
        self._lock = threading.Lock()
        self._application: Any = None
        self._ready = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request; `scope` has service and region, and gets the operation as `aws.operation`."""
        call = Call.of(scope, await Request(scope, receive).body())
        scope["aws.operation"] = call.operation or "Unknown"
        if (call.service, call.operation) == ("sts", "GetCallerIdentity"):
            given = await run_in_threadpool(self._identify, call, scope["access_key"], scope["identity"])
        else:
            given = await run_in_threadpool(self._answer, call)
        await Response(given.body, given.status, dict(given.headers))(scope, receive, send)

    @property
    def awake(self) -> bool:
        """Whether there may be rules of EventBridge: a client has asked for moto, or an earlier server kept some."""
        return self._ready or self._has_rules

    def ask(self, call: Call) -> Answer:
        """Answer a call of this server itself."""
        return self._answer(call)

    def catch_up(self) -> None:
        """Write the roles down where the journal knows more of them: a server was killed in between, or was older."""
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
        """Do a call that changes something, and write it down.

        Written first: if the disk is full, nothing is done, and a client that tries again is not told that its
        resource exists.
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
        """`GetCallerIdentity`: moto knows the users of IAM by their keys, and forgets all other keys."""
        answer = self._answer(replace(call, access_key=access_key))
        return replace(answer, body=with_caller(answer.body, caller)) if caller else answer

    def _make_role(self) -> None:
        """Make the role of the home's user; before the replay, which may delete it again."""
        trust = {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}
        named = {"RoleName": ROLE, "Version": "2010-05-08"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        # It may do everything, as a role that IAM does not have.
        policy = f"arn:{partition_of(self._region)}:iam::aws:policy/AdministratorAccess"
        for parameters in (
            {"Action": "CreateRole", "AssumeRolePolicyDocument": document, **named},
            {"Action": "AttachRolePolicy", "PolicyArn": policy, **named},
        ):
            headers = {"content-type": "application/x-www-form-urlencoded"}
            self._run(Call("iam", self._region, "POST", "/", headers, urlencode(parameters)), 0)

    def _simulate(self, call: Call) -> Answer:
        """`SimulatePrincipalPolicy`, which moto lacks; for a role that is not there, moto's own error."""
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
            return _not_built(call, "")  # a page for people, where moto has no such address
        left_out = ("access-control-", "content-length")  # the length is that of the body as we send it
        headers = {name: value for name, value in given.headers if not name.lower().startswith(left_out)}
        body = given.get_data()
        if (call.service, call.operation) in _GIVING_KEYS and given.status_code < _HTTP_ERROR:
            body = with_our_keys(body, self._key, self._session_of(call, body))
        return Answer(given.status_code, headers, body)

    def _replay(self) -> None:
        """Bring back what earlier servers held."""
        for call, seed in self._journal.entries():
            given = self._run(call, seed)
            if given.status >= _HTTP_ERROR:
                log.error("%s:%s of the journal is refused now: %r", call.service, call.operation, given.body[:500])
        self._write_roles()

    def _session_of(self, call: Call, body: bytes) -> Session | None:
        """Return the session of a role that an answer begins; None for one that gives a key of another kind."""
        if not call.operation.startswith("AssumeRole"):
            return None
        name = element_of(body.decode(), "Arn").rpartition("/")[2]
        return self._roles.session(str(call.parameters.get("RoleArn", "")), name)

    def _write_roles(self) -> None:
        self._roles.write(roles_of_moto(), self._journal.size)


def with_our_keys(body: bytes, key: HomeKey, session: Session | None) -> bytes:
    """Return an answer that gives out a key, with a secret and a token that this server knows again.

    Args:
        body: moto's answer: `AccessKeyId`, `SecretAccessKey` and, for a temporary key, `SessionToken`, `Expiration`
            and the caller's `Arn`.
        key: the home's key.
        session: the one that was asked for; None where the key is for another than a role.
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


def with_caller(body: bytes, arn: str) -> bytes:
    """Return moto's answer to `GetCallerIdentity` with the caller's own ARN.

    Args:
        body: the answer.
        arn: of an assumed role or a federated user; the last part is the session's name.
    """
    role, _, session = arn.rpartition("/")
    digest = hashlib.sha256(role.encode()).hexdigest().upper()
    text = re.sub(r"<Arn>[^<]*</Arn>", f"<Arn>{escape(arn)}</Arn>", body.decode())
    return re.sub(r"<UserId>[^<]*</UserId>", f"<UserId>AROA{digest[:17]}:{escape(session)}</UserId>", text).encode()


def element_of(text: str, name: str) -> str:
    """Return the text of the first element of a name in an answer of XML; empty if there is none."""
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
    _let_targets_stand_alone()
    return DomainDispatcherApplication(create_backend_app)


def _let_targets_stand_alone() -> None:
    """Let an event reach the targets that can take it: moto stops at the first that cannot, and so loses all others.

    A target may be a queue that is deleted, or of a service that moto does not send to. A rule with a schedule alone
    takes no events, which moto sends to it.
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
                except Exception as error:  # noqa: BLE001 -- whatever it is, the next target is another
                    log.warning("The rule %s cannot send an event to %s: %r", rule.name, target.get("Arn"), error)
        finally:
            rule.targets = targets

    Rule.send_to_targets = send_to_each  # type: ignore[method-assign, assignment]


def _headers(call: Call) -> dict[str, str]:
    """The headers by which moto knows service, region and operation; a signature would mean nothing to it."""
    scope = f"{call.access_key}/20260101/{call.region}/{call.service}/aws4_request"
    signature = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"
    return {**call.headers, "authorization": signature}


def _not_built(call: Call, why: str) -> Answer:
    """Tell the client that neither we nor moto have this operation."""
    operation = call.operation or f"{call.method} {call.path}"
    message = f"{call.service}:{operation} is not built in local_sagemaker{f' ({why})' if why else ''}."
    code = "InvalidAction" if _speaks_query(call) else "UnknownOperationException"
    return _refusal(call, Words(code, _HTTP_ERROR, message))


def _not_kept(call: Call, error: OSError) -> Answer:
    """Tell the client that nothing was done, because it would be forgotten: the disk is full, most likely."""
    message = f"{call.service}:{call.operation} could not be written down ({error.strerror}), and was not done."
    return _refusal(call, Words("InternalFailure", _HTTP_FAILURE, message))


def _speaks_query(call: Call) -> bool:
    return protocol_of(wire_of(call.service, call.headers)) == "query"


def _not_in_force(call: Call, error: OSError) -> Answer:
    """Tell the client that IAM has the change, but jobs do not know of it yet."""
    message = (
        f"{call.service}:{call.operation} was done, but is not in force ({error.strerror}): the roles that jobs read "
        "could not be written. The next change in IAM writes all of them, and so does a new server."
    )
    return _refusal(call, Words("InternalFailure", _HTTP_FAILURE, message))


def _refusal(call: Call, words: Words) -> Answer:
    response = answer(words, wire_of(call.service, call.headers), call.path)
    return Answer(response.status_code, dict(response.headers), bytes(response.body))
