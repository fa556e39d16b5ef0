"""The record of a job, its state machine, and the errors of operations on it.

Pure; `job_table` stores the records. Standard library only, so that a supervisor starts fast.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Runner = Literal["process", "simulated"]
TERMINAL = frozenset({"Completed", "Failed", "Stopped"})

# The secondary statuses that a job may take while its status is Stopping: a supervisor that learns of a stop late must
# not set Training again.
_WHILE_STOPPING = frozenset({"Stopping", "Uploading"})


class JobError(Exception):
    """The table refuses an operation on a job. Base class of the four errors below."""

    def __init__(self, message: str, kind: str, name: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.name = name


class JobExists(JobError):
    """The table already has a job of this kind and name."""


class JobUnknown(JobError):
    """The table has no job of this kind and name."""


class JobFinished(JobError):
    """The job is in a terminal status, which does not change any more."""


class JobInProgress(JobError):
    """The job has not finished, and the operation needs a finished job."""


@dataclass(frozen=True)
class Job:
    """The record of one job. All times are epoch seconds.

    `kind` is the name of its kind (`kinds/`). `request` is the Create request as it was given. `fields` holds what
    Describe adds to it: `FailureReason`, `TrainingStartTime`, `SecondaryStatusTransitions`, `ModelArtifacts`,
    `ExitMessage` and so on. `runner` tells what runs the job: `process` is a supervisor with processes, `simulated` is
    the server's simulator. `role_id` is the id of the job's role when the job was created, empty if this home's IAM did
    not have the role.
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
        """The request, overlaid with `fields`, as Describe shows it."""
        return {**self.request, **self.fields}

    @property
    def finished(self) -> bool:
        """Whether the status is terminal."""
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
    """Return the job after one update at `now`: the state machine of the table, without I/O.

    A job that is Stopping stays so until it is terminal, and takes only the secondary statuses of that phase. A job
    that becomes terminal without a secondary status gets the one of the same name. Every job has secondary statuses
    here; Describe shows them only for a kind that has them on AWS.

    Raises:
        JobFinished: the job is in a terminal status.
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
    """End the last transition and append a new one. The same secondary status again only changes its message."""
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
