"""A job as it stands, and how it may change: kinds, statuses, the state machine, what may be refused.

Pure: `job_table` keeps jobs, this module says what they are. It stands on the standard library, so that a supervisor
starts in a moment. Inside `local_sagemaker` anybody may import it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Runner = Literal["process", "simulated"]
TERMINAL = frozenset({"Completed", "Failed", "Stopped"})

# The secondary statuses that a job may still take while its status is Stopping; a supervisor that learns of a stop
# late must not turn it back into Training.
_WHILE_STOPPING = frozenset({"Stopping", "Uploading"})


class JobError(Exception):
    """The table refuses an operation on one job. Base of the four below."""

    def __init__(self, message: str, kind: str, name: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.name = name


class JobExists(JobError):
    """A job of this kind and name is in the table already."""


class JobUnknown(JobError):
    """No job of this kind and name is in the table."""


class JobFinished(JobError):
    """The job is in a terminal status, which is never left."""


class JobInProgress(JobError):
    """The job still runs, and what was asked needs a finished one."""


@dataclass(frozen=True)
class Job:
    """One job as it stands; all times are epoch seconds.

    `kind` is the name of its kind (`kinds/`). `request` is the Create request as it was given. `fields` holds what
    Describe adds to it: `FailureReason`, `TrainingStartTime`, `SecondaryStatusTransitions`, `ModelArtifacts`,
    `ExitMessage` and so on. `runner` is who carries it to its end: a supervisor with processes, or the server that
    simulates it. `role_id` is the id that the job's role had at its creation, empty for a role that this home's IAM did
    not have.
    """

    kind: str
    name: str
    arn: str
    request: dict[str, Any]
    created: float
    status: str
    secondary_status: str | None
    fields: dict[str, Any]
    modified: float
    stop_requested: bool
    tags: dict[str, str]
    runner: Runner = "process"
    role_id: str = ""

    @property
    def described(self) -> dict[str, Any]:
        """The request with what was found out since laid over it, as Describe shows it."""
        return {**self.request, **self.fields}

    @property
    def finished(self) -> bool:
        """Whether the status is one that is never left."""
        return self.status in TERMINAL


def advance(
    job: Job,
    now: float,
    *,
    status: str | None = None,
    secondary: str | None = None,
    message: str | None = None,
    fields: Mapping[str, Any] | None = None,
) -> Job:
    """Return `job` after one update at `now`; the state machine of the table, without I/O.

    A job that is Stopping stays so until it is terminal, and takes only the secondary statuses of that phase. A
    job that becomes terminal without a secondary status of its own gets the one of the same name. Every job has
    secondary statuses here; Describe shows them only of a kind that has them on AWS.

    Raises:
        JobFinished: the job is terminal.
    """
    if job.finished:
        raise JobFinished(
            f"The {job.kind} {job.name} is {job.status}; a finished job does not change.", job.kind, job.name
        )
    new_status = status or job.status
    if job.status == "Stopping" and new_status not in TERMINAL:
        new_status = "Stopping"
        secondary = secondary if secondary in _WHILE_STOPPING else None
    if secondary is None and new_status in TERMINAL:
        secondary = new_status
    merged = {**job.fields, **(fields or {})}
    if secondary is not None:
        earlier = merged.get("SecondaryStatusTransitions", [])
        closes = new_status in TERMINAL
        merged["SecondaryStatusTransitions"] = _with_transition(earlier, secondary, message, now, closes=closes)
    return replace(
        job,
        status=new_status,
        secondary_status=secondary or job.secondary_status,
        fields=merged,
        modified=max(now, job.modified),
    )


def _with_transition(
    earlier: list[dict[str, Any]], secondary: str, message: str | None, now: float, *, closes: bool
) -> list[dict[str, Any]]:
    """Close the last transition and append one; the same secondary status again only changes its message."""
    transitions = [dict(one) for one in earlier]
    if transitions and transitions[-1]["Status"] == secondary:
        current = transitions[-1]
    else:
        if transitions:
            transitions[-1]["EndTime"] = now
        current = {"Status": secondary, "StartTime": now}
        transitions.append(current)
    if message is not None:
        current["StatusMessage"] = message
    if closes:
        current["EndTime"] = now
    return transitions
