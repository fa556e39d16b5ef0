"""Create, describe, list, stop and delete for one kind of job.

The table decides every race (a name has one winner, a finished job stays finished); this module translates between it
and the API's words. Used by `service`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from local_sagemaker.iam.roles import RoleTable
from local_sagemaker.job_table import JobTable
from local_sagemaker.jobs import Job, JobExists, JobFinished, JobInProgress, JobUnknown, Kind, Runner
from local_sagemaker.sagemaker.kinds import Document, JobKind
from local_sagemaker.sagemaker.paging import read_token
from local_sagemaker.sagemaker.quotas import Quotas
from local_sagemaker.sagemaker.rules import invalid
from local_sagemaker.simulation import is_simulated, read_simulation
from local_sagemaker.wire.errors import ApiError
from local_sagemaker.wire.json_service import Caller, Handler

_DEFAULT_PAGE = 10  # what AWS returns when MaxResults is not given
NOT_FOUND = "Requested resource not found."


class JobOperations:
    """The operations of one kind of job.

    Args:
        kind: its words and rules.
        jobs: the table.
        quotas: of the account.
        roles: those of the home; a job remembers which of them it has.
        start: called with a new job once it is in the table.
    """

    def __init__(
        self, kind: JobKind, jobs: JobTable, quotas: Quotas, roles: RoleTable, start: Callable[[Job], object]
    ) -> None:
        self._kind = kind
        self._jobs = jobs
        self._quotas = quotas
        self._roles = roles
        self._start = start

    def handlers(self) -> Mapping[str, Handler]:
        """The handlers by the names of their operations."""
        word = self._kind.word
        return {
            f"Create{word}Job": self.create,
            f"Describe{word}Job": self.describe,
            f"List{word}Jobs": self.list,
            f"Stop{word}Job": self.stop,
            f"Delete{word}Job": self.delete,
        }

    def create(self, request: dict[str, Any], caller: Caller) -> Document:
        """Put a new job into the table and start it; a taken name is `ResourceInUse`.

        The quota answers first: so a client that meets `ResourceLimitExceeded` cannot know whether its job exists.
        """
        self._kind.check(request)
        runner = _runner(self._kind.kind, request)
        name = self._name(request)
        arn = caller.arn("sagemaker", f"{self._kind.kind}/{name}")
        tags = {tag["Key"]: tag["Value"] for tag in request.get("Tags", [])}
        try:
            with self._quotas.admitting(self._kind.kind, name, request):
                role_id = self._roles.session(request["RoleArn"], "SageMaker").role_id
                job = self._jobs.create(self._kind.kind, name, arn, request, tags, runner=runner, role_id=role_id)
        except JobExists as error:
            taken_by = self._jobs.get(self._kind.kind, name).arn
            raise ApiError("ResourceInUse", f"{self._kind.taken} ({taken_by})") from error
        self._start(job)
        return {f"{self._kind.word}JobArn": arn}

    def describe(self, request: dict[str, Any], caller: Caller) -> Document:  # noqa: ARG002 -- a handler
        """All about one job; an unknown name is a `ValidationException`, as seen at AWS."""
        try:
            return self._kind.describe(self._jobs.get(self._kind.kind, self._name(request)))
        except JobUnknown as error:
            raise invalid(NOT_FOUND) from error

    def stop(self, request: dict[str, Any], caller: Caller) -> None:  # noqa: ARG002 -- a handler
        """Ask for the end of a job; its supervisor does the rest.

        The words for a finished job are AWS's (benchmark-ai issue 928).
        """
        name = self._name(request)
        try:
            self._jobs.request_stop(self._kind.kind, name)
        except JobUnknown as error:
            raise invalid(NOT_FOUND) from error
        except JobFinished as error:
            status = self._jobs.get(self._kind.kind, name).status
            what = f"{self._kind.word.lower()} job"
            raise invalid(f"The request was rejected because the {what} is in status {status}.") from error

    def delete(self, request: dict[str, Any], caller: Caller) -> None:  # noqa: ARG002 -- a handler
        """Forget a finished job; its name is free again (API reference, `DeleteTrainingJob`)."""
        name = self._name(request)
        try:
            self._jobs.delete(self._kind.kind, name)
        except JobUnknown as error:
            raise ApiError("ResourceNotFound", NOT_FOUND) from error
        except JobInProgress as error:
            raise ApiError("ResourceInUse", f"{error} Only a job in a terminal status can be deleted.") from error

    def list(self, request: dict[str, Any], caller: Caller) -> Document:  # noqa: ARG002 -- a handler
        """One page of summaries.

        `StatusEquals` filters what the page has (API reference, `ListTrainingJobs`), so that a page may be short, or
        empty with a token. Newest first unless the request says otherwise: so the same page of the reference, against
        its own "default Ascending".
        """
        asked = {name: value for name, value in request.items() if name not in {"NextToken", "MaxResults"}}
        position = read_token(request.get("NextToken"), asked)
        size = request.get("MaxResults", _DEFAULT_PAGE)
        before = [bound for bound in (request.get("CreationTimeBefore"), position.before) if bound is not None]
        found = self._jobs.list(
            self._kind.kind,
            name_contains=request.get("NameContains"),
            created_after=request.get("CreationTimeAfter"),
            created_before=min(before, default=None),
            modified_after=request.get("LastModifiedTimeAfter"),
            modified_before=request.get("LastModifiedTimeBefore"),
            sort_by=request.get("SortBy", "CreationTime"),
            descending=request.get("SortOrder", "Descending") == "Descending",
            offset=position.offset,
            limit=size + 1,
        )
        shown = [self._kind.describe(job) for job in found[:size] if _wanted(job, request)]
        answer = {f"{self._kind.word}JobSummaries": shown}
        return answer if len(found) <= size else {**answer, "NextToken": position.next(size).token(asked)}

    def _name(self, request: dict[str, Any]) -> str:
        return str(request[f"{self._kind.word}JobName"])


def _runner(kind: Kind, request: dict[str, Any]) -> Runner:
    """Return who carries a new job to its end."""
    if not is_simulated(kind, request):
        return "process"
    try:
        read_simulation(request)
    except ValueError as error:
        raise invalid(str(error)) from error
    return "simulated"


def _wanted(job: Job, request: dict[str, Any]) -> bool:
    """Whether a job of the page passes the filters that work after paging. No job here leaves a warm pool."""
    if "WarmPoolStatusEquals" in request:
        return False
    plan = job.request.get("ResourceConfig", {}).get("TrainingPlanArn")
    return bool(
        request.get("StatusEquals", job.status) == job.status and request.get("TrainingPlanArnEquals", plan) == plan
    )
