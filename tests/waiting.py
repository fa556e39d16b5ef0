"""Wait for a condition, with pauses that keep the load on the queried server low."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_SECONDS = 300.0
"""Seconds before a wait fails. Generous: no test here measures speed, and other tests slow the machine down."""

_SHORTEST, _LONGEST, _GROWTH = 0.01, 0.3, 1.3
"""Seconds between two checks, and their growth. A check asks a server; 20 a second would use half a core."""


def wait_until(condition: Callable[[], T], what: str, seconds: float = PATIENCE_SECONDS) -> T:
    """Wait until a condition returns a true value; return that value.

    Args:
        condition: The condition; called again and again.
        what: What is awaited, for the error message.
        seconds: Seconds after which the wait fails; default `PATIENCE_SECONDS`.
    """
    until, pause = time.monotonic() + seconds, _SHORTEST
    while not (found := condition()):
        assert time.monotonic() < until, f"waited {seconds:.0f} s for {what}"
        time.sleep(pause)
        pause = min(pause * _GROWTH, _LONGEST)
    return found
