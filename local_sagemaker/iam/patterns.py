"""Patterns in policies: wildcards, and variables such as `${aws:PrincipalAccount}`. Pure.

Source: IAM User Guide, "IAM JSON policy elements: Resource" and "Variables and tags".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property

Context = Mapping[str, Sequence[str]]
"""The request context: values by condition key, the keys in lower case."""

# The name of a variable may contain blanks: `${aws:PrincipalTag/cost center}`.
_VARIABLE = re.compile(r"\$\{\s*([^},]*?)\s*(?:,\s*'([^']*)'\s*)?\}")
_WILDCARDS = {"*": ".*", "?": "."}
_LITERALS = frozenset("*?$")  # `${*}` is a literal star
_ARN_COLONS = 5


class Pattern:
    """One pattern in a policy.

    Args:
        text: the text in the policy.
        variables: whether `${…}` is a variable, as in policies of version 2012-10-17.
        wildcards: whether `*` and `?` are wildcards.
        ignore_case: whether the match ignores case.
    """

    def __init__(self, text: str, *, variables: bool, wildcards: bool = True, ignore_case: bool = False) -> None:
        self.text = text
        self._variables = variables
        self._wildcards = wildcards
        self._flags = re.DOTALL | (re.IGNORECASE if ignore_case else 0)

    def matches(self, value: str, context: Context) -> bool:
        """Tell whether a whole value matches. A variable that the context lacks, without a default, matches nothing."""
        if self._constant is not None:
            return self._constant.fullmatch(value) is not None
        found = self._expression(context)
        return found is not None and re.fullmatch(found, value, self._flags) is not None

    @property
    def expression(self) -> str | None:
        """The regular expression; None if it depends on the request context."""
        return None if self._constant is None else self._constant.pattern

    @cached_property
    def _constant(self) -> re.Pattern[str] | None:
        if self._variables and any(name not in _LITERALS for name, _ in _VARIABLE.findall(self.text)):
            return None
        return re.compile(self._expression({}) or "", self._flags)

    def _expression(self, context: Context) -> str | None:
        parts, end = [], 0
        for found in _VARIABLE.finditer(self.text) if self._variables else ():
            value = found[1] if found[1] in _LITERALS else _value(found, context)
            if value is None:
                return None
            parts += [self._plain(self.text[end : found.start()]), re.escape(value)]
            end = found.end()
        return "".join([*parts, self._plain(self.text[end:])])

    def _plain(self, text: str) -> str:
        wildcards = _WILDCARDS if self._wildcards else {}
        return "".join(wildcards.get(letter) or re.escape(letter) for letter in text)


def _value(found: re.Match[str], context: Context) -> str | None:
    values = context.get(found[1].lower(), ())
    # A key with several values cannot be used as a variable.
    return values[0] if len(values) == 1 else found[2]


def completed_arn(text: str) -> str:
    """Return a resource with wildcards for the segments that an incomplete ARN lacks, as IAM reads it."""
    missing = _ARN_COLONS - text.count(":") if text.startswith("arn:") else 0
    return text + ":*" * missing


def arn_matches(pattern: Pattern, value: str, context: Context) -> bool:
    """Tell whether an ARN matches as for `ArnLike`: each of the six components by itself.

    A variable in the pattern is part of one component.
    """
    wanted, given = _components(pattern.text), value.split(":", _ARN_COLONS)
    if len(given) != len(wanted) or len(given) != _ARN_COLONS + 1:
        return pattern.text == "*"
    variables = pattern.expression is None or "${" in pattern.text
    return all(
        Pattern(one, variables=variables).matches(other, context) for one, other in zip(wanted, given, strict=True)
    )


def _components(text: str) -> list[str]:
    """Split an ARN at the colons that are not inside a variable."""
    return re.split(r":(?![^{]*\})", text, maxsplit=_ARN_COLONS)
