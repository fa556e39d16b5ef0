"""How often we ask: a token bucket for a quota that is shared, and an interval that grows with what is waited for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_QUICKEST, _SLOWEST = 0.1, 5.0
_SHARE_OF_AGE = 0.05
_GROWTH = 0.1
_LEAST = 0.2
_ONE_REFUSAL = 1.0  # seconds: what several threads are refused at once is one piece of news


class Pace:
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
