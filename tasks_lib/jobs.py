"""The only caller of the SageMaker API: create or attach, describe, list, stop.

A job's name is its idempotency key, so after any failure of a create except a refusal the name is looked at before
anything is decided: a lost answer looks like a failure, a quota may answer before the name clash does, and AWS has more
than one code for "already there".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from blocks import SageMakerProject
from tasks_lib.aws_errors import code_of, is_authorisation, translated, translating, words_of
from tasks_lib.naming import is_job_of
from tasks_lib.request_check import check_request
from tasks_lib.status import JobKind, Phase, phase_of

FINGERPRINT_VARIABLE = "SSM_FINGERPRINT"
"""The work of a job, in its environment: Describe returns that, but no tags."""

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
        created: When it was created.
        started: When its code began.
        ended: When it ended.
        billable_seconds: What is paid for.
    """

    kind: JobKind
    name: str
    arn: str
    status: str
    secondary: str = ""
    reason: str = ""
    message: str = ""
    fingerprint: str = ""
    created: float = 0.0
    started: float | None = None
    ended: float | None = None
    billable_seconds: float | None = None

    @property
    def phase(self) -> Phase:
        """What the status means."""
        return phase_of(self.status)

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
        return Job(kind, name, answer[f"{_WORD[kind]}JobArn"], "InProgress", fingerprint=_wanted_work(request))

    def describe(self, kind: JobKind, name: str) -> Job | None:
        """Return a job, or `None` if SageMaker does not know the name."""
        with translating(f"describe the {kind} job {name}"):
            try:
                answer = self._call("describe", kind)(**{f"{_WORD[kind]}JobName": name})
            except ClientError as error:
                if _is_unknown(error):
                    return None
                raise
        return _job(kind, answer)

    def stop(self, job: Job) -> None:
        """Ask SageMaker to stop a job; that it is already over is no error."""
        with translating(f"stop the {job.kind} job {job.name}"):
            try:
                self._call("stop", job.kind)(**{f"{_WORD[job.kind]}JobName": job.name})
            except ClientError as error:
                # ValidationException: the job ended before our word arrived.
                if code_of(error) != "ValidationException" and not _is_unknown(error):
                    raise

    def pages(self, kind: JobKind, created_after: float) -> Iterator[dict[str, str]]:
        """Yield pages of job statuses by name, newest first, of the jobs created after a moment."""
        arguments: dict[str, Any] = {
            "CreationTimeAfter": datetime.fromtimestamp(created_after).astimezone(),
            "SortBy": "CreationTime",
            "SortOrder": "Descending",
            "MaxResults": _PAGE,
        }
        while True:
            with translating(f"list {kind} jobs"):
                answer = self._call("list", kind)(**arguments)
            rows = answer[f"{_WORD[kind]}JobSummaries"]
            yield {row[f"{_WORD[kind]}JobName"]: row[f"{_WORD[kind]}JobStatus"] for row in rows}
            if not answer.get("NextToken"):
                return
            arguments["NextToken"] = answer["NextToken"]

    def newest_of(self, task: str, project: str) -> Job | None:
        """Return the newest job of a task, for telling what became of it."""
        candidates: list[Job] = []
        for kind in _WORD:
            with translating(f"list {kind} jobs"):
                answer = self._call("list", kind)(SortBy="CreationTime", SortOrder="Descending", MaxResults=_PAGE)
            names = [row[f"{_WORD[kind]}JobName"] for row in answer[f"{_WORD[kind]}JobSummaries"]]
            candidates += self._first_of(kind, [name for name in names if is_job_of(name, task)], task, project)
        return max(candidates, key=lambda job: job.created, default=None)

    def _first_of(self, kind: JobKind, names: list[str], task: str, project: str) -> Iterator[Job]:
        for name in names:
            with translating(f"describe the {kind} job {name}"):
                answer = self._call("describe", kind)(**{f"{_WORD[kind]}JobName": name})
            variables = answer.get("Environment", {})
            if (variables.get("SSM_TASK"), variables.get("SSM_PROJECT")) == (task, project):
                yield _job(kind, answer)
                return

    def _call(self, verb: str, kind: JobKind) -> Any:
        plural = "s" if verb == "list" else ""
        return getattr(self._api, f"{verb}_{kind}_job{plural}")


def _wanted_work(request: dict[str, Any]) -> str:
    return str(request.get("Environment", {}).get(FINGERPRINT_VARIABLE, ""))


def _is_unknown(error: ClientError) -> bool:
    if code_of(error) in {"ResourceNotFound", "ResourceNotFoundException"}:
        return True
    return code_of(error) == "ValidationException" and bool(_UNKNOWN.search(words_of(error)))


def _job(kind: JobKind, answer: dict[str, Any]) -> Job:
    word = _WORD[kind]
    return Job(
        kind=kind,
        name=answer[f"{word}JobName"],
        arn=answer[f"{word}JobArn"],
        status=answer[f"{word}JobStatus"],
        secondary=answer.get("SecondaryStatus", ""),
        reason=answer.get("FailureReason", ""),
        message=answer.get("ExitMessage", ""),
        fingerprint=answer.get("Environment", {}).get(FINGERPRINT_VARIABLE, ""),
        created=answer["CreationTime"].timestamp(),
        started=_moment(answer.get(f"{word}StartTime")),
        ended=_moment(answer.get(f"{word}EndTime")),
        billable_seconds=answer.get("BillableTimeInSeconds"),
    )


def _moment(value: datetime | None) -> float | None:
    return value.timestamp() if value else None
