"""Waiting for a job's end while showing what it says: its status, its log, its metrics."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from blocks import SageMakerProject
from tasks_lib.jobs import Job
from tasks_lib.logs import LogLine, LogTail, read_all
from tasks_lib.metrics import MetricReader
from tasks_lib.run_context import LONGEST_TICK, RunCancelled, RunContext
from tasks_lib.watch import watcher_of

_LAST_LINES = 200


@dataclass
class Attendance:
    """Attends one job for one task run.

    Args:
        project: Whose account.
        task: The task's name.
        run: For whom.
        metrics: What to read off the log.
    """

    project: SageMakerProject
    task: str
    run: RunContext
    metrics: MetricReader
    lines: deque[LogLine] = field(default_factory=lambda: deque(maxlen=_LAST_LINES))

    def until_over(self, job: Job) -> Job:
        """Wait for the job's end and return its last description.

        Raises:
            RunCancelled: The run was cancelled meanwhile.
            PrefectSageMakerError: The job cannot be watched any more.
        """
        tail = LogTail(self.project, job)
        shown = ""
        with watcher_of(self.project).watching(job) as watched:
            while not watched.wait(LONGEST_TICK):
                if self.run.cancelled():
                    raise RunCancelled(f"The run was cancelled while job {job.name} was running.")
                shown = self._show_status(watched.job, shown)
                self._take_in(tail.poll())
        self._take_in(tail.drain())
        self._show_status(watched.job, shown)
        if tail.failure:
            self.run.logger.warning("The log of job %s could not be read: %s", job.name, tail.failure)
        return watched.job

    def _take_in(self, new: Iterable[LogLine]) -> None:
        for line in new:
            self.metrics.read(line.timestamp, line.text)
            self.lines.append(line)
            self.run.show(self.task, line.host, line.text)

    def _show_status(self, job: Job, shown: str) -> str:
        now = job.status if job.phase.terminal else job.secondary or job.status
        if now != shown:
            self.run.tell(self.task, now)
        return now


def metrics_from_log(project: SageMakerProject, job: Job, patterns: dict[str, str]) -> MetricReader:
    """Read a finished job's metrics off its log."""
    reader = MetricReader(patterns)
    for line in read_all(project, job) if patterns else ():
        reader.read(line.timestamp, line.text)
    return reader
