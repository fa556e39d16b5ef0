"""From a job that ended badly to an error that says what happened and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterable
from signal import Signals

from blocks import SageMakerProject
from tasks_lib.aws.jobs import Job
from tasks_lib.aws.logs import LogLine
from tasks_lib.errors import JobError, JobFailed, JobStopped
from tasks_lib.reports.links import console_url
from tasks_lib.status import Phase

_MOST_LINES = 20
_FAILED_HERE = re.compile(
    r"\bon (?P<host>algo-\d+) of \d+ (?:ended with exit code (?P<code>\d+)|was ended by (?P<signal>SIG\w+))"
)
"""What the worker toolkit leaves for `FailureReason` and `ExitMessage`; SageMaker itself names no host."""


def job_error(project: SageMakerProject, task: str, job: Job, lines: Iterable[LogLine]) -> JobError:
    """Return the error for a job that is over and not completed."""
    said = list(lines)
    host, code = _culprit([job.reason, job.message, *(line.text for line in said)])
    shown = [line for line in said if host is None or line.host == host][-_MOST_LINES:]
    kind, message, fix = _verdict(task, job, host, job.exit_code if code is None else code)
    return kind(
        message,
        task=task,
        job=job.name,
        arn=job.arn,
        reason="\n".join(filter(None, (job.message, job.reason))),
        exit_code=job.exit_code if code is None else code,
        host=host,
        last_lines=[f"{line.host} | {line.text}" for line in shown],
        link=console_url(project, job.kind, job.name),
        fix=fix,
    )


def _culprit(texts: Iterable[str]) -> tuple[str | None, int | None]:
    for text in texts:
        if found := _FAILED_HERE.search(text):
            return found["host"], int(found["code"] or 128 + Signals[found["signal"]])
    return None, None


def _verdict(task: str, job: Job, host: str | None, code: int | None) -> tuple[type[JobError], str, str]:
    where = (f" on {host}" if host else "") + (f" with exit code {code}" if code is not None else "")
    if job.phase is Phase.FAILED:
        return (
            JobFailed,
            f"The {job.kind} job {job.name} of task {task!r} failed{where}.",
            "mend what the last lines name and run again; finished steps are skipped.",
        )
    if "MaxRuntimeExceeded" in job.secondary or "MaxWaitTimeExceeded" in job.secondary:
        return (
            JobStopped,
            f"The {job.kind} job {job.name} of task {task!r} ran into its time limit ({job.secondary}).",
            "raise max_runtime_minutes; what it left in its state directory is there for the next attempt.",
        )
    return (
        JobStopped,
        f"The {job.kind} job {job.name} of task {task!r} was stopped before it was done.",
        "run again; what it left in its state directory is there for the next attempt.",
    )
