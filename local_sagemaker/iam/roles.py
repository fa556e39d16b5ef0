"""The roles of a home with their policies: one file, which the server writes and everybody reads.

A file, since the supervisors of jobs decide about downloads and uploads also while the server is dead. moto holds the
roles; the server writes down after each change what they may do. Inside `local_sagemaker` anybody may import it.
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

# By these a caller comes to the rights of another role.
_GIVING_A_ROLE = ("sts:AssumeRole", "iam:PassRole")


class NotAuthorized(Exception):
    """A role may not do what it asked for; the text is AWS's."""


@dataclass(frozen=True)
class Role:
    """A role, as far as its rights go.

    Attributes:
        arn: its ARN.
        role_id: as in `aws:userid`.
        documents: its policies, attached and inline.
        boundary: its permissions boundary; None where it has none.
        tags: `aws:PrincipalTag/…`.
    """

    arn: str
    role_id: str
    documents: Sequence[str]
    boundary: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    def decide(self, need: Permission, session: str, region: str = "us-east-1") -> Decision:
        """Decide whether a session of the role may have what it needs in a region.

        Raises:
            MalformedPolicy: one of its policies cannot be read.
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
        """What every request of the role says. On AWS clients speak TLS, so a policy that asks for it is content."""
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
        """Return a role by its ARN, whose path and case count; None if there is none."""
        return self._read().get(arn)

    def named(self, name: str) -> Role | None:
        """Return a role by its name, which is unique; None if there is none."""
        return next((role for arn, role in self._read().items() if arn.rpartition("/")[2] == name), None)

    def session(self, role_arn: str, name: str) -> Session:
        """Return a session that begins now.

        Args:
            role_arn: the role's; need not be in the table.
            name: the session's.
        """
        role = self.get(role_arn)
        return Session(role_arn, name, role.role_id if role else "")

    def write(self, roles: Sequence[Role], position: int) -> None:
        """Replace all roles.

        Args:
            roles: all there are.
            position: how far in moto's journal they are up to date.
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
        """How far in moto's journal the file is up to date."""
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
    """What one who asks may do.

    Attributes:
        session: the session of the role that asks; None for the home's user, who may do everything.
        roles: the roles of the home.
        region: which the requests are for.
    """

    session: Session | None
    roles: RoleTable
    region: str

    @property
    def is_bounded(self) -> bool:
        """Whether there are policies to ask. A role that this home's IAM never had may do everything."""
        return self.session is not None and (bool(self.session.role_id) or self._role(self.session) is not None)

    @property
    def is_over(self) -> bool:
        """Whether the role was deleted since the session began; AWS takes none of its keys then."""
        return self.session is not None and bool(self.session.role_id) and self._role(self.session) is None

    def check(self, *needs: Permission) -> None:
        """See that the policies allow all of it.

        Raises:
            NotAuthorized: they do not, or the role was deleted.
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
        """Tell whether the policies allow it."""
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
        """Return the role of a session, as long as it is the one with which the session began."""
        role = self.roles.get(session.role_arn)
        return role if role and session.role_id in ("", role.role_id) else None
