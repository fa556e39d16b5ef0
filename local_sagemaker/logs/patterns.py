"""Filter patterns of CloudWatch Logs for unstructured text: terms, phrases, `?either ?or`, `-not`, `%regex%`. Pure.

Patterns for JSON (`{ $.x = 1 }`) and for columns (`[a, b]`) are refused, because ignoring them would return events that
do not match. The syntax is that of AWS's page "Filter pattern syntax".
"""

from __future__ import annotations

import re
from collections.abc import Callable

_TERM = re.compile(r"""(?P<mark>[?-]?)(?:"(?P<phrase>(?:\\.|[^"\\])*)"|(?P<word>[^\s"]+))""")


class PatternError(ValueError):
    """The pattern is invalid, or of a kind that is not supported."""


def matcher(pattern: str) -> Callable[[str], bool]:
    """Return a function that tells whether a message matches. All messages match an empty pattern.

    A message matches if it has all plain terms and none of the terms with `-`. Terms with `?` are alternatives, and
    are ignored if there are plain terms.

    Raises:
        PatternError: the pattern is invalid or not supported.
    """
    pattern = pattern.strip()
    if pattern[:1] in {"{", "["}:
        raise PatternError(f"Filter patterns for JSON and for columns are not built in local_sagemaker: {pattern}")
    if len(pattern) > 1 and pattern[0] == pattern[-1] == "%":
        return _regex(pattern[1:-1])
    terms = _terms(pattern)

    def matches(message: str) -> bool:
        if any(term in message for term in terms["-"]):
            return False
        if terms[""]:
            return all(term in message for term in terms[""])
        return not terms["?"] or any(term in message for term in terms["?"])

    return matches


def _terms(pattern: str) -> dict[str, list[str]]:
    """Return the terms by their mark: none, `?` or `-`."""
    terms: dict[str, list[str]] = {"": [], "?": [], "-": []}
    for found in _TERM.finditer(pattern):
        phrase, word = found["phrase"], found["word"]
        terms[found["mark"]].append(word if phrase is None else re.sub(r"\\(.)", r"\1", phrase))
    if _TERM.sub("", pattern).strip():
        raise PatternError(f"Invalid filter pattern: {pattern}")
    return terms


def _regex(expression: str) -> Callable[[str], bool]:
    try:
        compiled = re.compile(expression)
    except re.error as error:
        raise PatternError(f"Invalid regular expression in the filter pattern: {error}") from error
    return lambda message: compiled.search(message) is not None
