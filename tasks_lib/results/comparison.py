"""`best`: of several results the one with the highest or the lowest value of a metric. Pure.

Python's own `max` and `min` return a NaN that stands first, and so a training that diverged.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Protocol

from tasks_lib.errors import InvalidInput, MetricMissing
from tasks_lib.results.job_result import JobResult


class Future(Protocol):
    """What a task that was submitted gives; Prefect's own is one."""

    def result(self) -> JobResult:
        """Wait for the task, and return its result."""


def best(
    results: Iterable[JobResult | Future], *, maximize: str | None = None, minimize: str | None = None
) -> JobResult:
    """Return the result with the highest or the lowest last value of a metric.

    What has no value, `nan` or an infinite one ranks behind all others. Of equals the first is returned.

    Args:
        results: Results of tasks, or the futures of submitted ones, which are waited for.
        maximize: The metric of which the highest value is best.
        minimize: The metric of which the lowest value is best; one of the two is to be given.

    Raises:
        MetricMissing: None has a finite value of the metric, or there are no results.
        InvalidInput: Not exactly one metric was named.
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
