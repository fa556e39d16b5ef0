"""Waits for a condition, without keeping busy whom it asks."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_SECONDS = 300.0
"""Generous: nothing here is about speed, and a machine that runs other tests beside is slow."""

_SHORTEST, _LONGEST, _GROWTH = 0.01, 0.3, 1.3
"""Seconds between two looks. A look asks a server, and twenty a second would take half a core from what is tested."""


def wait_until(condition: Callable[[], T], what: str, seconds: float = PATIENCE_SECONDS) -> T:
    """Wait for a condition to give something true, and return that.

    Args:
        condition: Looks.
        what: What is waited for, for the message of a failure.
        seconds: After how long to fail.
    """
    until, pause = time.monotonic() + seconds, _SHORTEST
    while not (found := condition()):
        assert time.monotonic() < until, f"waited {seconds:.0f} s for {what}"
        time.sleep(pause)
        pause = min(pause * _GROWTH, _LONGEST)
    return found
