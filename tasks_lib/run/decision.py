"""The decision about a call: skip, create, attach, record, or close the attempt first. Pure.

It has two parts, in this order. The ledger and S3 come first, because a skip must not call SageMaker. Then SageMaker
is asked about the one job name that the current attempt has.
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
    """The next action."""

    SKIP = "skip"
    ASK = "ask SageMaker"
    CREATE = "create"
    ATTACH = "attach"
    RECORD = "record"
    CLOSE = "close"


@dataclass(frozen=True)
class Decision:
    """The next action, and for `CLOSE` why the attempt is over."""

    action: Action
    because: CloseReason | None = None


@dataclass(frozen=True)
class Intact:
    """Whether the objects that a completed attempt left are unchanged.

    Args:
        outputs: Whether its outputs are unchanged.
        state: Whether its content of `state/` is unchanged, or it left none.
    """

    outputs: bool
    state: bool


def from_ledger(entry: Entry, kept: Intact | None, revoked: CloseReason | None) -> Decision:
    """Decide by the ledger's entry alone.

    Args:
        entry: The ledger's entry of the work.
        kept: Whether the completed attempt is intact; None if no attempt is completed.
        revoked: Why a completed attempt does not count in this run, `forced` or `clean_state`; None if it counts.
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
    """Decide by SageMaker's job of the current attempt.

    A forced run, too, attaches to a live job. No result could be newer, and two live jobs of one fingerprint would
    write to the same place.

    Args:
        job: The job with the attempt's name; None if there is none.
        fingerprint: The fingerprint of the work.
        revoked: As in `from_ledger`.
        state_lost: Whether other work has taken the state since the job, which completed without a record.
        superseded: Whether SageMaker knows a job of a later attempt, which the ledger has lost.
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
