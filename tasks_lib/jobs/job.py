"""A job as SageMaker describes it, in the same form for every kind."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks_lib.error_categories import ErrorCategory, Symptom, rule_for
from tasks_lib.jobs.kind import JobKind, Phase, Progress

if TYPE_CHECKING:
    from datetime import datetime

FINGERPRINT_VARIABLE = "SSM_FINGERPRINT"
"""The job's variable with its fingerprint. It is not a tag, because Describe returns variables but no tags."""

STARTED_BY_VARIABLE, FORCED_IN_VARIABLE = "SSM_STARTED_BY", "SSM_FORCED_IN"
"""The job's variables with the waiter that created it, and with the flow run that forced it."""

_EXIT_CODE = re.compile(r"exit code:? *(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Job:
    """A job as SageMaker describes it; times in epoch seconds.

    Args:
        kind: Kind of job.
        name: Its name.
        arn: Its ARN.
        status: SageMaker's status, such as `InProgress`.
        secondary: `SecondaryStatus` (training only), such as `Downloading`.
        reason: `FailureReason`.
        message: `ExitMessage` (processing only).
        fingerprint: The fingerprint in its environment.
        started_by: The waiter that created it, from its environment.
        forced_in: The flow run that forced it, from its environment; empty if none did.
        created: When it was created.
        started: When its code started; None if it has not.
        ended: When it ended; None if it has not.
        billable_seconds: Billed seconds of each host; None if SageMaker does not report them.
        instance_type: Its instance type.
        instance_count: Number of hosts; None if unknown.
        phases: Seconds by phase, in chronological order.
    """

    kind: JobKind
    name: str
    arn: str
    status: str
    secondary: str = ""
    reason: str = ""
    message: str = ""
    fingerprint: str = ""
    started_by: str = ""
    forced_in: str = ""
    created: float = 0.0
    started: float | None = None
    ended: float | None = None
    billable_seconds: float | None = None
    instance_type: str = ""
    instance_count: int | None = None
    phases: tuple[tuple[str, float], ...] = ()

    @property
    def phase(self) -> Phase:
        """The phase of the status."""
        return self.kind.phase_of(self.status)

    @property
    def category(self) -> ErrorCategory:
        """The error category of a job that ended without completing."""
        return rule_for(self.symptom).category

    @property
    def symptom(self) -> Symptom:
        """Status and failure reason, as the table of error categories reads them."""
        return Symptom(status=f"{self.phase.word} {self.secondary}", message=self.reason)

    @property
    def exit_code(self) -> int | None:
        """The container's exit code in the `FailureReason`; None if it has none."""
        found = _EXIT_CODE.search(self.reason)
        return int(found.group(1)) if found else None

    @property
    def progress(self) -> Progress:
        """The progress; that of an ended job is 100 percent."""
        return Progress(100, self.phase.word) if self.phase.terminal else self.kind.progress(self)


def job_from_description(kind: JobKind, answer: Mapping[str, Any]) -> Job:
    """Return a job from the answer of its kind's Describe operation."""
    instance_type, instance_count = instances_of(kind.cluster(answer))
    return Job(
        kind=kind,
        name=answer[kind.api.name],
        arn=answer[kind.api.arn],
        status=answer[kind.api.status],
        secondary=answer.get("SecondaryStatus", ""),
        reason=answer.get("FailureReason", ""),
        message=answer.get("ExitMessage", ""),
        **_told(kind.environment(answer)),
        created=answer["CreationTime"].timestamp(),
        started=_moment(answer.get(kind.api.start_time)),
        ended=_moment(answer.get(kind.api.end_time)),
        billable_seconds=answer.get("BillableTimeInSeconds"),
        instance_type=instance_type,
        instance_count=instance_count,
        phases=tuple(kind.in_order(kind.seconds_by_phase(answer)).items()),
    )


def job_from_create(kind: JobKind, request: Mapping[str, Any], answer: Mapping[str, Any]) -> Job:
    """Return a job from the request and the answer of its kind's Create operation."""
    told, status = _told(kind.environment(request)), kind.status_of(Phase.IN_PROGRESS)
    return Job(kind, request[kind.api.name], answer[kind.api.arn], status, **told)


def past_job(kind: JobKind, name: str, arn: str) -> Job:
    """Return a completed job of which only these facts are known."""
    return Job(kind, name, arn, kind.status_of(Phase.COMPLETED))


def _told(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields that our variables in a job's environment hold."""
    return {
        "fingerprint": environment.get(FINGERPRINT_VARIABLE, ""),
        "started_by": environment.get(STARTED_BY_VARIABLE, ""),
        "forced_in": environment.get(FORCED_IN_VARIABLE, ""),
    }


def instances_of(cluster: Mapping[str, Any]) -> tuple[str, int | None]:
    """Return a job's instance type and number of hosts; the types of instance groups are joined by `+`."""
    if groups := cluster.get("InstanceGroups"):
        types = dict.fromkeys(group["InstanceType"] for group in groups)
        return "+".join(types), sum(group["InstanceCount"] for group in groups)
    # With `InstancePreferences` SageMaker chooses the type, and reports its choice in these fields.
    chosen = cluster.get("SelectedInstanceType") or cluster.get("InstanceType", "")
    return chosen, cluster.get("SelectedInstanceCount") or cluster.get("InstanceCount")


def seconds_between(start: datetime, end: datetime) -> float:
    """Return the seconds between two times of a description; 0 if SageMaker's clocks put the end first."""
    return max((end - start).total_seconds(), 0.0)


def _moment(value: datetime | None) -> float | None:
    return value.timestamp() if value else None


_SECONDS_AN_HOUR = 3600
_LEAST = 0.01


def cost_of(hourly_price: float | None, instances: int | None, seconds: float | None) -> float | None:
    """Return the cost in the currency of the price; None if any argument is None.

    Args:
        hourly_price: Price of one instance for one hour; None if unknown.
        instances: Number of instances; None if unknown.
        seconds: Billed seconds of each instance; None if unknown.
    """
    if hourly_price is None or instances is None or seconds is None:
        return None
    return hourly_price * instances * seconds / _SECONDS_AN_HOUR


def shown_cost(cost: float | None) -> str:
    """Return a cost as text with two decimal places, or `less than 0.01`, or `unknown`."""
    if cost is None:
        return "unknown"
    if 0 < cost < _LEAST:
        return f"less than {_LEAST}"
    return f"{cost:.2f}"
