"""`best`: of several results the one with the highest or lowest metric, whatever diverged."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_lib import best
from tasks_lib.errors import InvalidInput, MetricMissing
from tasks_lib.results.job_result import JobResult


def result(task, **metrics):
    """A result with these metrics."""
    return JobResult(
        project="p", task=task, job=task, arn="", kind="training", cached=False, reason="", seconds=0.0,
        metrics=metrics, fingerprint="",
    )  # fmt: skip


@given(st.lists(st.none() | st.floats(), max_size=6), st.booleans())
def test_the_best_is_the_best_of_those_that_are_finite(values, up):
    """In any order, with any others between them; of equals the first; and where nothing is left it raises."""
    results = [result(f"t{n}", **({} if v is None else {"x": v})) for n, v in enumerate(values)]
    finite = [(n, v) for n, v in enumerate(values) if v is not None and math.isfinite(v)]

    if not finite:
        with pytest.raises(MetricMissing):
            best(results, maximize="x") if up else best(results, minimize="x")
        return
    number, _ = (max if up else min)(finite, key=lambda pair: pair[1])

    assert (best(results, maximize="x") if up else best(results, minimize="x")) is results[number]


def test_futures_are_waited_for():
    """What a submitted task gives: its result is asked for."""

    class Future:
        def __init__(self, value):
            self.value = value

        def result(self):
            return self.value

    low, high = result("low", auc=0.7), result("high", auc=0.9)

    assert best([Future(low), high], maximize="auc") is high
    assert best(iter([low, Future(high)]), minimize="auc") is low


def test_the_error_says_what_there_was():
    """By task: its value, or the metrics that it has."""
    with pytest.raises(MetricMissing) as caught:
        best([result("a", loss=math.nan), result("b", auc=1.0)], minimize="loss")

    assert caught.value.message == "Of 2 results none has a finite value of 'loss': a has nan, b has 'auc'."


def test_of_no_results_none_is_best():
    """It is said so, and no log is blamed."""
    with pytest.raises(MetricMissing, match="no results") as caught:
        best([], maximize="auc")

    assert "log" not in str(caught.value)


@pytest.mark.parametrize("metrics", [{}, {"maximize": "a", "minimize": "b"}])
def test_one_metric_is_named(metrics):
    """Neither none nor two."""
    with pytest.raises(InvalidInput, match="one metric"):
        best([result("a", a=1.0)], **metrics)
