"""Policies of IAM, and what they say of a request. Pure.

Not moto's `access_control`, which knows neither resources nor conditions. Source: IAM User Guide, "Policy evaluation
logic" and "IAM JSON policy element reference". Inside `local_sagemaker` anybody may import it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from local_sagemaker.iam.conditions import Condition, MalformedPolicy, listed, read_conditions
from local_sagemaker.iam.patterns import Context, Pattern, completed_arn

__all__ = ["Decision", "MalformedPolicy", "Permission", "Policy", "decide"]

_WITH_VARIABLES = "2012-10-17"  # the version of policies whose `${…}` are variables
_LAYER = {"identity": "identity-based policy", "boundary": "permissions boundary"}


@dataclass(frozen=True)
class Permission:
    """What a request needs: an action on a resource.

    Attributes:
        action: such as `s3:GetObject`.
        resource: its ARN, or `*` for actions that have none; None where this server cannot tell which it is. Then any
            statement that allows the action allows it, and only one for all resources denies it.
        context: what conditions look at, the keys in lower case.
    """

    action: str
    resource: str | None
    context: Mapping[str, Sequence[str]] = field(default_factory=dict, hash=False)

    def within(self, partition: str) -> Permission:
        """Return the same need in a partition, such as `aws-cn`, where its resource is in `aws`."""
        if self.resource is None or not self.resource.startswith("arn:aws:"):
            return self
        return replace(self, resource=f"arn:{partition}:{self.resource.removeprefix('arn:aws:')}")


@dataclass(frozen=True)
class Decision:
    """What the policies say.

    Attributes:
        allowed: whether the request may go on.
        explicit: whether a `Deny` refused it.
        layer: which kind of policies refused it.
    """

    allowed: bool
    explicit: bool = False
    layer: Literal["identity", "boundary"] = "identity"

    def because(self, action: str) -> str:
        """Return the reason of a refusal (IAM User Guide, "Troubleshoot access denied error messages")."""
        noun = _LAYER[self.layer]
        article = "an" if noun[0] in "aeiou" else "a"
        if self.explicit:
            return f"with an explicit deny in {article} {noun}"
        return f"because no {noun} allows the {action} action"


class _Choice:
    """`Action`, `NotAction`, `Resource` or `NotResource` of a statement."""

    def __init__(self, patterns: Iterable[Pattern], *, negated: bool, ignore_case: bool = False) -> None:
        patterns = tuple(patterns)
        self.negated = negated
        self.is_all = not negated and any(pattern.text == "*" for pattern in patterns)
        self._varying = tuple(pattern for pattern in patterns if pattern.expression is None)
        fixed = [pattern.expression for pattern in patterns if pattern.expression is not None]
        flags = re.DOTALL | (re.IGNORECASE if ignore_case else 0)
        self._fixed = re.compile("|".join(f"(?:{one})" for one in fixed), flags) if fixed else None

    def has(self, value: str, context: Context) -> bool:
        """Tell whether a value is chosen."""
        if self.is_all:
            return True
        found = bool(self._fixed and self._fixed.fullmatch(value))
        return (found or any(one.matches(value, context) for one in self._varying)) != self.negated


@dataclass(frozen=True)
class _Statement:
    allows: bool
    actions: _Choice
    resources: _Choice
    conditions: tuple[Condition, ...]

    def applies(self, need: Permission, context: Context) -> bool:
        return (
            self.actions.has(need.action, context)
            and self._is_about(need, context)
            and all(condition.holds(context) for condition in self.conditions)
        )

    def _is_about(self, need: Permission, context: Context) -> bool:
        if need.resource is None:
            return self.allows or self.resources.is_all
        return self.resources.has(need.resource, context)


@dataclass(frozen=True)
class Policy:
    """An identity-based policy, or a permissions boundary."""

    document: str

    @classmethod
    def of(cls, document: str | Mapping[str, Any]) -> Policy:
        """Read a document.

        Raises:
            MalformedPolicy: IAM takes no such policy.
        """
        policy = cls(document if isinstance(document, str) else json.dumps(document))
        policy._statements  # noqa: B018 -- read now, so that its faults are told now
        return policy

    def says(self, need: Permission, context: Context) -> Literal["deny", "allow", ""]:
        """Return what the policy says of a request; nothing if no statement applies."""
        applying = {one.allows for one in self._statements if one.applies(need, context)}
        if False in applying:
            return "deny"
        return "allow" if applying else ""

    @cached_property
    def _statements(self) -> tuple[_Statement, ...]:
        try:
            document = json.loads(self.document)
            variables = document.get("Version") == _WITH_VARIABLES
            statements = listed(document["Statement"])
            return tuple(_statement(one, variables=variables) for one in statements)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise MalformedPolicy(f"The policy cannot be read ({error!r}): {self.document:.200}") from error


def _statement(element: Mapping[str, Any], *, variables: bool) -> _Statement:
    if element["Effect"] not in ("Allow", "Deny"):
        raise MalformedPolicy(f"An Effect is Allow or Deny, and not {element['Effect']!r}.")
    return _Statement(
        element["Effect"] == "Allow",
        _choice(element, "Action", variables=False),
        _choice(element, "Resource", variables=variables),
        read_conditions(element.get("Condition", {}), variables=variables),
    )


def _choice(element: Mapping[str, Any], name: str, *, variables: bool) -> _Choice:
    negated = f"Not{name}" in element
    texts = [str(one) for one in listed(element[f"Not{name}" if negated else name])]
    if name == "Resource":
        patterns = [Pattern(completed_arn(text), variables=variables) for text in texts]
        return _Choice(patterns, negated=negated)
    patterns = [Pattern(text, variables=variables, ignore_case=True) for text in texts]
    return _Choice(patterns, negated=negated, ignore_case=True)


def decide(
    policies: Iterable[Policy], need: Permission, boundary: Policy | None = None, about: Context | None = None
) -> Decision:
    """Decide about a request: a `Deny` wins, else each layer must allow it.

    Args:
        policies: the identity's, attached and inline.
        need: what the request needs.
        boundary: the permissions boundary; None where there is none.
        about: context of the one who asks, in addition to the need's.
    """
    context = {**(about or {}), **need.context}
    said = {policy.says(need, context) for policy in policies}
    bound = boundary.says(need, context) if boundary else "allow"
    if "deny" in said:
        return Decision(allowed=False, explicit=True)
    if bound == "deny":
        return Decision(allowed=False, explicit=True, layer="boundary")
    if "allow" not in said:
        return Decision(allowed=False)
    return Decision(allowed=True) if bound else Decision(allowed=False, layer="boundary")
