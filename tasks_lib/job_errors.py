"""The error for a job that failed or was stopped: what happened, and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from signal import Signals
from typing import NamedTuple

from blocks import SageMakerProject
from blocks.errors import shortened
from tasks_lib.aws.console_links import console_url
from tasks_lib.aws.logs import LogLine
from tasks_lib.error_categories import ErrorCategory, rule_for
from tasks_lib.errors import JobError, JobFailed, JobStopped, new_lines, unwrapped
from tasks_lib.failure_causes import known_fix
from tasks_lib.jobs.job import Job
from tasks_lib.jobs.kind import Phase

_MOST_LINES, _OF_OTHERS, _MOST_HOSTS = 20, 5, 8
_TELLING = 5
"""Last lines that are searched for a known cause; earlier ones may belong to an error that the code handled."""
_LONGEST_CAUSE = 300
_EXCEPTION = re.compile(r"[\w.]*(Error|Exception|Interrupt|Exit)(: |$)")
_IN_WORDS = {
    ErrorCategory.CAPACITY: ": AWS had no such instance free",
    ErrorCategory.SERVICE_FAULT: ": the fault is SageMaker's",
}
_FAILED_HERE = re.compile(
    r"\bon (?P<host>algo-\d+) of \d+ (?:ended with exit code (?P<code>\d+)|was ended by (?P<signal>"
    + "|".join(sorted(Signals.__members__, key=len, reverse=True))
    + "))"
)
"""The sentence that the worker toolkit writes for `FailureReason` and `ExitMessage`; SageMaker itself names no host.
The sentences of several hosts are joined without a separator."""


def job_error(project: SageMakerProject, task: str, job: Job, lines: Iterable[LogLine]) -> JobError:
    """Return the error for a job that ended without completing."""
    said = list(lines)
    reason = "\n".join(filter(None, (job.message, job.reason)))
    found = _culprit([job.reason, job.message, *(line.text for line in said)])
    code = job.exit_code if found.exit_code is None else found.exit_code
    shown = _shown(said, found.host)
    own = [line.text for line in shown if found.host in (None, line.host)]
    cause = found.cause if _FAILED_HERE.search(reason) else _cause_without_toolkit(reason, own) or found.cause
    row = rule_for(job.symptom)
    by_code = job.phase is Phase.FAILED and row.category in (ErrorCategory.USER_ERROR, ErrorCategory.UNKNOWN)
    known = known_fix([cause, *reason.splitlines(), *own[-_TELLING:]], code) if by_code else None
    ending = _ending(job, row.category, found.host, code, cause if by_code else "")
    kind = JobFailed if job.phase is Phase.FAILED else JobStopped
    return kind(
        f"The {job.kind} job {job.name} of task {task!r} {ending}.",
        task=task,
        job=job.name,
        ending=ending,
        arn=job.arn,
        reason=reason,
        exit_code=code,
        host=found.host,
        last_lines=[f"{line.host} | {line.text}" for line in shown],
        link=console_url(project, job.kind, job.name),
        category=row.category,
        fix=known or row.fix,
    )


class _Culprit(NamedTuple):
    """What the worker toolkit reported of the host that failed first; empty without such a report."""

    host: str | None = None
    exit_code: int | None = None
    cause: str = ""


def _culprit(texts: Iterable[str]) -> _Culprit:
    """Return the host that failed first: not one that SIGTERM ended, since that means that another one had failed."""
    failed = [found for text in texts for found in _FAILED_HERE.finditer(text)]
    if not failed:
        return _Culprit()
    first = min(failed, key=lambda found: found["signal"] == Signals.SIGTERM.name)
    code = int(first["code"] or 128 + Signals[first["signal"]])
    rest = unwrapped(_FAILED_HERE.split(first.string[first.end() :])[0].partition("\n")[0])
    if first["signal"]:
        return _Culprit(first["host"], code, " ".join(filter(None, (first["signal"], rest))))
    return _Culprit(first["host"], code, rest.removeprefix(":").strip())


def _cause_without_toolkit(reason: str, lines: Sequence[str]) -> str:
    """Return the cause of a job whose reason the worker toolkit did not write, as in an image that runs as it is.

    It is the last line of the reason that looks like an exception, else the last such line of the log, else the
    reason's first line.
    """
    given = new_lines(reason, ())
    for texts in (given, lines):
        if found := [text for text in texts if _EXCEPTION.match(text)]:
            return found[-1]
    return given[0] if given else ""


def _shown(said: list[LogLine], culprit: str | None) -> list[LogLine]:
    """Return the last lines of up to 8 hosts, the one that failed first at the beginning and with the most lines."""
    hosts = sorted({line.host for line in said}, key=lambda host: (host != culprit, host))[:_MOST_HOSTS]
    most = {host: _MOST_LINES if culprit in (None, host) else _OF_OTHERS for host in hosts}
    return [line for host in hosts for line in [each for each in said if each.host == host][-most[host] :]]


def _ending(job: Job, category: ErrorCategory, host: str | None, code: int | None, cause: str) -> str:
    """Return how the job ended, as the end of a sentence."""
    if job.phase is Phase.FAILED:
        where = (f" on {host}" if host else "") + (f" with exit code {code}" if code is not None else "")
        return f"failed{where}{_IN_WORDS.get(category, '')}" + (
            f": {shortened(cause, _LONGEST_CAUSE).rstrip('.')}" if cause else ""
        )
    if category is ErrorCategory.TIME_LIMIT:
        return f"ran into its time limit ({job.secondary})"
    return "was stopped before it was done"
