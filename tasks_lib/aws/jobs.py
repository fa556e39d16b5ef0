"""Calls the SageMaker API for jobs: create or attach, describe, list and stop.

A job's name is its idempotency key: SageMaker refuses to create a second job of the same name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from blocks import SageMakerProject
from tasks_lib.aws.errors import code_of, is_authorisation, translated, translating, words_of
from tasks_lib.aws.request_validation import check_request
from tasks_lib.jobs.job import Job, job_from_create, job_from_description
from tasks_lib.jobs.kinds import KINDS, JobKind
from tasks_lib.jobs.naming import is_job_of, job_stem

if TYPE_CHECKING:
    from types_boto3_sagemaker import SageMakerClient

_UNKNOWN = re.compile(r"not found|could not find|does not exist", re.IGNORECASE)
_PAGE = 100


class Jobs:
    """The jobs of one project's account and region."""

    def __init__(self, project: SageMakerProject) -> None:
        self._project = project

    @property
    def _api(self) -> SageMakerClient:
        # Ask the project each time: it replaces its clients when credentials have expired.
        return self._project.client("sagemaker")

    def check(self, kind: JobKind, request: dict[str, Any]) -> None:
        """Check a create request against AWS's API model; raise `InvalidRequest` if it does not fit."""
        check_request(self._api.meta.service_model, kind.api.operation("Create"), request)

    def create(self, kind: JobKind, request: dict[str, Any]) -> Job:
        """Create a job, or return the existing job of the same name.

        Raises:
            ServiceError: AWS refused the request, and no job of that name exists.
        """
        name = request[kind.api.name]
        what = f"create the {kind} job {name}"
        try:
            answer = self._call("Create", kind)(**request)
        except (ClientError, BotoCoreError) as error:
            if isinstance(error, ClientError) and is_authorisation(error):
                raise translated(error, what) from error
            # Look the name up after any other failure. The job may have been created although the answer was lost. A
            # quota may be checked before the name. And AWS has more than one code for a name that is taken.
            found = self.describe(kind, name)
            if found is None:
                raise translated(error, what) from error
            return found
        return job_from_create(kind, request, answer)

    def describe(self, kind: JobKind, name: str) -> Job | None:
        """Return a job; None if SageMaker does not know the name."""
        found = self.with_environment(kind, name)
        return found[0] if found else None

    def with_environment(self, kind: JobKind, name: str) -> tuple[Job, Mapping[str, str]] | None:
        """Return a job and its environment, which says whose it is; None if SageMaker does not know the name."""
        with translating(f"describe the {kind} job {name}"):
            try:
                answer = self._call("Describe", kind)(**{kind.api.name: name})
            except ClientError as error:
                if _is_unknown(error):
                    return None
                raise
        return job_from_description(kind, answer), kind.environment(answer)

    def stop(self, job: Job) -> None:
        """Stop a job. A job that has already ended or does not exist is not an error."""
        with translating(f"stop the {job.kind} job {job.name}"):
            try:
                self._call("Stop", job.kind)(**{job.kind.api.name: job.name})
            except ClientError as error:
                # ValidationException: the job ended before the request arrived.
                if code_of(error) != "ValidationException" and not _is_unknown(error):
                    raise

    def page(self, kind: JobKind, token: str = "", **filters: Any) -> tuple[dict[str, str], str]:
        """Return a page of job statuses by name, newest first, and the token of the next page, empty at the end.

        Args:
            kind: Kind of job.
            token: Token of the page; empty for the first.
            **filters: AWS's own filters, such as `NameContains` and `CreationTimeAfter`.
        """
        more = {"NextToken": token} if token else {}
        with translating(f"list {kind} jobs"):
            answer = self._call("List", kind)(
                SortBy="CreationTime", SortOrder="Descending", MaxResults=_PAGE, **filters, **more
            )
        statuses = {row[kind.api.name]: row[kind.api.status] for row in answer[kind.api.summaries]}
        return statuses, answer.get("NextToken", "")

    def newest_of(self, task: str, project: str) -> Job | None:
        """Return the newest job of a task, of any kind; None if there is none."""
        found = [self._newest_of_kind(kind, task, project) for kind in KINDS.values()]
        return max((job for job in found if job), key=lambda job: job.created, default=None)

    def _newest_of_kind(self, kind: JobKind, task: str, project: str) -> Job | None:
        """Return a task's newest job of one kind, or None.

        Jobs whose names match the task's stem are described, newest first, until one has the task in its environment.
        """
        token, first = "", True
        while token or first:
            names, token = self.page(kind, token, NameContains=job_stem(task, limit=kind.name_limit))
            first = False
            for name in names:
                if is_job_of(name, task, limit=kind.name_limit) and (
                    job := self._describe_own(kind, name, task, project)
                ):
                    return job
        return None

    def _describe_own(self, kind: JobKind, name: str, task: str, project: str) -> Job | None:
        with translating(f"describe the {kind} job {name}"):
            answer = self._call("Describe", kind)(**{kind.api.name: name})
        variables = kind.environment(answer)
        own = (variables.get("SSM_TASK"), variables.get("SSM_PROJECT")) == (task, project)
        return job_from_description(kind, answer) if own else None

    def _call(self, verb: str, kind: JobKind) -> Any:
        return getattr(self._api, kind.api.method(verb))


def _is_unknown(error: ClientError) -> bool:
    if code_of(error) in {"ResourceNotFound", "ResourceNotFoundException"}:
        return True
    return code_of(error) == "ValidationException" and bool(_UNKNOWN.search(words_of(error)))
