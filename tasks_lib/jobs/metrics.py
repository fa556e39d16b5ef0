"""Metrics read from a job's log lines by regular expressions. Pure.

As in SageMaker's `MetricDefinitions`, the first group of the expression is the value. We read the metrics ourselves,
so that processing jobs and the local SageMaker have them too, and without the delay of CloudWatch metrics.

NaN and infinity are kept as values: a diverging training prints `nan`, and a comparison of results must see that.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator, PlainSerializer

from tasks_lib.errors import InvalidTask, MetricMissing
from tasks_lib.tables import strict

MAX_POINTS = 10_000
"""Most points kept per metric in a result; beyond that, every second point but the last is dropped."""

NUMBER = (
    r"[-+]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
    r"|[nN][aA][nN]\b|[iI][nN][fF](?:inity|INITY)?\b)"
)
"""A number as programs print it, with sign, exponent, `nan` and `inf`; in syntax that every regex engine has."""

_AWS_LONGEST = 500  # characters of a regular expression in `MetricDefinitions`
_BEFORE_A_NAME = r"(?:^|[^A-Za-z0-9_./-])"  # so that `loss=` does not match `val_loss=` or `test/loss=`
_BEHIND_A_NAME = rf"\s*({NUMBER})"
_DOT = r"\."
_SPECIAL = re.compile(r"[][(){}*+?|^$\\]")
_NUMBER = re.compile(NUMBER)


def _one_nan(value: float) -> float:
    """Return the same object for each NaN: lists and mappings compare by identity first, so NaN equals NaN there."""
    return math.nan if math.isnan(value) else value


MetricValue = Annotated[float, AfterValidator(_one_nan), PlainSerializer(strict, when_used="json")]
"""A metric's value. In JSON, a value that is not finite is `"NaN"`, `"Infinity"` or `"-Infinity"`."""


class Metrics(dict[str, float]):
    """The last value of each metric that was found in a log.

    Raises:
        MetricMissing: The log had no value of the metric that is looked up.
    """

    def __missing__(self, name: str) -> float:
        had = ", ".join(map(repr, self)) or "none"
        raise MetricMissing(
            f"The log of the job had no value of a metric {name!r}; it had {had}.",
            fix=f"see that the task is given metrics={{{name!r}: …}}, and that its script prints what that looks for; "
            "`result.logs()` has the lines.",
        )


def metric_patterns(given: Mapping[str, str]) -> dict[str, str]:
    r"""Return the regular expression of each metric.

    Args:
        given: By metric name a regular expression whose first group is the value, or only the text before the value,
            such as `"auc="` or `"val loss:"`. Such a text finds the number after it, with sign, exponent, `nan` and
            `inf`. It must not end in a letter or digit: `"auc"` is taken for an expression without a group.

    Raises:
        InvalidTask: An expression is not a `str`, does not compile, has no group, or is longer than SageMaker allows.
    """
    return {name: _pattern(name, text) for name, text in given.items()}


def _pattern(name: str, given: Any) -> str:
    if not isinstance(given, str):
        raise InvalidTask(
            f"The expression of metric {name!r} is of type {type(given).__name__}.",
            fix=f"give the text before the value: metrics={{{name!r}: '{name}='}}.",
        )
    text = given
    if text and not _SPECIAL.search(text) and not text[-1].isalnum():
        before = _BEFORE_A_NAME if text[0].isalnum() or text[0] == "_" else ""
        text = before + text.replace(".", _DOT) + _BEHIND_A_NAME
    _compile(name, text)
    if len(text) > _AWS_LONGEST:
        raise InvalidTask(
            f"The expression of metric {name!r} has {len(text)} characters, and SageMaker takes {_AWS_LONGEST}.",
            fix="shorten it.",
        )
    return text


