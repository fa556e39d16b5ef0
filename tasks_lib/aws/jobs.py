"""The only caller of the SageMaker API: create or attach, describe, list, stop.

A job's name is its idempotency key, so after any failure of a create except a refusal the name is looked at before
anything is decided: a lost answer looks like a failure, a quota may answer before the name clash does, and AWS has more
than one code for "already there".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from blocks import SageMakerProject
from tasks_lib.aws.errors import code_of, is_authorisation, translated, translating, words_of
from tasks_lib.aws.phases import seconds_by_phase
from tasks_lib.aws.request_check import check_request
from tasks_lib.meaning import Meaning, Sign, row_of
from tasks_lib.naming import is_job_of, job_stem
from tasks_lib.status import JobKind, Phase, phase_of

FINGERPRINT_VARIABLE = "SSM_FINGERPRINT"
"""The work of a job, in its environment: Describe returns that, but no tags."""

STARTED_BY_VARIABLE, FORCED_IN_VARIABLE = "SSM_STARTED_BY", "SSM_FORCED_IN"
"""The waiter who had the job made, and the flow run that wanted it whatever was there."""

_UNKNOWN = re.compile(r"not found|could not find|does not exist", re.IGNORECASE)
_EXIT_CODE = re.compile(r"exit code:? *(\d+)", re.IGNORECASE)
_PAGE = 100


@dataclass(frozen=True)
class Job:
    """A job as SageMaker describes it; times in epoch seconds.

    Args:
        kind: Kind of job.
        name: Its name.
        arn: Its ARN.
        status: SageMaker's word, such as `InProgress`.
        secondary: SageMaker's finer word (training only), such as `Downloading`.
        reason: `FailureReason`.
        message: `ExitMessage` (processing only).
        fingerprint: The work, as its environment says it.
        started_by: The waiter who had it made, as its environment says it.
        forced_in: The flow run that wanted it whatever was there; empty where none did.
        created: When it was created.
        started: When its code began.
        ended: When it ended.
        billable_seconds: What is paid for, of each host.
        instance_type: What it runs on.
        instance_count: On how many hosts.
        phases: Seconds by phase, in the order of time.
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
        """What the status means."""
        return phase_of(self.status)

    @property
    def meaning(self) -> Meaning:
        """What its end means, where it did not complete."""
        return row_of(self.sign).meaning

    @property
    def sign(self) -> Sign:
        """What SageMaker says of its end, as the table of meanings reads it."""
        return Sign(status=f"{self.status} {self.secondary}", message=self.reason)

    @property
    def exit_code(self) -> int | None:
        """The container's exit code, where SageMaker tells it in its reason."""
        found = _EXIT_CODE.search(self.reason)
        return int(found.group(1)) if found else None


_WORD: dict[JobKind, str] = {"training": "Training", "processing": "Processing"}


