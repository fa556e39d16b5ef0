"""Rate limits: a token bucket for a shared quota, and a polling interval that grows with a job's age."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable

from blocks import SageMakerProject

_QUICKEST, _SLOWEST = 0.1, 5.0  # seconds
_SHARE_OF_AGE = 0.05
_GROWTH = 0.1  # of the rate, each second
_LEAST = 0.2  # calls a second
_ONE_REFUSAL = 1.0  # seconds; refusals within it count once, since several threads may be refused together

_WHILE_THEY_RUN, _IN_ALL = 8, 20
"""Requests a second. GetLogEvents has a fixed limit, 25 in most regions and 10 in some, for all callers in an account.
DescribeLogStreams has a limit of 25 (its API reference).
"""

_HERE_WHILE_THEY_RUN, _HERE_IN_ALL = 20, 1000
"""Requests a second on this machine. It has no quota, but hundreds of running jobs must keep the machine to themselves.
"""


class TokenBucket:
    """A token bucket: limits the average rate of calls and the size of a burst.

    With a `ceiling` it probes for a quota that AWS does not publish, much like TCP's congestion control. While callers
    have to wait, the rate grows by a tenth each second. A throttled call halves it. When the bucket is full again, the
    rate goes back to the initial one.

    Args:
        rate: Calls a second.
        burst: Calls that may be made at once after a pause.
        clock: Monotonic seconds.
        ceiling: The highest rate, in calls a second; default `rate`.
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

    def try_acquire(self) -> bool:
        """Take a token; return whether there was one."""
        with self._lock:
            self._fill()
            self._short = self._tokens < 1
            if not self._short:
                self._tokens -= 1
            return not self._short

    def seconds(self) -> float:
        """Return the seconds until a token is available."""
        with self._lock:
            self._fill()
            return max(0.0, (1 - self._tokens) / self._rate)

    def throttled(self) -> None:
        """Note that AWS throttled a call: empty the bucket and halve the rate."""
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


def poll_interval(age: float) -> float:
    """Return the seconds to wait before the next look at something that is `age` seconds old.

    It is a twentieth of the age, between 0.1 and 5 seconds. The end of a job of two seconds is seen at once, and a job
    of two hours costs a call every five seconds. Waiting takes at most 5 %, or 0.1 seconds, longer than the job.
    """
    return min(_SLOWEST, max(_QUICKEST, age * _SHARE_OF_AGE))


class LogRateLimit:
    """Rate limit of log requests in an account: running jobs get a part of it, ended jobs all of it.

    Args:
        running: Requests a second for running jobs.
        in_all: Requests a second for all jobs.
        clock: Monotonic seconds.
    """

    def __init__(self, running: float, in_all: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._running = TokenBucket(running, burst=2 * running, clock=clock)
        self._in_all = TokenBucket(in_all, burst=in_all, clock=clock)

    def try_acquire(self, *, urgent: bool) -> bool:
        """Take a token if there is one; `urgent` is for a job that has ended."""
        return (urgent or self._running.try_acquire()) and self._in_all.try_acquire()


def account_key(project: SageMakerProject) -> Hashable:
    """Return a key that is equal for all projects that share an account's quotas."""
    return (project.local_home, project.region, project.credentials)


_log_limits: dict[Hashable, LogRateLimit] = {}
_log_limits_lock = threading.Lock()


def log_rate_limit_of(project: SageMakerProject) -> LogRateLimit:
    """Return the rate limit of log requests in a project's account; projects that share its quota share it."""
    running, in_all = (_HERE_WHILE_THEY_RUN, _HERE_IN_ALL) if project.is_local else (_WHILE_THEY_RUN, _IN_ALL)
    with _log_limits_lock:
        return _log_limits.setdefault(account_key(project), LogRateLimit(running, in_all))
