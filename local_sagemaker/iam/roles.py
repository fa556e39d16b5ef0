"""The roles of a home with their policies, in one file that the server writes, and supervisors read, too.

It is a file, because supervisors authorize downloads and uploads also while the server is down. moto holds the roles.
The server writes their policies to the file after each change.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

from local_sagemaker.account import partition_of
from local_sagemaker.iam.patterns import Context
from local_sagemaker.iam.policies import Decision, MalformedPolicy, Permission, Policy, decide
from local_sagemaker.iam.sessions import Session

# These actions give a caller the permissions of another role.
_GIVING_A_ROLE = ("sts:AssumeRole", "iam:PassRole")


class NotAuthorized(Exception):
    """A role lacks a permission; the text is AWS's."""


@dataclass(frozen=True)
class Role:
    """A role and its policies.

    Attributes:
        arn: its ARN.
        role_id: its unique id, as in `aws:userid`.
        documents: the documents of its policies, attached and inline.
        boundary: the document of its permissions boundary; None if it has none.
        tags: its tags, for `aws:PrincipalTag/…`.
    """

    arn: str
    role_id: str
    documents: Sequence[str]
    boundary: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    def decide(self, need: Permission, session: str, region: str = "us-east-1") -> Decision:
        """Decide whether a session of the role has a permission in a region.

        Raises:
            MalformedPolicy: a policy of the role is invalid.
        """
        now = datetime.now(timezone.utc)
        about = {
            "aws:currenttime": [now.strftime("%Y-%m-%dT%H:%M:%SZ")],
            "aws:epochtime": [str(int(now.timestamp()))],
            "aws:requestedregion": [region],
            "aws:userid": [f"{self.role_id}:{session}"],
        }
        return decide(self._policies, need, self._bound, {**self._context, **about})

    @cached_property
    def _policies(self) -> tuple[Policy, ...]:
        return tuple(Policy.of(document) for document in self.documents)

    @cached_property
    def _bound(self) -> Policy | None:
        return Policy.of(self.boundary) if self.boundary is not None else None

    @cached_property
    def _context(self) -> Context:
        """The request context that is the same for all requests of the role.

        `aws:SecureTransport` is true, because clients use TLS on AWS.
        """
        return {
            "aws:principalarn": [self.arn],
            "aws:principalaccount": [self.arn.split(":")[4]],
            "aws:resourceaccount": [self.arn.split(":")[4]],  # a home has one account
            "aws:principaltype": ["AssumedRole"],
            "aws:principalisawsservice": ["false"],
            "aws:viaawsservice": ["false"],
            "aws:securetransport": ["true"],
            **{f"aws:principaltag/{key.lower()}": [value] for key, value in self.tags.items()},
        }


class RoleTable:
    """The roles of a home.

    Args:
        home: the data directory.
    """

    def __init__(self, home: Path) -> None:
        self._path = home / "roles.json"
        self._version: tuple[int, int, int] | None = None
        self._roles: Mapping[str, Role] = {}

    def get(self, arn: str) -> Role | None:
        """Return a role by its ARN, which must match in path and case; None if it does not exist."""
        return self._read().get(arn)

    def named(self, name: str) -> Role | None:
        """Return a role by its name, which is unique; None if it does not exist."""
        return next((role for arn, role in self._read().items() if arn.rpartition("/")[2] == name), None)

    def session(self, role_arn: str, name: str) -> Session:
        """Return a session that begins now.

        Args:
            role_arn: the role's ARN; need not be in the table.
            name: the name of the session.
        """
        role = self.get(role_arn)
        return Session(role_arn, name, role.role_id if role else "")

    def write(self, roles: Sequence[Role], position: int) -> None:
        """Replace all roles.

        Args:
            roles: all roles of the home.
            position: the size of moto's journal, in bytes, up to which they are current.
        """
        kept = [
            {"arn": one.arn, "role_id": one.role_id, "documents": list(one.documents), "boundary": one.boundary}
            | {"tags": dict(one.tags)}
            for one in roles
        ]
        part = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(json.dumps({"position": position, "roles": kept}))
        part.replace(self._path)

    @property
    def position(self) -> int:
        """The size of moto's journal, in bytes, up to which the file is current."""
        return int(self._content()["position"])

    def _read(self) -> Mapping[str, Role]:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return {}
        version = found.st_ino, found.st_mtime_ns, found.st_size
        if version != self._version:
            roles = [Role(**kept) for kept in self._content()["roles"]]
            self._roles, self._version = {role.arn: role for role in roles}, version
        return self._roles

    def _content(self) -> dict[str, Any]:
        try:
            content: dict[str, Any] = json.loads(self._path.read_text())
        except FileNotFoundError:
            return {"position": 0, "roles": []}
        return content


@dataclass(frozen=True)
class Access:
    """The permissions of a caller.

    Attributes:
        session: the caller's role session; None for a caller that may do everything, such as the home's user.
        roles: the roles of the home.
        region: the region of the requests.
    """

    session: Session | None
    roles: RoleTable
    region: str

    @property
    def is_bounded(self) -> bool:
        """Whether policies restrict the caller. A role that this home's IAM never had may do everything."""
        return self.session is not None and (bool(self.session.role_id) or self._role(self.session) is not None)

    @property
    def is_over(self) -> bool:
        """Whether the role was deleted after the session began. AWS then refuses the session's keys."""
        return self.session is not None and bool(self.session.role_id) and self._role(self.session) is None

    def check(self, *needs: Permission) -> None:
        """Check that the policies allow all of the permissions.

        Raises:
            NotAuthorized: the policies do not allow one, or the role was deleted.
        """
        if self.session is None:
            return
        role = self._role(self.session)
        if role is None and self.session.role_id:
            raise NotAuthorized(
                f"User: {self.session.arn} is not authorized: the role {self.session.role_arn} is deleted"
            )
        if role is not None:
            for need in needs:
                self._check(role, self.session, need)

    def allows(self, need: Permission) -> bool:
        """Tell whether the policies allow a permission."""
        try:
            self.check(need)
        except NotAuthorized:
            return False
        return True

    def _check(self, role: Role, session: Session, need: Permission) -> None:
        here = need.within(partition_of(self.region))
        about = f' on resource: "{here.resource}"' if here.resource not in (None, "*") else ""
        refused = f"User: {session.arn} is not authorized to perform: {need.action}{about}"
        try:
            decision = role.decide(here, session.name, self.region)
        except MalformedPolicy as error:
            raise NotAuthorized(f"User: {session.arn} has a policy that IAM would not have taken: {error}") from error
        if not decision.allowed:
            raise NotAuthorized(f"{refused} {decision.because(need.action)}")
        if need.action.startswith(_GIVING_A_ROLE) and self.roles.get(need.resource or "") is None:
            raise NotAuthorized(f"{refused} because the IAM of this home has no role of exactly this ARN")

    def _role(self, session: Session) -> Role | None:
        """Return the role of a session; None if it is not the role with which the session began."""
        role = self.roles.get(session.role_arn)
        return role if role and session.role_id in ("", role.role_id) else None
