"""The operations Create, Describe, List, Stop and Delete for one kind of job.

The table of jobs decides races: a name has one winner, and a finished job stays finished. This module translates
between the table and the API.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from local_sagemaker.iam.roles import RoleTable
from local_sagemaker.job_table import JobTable
from local_sagemaker.jobs import Job, JobExists, JobFinished, JobInProgress, JobUnknown, Runner
from local_sagemaker.kind import Document, JobKind
from local_sagemaker.sagemaker.paging import read_token
from local_sagemaker.sagemaker.quotas import Quotas
from local_sagemaker.sagemaker.rules import invalid
from local_sagemaker.simulation import is_simulated, read_simulation
from local_sagemaker.wire.errors import ApiError
from local_sagemaker.wire.json_service import Caller, Handler

_DEFAULT_PAGE = 10  # AWS's default of MaxResults
NOT_FOUND = "Requested resource not found."


class JobOperations:
    """The operations of one kind of job.

    Args:
        kind: the kind of job.
        jobs: the table of jobs.
        quotas: the quotas of the account.
        roles: the roles of the home; a job records the id of its role.
        start: called with a new job after it was added to the table.
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
        """Return the handlers by the names of their operations."""
        noun = self._kind.noun
        return {
            f"Create{noun}": self.create,
            f"Describe{noun}": self.describe,
            f"List{noun}s": self.list,
            f"Stop{noun}": self.stop,
            f"Delete{noun}": self.delete,
        }

    def create(self, request: dict[str, Any], caller: Caller) -> Document:
        """Add a job to the table and start it. A name in use is `ResourceInUse`.

        Quotas are checked before the name. So a client that gets `ResourceLimitExceeded` cannot know whether its job
        exists.
        """
        self._kind.check(request)
        runner = _runner(self._kind, request)
        name = self._name(request)
        arn = caller.arn("sagemaker", f"{self._kind.name}/{name}")
        tags = {tag["Key"]: tag["Value"] for tag in request.get("Tags", [])}
        try:
            with self._quotas.reserved(self._kind, name, request):
                role_id = self._roles.session(self._kind.role_of(request), "SageMaker").role_id
                job = self._jobs.create(self._kind.name, name, arn, request, tags, runner=runner, role_id=role_id)
        except JobExists as error:
            taken_by = self._jobs.get(self._kind.name, name).arn
            raise ApiError("ResourceInUse", f"{self._kind.taken} ({taken_by})") from error
        self._start(job)
        return {f"{self._kind.noun}Arn": arn}

    def describe(self, request: dict[str, Any], caller: Caller) -> Document:  # noqa: ARG002 -- a handler
        """Describe one job. An unknown name is a `ValidationException`, as seen at AWS."""
        try:
            return self._kind.describe(self._jobs.get(self._kind.name, self._name(request)))
        except JobUnknown as error:
            raise invalid(NOT_FOUND) from error

    def stop(self, request: dict[str, Any], caller: Caller) -> None:  # noqa: ARG002 -- a handler
        """Request the stop of a job; its runner stops it.

        The message for a finished job is AWS's (benchmark-ai issue 928).
        """
        name = self._name(request)
        try:
            self._jobs.request_stop(self._kind.name, name)
        except JobUnknown as error:
            raise invalid(NOT_FOUND) from error
        except JobFinished as error:
            status = self._kind.status_of(self._jobs.get(self._kind.name, name))
            what = self._kind.name.replace("-", " ")
            raise invalid(f"The request was rejected because the {what} is in status {status}.") from error

    def delete(self, request: dict[str, Any], caller: Caller) -> None:  # noqa: ARG002 -- a handler
        """Delete a finished job; its name can be used again (API reference, `DeleteTrainingJob`)."""
        name = self._name(request)
        try:
            self._jobs.delete(self._kind.name, name)
        except JobUnknown as error:
            raise ApiError("ResourceNotFound", NOT_FOUND) from error
        except JobInProgress as error:
            raise ApiError("ResourceInUse", f"{error} Only a job in a terminal status can be deleted.") from error

    def list(self, request: dict[str, Any], caller: Caller) -> Document:  # noqa: ARG002 -- a handler
        """Return one page of summaries.

        `StatusEquals` filters after paging (API reference, `ListTrainingJobs`), so a page may be short, or empty with a
        token. By default the newest jobs come first. The same page of the reference says so, although it also says that
        the default is Ascending.
        """
        asked = {name: value for name, value in request.items() if name not in {"NextToken", "MaxResults"}}
        position = read_token(request.get("NextToken"), asked)
        size = request.get("MaxResults", _DEFAULT_PAGE)
        before = [bound for bound in (request.get("CreationTimeBefore"), position.before) if bound is not None]
        found = self._jobs.list(
            self._kind.name,
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
        shown = [self._kind.describe(job) for job in found[:size] if self._wanted(job, request)]
        answer = {f"{self._kind.noun}Summaries": shown}
        return answer if len(found) <= size else {**answer, "NextToken": position.next(size).token(asked)}

    def _name(self, request: dict[str, Any]) -> str:
        return str(request[f"{self._kind.noun}Name"])

    def _wanted(self, job: Job, request: dict[str, Any]) -> bool:
        """Tell whether a job of the page passes the filters after paging. No job here leaves a warm pool."""
        if "WarmPoolStatusEquals" in request:
            return False
        plan = job.request.get("ResourceConfig", {}).get("TrainingPlanArn")
        status = self._kind.status_of(job)
        return bool(
            request.get("StatusEquals", status) == status and request.get("TrainingPlanArnEquals", plan) == plan
        )


def _runner(kind: JobKind, request: dict[str, Any]) -> Runner:
    """Return the runner of a new job."""
    if not is_simulated(kind.image_of(request)):
        return "process"
    try:
        read_simulation(kind.definition_of(request))
    except ValueError as error:
        raise invalid(str(error)) from error
    return "simulated"
