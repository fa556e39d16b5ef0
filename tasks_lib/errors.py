"""All errors of prefect-sagemaker, in one tree.

    PrefectSageMakerError                  (blocks.errors)
    |-- BackendNotRunning                  (blocks.errors) the local SageMaker cannot be started or reached
    |-- BlockNotFound                      (blocks.errors)
    |-- BlockInvalid                       (blocks.errors) a saved block does not validate
    |-- LoopbackOnly                       (blocks.errors) a local project was about to call another host
    |-- InvalidTask                        found before any job is created
    |   |-- InvalidName
    |   |-- MissingPath
    |   |-- InvalidHyperparameter
    |   |-- InvalidInput                   an invalid channel: unknown output, tarball with a subdir, …
    |   |-- InvalidRequest                 botocore rejects the request
    |   |-- InputNotReady                  an input task has no completed job, or its output is gone
    |   |-- DuplicateTask                  the same name with different work in one flow run
    |   `-- MetricMissing                  a job's log has no such metric; also a KeyError
    |-- ProjectError                       the project cannot be used
    |   |-- NoCredentials
    |   |-- BucketMissing
    |   `-- WrongAccount
    |-- ServiceError                       AWS refused or failed a call
    |   |-- AccessDenied
    |   |   `-- CredentialsExpired
    |   |-- QuotaExceeded
    |   |-- CapacityUnavailable
    |   |-- Throttled
    |   `-- ServiceFault
    |-- JobError                           the job failed or was stopped
    |   |-- JobFailed
    |   `-- JobStopped
    |-- PrefectServerLost                  the Prefect server on this machine died while a task waited for its job
    |-- StateBusy                          other work writes the task's state directory
    |-- InputsChanged                      an input or a file of the code changed while it was read
    |-- LedgerConflict                     other processes kept changing a record
    `-- UnsafeArchive                      a tarball has a member outside its target, or a special file

Only `aws/errors.py` turns botocore's errors into these. An error's `category` (`error_categories.py`) decides whether
to retry.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any

from blocks import BackendNotRunning, BlockInvalid, BlockNotFound, LoopbackOnly, PrefectSageMakerError
from blocks.errors import LONGEST_SUMMARY, shortened
from tasks_lib.error_categories import ErrorCategory

__all__ = [
    "AccessDenied",
    "BackendNotRunning",
    "BlockInvalid",
    "BlockNotFound",
    "BucketMissing",
    "CapacityUnavailable",
    "CredentialsExpired",
    "DuplicateTask",
    "InputNotReady",
    "InputsChanged",
    "InvalidHyperparameter",
    "InvalidInput",
    "InvalidName",
    "InvalidRequest",
    "InvalidTask",
    "JobError",
    "JobFailed",
    "JobStopped",
    "LedgerConflict",
    "LoopbackOnly",
    "MetricMissing",
    "MissingPath",
    "NoCredentials",
    "PrefectSageMakerError",
    "PrefectServerLost",
    "ProjectError",
    "QuotaExceeded",
    "ServiceError",
    "ServiceFault",
    "StateBusy",
    "Throttled",
    "UnsafeArchive",
    "WrongAccount",
]

_LONGEST_TASK = 40
"""Most characters of a task's name in a summary."""
_MOST_LINES, _OF_THE_FIRST, _OF_EACH_OTHER, _LONGEST_LINE, _MOST_OF_REASON = 14, 10, 2, 300, 4
"""Limits of an error's text, which has at most 25 lines: log lines in all, of the first host and of each other host,
characters of a log line, and lines of the failure reason."""
_WRAPPER = re.compile(r"^AlgorithmError: *(See job logs for more information)?|,? *exit code: *\d+$")
"""Text that SageMaker adds to a container's message, or writes in its place."""
_ECHO = re.compile(r" on algo-\d+ of \d+ (ended with exit code|was ended by) |^local_sagemaker: .* exited with code ")
"""Lines by the worker toolkit and the local SageMaker about how a program ended, which the error's message repeats."""


