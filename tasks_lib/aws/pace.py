"""How often we ask: a token bucket for a quota that is shared, and an interval that grows with what is waited for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_QUICKEST, _SLOWEST = 0.1, 5.0
_SHARE_OF_AGE = 0.05


class Pace:
    """A token bucket: so many calls a second on average, so many at once at most.

    Args:
        rate: Calls a second.
        burst: Calls that may come at once after a pause.
        clock: Monotonic seconds.
    """

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._tokens, self._filled = burst, clock()
        self._lock = threading.Lock()

    def allows(self) -> bool:
        """Take a token if there is one."""
        with self._lock:
            now = self._clock()
            self._tokens = min(self._burst, self._tokens + (now - self._filled) * self._rate)
            self._filled = now
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True


def interval(age: float) -> float:
    """Return how long to wait before looking again at something that has lasted `age` seconds.

    A twentieth of its age: a job of two seconds is seen at once, one of two hours costs a call every five seconds, and
    nobody waits more than 5 % longer than the job itself.
    """
    return min(_SLOWEST, max(_QUICKEST, age * _SHARE_OF_AGE))
