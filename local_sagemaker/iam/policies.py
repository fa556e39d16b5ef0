"""IAM policies and their evaluation. Pure.

moto's `access_control` is not used, because it ignores resources and conditions. Source: IAM User Guide, "Policy
evaluation logic" and "IAM JSON policy element reference".
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

_WITH_VARIABLES = "2012-10-17"  # the version of policies in which `${…}` is a variable
_LAYER = {"identity": "identity-based policy", "boundary": "permissions boundary"}


@dataclass(frozen=True)
class Permission:
    """A permission that a request needs: an action on a resource.

    Attributes:
        action: such as `s3:GetObject`.
        resource: the ARN, or `*` for actions without a resource; None if the server cannot tell it. Then any `Allow` of
            the action applies, and a `Deny` of it applies only if it is for all resources.
        context: the request context for conditions, with keys in lower case.
    """

    action: str
    resource: str | None
    context: Mapping[str, Sequence[str]] = field(default_factory=dict, hash=False)

    def within(self, partition: str) -> Permission:
        """Return the permission with the resource's partition `aws` replaced, such as by `aws-cn`."""
        if self.resource is None or not self.resource.startswith("arn:aws:"):
            return self
        return replace(self, resource=f"arn:{partition}:{self.resource.removeprefix('arn:aws:')}")


@dataclass(frozen=True)
class Decision:
    """The result of policy evaluation.

    Attributes:
        allowed: whether the request is allowed.
        explicit: whether a `Deny` refused it.
        layer: the kind of policy that refused it.
    """

    allowed: bool
    explicit: bool = False
    layer: Literal["identity", "boundary"] = "identity"

    def because(self, action: str) -> str:
        """Return the reason for a refusal (IAM User Guide, "Troubleshoot access denied error messages")."""
        noun = _LAYER[self.layer]
        article = "an" if noun[0] in "aeiou" else "a"
        if self.explicit:
            return f"with an explicit deny in {article} {noun}"
        return f"because no {noun} allows the {action} action"


class _Choice:
    """The `Action`, `NotAction`, `Resource` or `NotResource` element of a statement."""

    def __init__(self, patterns: Iterable[Pattern], *, negated: bool, ignore_case: bool = False) -> None:
        patterns = tuple(patterns)
        self.negated = negated
        self.is_all = not negated and any(pattern.text == "*" for pattern in patterns)
        self._varying = tuple(pattern for pattern in patterns if pattern.expression is None)
        fixed = [pattern.expression for pattern in patterns if pattern.expression is not None]
        flags = re.DOTALL | (re.IGNORECASE if ignore_case else 0)
        self._fixed = re.compile("|".join(f"(?:{one})" for one in fixed), flags) if fixed else None

    def has(self, value: str, context: Context) -> bool:
        """Tell whether the element includes a value."""
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
        """Read a policy document.

        Raises:
            MalformedPolicy: IAM does not accept the policy.
        """
        policy = cls(document if isinstance(document, str) else json.dumps(document))
        policy._statements  # noqa: B018 -- parse now, so that errors are raised here
        return policy

    def says(self, need: Permission, context: Context) -> Literal["deny", "allow", ""]:
        """Return the effect of the policy on a request; empty if no statement applies."""
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
    """Evaluate policies for a request: any `Deny` refuses it, else each layer must allow it.

    Args:
        policies: the identity-based policies, attached and inline.
        need: the permission that the request needs.
        boundary: the permissions boundary; None if there is none.
        about: the context of the principal, in addition to that of `need`; None if there is none.
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