class InvalidTask(PrefectSageMakerError):
    """The task cannot run as it is written; no job was created, and nothing is billed."""

    category = ErrorCategory.USER_ERROR


class InvalidName(InvalidTask):
    """SageMaker or S3 would refuse a name."""


class MissingPath(InvalidTask):
    """An entry point, a source directory, a dependency or an input does not exist."""


class InvalidHyperparameter(InvalidTask):
    """SageMaker cannot pass a hyperparameter to the job."""


class InvalidInput(InvalidTask):
    """An input channel is invalid."""


class InvalidRequest(InvalidTask):
    """The request to SageMaker does not validate against botocore's model of the API."""


class InputNotReady(InvalidTask):
    """An input task has no completed job, or its output is gone."""


class DuplicateTask(InvalidTask):
    """The same task was called twice in one flow run with different work.

    Args:
        message: What happened.
        fix: What to do.
        parts: The ingredients of the fingerprint that differ, such as `inputs` or `environment`; default none.
    """

    def __init__(self, message: str, *, fix: str = "", parts: Collection[str] = ()) -> None:
        super().__init__(message, fix=fix)
        self.parts = frozenset(parts)


class MetricMissing(InvalidTask, KeyError):
    """No given job has such a metric in its log."""


class ProjectError(PrefectSageMakerError):
    """The project cannot be used with its configuration."""

    category = ErrorCategory.USER_ERROR


class NoCredentials(ProjectError):
    """No AWS credentials were found, or they are incomplete."""


class BucketMissing(ProjectError):
    """The project's bucket does not exist."""


class WrongAccount(ProjectError):
    """The project belongs to another account or region."""


class ServiceError(PrefectSageMakerError):
    """AWS refused or failed a call.

    Args:
        message: What happened.
        operation: AWS's name of the call, such as `CreateTrainingJob`.
        code: AWS's error code.
        category: The error category; default that of the class.
        fix: What to do.
    """

    category = ErrorCategory.UNKNOWN

    def __init__(
        self, message: str, *, operation: str = "", code: str = "", category: ErrorCategory | None = None, fix: str = ""
    ) -> None:
        super().__init__(message, fix=fix)
        self.operation = operation
        self.code = code
        self.category = category or self.category


class AccessDenied(ServiceError):
    """The caller lacks the permission for a call."""

    category = ErrorCategory.ACCESS_DENIED


class CredentialsExpired(AccessDenied):
    """The credentials have expired and could not be renewed."""

    category = ErrorCategory.EXPIRED


class QuotaExceeded(ServiceError):
    """The account's quota is used up, or smaller than what one job needs."""

    category = ErrorCategory.QUOTA


class CapacityUnavailable(ServiceError):
    """AWS has insufficient capacity for such an instance at the moment."""

    category = ErrorCategory.CAPACITY


class Throttled(ServiceError):
    """AWS throttled a call, even after the client's own retries."""

    category = ErrorCategory.THROTTLED


class ServiceFault(ServiceError):
    """AWS failed, or could not be reached."""

    category = ErrorCategory.SERVICE_FAULT


