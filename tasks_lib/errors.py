"""Every error of this product, in one tree.

    PrefectSageMakerError                  (blocks.errors)
    |-- BackendNotRunning                  (blocks.errors) the local SageMaker does not come up
    |-- BlockNotFound                      (blocks.errors)
    |-- BlockInvalid                       (blocks.errors) a saved block does not validate
    |-- LoopbackOnly                       (blocks.errors) a local project was about to leave this machine
    |-- InvalidTask                        found before any job is made
    |   |-- InvalidName
    |   |-- MissingPath
    |   |-- InvalidHyperparameter
    |   |-- InvalidInput                   a channel that cannot be: unknown output, tarball with a subdir, …
    |   |-- InvalidRequest                 botocore refuses the request that would be sent
    |   |-- InputNotReady                  an input task has no completed job; with its state
    |   |-- DuplicateTask                  one name, two kinds of work in one flow run
    |   `-- MetricMissing                  a result is asked for a metric that its log had not; a KeyError, too
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
    |-- JobError                           the job ended otherwise than well
    |   |-- JobFailed
    |   `-- JobStopped
    |-- PrefectServerLost                the Prefect server of this machine died while a job was waited for
    |-- StateBusy                          other work holds the task's state directory
    |-- InputsChanged                      an input changed while the job was reading it
    |-- LedgerConflict                     a record was changed by other processes, again and again
    `-- UnsafeArchive                      a tarball that would write outside its target

`aws/errors.py` turns botocore's errors into these; nobody else does. What an error means for one who might try again is
its `category` (`error_categories.py`).
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
"""Characters of a task's name in a summary."""
_MOST_LINES, _OF_THE_FIRST, _OF_EACH_OTHER, _LONGEST_LINE, _MOST_OF_REASON = 14, 10, 2, 300, 4
"""Bounds of an error's text: 25 lines in all."""
_WRAPPER = re.compile(r"^AlgorithmError: *(See job logs for more information)?|,? *exit code: *\d+$")
"""What SageMaker puts around the words of a container, or in their place."""
_ECHO = re.compile(r" on algo-\d+ of \d+ (ended with exit code|was ended by) |^local_sagemaker: .* exited with code ")
"""What the worker toolkit and the local SageMaker say of an end, which the message says as well."""


class InvalidTask(PrefectSageMakerError):
    """A task that cannot run as it was written; no job was made and nothing is paid."""

    category = ErrorCategory.USER_ERROR


class InvalidName(InvalidTask):
    """A name that SageMaker or S3 would refuse."""


class MissingPath(InvalidTask):
    """An entry point, a source directory or an input that is not there."""


class InvalidHyperparameter(InvalidTask):
    """A hyperparameter that SageMaker cannot carry."""


class InvalidInput(InvalidTask):
    """A channel that cannot be built."""


class InvalidRequest(InvalidTask):
    """The request to SageMaker does not validate against AWS's own model."""


class InputNotReady(InvalidTask):
    """An input task has no completed job."""


class DuplicateTask(InvalidTask):
    """The same task was called twice in one flow run with different work.

    Args:
        message: As of any error.
        fix: As of any error.
        parts: What of the work differs: `inputs`, `environment`, `overrides` and so on.
    """

    def __init__(self, message: str, *, fix: str = "", parts: Collection[str] = ()) -> None:
        super().__init__(message, fix=fix)
        self.parts = frozenset(parts)


class MetricMissing(InvalidTask, KeyError):
    """A result is asked for a metric that the job's log had not, or none of several has it."""


class ProjectError(PrefectSageMakerError):
    """The project cannot be used as it is configured."""

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
        category: What it means for one who might try again; that of the class where none is given.
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
    """The caller may not do this."""

    category = ErrorCategory.ACCESS_DENIED


class CredentialsExpired(AccessDenied):
    """The credentials are too old, and could not be renewed."""

    category = ErrorCategory.EXPIRED


class QuotaExceeded(ServiceError):
    """The account's quota is used up, or smaller than what one job asks for."""

    category = ErrorCategory.QUOTA


class CapacityUnavailable(ServiceError):
    """AWS has no such instance free at the moment."""

    category = ErrorCategory.CAPACITY


class Throttled(ServiceError):
    """Too many requests, even after the client's own retries."""

    category = ErrorCategory.THROTTLED


class ServiceFault(ServiceError):
    """AWS failed on its side, or could not be reached."""

    category = ErrorCategory.SERVICE_FAULT


class JobError(PrefectSageMakerError):
    """A job ended otherwise than well. Its logs and its state can still be read.

    Args:
        message: What happened.
        task: Name of the task.
        job: Name of the job.
        ending: How the task ended, as the end of a sentence, with the cause: `failed: KeyError: 'area'`.
        arn: ARN of the job.
        reason: AWS's own words (`FailureReason`).
        exit_code: Exit code of the container, where one is known.
        host: The host that failed, such as `algo-2`, where one is known.
        last_lines: The last lines of the job's log.
        link: Where the job and its logs can be looked at.
        category: What it means for one who might try again.
        fix: What to do.

    Attributes:
        result: The `JobResult` of the job: its log, its outputs, its state, why it ran; `None` where S3 did not tell.
    """

    result: Any = None  # `job_result.py` stands above this module

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
        """How the task ended, in one line; the job's name is left out if there is no room for it."""
        if not self.ending:
            return super().summary
        words = shortened(f"task {shortened(self.task, _LONGEST_TASK)!r} {self.ending}", LONGEST_SUMMARY)
        job = f" (job {self.job})"
        return words + job if len(words) + len(job) <= LONGEST_SUMMARY else words

    @property
    def report(self) -> str:
        """The text without the last lines, which the log of the run has just shown."""
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
    """Return those of a job's last lines that an error shows: most of them from the host that stands first.

    Args:
        lines: As `host | text`, host by host.
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
    """Return a line of AWS's reason without what SageMaker puts around the words of a container."""
    return _WRAPPER.sub("", line).strip()


def new_lines(reason: str, told: Sequence[str]) -> list[str]:
    """Return the lines of AWS's reason that say something new.

    Args:
        reason: AWS's words.
        told: Texts that the reader has.
    """
    lines = [unwrapped(line) for line in reason.splitlines()]
    return [line for line in lines if line and not _ECHO.search(line) and not any(line in text for text in told)]


class JobFailed(JobError):
    """The job's own code, or SageMaker, failed."""


class JobStopped(JobError):
    """The job was stopped before it was done: by somebody, or by its time limit. Never a success."""


class PrefectServerLost(PrefectSageMakerError):
    """The Prefect server on this machine died; the flow ends, and its jobs go on for the next run to attach to."""

    category = ErrorCategory.USER_ERROR


class StateBusy(PrefectSageMakerError):
    """Another job, with other work, writes the task's state directory."""


class InputsChanged(PrefectSageMakerError):
    """An S3 input changed while the job was running, so its result belongs to no input that one could name."""


class LedgerConflict(PrefectSageMakerError):
    """A record in S3 kept changing under our hands."""


class UnsafeArchive(PrefectSageMakerError):
    """A tarball holds a member that would be written outside its target, or is no plain file; nothing was written."""
