"""Waiting for a job's end while showing what it says: its status, its log, its metrics.

The one place through which a job's words come to the reader, so that secrets are taken out here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import replace

from blocks import SageMakerProject
from tasks_lib.aws.jobs import Job
from tasks_lib.aws.logs import LogLine, LogTail, read_all
from tasks_lib.aws.watch import watcher_of
from tasks_lib.ledger.interest import Interest
from tasks_lib.masking import Masking
from tasks_lib.metrics import MetricReader
from tasks_lib.reports.artifacts import Report
from tasks_lib.reports.links import log_url
from tasks_lib.reports.log_relay import LogRelay
from tasks_lib.reports.progress import progress_of
from tasks_lib.run_context import LONGEST_TICK, RunCancelled, RunContext

_LAST_LINES = 200


class Attendance:
    """Attends one job for one task run.

    Args:
        project: Whose account.
        task: The task's name.
        run: For whom.
        metrics: What to read off the log.
        mask: Takes secrets out of what the job says.
        report: Shows how far the job is.

    Attributes:
        lines: The last lines, for an error.
    """

    def __init__(
        self,
        project: SageMakerProject,
        task: str,
        run: RunContext,
        metrics: MetricReader,
        *,
        mask: Masking,
        report: Report,
    ) -> None:
        self._project, self._task, self._run = project, task, run
        self._mask, self._report = mask, report
        self.metrics = metrics
        self.lines: deque[LogLine] = deque(maxlen=_LAST_LINES)

    def until_over(self, job: Job, interest: Interest) -> Job:
        """Wait for the job's end and return its last description, without secrets.

        Args:
            job: The job.
            interest: The mark of our waiting, which is kept alive meanwhile.

        Raises:
            RunCancelled: The run was cancelled meanwhile.
            PrefectSageMakerError: The job cannot be watched any more.
        """
        tail = LogTail(self._project, job)
        relay = LogRelay(self._run, self._task, self._whole_log(job))
        try:
            ended = self._watch(job, interest, tail, relay)
        finally:
            relay.close()
        self._show_status(ended, "")
        if tail.failure:
            self._run.logger.warning("The log of job %s could not be read: %s", job.name, tail.failure)
        return ended

    def _watch(self, job: Job, interest: Interest, tail: LogTail, relay: LogRelay) -> Job:
        shown = ""
        with watcher_of(self._project).watching(job) as watched:
            while not watched.wait(LONGEST_TICK):
                if self._run.cancelled():
                    raise RunCancelled(f"The run was cancelled while job {job.name} was running.")
                interest.renew()
                shown = self._show_status(watched.job, shown)
                self._take_in(tail.poll(), relay)
        self._take_in(tail.drain(), relay)
        ended = watched.job
        return replace(ended, reason=self._mask(ended.reason), message=self._mask(ended.message))

    def _take_in(self, new: Iterable[LogLine], relay: LogRelay) -> None:
        """Take in new lines. A metric is read off the line as it was written."""
        relay.send(self._masked(line) for line in new)

    def _masked(self, line: LogLine) -> LogLine:
        self.metrics.read(line.timestamp, line.text)
        line = replace(line, text=self._mask(line.text))
        self.lines.append(line)
        return line

    def _show_status(self, job: Job, shown: str) -> str:
        now = progress_of(job).words
        if now != shown:
            self._run.tell(self._task, now)
            self._report.progress(job)
        return now

    def _whole_log(self, job: Job) -> str:
        return log_url(self._project, job.kind, job.name) or (
            f"`result.logs()`, or the files of {job.name} below {self._project.local_home}/logs"
        )


def metrics_from_log(project: SageMakerProject, job: Job, patterns: dict[str, str]) -> MetricReader:
    """Read a finished job's metrics off its log."""
    reader = MetricReader(patterns)
    for line in read_all(project, job) if patterns else ():
        reader.read(line.timestamp, line.text)
    return reader