class JobError(PrefectSageMakerError):
    """A job failed or was stopped. Its logs and its state can still be read.

    Args:
        message: What happened.
        task: Name of the task.
        job: Name of the job.
        ending: How the task ended, as the end of a sentence, with the cause: `failed: KeyError: 'area'`.
        arn: ARN of the job.
        reason: SageMaker's `FailureReason`.
        exit_code: Exit code of the container; None if it is not known.
        host: The host that failed, such as `algo-2`; None if it is not known.
        last_lines: The last lines of the job's log.
        link: Link to the job and its logs.
        category: The error category.
        fix: What to do.

    Attributes:
        result: The `JobResult` of the job: its log, its outputs, its state, why it ran; None if S3 could not be read.
    """

    result: Any = None  # not typed as `JobResult`: that module imports this one

    def __init__(
        self,
        message: str,
        *,
        task: str,
        job: str,
        ending: str = "",
        arn: str = "",
        reason: str = "",
        exit_code: int | None = None,
        host: str | None = None,
        last_lines: Sequence[str] = (),
        link: str = "",
        category: ErrorCategory = ErrorCategory.UNKNOWN,
        fix: str = "",
    ) -> None:
        super().__init__(message, fix=fix)
        self.category = category
        self.task, self.job, self.ending, self.arn = task, job, ending, arn
        self.reason, self.exit_code, self.host = reason, exit_code, host
        self.last_lines, self.link = tuple(last_lines), link

    @property
    def summary(self) -> str:
        """How the task ended, in one line, with the job's name if there is room for it."""
        if not self.ending:
            return super().summary
        words = shortened(f"task {shortened(self.task, _LONGEST_TASK)!r} {self.ending}", LONGEST_SUMMARY)
        job = f" (job {self.job})"
        return words + job if len(words) + len(job) <= LONGEST_SUMMARY else words

    @property
    def report(self) -> str:
        """The text without the job's last log lines, which the run's log already has."""
        return self._text(())

    def __str__(self) -> str:
        return self._text(few_lines(self.last_lines))

    def _text(self, lines: Sequence[str]) -> str:
        parts = [self.message]
        if said := new_lines(self.reason, [self.message, *self.last_lines]):
            parts.append("SageMaker says: " + "\n".join(said[-_MOST_OF_REASON:]))
        if lines:
            parts.append("Last lines of the log:\n" + "\n".join(f"    {line}" for line in lines))
        if self.link:
            parts.append(f"Job and logs: {self.link}")
        if self.fix:
            parts.append(f"To resolve this: {self.fix}")
        return "\n".join(parts)


def few_lines(lines: Sequence[str]) -> list[str]:
    """Return the lines that an error shows of a job's last log lines, mostly those of the first host.

    Args:
        lines: The last lines as `host | text`, host by host.
    """
    hosts: dict[str, list[str]] = {}
    for line in lines:
        host, _, text = line.partition(" | ")
        if not _ECHO.search(text):
            hosts.setdefault(host, []).append(line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}…")
    first, *others = hosts.values() or [[]]
    shown = first[-(_OF_THE_FIRST if others else _MOST_LINES) :]
    return [*shown, *(line for said in others for line in said[-_OF_EACH_OTHER:])][:_MOST_LINES]


def unwrapped(line: str) -> str:
    """Return a line of the failure reason without the text that SageMaker adds to a container's message."""
    return _WRAPPER.sub("", line).strip()


def new_lines(reason: str, told: Sequence[str]) -> list[str]:
    """Return the lines of the failure reason that other texts do not have.

    Args:
        reason: SageMaker's `FailureReason`.
        told: Texts that the reader already has.
    """
    lines = [unwrapped(line) for line in reason.splitlines()]
    return [line for line in lines if line and not _ECHO.search(line) and not any(line in text for text in told)]


class JobFailed(JobError):
    """The job's own code or SageMaker failed."""


class JobStopped(JobError):
    """The job was stopped before its end, by a request or by its time limit. It never counts as a success."""


class PrefectServerLost(PrefectSageMakerError):
    """The Prefect server on this machine died. The flow ends; its jobs keep running for the next run to attach to."""

    category = ErrorCategory.USER_ERROR


class StateBusy(PrefectSageMakerError):
    """A job with other work writes the task's state directory."""


class InputsChanged(PrefectSageMakerError):
    """An input or a file of the code changed while it was read, so a result would belong to neither version."""


class LedgerConflict(PrefectSageMakerError):
    """Other processes kept changing a record in S3."""


class UnsafeArchive(PrefectSageMakerError):
    """A tarball has a member that would be written outside its target, or a special file. Nothing was written."""
