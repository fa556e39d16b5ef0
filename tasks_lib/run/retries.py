"""Retry policy for transient AWS errors: which are retried, how often, with what back-off.

The category of an error alone decides (`error_categories.py`). A user's mistake is raised at once. A throttled call
waits and costs no attempt. A used-up quota is a queue. These are not botocore's retries: those sleep in a thread that
no cancellation can wake, know neither quota nor capacity, and end after seconds. `Execution` looks before it acts, so a
retry is another look, as after a crash.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from tasks_lib.error_categories import ErrorCategory
from tasks_lib.errors import JobError, PrefectSageMakerError
from tasks_lib.options import CAPACITY_MINUTES
from tasks_lib.prefect_runtime.run_context import RunContext
from tasks_lib.quotas.quota import quota_of

LOCAL_SPEED = 0.02
"""How much quicker we try again on a local SageMaker: nobody shares it, so nothing gets better by waiting long."""


@dataclass(frozen=True)
class Bound:
    """How often and how long something is tried again.

    Args:
        first: Seconds before the second try; doubled from try to try.
        longest: Most seconds between two tries.
        tries: Most tries again in a row; without it, no bound. Capacity is bounded in time, by the caller.
    """

    first: float
    longest: float
    tries: int | None = None


OF_CALLS: dict[ErrorCategory, Bound] = {
    ErrorCategory.THROTTLED: Bound(1, 30),
    ErrorCategory.QUOTA: Bound(15, 300),
    ErrorCategory.CAPACITY: Bound(30, 300),
    ErrorCategory.SERVICE_FAULT: Bound(1, 30, tries=8),
    ErrorCategory.EXPIRED: Bound(1, 5, tries=3),
}
"""By what a refused call means; any other meaning is raised at once."""

OF_JOBS: dict[ErrorCategory, Bound] = {
    ErrorCategory.CAPACITY: Bound(30, 300),
    ErrorCategory.SERVICE_FAULT: Bound(10, 60, tries=2),
}
"""By why a job ended: the next attempt is a new job, which is paid for."""


class RetryPolicy:
    """How one call of a task retries transient errors.

    Args:
        run: Whose run; a cancelled one waits no more.
        task: The task's name.
        capacity_seconds: How long capacity is asked for.
        speed: Factor of all waits.
        clock: Monotonic seconds.
        chance: Draws the jitter, from 0 to 1.
    """

    def __init__(
        self,
        run: RunContext,
        task: str,
        *,
        capacity_seconds: float = CAPACITY_MINUTES * 60,
        speed: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._run, self._task = run, task
        self._capacity_seconds, self._speed = capacity_seconds, speed
        self._clock, self._chance = clock, chance
        self._calls: dict[ErrorCategory, tuple[int, float]] = {}
        self._jobs: dict[ErrorCategory, tuple[int, float]] = {}

    def wait_or_raise(self, error: PrefectSageMakerError) -> None:
        """Wait before the next try; raise the error where none is worth it, or there were enough.

        Raises:
            RunCancelled: The run was cancelled meanwhile.
        """
        category: ErrorCategory = getattr(error, "category", ErrorCategory.UNKNOWN)
        of_job = isinstance(error, JobError)
        bound = (OF_JOBS if of_job else OF_CALLS).get(category)
        if bound is None or (category is ErrorCategory.QUOTA and quota_is_too_small(error.message)):
            raise error
        seen = self._jobs if of_job else self._calls
        tries, since = seen.get(category, (0, self._clock()))
        seconds = self._seconds(bound, tries)
        if self._is_over(category, bound, tries, self._clock() + seconds - since):
            raise error
        seen[category] = (tries + 1, since)
        self._run.log_status(self._task, f"{category.value}, trying again in {seconds:.0f} s: {error.message}")
        self.wait(seconds, f"task {self._task!r} waited to try again ({category.value})")

    def reset(self) -> None:
        """Forget the calls that failed: something went well in between."""
        self._calls.clear()

    def wait(self, seconds: float, what: str) -> None:
        """Wait, but not beyond a cancellation; raises `RunCancelled`."""
        until = self._clock() + seconds
        while (left := until - self._clock()) > 0:
            self._run.pause(left, what)

    def _seconds(self, bound: Bound, tries: int) -> float:
        """Return how long to wait: doubled from try to try, and not the same for all who wait."""
        return float(min(bound.longest, bound.first * 2 ** min(tries, 20)) * self._speed * (0.5 + self._chance() / 2))

    def _is_over(self, category: ErrorCategory, bound: Bound, tries: int, seconds: float) -> bool:
        if category is ErrorCategory.CAPACITY:
            return seconds > self._capacity_seconds
        return bound.tries is not None and tries >= bound.tries


def quota_is_too_small(message: str) -> bool:
    """Whether AWS's words on a quota say that it is smaller than what one job asks for: no waiting helps."""
    quota = quota_of(message)
    return quota is not None and not quota.can_suffice