@dataclass
class MetricReader:
    """Collects the history of each metric from log lines as they arrive.

    Args:
        patterns: Regular expression by metric name; its first group is the value.

    Attributes:
        history: By metric, its values as (epoch seconds, value).
        cut: By metric, the first line in which its expression matched only a part of a number.

    Raises:
        InvalidTask: An expression does not compile, or has no group.
    """

    patterns: Mapping[str, str]
    history: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    cut: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._compiled = {name: _compile(name, pattern) for name, pattern in self.patterns.items()}

    def read(self, timestamp: float, line: str) -> None:
        """Read one line; the timestamp is in epoch seconds."""
        for name, pattern in self._compiled.items():
            for match in pattern.finditer(line):
                self._add(name, timestamp, match)

    def _add(self, name: str, timestamp: float, match: re.Match[str]) -> None:
        try:
            value = float(match.group(1) or "")
        except ValueError:
            return  # the line matches, but the group is not a number: ignored, as SageMaker does
        points = self.history.setdefault(name, [])
        points.append((timestamp, _one_nan(value)))
        if len(points) > MAX_POINTS:
            del points[:-1:2]
        if name not in self.cut and _is_cut(match):
            self.cut[name] = match.string

    @property
    def last(self) -> dict[str, float]:
        """The last value of each metric that was found."""
        return {name: points[-1][1] for name, points in self.history.items()}


def metric_warnings(reader: MetricReader, lines: Sequence[str]) -> list[str]:
    """Return a warning for each metric that has no value, or whose expression cut a number.

    Args:
        reader: The reader, after it has read the whole log.
        lines: The log's last lines. The warning of a missing metric quotes the most similar ones.
    """
    said = []
    for name, pattern in reader.patterns.items():
        if name not in reader.history:
            near = _nearest(name, lines)
            shown = "; the nearest lines of the log: " + " / ".join(map(repr, near)) if near else ""
            said.append(f"The metric {name!r} has no value: no line has {_shown(pattern)}{shown}.")
        elif name in reader.cut:
            said.append(
                f"The metric {name!r} may be wrong: {pattern!r} took a part of a number in {reader.cut[name][:200]!r}. "
                f"The text before the number alone finds all of it: metrics={{{name!r}: '{name}='}}."
            )
    return said


def _shown(pattern: str) -> str:
    """Return a metric's expression as the user wrote it."""
    if pattern.endswith(_BEHIND_A_NAME):
        before = pattern.removesuffix(_BEHIND_A_NAME).removeprefix(_BEFORE_A_NAME)
        return f"a number behind {before.replace(_DOT, '.')!r}"
    return f"a number that {pattern!r} finds"


def _nearest(name: str, lines: Sequence[str]) -> list[str]:
    """Return the last three different lines with the metric's name, or if there are none, with a number."""
    named = [line for line in lines if name.lower() in line.lower()]
    numbered = [line for line in lines if _NUMBER.search(line)]
    return [line[:200] for line in list(dict.fromkeys(named or numbered))[-3:]]


def _is_cut(match: re.Match[str]) -> bool:
    """Return whether the group took only a part of the number: `1` of `1e-05`, `0.3` of `-0.3`."""
    taken, line = match.group(1), match.string
    start = match.start(1) + len(taken) - len(taken.lstrip())
    whole = _NUMBER.match(line, start)
    if whole and whole.end() > match.start(1) + len(taken.rstrip()):
        return True
    before = line[max(0, start - 2) : start]
    if before[-1:] in ("-", "+"):
        return not before[:-1].isalnum()  # in `loss-0.3` the sign may be a dash
    return before[-1:].isdigit() or before[-1:] == "."


def _compile(name: str, pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InvalidTask(
            f"The expression of metric {name!r} does not compile: {error}.",
            fix=f"correct it, or give the text before the value alone: metrics={{{name!r}: '{name}='}}.",
        ) from error
    if compiled.groups < 1:
        raise InvalidTask(
            f"The expression of metric {name!r} has no group for the value: {pattern!r}.",
            fix=f"give the text before the value alone: metrics={{{name!r}: '{name}='}}; or put the number into "
            "parentheses.",
        )
    return compiled
