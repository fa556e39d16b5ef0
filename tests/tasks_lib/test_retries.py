"""The retry policy: what is retried, how often, and with what back-off."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_lib.error_categories import ErrorCategory
from tasks_lib.errors import (
    AccessDenied,
    CapacityUnavailable,
    InvalidTask,
    JobFailed,
    QuotaExceeded,
    ServiceFault,
    Throttled,
)
from tasks_lib.prefect_runtime.run_context import RunCancelled, RunContext
from tasks_lib.run.retries import CALL_RETRIES, JOB_RETRIES, RetryPolicy


class Timed(RetryPolicy):
    """A policy that waits by its own clock and records its waits."""

    def __init__(self, **how):
        self.waits, self.now = [], 0.0
        super().__init__(RunContext(), "fit", clock=lambda: self.now, **how)

    def wait(self, seconds, what):
        self.waits.append(seconds)
        self.now += seconds


def failed(category):
    return JobFailed("it failed", task="fit", job="fit-1", category=category)


@pytest.fixture
def retries():
    return Timed()


def test_throttling_is_retried_as_long_as_it_lasts(retries):
    """Throttling is retried without a limit, because it costs no attempt and no money."""
    for _ in range(200):
        retries.wait_or_raise(Throttled("slow down"))

    assert len(retries.waits) == 200


def test_a_fault_of_aws_is_retried_eight_times(retries):
    """A fault of AWS is retried eight times in a row; a successful call resets the count."""
    for _ in range(2):
        for _ in range(8):
            retries.wait_or_raise(ServiceFault("500"))
        with pytest.raises(ServiceFault):
            retries.wait_or_raise(ServiceFault("500"))
        retries.reset()


def test_a_job_that_failed_by_a_fault_is_made_again_twice(retries):
    """A job that failed by a fault is created again at most twice. Successful calls do not reset this count."""
    for _ in range(2):
        retries.wait_or_raise(failed(ErrorCategory.SERVICE_FAULT))
        retries.reset()
    with pytest.raises(JobFailed):
        retries.wait_or_raise(failed(ErrorCategory.SERVICE_FAULT))


@pytest.mark.parametrize(
    "error",
    [
        InvalidTask("no image"),
        AccessDenied("no"),
        failed(ErrorCategory.USER_ERROR),
        failed(ErrorCategory.TIME_LIMIT),
        failed(ErrorCategory.STOPPED),
        QuotaExceeded(
            "The account-level service limit 'ml.p5 for training job usage' is 0 Instances, with current utilization"
            " of 0 Instances and a request delta of 1 Instances."
        ),
    ],
    ids=lambda error: f"{type(error).__name__} {getattr(error, 'category', '')}",
)
def test_what_no_wait_can_fix_is_raised_at_once(retries, error):
    """An error that no wait can fix is raised unchanged and at once."""
    with pytest.raises(type(error)) as caught:
        retries.wait_or_raise(error)

    assert caught.value is error
    assert retries.waits == []


@given(
    st.floats(0, 1),
    st.sampled_from([(Throttled, CALL_RETRIES), (CapacityUnavailable, CALL_RETRIES)]),
    st.floats(0.01, 1),
)
def test_waits_double_up_to_the_longest(chance, what, speed):
    """Waits double up to the maximum, each between half of its bound and all of it, so that clients spread out."""
    error, bounds = what
    bound = bounds[error.category]
    retries = Timed(chance=lambda: chance, speed=speed, capacity_seconds=1e9)
    for _ in range(12):
        retries.wait_or_raise(error("again"))

    for number, seconds in enumerate(retries.waits):
        most = min(bound.longest, bound.first * 2**number) * speed
        assert most / 2 <= seconds <= most


def for_ever(act):
    while True:
        act()


@given(st.floats(0, 7200))
def test_capacity_is_asked_for_in_the_time_that_the_caller_gives(seconds):
    """Insufficient capacity, in a call or a job, is retried until the caller's time limit and not beyond."""
    for error in (CapacityUnavailable("none"), failed(ErrorCategory.CAPACITY)):
        retries = Timed(capacity_seconds=seconds)
        with pytest.raises(type(error)):
            for_ever(lambda error=error, retries=retries: retries.wait_or_raise(error))

        assert retries.now <= seconds <= retries.now + JOB_RETRIES[ErrorCategory.CAPACITY].longest


def test_a_cancelled_run_waits_no_more():
    """A cancelled run does not wait."""
    retries = RetryPolicy(RunContext(cancelled=lambda: True), "fit")

    with pytest.raises(RunCancelled):
        retries.wait_or_raise(Throttled("slow down"))
