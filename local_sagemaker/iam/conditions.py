"""The `Condition` element of a policy, with all operators that the IAM User Guide lists. Pure.

Sources: "IAM JSON policy elements: Condition operators" and "Conditions with multiple context keys or values".
"""

from __future__ import annotations

import ipaddress
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from typing import Any, Literal

from local_sagemaker.iam.patterns import Context, Pattern, arn_matches

Compare = Callable[[str, Pattern, Context], bool]
Quantifier = Literal["", "ForAllValues", "ForAnyValue"]


class MalformedPolicy(Exception):
    """IAM does not accept the policy; the text says why."""


@dataclass(frozen=True)
class Operator:
    """A condition operator: how a value of the request is compared with one of the policy.

    Attributes:
        compare: tells whether the values match.
        negated: whether the condition holds if no value matches.
        wildcards: whether `*` and `?` in the policy's value are wildcards.
        ignore_case: whether the comparison ignores case.
    """

    compare: Compare
    negated: bool = False
    wildcards: bool = False
    ignore_case: bool = False


def _text(value: str, wanted: Pattern, context: Context) -> bool:
    return wanted.matches(value, context)


def _arn(value: str, wanted: Pattern, context: Context) -> bool:
    return arn_matches(wanted, value, context)


def _ordered(read: Callable[[str], float], holds: Callable[[float, float], bool]) -> Compare:
    def compare(value: str, wanted: Pattern, _context: Context) -> bool:
        try:
            return holds(read(value), read(wanted.text))
        except ValueError:  # not a number, date or time: no match
            return False

    return compare


def _boolean(value: str, wanted: Pattern, context: Context) -> bool:
    return wanted.matches(value, context)


def _address(value: str, wanted: Pattern, _context: Context) -> bool:
    try:
        return ipaddress.ip_address(value) in ipaddress.ip_network(wanted.text, strict=False)
    except ValueError:
        return False


def _moment(text: str) -> float:
    """Return the epoch seconds of an ISO 8601 date, or of a number of epoch seconds."""
    if text.replace(".", "", 1).isdecimal():
        return float(text)
    found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return (found if found.tzinfo else found.replace(tzinfo=timezone.utc)).timestamp()


def _orders(kind: str, read: Callable[[str], float]) -> dict[str, Operator]:
    orders: Mapping[str, Callable[[float, float], bool]] = {
        "Equals": operator.eq,
        "LessThan": operator.lt,
        "LessThanEquals": operator.le,
        "GreaterThan": operator.gt,
        "GreaterThanEquals": operator.ge,
    }
    found = {f"{kind}{name}": Operator(_ordered(read, holds)) for name, holds in orders.items()}
    return {**found, f"{kind}NotEquals": Operator(_ordered(read, operator.eq), negated=True)}


OPERATORS: Mapping[str, Operator] = {
    "StringEquals": Operator(_text),
    "StringNotEquals": Operator(_text, negated=True),
    "StringEqualsIgnoreCase": Operator(_text, ignore_case=True),
    "StringNotEqualsIgnoreCase": Operator(_text, negated=True, ignore_case=True),
    "StringLike": Operator(_text, wildcards=True),
    "StringNotLike": Operator(_text, negated=True, wildcards=True),
    **_orders("Numeric", float),
    **_orders("Date", _moment),
    "Bool": Operator(_boolean, ignore_case=True),
    "BinaryEquals": Operator(_text),
    "IpAddress": Operator(_address),
    "NotIpAddress": Operator(_address, negated=True),
    # "ArnEquals and ArnLike behave identically."
    "ArnEquals": Operator(_arn, wildcards=True),
    "ArnLike": Operator(_arn, wildcards=True),
    "ArnNotEquals": Operator(_arn, negated=True, wildcards=True),
    "ArnNotLike": Operator(_arn, negated=True, wildcards=True),
}
"""The operators by their names in policies, without `Null`, which compares no values."""

_NULL = "Null"
_IF_EXISTS = "IfExists"
_QUANTIFIERS: Mapping[str, Quantifier] = {"ForAllValues": "ForAllValues", "ForAnyValue": "ForAnyValue"}


@dataclass(frozen=True)
class Condition:
    """One operator on one key. A statement applies if all of its conditions hold.

    Attributes:
        key: the condition key, in lower case.
        operator: how values are compared; None for `Null`.
        wanted: the policy's values. One must match, or none if the operator is negated.
        quantifier: the set operator for keys with several values; empty if there is none.
        if_exists: whether the condition holds if the request lacks the key.
    """

    key: str
    operator: Operator | None
    wanted: tuple[Pattern, ...]
    quantifier: Quantifier = ""
    if_exists: bool = False

    def holds(self, context: Context) -> bool:
        """Tell whether the condition holds for a request.

        If the request lacks the key, a plain operator is false and a negated one is true.
        """
        values = context.get(self.key, ())
        if self.operator is None:
            return any(one.text.lower() == str(not values).lower() for one in self.wanted)
        if not values:
            return self._of_nothing(self.operator)
        matching = [self._matches(value, context) for value in values]
        if self.quantifier == "ForAllValues":
            return all(one != self.operator.negated for one in matching)
        if self.quantifier == "ForAnyValue":
            return any(one != self.operator.negated for one in matching)
        return any(matching) != self.operator.negated

    def _of_nothing(self, operator: Operator) -> bool:
        if self.quantifier:
            return self.quantifier == "ForAllValues"
        return self.if_exists or operator.negated

    def _matches(self, value: str, context: Context) -> bool:
        assert self.operator is not None
        compare = partial(self.operator.compare, value)
        return any(compare(wanted, context) for wanted in self.wanted)


def read_conditions(element: Any, *, variables: bool) -> tuple[Condition, ...]:
    """Read a `Condition` element.

    Args:
        element: the element as parsed from JSON.
        variables: whether `${…}` is a variable.

    Raises:
        MalformedPolicy: the element has an unknown operator, or is not an object of objects.
    """
    if not isinstance(element, Mapping) or not all(isinstance(keys, Mapping) for keys in element.values()):
        raise MalformedPolicy(f"A Condition has keys and values by operator, and this one is {element!r}.")
    return tuple(
        _condition(name, key, values, variables=variables)
        for name, keys in element.items()
        for key, values in keys.items()
    )


def _condition(name: str, key: str, values: Any, *, variables: bool) -> Condition:
    quantifier, _, rest = name.rpartition(":")
    base = rest.removesuffix(_IF_EXISTS)
    if (base not in OPERATORS and rest != _NULL) or (quantifier and quantifier not in _QUANTIFIERS):
        raise MalformedPolicy(f"IAM has no condition operator {name!r}.")
    found = OPERATORS.get(base)
    make = partial(
        Pattern,
        variables=variables,
        wildcards=found.wildcards if found else False,
        ignore_case=found.ignore_case if found else False,
    )
    wanted = tuple(make(_written(value)) for value in listed(values))
    return Condition(key.lower(), found, wanted, _QUANTIFIERS.get(quantifier, ""), rest != base)


def listed(value: Any) -> Sequence[Any]:
    """Return a value as a list; a policy may write a single value without one."""
    return value if isinstance(value, list) else [value]


def _written(value: Any) -> str:
    """Return a value as text; a policy may write it as a number or boolean of JSON."""
    return str(value).lower() if isinstance(value, bool) else str(value)
