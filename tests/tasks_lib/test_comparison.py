"""`best`: the result with the highest or lowest metric, ignoring values that are not finite."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_lib import best
from tasks_lib.errors import InvalidInput, MetricMissing
from tasks_lib.results.job_result import JobResult


def result(task, **metrics):
    """Return a result with these metrics."""
    return JobResult(
        project="p", task=task, job=task, arn="", kind="training", cached=False, reason="", seconds=0.0,
        metrics=metrics, fingerprint="",
    )  # fmt: skip


@given(st.lists(st.none() | st.floats(), max_size=6), st.booleans())
def test_the_best_is_the_best_of_those_that_are_finite(values, up):
    """`best` returns the first of the results with the best finite value, and raises if there is none."""
    results = [result(f"t{n}", **({} if v is None else {"x": v})) for n, v in enumerate(values)]
    finite = [(n, v) for n, v in enumerate(values) if v is not None and math.isfinite(v)]

    if not finite:
        with pytest.raises(MetricMissing):
            best(results, maximize="x") if up else best(results, minimize="x")
        return
    number, _ = (max if up else min)(finite, key=lambda pair: pair[1])

    assert (best(results, maximize="x") if up else best(results, minimize="x")) is results[number]


def test_futures_are_waited_for():
    """`best` waits for futures of submitted tasks and compares their results."""

    class Future:
        def __init__(self, value):
            self.value = value

        def result(self):
            return self.value

    low, high = result("low", auc=0.7), result("high", auc=0.9)

    assert best([Future(low), high], maximize="auc") is high
    assert best(iter([low, Future(high)]), minimize="auc") is low


def test_the_error_says_what_there_was():
    """The error lists each task with its value, or with the metrics that it has."""
    with pytest.raises(MetricMissing) as caught:
        best([result("a", loss=math.nan), result("b", auc=1.0)], minimize="loss")

    assert caught.value.message == "Of 2 results none has a finite value of 'loss': a has nan, b has 'auc'."


def test_of_no_results_none_is_best():
    """Without results the error says so, and does not mention a log."""
    with pytest.raises(MetricMissing, match="no results") as caught:
        best([], maximize="auc")

    assert "log" not in str(caught.value)


@pytest.mark.parametrize("metrics", [{}, {"maximize": "a", "minimize": "b"}])
def test_one_metric_is_named(metrics):
    """Exactly one metric must be given."""
    with pytest.raises(InvalidInput, match="one metric"):
        best([result("a", a=1.0)], **metrics)
