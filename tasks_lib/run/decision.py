"""The decision: skip, attach, record, run, or spend the attempt first. Pure: a function of what was read.

Two questions in this order. The ledger and S3 are asked first, because a skip must cost no SageMaker call; then
SageMaker is asked about the one name that this work would have.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from tasks_lib.error_categories import ErrorCategory
from tasks_lib.jobs.job import Job
from tasks_lib.jobs.kind import Phase
from tasks_lib.ledger.records import CloseReason, Entry

_FAILED: dict[ErrorCategory, CloseReason] = {
    ErrorCategory.CAPACITY: "capacity",
    ErrorCategory.SERVICE_FAULT: "service fault",
}


class Action(Enum):
    """What to do next."""

    SKIP = "skip"
    ASK = "ask SageMaker"
    CREATE = "create"
    ATTACH = "attach"
    RECORD = "record"
    CLOSE = "close"


@dataclass(frozen=True)
class Decision:
    """What to do next, and for `CLOSE` why the attempt is over."""

    action: Action
    because: CloseReason | None = None


@dataclass(frozen=True)
class Intact:
    """Whether what a completed attempt left is still there.

    Args:
        outputs: Its outputs are as it left them.
        state: What it left in `state/` is still its own, or it left nothing there.
    """

    outputs: bool
    state: bool


def from_ledger(entry: Entry, kept: Intact | None, revoked: CloseReason | None) -> Decision:
    """Decide by the record alone.

    Args:
        entry: What the ledger says of the work.
        kept: What is left of the completed attempt; `None` where none is completed.
        revoked: Why a completed attempt does not count this time: `forced` or `clean_state`.
    """
    if entry.record is None or kept is None:
        return Decision(Action.ASK)
    if revoked:
        return Decision(Action.CLOSE, revoked)
    if not kept.outputs:
        return Decision(Action.CLOSE, "outputs gone")
    if not kept.state:
        return Decision(Action.CLOSE, "state changed")
    return Decision(Action.SKIP)


def from_job(
    job: Job | None,
    fingerprint: str,
    revoked: CloseReason | None,
    *,
    state_lost: bool = False,
    superseded: bool = False,
) -> Decision:
    """Decide by what SageMaker knows of the current attempt's name.

    A live attempt is attached to even when a run is forced: it is as fresh as one could be, and two live jobs of one
    fingerprint would write to one place.

    Args:
        job: The job of that name, where there is one.
        fingerprint: The work that is wanted.
        revoked: As in `from_ledger`.
        state_lost: Whether other work took the state since a job that had completed without a record.
        superseded: Whether a later attempt is there, of which a lost ledger knows nothing.
    """
    if job is None:
        return Decision(Action.CREATE)
    if job.fingerprint != fingerprint:
        return Decision(Action.CLOSE, "foreign job")
    if job.phase is Phase.COMPLETED:
        because = "superseded" if superseded else revoked or ("state changed" if state_lost else None)
        return Decision(Action.CLOSE, because) if because else Decision(Action.RECORD)
    if job.phase is Phase.FAILED:
        return Decision(Action.CLOSE, _FAILED.get(job.category, "failed"))
    if job.phase is Phase.STOPPED:
        return Decision(Action.CLOSE, "stopped")
    return Decision(Action.ATTACH)
