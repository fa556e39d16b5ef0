"""The operations AddTags, ListTags and DeleteTags for jobs."""

from __future__ import annotations

from typing import Any

from local_sagemaker.job_table import JobTable
from local_sagemaker.jobs import Job, JobUnknown
from local_sagemaker.kind import Document
from local_sagemaker.kinds import KINDS
from local_sagemaker.sagemaker.rules import check_tags, invalid
from local_sagemaker.wire.json_service import Caller


class TagOperations:
    """The tag operations on the jobs of a table. The ARN of another resource is not found."""

    def __init__(self, jobs: JobTable) -> None:
        self._jobs = jobs

    def add(self, request: dict[str, Any], caller: Caller) -> Document:  # noqa: ARG002 -- a handler
        """Add or overwrite tags. Return all tags of the resource."""
        job = self._job(request)
        check_tags(request["Tags"], present=job.tags)
        added = {tag["Key"]: tag["Value"] for tag in request["Tags"]}
        return _as_list(self._jobs.add_tags(job.arn, added))

    def list(self, request: dict[str, Any], caller: Caller) -> Document:  # noqa: ARG002 -- a handler
        """Return all tags in one page. A resource has at most 50, which is also the smallest page size allowed."""
        return _as_list(self._job(request).tags)

    def delete(self, request: dict[str, Any], caller: Caller) -> None:  # noqa: ARG002 -- a handler
        """Remove tags by key. Ignore unknown keys."""
        self._jobs.delete_tags(self._job(request).arn, request["TagKeys"])

    def _job(self, request: dict[str, Any]) -> Job:
        arn = request["ResourceArn"]
        kind, _, name = arn.split(":", 5)[5].partition("/")
        if kind in KINDS:
            try:
                job = self._jobs.get(kind, name)
            except JobUnknown as error:
                raise invalid(f"Requested resource not found: {arn}") from error
            if job.arn == arn:
                return job
        raise invalid(f"Requested resource not found: {arn}")


def _as_list(tags: dict[str, str]) -> Document:
    return {"Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
