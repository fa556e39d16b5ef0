"""What a caller wants beside the work itself; none of it is part of the fingerprint. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from tasks_lib.completion import Rerun
from tasks_lib.ledger.state_directory import OnBusy


@dataclass(frozen=True)
class Wish:
    """What a caller wants beside the work itself.

    Args:
        rerun: `when_changed`, `if_incomplete` (by name alone) or `always`.
        clean_state: Empty `state/` before the job, which does run again.
        on_busy: Wait for the state directory, or fail at once, while other work writes it.
    """

    rerun: Rerun = "when_changed"
    clean_state: bool = False
    on_busy: OnBusy = "wait"
