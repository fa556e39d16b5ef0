"""Retry policy for transient AWS errors: which are retried, how often, with what back-off.

The category of an error alone decides (`error_categories.py`). A user's mistake is raised at once. A throttled call is
retried and costs no attempt. So is a call beyond the quota, until other jobs have ended.

botocore's own retries do not suffice. They sleep in a thread that no cancellation can wake, know neither quota nor
capacity, and end after seconds. `Execution` looks before it acts, so a retry is another look, as after a crash.
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
"""Factor of all waits for a local SageMaker. Other users do not share it, so long waits gain nothing."""


@dataclass(frozen=True)
class BackOff:
    """Back-off and limit of the retries after errors of one category.

    Args:
        first: Seconds before the first retry; doubled for each further one.
        longest: Most seconds between two tries.
        tries: Most retries in a row; default no limit. Insufficient capacity has a limit in seconds instead
            (`RetryPolicy`).
    """

    first: float
    longest: float
    tries: int | None = None


CALL_RETRIES: dict[ErrorCategory, BackOff] = {
    ErrorCategory.THROTTLED: BackOff(1, 30),
    ErrorCategory.QUOTA: BackOff(15, 300),
    ErrorCategory.CAPACITY: BackOff(30, 300),
    ErrorCategory.SERVICE_FAULT: BackOff(1, 30, tries=8),
    ErrorCategory.EXPIRED: BackOff(1, 5, tries=3),
}
"""Retries after a refused call, by error category; an error of another category is raised at once."""

JOB_RETRIES: dict[ErrorCategory, BackOff] = {
    ErrorCategory.CAPACITY: BackOff(30, 300),
    ErrorCategory.SERVICE_FAULT: BackOff(10, 60, tries=2),
}
"""Retries after a failed job, by error category. Each is a new attempt with a new job, which is billed."""


_JITTER = random.Random()  # noqa: S311 - not a secret; of its own, since a program may seed the shared one


class RetryPolicy:
    """The retry policy of one call of a task.

    Args:
        run: The run of the call; cancelling it ends the wait.
        task: The task's name.
        capacity_seconds: How long to retry while AWS has insufficient capacity, in seconds; default one hour.
        speed: Factor of all waits; default 1.
        clock: Monotonic seconds.
        chance: Returns a random number from 0 to 1, for the jitter.
    """

    def __init__(
        self,
        run: RunContext,
        task: str,
        *,
        capacity_seconds: float = CAPACITY_MINUTES * 60,
        speed: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = _JITTER.random,
    ) -> None:
        self._run, self._task = run, task
        self._capacity_seconds, self._speed = capacity_seconds, speed
        self._clock, self._chance = clock, chance
        self._calls: dict[ErrorCategory, tuple[int, float]] = {}
        self._jobs: dict[ErrorCategory, tuple[int, float]] = {}

    def wait_or_raise(self, error: PrefectSageMakerError) -> None:
        """Wait before the next try, or raise the error if its retries are used up or it is not retried.

        Raises:
            RunCancelled: The run was cancelled meanwhile.
        """
        category: ErrorCategory = getattr(error, "category", ErrorCategory.UNKNOWN)
        of_job = isinstance(error, JobError)
        bound = (JOB_RETRIES if of_job else CALL_RETRIES).get(category)
        if bound is None or (category is ErrorCategory.QUOTA and quota_is_too_small(error.message)):
            raise error
        seen = self._jobs if of_job else self._calls
        tries, since = seen.get(category, (0, self._clock()))
        seconds = self._seconds(bound, tries)
        if self._is_exhausted(category, bound, tries, self._clock() + seconds - since):
            raise error
        seen[category] = (tries + 1, since)
        self._run.log_status(self._task, f"{category.value}, trying again in {seconds:.0f} s: {error.message}")
        self.wait(seconds, f"task {self._task!r} waited to try again ({category.value})")

    def reset(self) -> None:
        """Forget the calls that failed, since a step has succeeded."""
        self._calls.clear()

    def wait(self, seconds: float, what: str) -> None:
        """Wait for some seconds; raise `RunCancelled` if the run is cancelled meanwhile."""
        until = self._clock() + seconds
        while (left := until - self._clock()) > 0:
            self._run.pause(left, what)

    def _seconds(self, bound: BackOff, tries: int) -> float:
        """Return the seconds to wait: doubled from try to try, with jitter so that runs do not retry all at once."""
        return float(min(bound.longest, bound.first * 2 ** min(tries, 20)) * self._speed * (0.5 + self._chance() / 2))

    def _is_exhausted(self, category: ErrorCategory, bound: BackOff, tries: int, seconds: float) -> bool:
        if category is ErrorCategory.CAPACITY:
            return seconds > self._capacity_seconds
        return bound.tries is not None and tries >= bound.tries


def quota_is_too_small(message: str) -> bool:
    """Return whether a quota's error says that the quota is smaller than one job needs, so that no wait helps."""
    quota = quota_of(message)
    return quota is not None and not quota.can_suffice
