"""The backend of one project: SageMaker, S3 and CloudWatch Logs, on AWS or on this machine.

The code that runs a task gets all access to AWS through one object, so that one stand-in can replace all of AWS.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from blocks import SageMakerProject
from tasks_lib.aws.jobs import Jobs
from tasks_lib.aws.log_reader import LogReader, reader_of
from tasks_lib.aws.logs import LogTail
from tasks_lib.aws.objects import Objects
from tasks_lib.aws.roles import role_arn
from tasks_lib.aws.watch import Watcher, watcher_of
from tasks_lib.error_categories import ErrorCategory
from tasks_lib.jobs.job import Job
from tasks_lib.jobs.s3_layout import ProjectFolder, TaskFolder


class Backend:
    """Access to the AWS services of one project; each part is made when it is first used.

    Args:
        project: The project.
    """

    def __init__(self, project: SageMakerProject) -> None:
        self.project = project

    @property
    def is_local(self) -> bool:
        """Whether the jobs run on this machine, in a local SageMaker."""
        return self.project.is_local

    @cached_property
    def jobs(self) -> Jobs:
        """Access to SageMaker's jobs."""
        return Jobs(self.project)

    @cached_property
    def objects(self) -> Objects:
        """Access to the objects in S3."""
        return Objects(self.project)

    @property
    def watcher(self) -> Watcher:
        """The watcher of jobs; projects with the same access and events queue share it in this process."""
        return watcher_of(self.project)

    @property
    def log_reader(self) -> LogReader:
        """The reader of logs; projects with the same access share it in this process."""
        return reader_of(self.project)

    def log_of(self, job: Job) -> LogTail:
        """Return the log of a job."""
        return LogTail(self.project, job)

    def role(self, request: Mapping[str, Any], secrets: Mapping[str, str]) -> str:
        """Return the ARN of the role that a job assumes; see `role_arn`."""
        return role_arn(self.project, request, secrets)

    def folder(self, task: str, project: str | None = None) -> TaskFolder:
        """Return the folder of a task of this project, or of another project with the same bucket and prefix."""
        return ProjectFolder.of(self.project.bucket, self.project.prefix, project or self.project.project).task(task)

    def bundle(self, digest: str) -> str:
        """Return the URI of the folder of a bundle of code."""
        return ProjectFolder(self.project.bucket, self.project.key_prefix).bundle(digest).uri

    def refresh_clients(self, category: ErrorCategory) -> None:
        """Use new clients after an error: with fresh credentials, or of a restarted local SageMaker."""
        if category is ErrorCategory.EXPIRED:
            self.project.forget_clients()
        elif category is ErrorCategory.SERVICE_FAULT:
            self.project.drop_dead_clients()
