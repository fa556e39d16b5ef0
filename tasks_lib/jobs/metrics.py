"""Metrics read from a job's log lines by regular expressions. Pure.

SageMaker's own convention (`MetricDefinitions`): the first group of the expression is the value. We read them
ourselves too, so that processing jobs, other clouds' rules on delay, and the local backend make no difference.

Not finite is a value as well: a training that diverges prints `nan`, and whoever compares results must see it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator, PlainSerializer

from tasks_lib.errors import InvalidTask, MetricMissing
from tasks_lib.strict_json import strict

MAX_POINTS = 10_000
"""Points kept per metric in a result; beyond, every second point is dropped, and the last is always kept."""

NUMBER = (
    r"[-+]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
    r"|[nN][aA][nN]\b|[iI][nN][fF](?:inity|INITY)?\b)"
)
"""A number as programs print it: sign, exponent, `nan` and `inf`. Nothing in it that not every engine knows."""

_AWS_LONGEST = 500  # characters of a regular expression in `MetricDefinitions`
_BEFORE_A_NAME = r"(?:^|[^A-Za-z0-9_./-])"  # `loss=` is not meant to find `val_loss=` or `test/loss=`
_BEHIND_A_NAME = rf"\s*({NUMBER})"
_DOT = r"\."
_SPECIAL = re.compile(r"[][(){}*+?|^$\\]")
_NUMBER = re.compile(NUMBER)


def _one_nan(value: float) -> float:
    """Return the same object for each NaN, so that equal values are equal in any list or mapping."""
    return math.nan if math.isnan(value) else value


MetricValue = Annotated[float, AfterValidator(_one_nan), PlainSerializer(strict, when_used="json")]
"""A value of a metric, in a model: in JSON `"NaN"`, `"Infinity"` and `"-Infinity"` where it is not finite."""


class Metrics(dict[str, float]):
    """The last value of each metric that a log had.

    Raises:
        MetricMissing: One is asked for that it had not.
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
        given: By metric name a regular expression, whose first group is the value; or the text before the value alone,
            such as `"auc="` or `"val loss:"`, which finds a number behind it, with sign, exponent, `nan` and `inf`. It
            ends in no letter and no digit: `"auc"` is rather an expression whose group was forgotten.

    Raises:
        InvalidTask: An expression is no text, does not compile, has no group, or is longer than SageMaker takes.
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
    """Collects the history of each metric from lines as they come.

    Args:
        patterns: Regular expression by metric name; its first group is the value.

    Attributes:
        cut: By metric, the first line in which its expression found a part of a number only.

    Raises:
        InvalidTask: An expression does not compile, or has no group.
    """

    patterns: Mapping[str, str]
    history: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    cut: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._compiled = {name: _compile(name, pattern) for name, pattern in self.patterns.items()}

    def read(self, timestamp: float, line: str) -> None:
        """Take in one line, stamped in epoch seconds."""
        for name, pattern in self._compiled.items():
            for match in pattern.finditer(line):
                self._add(name, timestamp, match)

    def _add(self, name: str, timestamp: float, match: re.Match[str]) -> None:
        try:
            value = float(match.group(1) or "")
        except ValueError:
            return  # a line that looks like the metric and holds no number, as SageMaker passes it over
        points = self.history.setdefault(name, [])
        points.append((timestamp, _one_nan(value)))
        if len(points) > MAX_POINTS:
            del points[:-1:2]
        if name not in self.cut and _is_cut(match):
            self.cut[name] = match.string

    @property
    def last(self) -> dict[str, float]:
        """The last value of each metric that was seen."""
        return {name: points[-1][1] for name, points in self.history.items()}


def doubts(reader: MetricReader, lines: Sequence[str]) -> list[str]:
    """Return a sentence for each metric that was probably meant otherwise than it was read.

    Args:
        reader: What was read of a whole log.
        lines: The log's last lines; those that look most like a missing metric are named.
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
    """Return what a metric is looked for with, as its user wrote it."""
    if pattern.endswith(_BEHIND_A_NAME):
        before = pattern.removesuffix(_BEHIND_A_NAME).removeprefix(_BEFORE_A_NAME)
        return f"a number behind {before.replace(_DOT, '.')!r}"
    return f"a number that {pattern!r} finds"


def _nearest(name: str, lines: Sequence[str]) -> list[str]:
    """Return up to three different lines that have the metric's name, the last ones; else those that have a number."""
    named = [line for line in lines if name.lower() in line.lower()]
    numbered = [line for line in lines if _NUMBER.search(line)]
    return [line[:200] for line in list(dict.fromkeys(named or numbered))[-3:]]


def _is_cut(match: re.Match[str]) -> bool:
    """Tell whether the line has more of the number than the group took: `1` of `1e-05`, `0.3` of `-0.3`."""
    taken, line = match.group(1), match.string
    start = match.start(1) + len(taken) - len(taken.lstrip())
    whole = _NUMBER.match(line, start)
    if whole and whole.end() > match.start(1) + len(taken.rstrip()):
        return True
    before = line[max(0, start - 2) : start]
    if before[-1:] in ("-", "+"):
        return not before[:-1].isalnum()  # the sign of `loss-0.3` may be a dash
    return before[-1:].isdigit() or before[-1:] == "."


def _compile(name: str, pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InvalidTask(
            f"The expression of metric {name!r} does not compile: {error}.",
            fix=f"mend it, or give the text before the value alone: metrics={{{name!r}: '{name}='}}.",
        ) from error
    if compiled.groups < 1:
        raise InvalidTask(
            f"The expression of metric {name!r} has no group for the value: {pattern!r}.",
            fix=f"give the text before the value alone: metrics={{{name!r}: '{name}='}}; or put the number into "
            "parentheses.",
        )
    return compiled
