"""What a caller wants beside the work itself; none of it is part of the fingerprint. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tasks_lib.capacity import CAPACITY_MINUTES
from tasks_lib.completion import Rerun
from tasks_lib.ledger.state_directory import OnBusy

OnExit = Literal["stop", "leave"]


@dataclass(frozen=True)
class Wish:
    """What a caller wants beside the work itself.

    Args:
        rerun: `when_changed`, `if_incomplete` (by name) or `always`.
        clean_state: Empty `state/` before the job, which does run again.
        on_busy: Wait for the state directory, or fail at once, while other work writes it.
        on_exit: What becomes of the job where the run is cancelled, timed out or interrupted: it is stopped unless
            others wait for it, or left to run for a later attach.
        capacity_seconds: How long to go on asking where AWS has no capacity.
    """

    rerun: Rerun = "when_changed"
    clean_state: bool = False
    on_busy: OnBusy = "wait"
    on_exit: OnExit = "stop"
    capacity_seconds: float = CAPACITY_MINUTES * 60
