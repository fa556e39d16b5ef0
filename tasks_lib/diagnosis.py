"""From a job that ended badly to an error that says what happened and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterable
from signal import Signals

from blocks import SageMakerProject
from tasks_lib.aws.jobs import Job
from tasks_lib.aws.logs import LogLine
from tasks_lib.errors import JobError, JobFailed, JobStopped
from tasks_lib.meaning import Meaning, row_of
from tasks_lib.reports.links import console_url
from tasks_lib.status import Phase

_MOST_LINES, _OF_OTHERS, _MOST_HOSTS = 20, 5, 8
_IN_WORDS = {
    Meaning.CAPACITY: ": AWS had no such instance free",
    Meaning.SERVICE_FAULT: ": the fault is SageMaker's",
}
_FAILED_HERE = re.compile(
    r"\bon (?P<host>algo-\d+) of \d+ (?:ended with exit code (?P<code>\d+)|was ended by (?P<signal>"
    + "|".join(sorted(Signals.__members__, key=len, reverse=True))
    + "))"
)
"""What the worker toolkit leaves for `FailureReason` and `ExitMessage`; SageMaker itself names no host. What several
hosts leave stands side by side, with nothing in between."""


def job_error(project: SageMakerProject, task: str, job: Job, lines: Iterable[LogLine]) -> JobError:
    """Return the error for a job that is over and not completed."""
    said = list(lines)
    host, code = _culprit([job.reason, job.message, *(line.text for line in said)])
    code = job.exit_code if code is None else code
    row = row_of(job.sign)
    kind = JobFailed if job.phase is Phase.FAILED else JobStopped
    return kind(
        _message(task, job, row.meaning, host, code),
        task=task,
        job=job.name,
        arn=job.arn,
        reason="\n".join(filter(None, (job.message, job.reason))),
        exit_code=code,
        host=host,
        last_lines=[f"{line.host} | {line.text}" for line in _shown(said, host)],
        link=console_url(project, job.kind, job.name),
        meaning=row.meaning,
        fix=row.fix,
    )


def _culprit(texts: Iterable[str]) -> tuple[str | None, int | None]:
    """Return the host that failed first, and its exit code: not one that was told to end because another had failed."""
    failed = [found for text in texts for found in _FAILED_HERE.finditer(text)]
    if not failed:
        return None, None
    first = min(failed, key=lambda found: found["signal"] == Signals.SIGTERM.name)
    return first["host"], int(first["code"] or 128 + Signals[first["signal"]])


def _shown(said: list[LogLine], culprit: str | None) -> list[LogLine]:
    """Return the last lines of each host, those of the one that failed first."""
    hosts = sorted({line.host for line in said}, key=lambda host: (host != culprit, host))[:_MOST_HOSTS]
    most = {host: _MOST_LINES if culprit in (None, host) else _OF_OTHERS for host in hosts}
    return [line for host in hosts for line in [each for each in said if each.host == host][-most[host] :]]


def _message(task: str, job: Job, meaning: Meaning, host: str | None, code: int | None) -> str:
    who = f"The {job.kind} job {job.name} of task {task!r}"
    if job.phase is Phase.FAILED:
        where = (f" on {host}" if host else "") + (f" with exit code {code}" if code is not None else "")
        return f"{who} failed{where}{_IN_WORDS.get(meaning, '')}."
    if meaning is Meaning.TIME_LIMIT:
        return f"{who} ran into its time limit ({job.secondary})."
    return f"{who} was stopped before it was done."
