"""Metrics read from a job's log lines by regular expressions. Pure.

SageMaker's own convention (`MetricDefinitions`): the first group of the expression is the value. We read them
ourselves too, so that processing jobs, other clouds' rules on delay, and the local backend make no difference.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from tasks_lib.errors import InvalidTask

MAX_POINTS = 10_000
"""Points kept per metric in a result; beyond, every second point is dropped, and the last is always kept."""


@dataclass
class MetricReader:
    """Collects the history of each metric from lines as they come.

    Args:
        patterns: Regular expression by metric name; its first group is the value.

    Raises:
        InvalidTask: An expression does not compile, or has no group.
    """

    patterns: Mapping[str, str]
    history: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._compiled = {name: _compile(name, pattern) for name, pattern in self.patterns.items()}

    def read(self, timestamp: float, line: str) -> None:
        """Take in one line, stamped in epoch seconds."""
        for name, pattern in self._compiled.items():
            for match in pattern.finditer(line):
                self._add(name, timestamp, match.group(1))

    def _add(self, name: str, timestamp: float, text: str | None) -> None:
        try:
            value = float(text or "")
        except ValueError:
            return  # a line that looks like the metric and holds no number, as SageMaker passes it over
        if math.isfinite(value):
            points = self.history.setdefault(name, [])
            points.append((timestamp, value))
            if len(points) > MAX_POINTS:
                del points[:-1:2]

    @property
    def last(self) -> dict[str, float]:
        """The last value of each metric that was seen."""
        return {name: points[-1][1] for name, points in self.history.items()}


def _compile(name: str, pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InvalidTask(
            f"The expression of metric {name!r} does not compile: {error}.",
            fix=r"mend it, after the model of auc=([0-9.eE+-]+).",
        ) from error
    if compiled.groups < 1:
        raise InvalidTask(
            f"The expression of metric {name!r} has no group for the value: {pattern!r}.",
            fix=r"put the number into parentheses, such as auc=([0-9.eE+-]+).",
        )
    return compiled
