"""Rate limits of our calls: a token bucket for a shared quota, and a polling interval that grows with a job's age."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable

from blocks import SageMakerProject

_QUICKEST, _SLOWEST = 0.1, 5.0
_SHARE_OF_AGE = 0.05
_GROWTH = 0.1
_LEAST = 0.2
_ONE_REFUSAL = 1.0  # seconds: what several threads are refused at once is one piece of news

_WHILE_THEY_RUN, _IN_ALL = 8, 20
"""Requests a second. GetLogEvents has a hard limit, 25 in most regions and 10 in some, for the account and all who look
at logs there; DescribeLogStreams has one of 25 (its API reference)."""

_HERE_WHILE_THEY_RUN, _HERE_IN_ALL = 20, 1000
"""There is no quota on this machine; hundreds of jobs that run shall leave it to the jobs."""


class TokenBucket:
    """A token bucket: so many calls a second on average, so many at once at most.

    With a `ceiling` it looks for a quota that AWS does not publish, as TCP looks for the width of a line: as long as
    somebody has to wait, the rate grows by a tenth each second; a refusal halves it. A pause brings back the usual one.

    Args:
        rate: Calls a second.
        burst: Calls that may come at once after a pause.
        clock: Monotonic seconds.
        ceiling: Calls a second at most; default the rate.
    """

    def __init__(
        self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic, *, ceiling: float | None = None
    ) -> None:
        self._usual, self._burst, self._clock = rate, burst, clock
        self._ceiling = rate if ceiling is None else ceiling
        self._rate = rate
        self._tokens, self._filled = burst, clock()
        self._short = False
        self._refused_at = self._filled - _ONE_REFUSAL
        self._lock = threading.Lock()

    def allows(self) -> bool:
        """Take a token if there is one."""
        with self._lock:
            self._fill()
            self._short = self._tokens < 1
            if not self._short:
                self._tokens -= 1
            return not self._short

    def seconds(self) -> float:
        """Return how long it takes until there is a token."""
        with self._lock:
            self._fill()
            return max(0.0, (1 - self._tokens) / self._rate)

    def throttled(self) -> None:
        """Take in that AWS refused a call for its rate."""
        with self._lock:
            self._fill()
            self._tokens = 0
            if self._filled - self._refused_at >= _ONE_REFUSAL:
                self._refused_at = self._filled
                self._rate = max(_LEAST, self._rate / 2)

    def _fill(self) -> None:
        now = self._clock()
        passed, self._filled = now - self._filled, now
        if self._short:
            self._rate = min(self._ceiling, self._rate * (1 + passed * _GROWTH))
        self._tokens = min(self._burst, self._tokens + passed * self._rate)
        if self._tokens == self._burst:
            self._rate, self._short = self._usual, False


def interval(age: float) -> float:
    """Return how long to wait before looking again at something that has lasted `age` seconds.

    A twentieth of its age: a job of two seconds is seen at once, one of two hours costs a call every five seconds, and
    nobody waits more than 5 % longer than the job itself.
    """
    return min(_SLOWEST, max(_QUICKEST, age * _SHARE_OF_AGE))


class LogRateLimit:
    """How often the logs of an account are asked for: jobs that run get a part of it, jobs that ended all of it.

    Args:
        running: Requests a second for jobs that run.
        in_all: Requests a second.
        clock: Monotonic seconds.
    """

    def __init__(self, running: float, in_all: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._running = TokenBucket(running, burst=2 * running, clock=clock)
        self._in_all = TokenBucket(in_all, burst=in_all, clock=clock)

    def allows(self, *, urgent: bool) -> bool:
        """Take a turn if there is one; `urgent` for a job that has ended."""
        return (urgent or self._running.allows()) and self._in_all.allows()


def access_of(project: SageMakerProject) -> Hashable:
    """Return what is the same for all projects that share an account's quotas."""
    return (project.local_home, project.region, project.credentials)


_log_limits: dict[Hashable, LogRateLimit] = {}
_log_limits_lock = threading.Lock()


def log_rate_limit_of(project: SageMakerProject) -> LogRateLimit:
    """Return the rate limit for reading logs of a project's account; the same for all who share its quota."""
    running, in_all = (_HERE_WHILE_THEY_RUN, _HERE_IN_ALL) if project.is_local else (_WHILE_THEY_RUN, _IN_ALL)
    with _log_limits_lock:
        return _log_limits.setdefault(access_of(project), LogRateLimit(running, in_all))
