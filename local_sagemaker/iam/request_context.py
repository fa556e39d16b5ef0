"""A request to a service as policies evaluate it: its members, tags and resources."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from local_sagemaker.account import ACCOUNT
from local_sagemaker.iam.policies import Permission

# The prefix of actions, for services whose name in signatures differs.
_PREFIXES = {"monitoring": "cloudwatch", "tagging": "tag"}


@dataclass(frozen=True)
class ResourceLookup:
    """Functions that look up what a request names only in part.

    Attributes:
        tags: returns the tags of a job by its ARN.
        secret: returns the ARN of a secret by region and name or partial ARN; None if it does not exist.
        key: returns the ARN of a KMS key by region and id, alias or ARN; None if it does not exist.
        role: returns the ARN of a role by its name; None if it does not exist.
        user: returns the ARN of an IAM user by region and name; None if it does not exist.
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
        service: the service's name in signatures.
        region: the region of the request.
        operation: the name of the operation.
        parameters: the members of the request that the operation has; of the query protocol, its fields.
        known: looks up what the request names only in part.
    """

    service: str
    region: str
    operation: str
    parameters: Mapping[str, Any]
    known: ResourceLookup

    @property
    def prefix(self) -> str:
        """The service's prefix in the names of actions."""
        return _PREFIXES.get(self.service, self.service)

    def text(self, name: str) -> str:
        """Return the text of a member of the request; empty if it is missing or not a text."""
        return next(iter(self.texts(name)), "")

    def texts(self, *path: str) -> list[str]:
        """Return the texts of a member, or of a nested one. For a list, return those of all its elements."""
        found: list[Any] = [self.parameters]
        for name in path:
            found = [value for one in found if isinstance(one, Mapping) for value in _members(one, name)]
        return [value for value in found if isinstance(value, str) and value]

    def tags(self) -> dict[str, str]:
        """Return the tags in the member `Tags`."""
        tags = [tag for tag in _members(self.parameters, "Tags") if isinstance(tag, Mapping)]
        given = {tag.get("Key"): tag.get("Value") for tag in tags if isinstance(tag.get("Key"), str)}
        return {key: value for key, value in given.items() if isinstance(key, str) and isinstance(value, str)}

    def arn(self, resource: str) -> str:
        """Return the ARN of a resource of the service."""
        return f"arn:aws:{self.prefix}:{self.region}:{ACCOUNT}:{resource}"

    def need(self, resource: str | None, **context: str) -> Permission:
        """Return the permission for the operation itself on a resource."""
        return Permission(f"{self.prefix}:{self.operation}", resource, {key: [value] for key, value in context.items()})


def _members(parameters: Mapping[str, Any], name: str) -> list[Any]:
    """Return a member as a list, also if the query protocol has it as `Name.member.1`."""
    value = parameters.get(name)
    numbered = re.compile(rf"{re.escape(name)}(?:\.\w+)?\.\d+")
    flat = [one for key, one in parameters.items() if numbered.fullmatch(key)]
    return [*(value if isinstance(value, list) else [] if value is None else [value]), *flat]