class Jobs:
    """The jobs of one project's account and region."""

    def __init__(self, project: SageMakerProject) -> None:
        self._project = project

    @property
    def _api(self) -> Any:
        # Asked for at every call: clients are made anew when credentials have expired.
        return self._project.client("sagemaker")

    def check(self, kind: JobKind, request: dict[str, Any]) -> None:
        """Hold a request against AWS's model; raises `InvalidRequest`."""
        check_request(self._api.meta.service_model, f"Create{_WORD[kind]}Job", request)

    def create(self, kind: JobKind, request: dict[str, Any]) -> Job:
        """Create a job, or return the one that has its name already.

        Raises:
            ServiceError: AWS refused it, and no job of that name is there.
        """
        name = request[f"{_WORD[kind]}JobName"]
        what = f"create the {kind} job {name}"
        try:
            answer = self._call("create", kind)(**request)
        except (ClientError, BotoCoreError) as error:
            if isinstance(error, ClientError) and is_authorisation(error):
                raise translated(error, what) from error
            found = self.describe(kind, name)
            if found is None:
                raise translated(error, what) from error
            return found
        return Job(kind, name, answer[f"{_WORD[kind]}JobArn"], "InProgress", **_told(request))

    def describe(self, kind: JobKind, name: str) -> Job | None:
        """Return a job, or `None` if SageMaker does not know the name."""
        found = self.with_environment(kind, name)
        return found[0] if found else None

    def with_environment(self, kind: JobKind, name: str) -> tuple[Job, dict[str, str]] | None:
        """Return a job and its environment, which says whose it is; `None` if SageMaker does not know the name."""
        with translating(f"describe the {kind} job {name}"):
            try:
                answer = self._call("describe", kind)(**{f"{_WORD[kind]}JobName": name})
            except ClientError as error:
                if _is_unknown(error):
                    return None
                raise
        return _job(kind, answer), answer.get("Environment", {})

    def stop(self, job: Job) -> None:
        """Ask SageMaker to stop a job; that it is already over is no error."""
        with translating(f"stop the {job.kind} job {job.name}"):
            try:
                self._call("stop", job.kind)(**{f"{_WORD[job.kind]}JobName": job.name})
            except ClientError as error:
                # ValidationException: the job ended before our word arrived.
                if code_of(error) != "ValidationException" and not _is_unknown(error):
                    raise

    def page(self, kind: JobKind, token: str = "", **filters: Any) -> tuple[dict[str, str], str]:
        """Return a page of job statuses by name, newest first, and the token of the next page, empty at the end.

        Args:
            kind: Kind of job.
            token: Of the page; the first has none.
            **filters: AWS's own, such as `NameContains` and `CreationTimeAfter`.
        """
        more = {"NextToken": token} if token else {}
        with translating(f"list {kind} jobs"):
            answer = self._call("list", kind)(
                SortBy="CreationTime", SortOrder="Descending", MaxResults=_PAGE, **filters, **more
            )
        rows = answer[f"{_WORD[kind]}JobSummaries"]
        statuses = {row[f"{_WORD[kind]}JobName"]: row[f"{_WORD[kind]}JobStatus"] for row in rows}
        return statuses, answer.get("NextToken", "")

    def newest_of(self, task: str, project: str) -> Job | None:
        """Return the newest job of a task, for telling what became of it."""
        found = [self._newest_of_kind(kind, task, project) for kind in _WORD]
        return max((job for job in found if job), key=lambda job: job.created, default=None)

    def _newest_of_kind(self, kind: JobKind, task: str, project: str) -> Job | None:
        """Ask about the jobs with the task's stem, newest first, until one says that it is the task's."""
        token, first = "", True
        while token or first:
            names, token = self.page(kind, token, NameContains=job_stem(task))
            first = False
            for name in names:
                if is_job_of(name, task) and (job := self._describe_own(kind, name, task, project)):
                    return job
        return None

    def _describe_own(self, kind: JobKind, name: str, task: str, project: str) -> Job | None:
        with translating(f"describe the {kind} job {name}"):
            answer = self._call("describe", kind)(**{f"{_WORD[kind]}JobName": name})
        variables = answer.get("Environment", {})
        own = (variables.get("SSM_TASK"), variables.get("SSM_PROJECT")) == (task, project)
        return _job(kind, answer) if own else None

    def _call(self, verb: str, kind: JobKind) -> Any:
        plural = "s" if verb == "list" else ""
        return getattr(self._api, f"{verb}_{kind}_job{plural}")


def _told(document: dict[str, Any]) -> dict[str, Any]:
    """Return what we told a job in its environment: by a request, or by what Describe shows of it."""
    environment = document.get("Environment", {})
    return {
        "fingerprint": environment.get(FINGERPRINT_VARIABLE, ""),
        "started_by": environment.get(STARTED_BY_VARIABLE, ""),
        "forced_in": environment.get(FORCED_IN_VARIABLE, ""),
    }


def _is_unknown(error: ClientError) -> bool:
    if code_of(error) in {"ResourceNotFound", "ResourceNotFoundException"}:
        return True
    return code_of(error) == "ValidationException" and bool(_UNKNOWN.search(words_of(error)))


def _job(kind: JobKind, answer: dict[str, Any]) -> Job:
    word = _WORD[kind]
    cluster = answer.get("ResourceConfig") or answer.get("ProcessingResources", {}).get("ClusterConfig", {})
    instance_type, instance_count = instances_of(cluster)
    return Job(
        kind=kind,
        name=answer[f"{word}JobName"],
        arn=answer[f"{word}JobArn"],
        status=answer[f"{word}JobStatus"],
        secondary=answer.get("SecondaryStatus", ""),
        reason=answer.get("FailureReason", ""),
        message=answer.get("ExitMessage", ""),
        **_told(answer),
        created=answer["CreationTime"].timestamp(),
        started=_moment(answer.get(f"{word}StartTime")),
        ended=_moment(answer.get(f"{word}EndTime")),
        billable_seconds=answer.get("BillableTimeInSeconds"),
        instance_type=instance_type,
        instance_count=instance_count,
        phases=tuple(seconds_by_phase(kind, answer).items()),
    )


def instances_of(cluster: dict[str, Any]) -> tuple[str, int | None]:
    """Return what a job runs on and on how many hosts; the different types of groups are joined by `+`."""
    if groups := cluster.get("InstanceGroups"):
        types = dict.fromkeys(group["InstanceType"] for group in groups)
        return "+".join(types), sum(group["InstanceCount"] for group in groups)
    # With `InstancePreferences` it is SageMaker that chooses.
    chosen = cluster.get("SelectedInstanceType") or cluster.get("InstanceType", "")
    return chosen, cluster.get("SelectedInstanceCount") or cluster.get("InstanceCount")


def _moment(value: datetime | None) -> float | None:
    return value.timestamp() if value else None
