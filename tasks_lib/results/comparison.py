"""`best`: the result with the highest or the lowest value of a metric. Pure.

Python's `max` and `min` return a NaN that comes first, and so the result of a training that diverged.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Protocol

from tasks_lib.errors import InvalidInput, MetricMissing
from tasks_lib.results.job_result import JobResult


class Future(Protocol):
    """The future of a submitted task, such as Prefect's own."""

    def result(self) -> JobResult:
        """Wait for the task and return its result."""


def best(
    results: Iterable[JobResult | Future], *, maximize: str | None = None, minimize: str | None = None
) -> JobResult:
    """Return the result with the highest or the lowest last value of a metric.

    A result without a finite value of the metric is never best. Of equal results the first is returned.

    Args:
        results: Results of tasks, or futures of submitted tasks, which `best` waits for.
        maximize: The metric whose highest value is best; None with `minimize`.
        minimize: The metric whose lowest value is best; None with `maximize`.

    Raises:
        MetricMissing: No result has a finite value of the metric, or there are no results.
        InvalidInput: Not exactly one metric is given.
    """
    if (maximize is None) == (minimize is None):
        raise InvalidInput("best() takes one metric.", fix='call best(results, maximize="auc") or minimize="loss".')
    metric, sign = (maximize, -1) if maximize is not None else (str(minimize), 1)
    ended = [each if isinstance(each, JobResult) else each.result() for each in results]
    finite = [each for each in ended if math.isfinite(each.metrics.get(metric, math.nan))]
    if not ended:
        raise MetricMissing("best() was given no results.", fix="give it the results of tasks, or their futures.")
    if not finite:
        raise MetricMissing(
            f"Of {len(ended)} results none has a finite value of {metric!r}"
            f": {', '.join(f'{each.task} {_told(each, metric)}' for each in ended[:10])}.",
            fix="look at the logs of these jobs (`result.logs()`), and at the metrics that their tasks are given.",
        )
    return min(finite, key=lambda each: sign * each.metrics[metric])


def _told(result: JobResult, metric: str) -> str:
    if metric in result.metrics:
        return f"has {result.metrics[metric]:g}"
    return f"has {', '.join(map(repr, result.metrics)) or 'none'}"
