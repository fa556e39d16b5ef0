"""A request to a service as policies look at it: its members by their types, and what it names only in part."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from local_sagemaker.account import ACCOUNT
from local_sagemaker.iam.policies import Permission

# Names in signatures that are not those of actions.
_PREFIXES = {"monitoring": "cloudwatch", "tagging": "tag"}


@dataclass(frozen=True)
class ResourceLookup:
    """Looks up what a request names only in part; each returns None if there is none.

    Attributes:
        tags: the tags of a job by its ARN.
        secret: the ARN of a secret by region and name, or a part of its ARN.
        key: the ARN of a KMS key by region and id, alias or ARN.
        role: the ARN of a role by its name.
        user: the ARN of a user of IAM by region and name.
    """

    tags: Callable[[str], Mapping[str, str]]
    secret: Callable[[str, str], str | None]
    key: Callable[[str, str], str | None]
    role: Callable[[str], str | None]
    user: Callable[[str, str], str | None]


@dataclass(frozen=True)
class RequestContext:
    """A request to a service.

    Attributes:
        service: as its signature names it.
        region: of the signature.
        operation: its name.
        parameters: the request's members, also of the query protocol; none that the operation does not have.
        known: looks up the rest.
    """

    service: str
    region: str
    operation: str
    parameters: Mapping[str, Any]
    known: ResourceLookup

    @property
    def prefix(self) -> str:
        """The service as actions name it."""
        return _PREFIXES.get(self.service, self.service)

    def text(self, name: str) -> str:
        """Return a member of the request; empty where it is missing or no text."""
        return next(iter(self.texts(name)), "")

    def texts(self, *path: str) -> list[str]:
        """Return the texts of a member, or of a member of a member; of a list, those of all its elements."""
        found: list[Any] = [self.parameters]
        for name in path:
            found = [value for one in found if isinstance(one, Mapping) for value in _members(one, name)]
        return [value for value in found if isinstance(value, str) and value]

    def tags(self) -> dict[str, str]:
        """Return the tags of the request."""
        tags = [tag for tag in _members(self.parameters, "Tags") if isinstance(tag, Mapping)]
        given = {tag.get("Key"): tag.get("Value") for tag in tags if isinstance(tag.get("Key"), str)}
        return {key: value for key, value in given.items() if isinstance(key, str) and isinstance(value, str)}

    def arn(self, resource: str) -> str:
        """Return the ARN of a resource of the service."""
        return f"arn:aws:{self.prefix}:{self.region}:{ACCOUNT}:{resource}"

    def need(self, resource: str | None, **context: str) -> Permission:
        """Return the need of the operation itself."""
        return Permission(f"{self.prefix}:{self.operation}", resource, {key: [value] for key, value in context.items()})


def _members(parameters: Mapping[str, Any], name: str) -> list[Any]:
    """Return a member as a list, also one that the query protocol has as `Name.member.1`."""
    value = parameters.get(name)
    numbered = re.compile(rf"{re.escape(name)}(?:\.\w+)?\.\d+")
    flat = [one for key, one in parameters.items() if numbered.fullmatch(key)]
    return [*(value if isinstance(value, list) else [] if value is None else [value]), *flat]
