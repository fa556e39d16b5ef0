"""The waiter for a job: it waits for the job's end, and shows its status and log meanwhile.

It also reads the metrics from the log. It masks secrets in log lines, failure reason and exit message before they are
shown.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from tasks_lib.aws.console_links import log_url
from tasks_lib.aws.log_reader import FollowedLog
from tasks_lib.aws.logs import LogLine
from tasks_lib.backend import Backend
from tasks_lib.jobs.job import Job
from tasks_lib.jobs.kind import Phase
from tasks_lib.jobs.masking import Masking
from tasks_lib.jobs.metrics import MetricReader, metric_warnings
from tasks_lib.ledger.heartbeats import Heartbeat
from tasks_lib.prefect_runtime.log_relay import LogRelay
from tasks_lib.prefect_runtime.run_context import MAX_TICK_SECONDS, RunContext
from tasks_lib.reports.artifacts import Report

_LAST_LINES = 100
"""Last lines that are kept of each host. The limit is per host, so that its peers, which go on to report the loss of a
failed host, do not displace that host's own lines."""


class JobWaiter:
    """Waits for one job in one task run.

    Args:
        backend: The backend where the job runs.
        task: The task's name.
        run: The run that waits.
        metrics: Reads metrics from the log.
        mask: Masks secrets in the job's texts.
        report: Shows the job's progress in Prefect's UI.

    Attributes:
        metrics: The metrics that were read so far.
        unread: Why part of the log was not read; None if all of it was read.
    """

    def __init__(
        self,
        backend: Backend,
        task: str,
        run: RunContext,
        metrics: MetricReader,
        *,
        mask: Masking,
        report: Report,
    ) -> None:
        self._backend, self._task, self._run = backend, task, run
        self._mask, self._report = mask, report
        self.metrics = metrics
        self.unread: str | None = None
        self._last: dict[str, deque[LogLine]] = defaultdict(lambda: deque(maxlen=_LAST_LINES))
        self._warned = False

    @property
    def lines(self) -> list[LogLine]:
        """The last lines of each host, in chronological order, for an error."""
        return sorted((line for said in self._last.values() for line in said), key=lambda line: line.timestamp)

    def wait(self, job: Job, heartbeat: Heartbeat) -> Job:
        """Wait for the job's end and return its last description, with secrets masked.

        The job's log is shown from its beginning, even if other runs have shown it before. This task run has a log of
        its own, and the metrics need all lines.

        Args:
            job: The job.
            heartbeat: This run's heartbeat for the job; it is renewed meanwhile.

        Raises:
            RunCancelled: The run was cancelled meanwhile.
            PrefectServerLost: Prefect's server on this machine died meanwhile.
            PrefectSageMakerError: The job cannot be watched any longer.
        """
        with self._log_of(job) as (log, relay):
            ended = self._watch(job, heartbeat, log, relay)
            self._read_to_the_end(ended, log, relay)
        self._show_status(ended, "")
        return replace(ended, reason=self._mask(ended.reason), message=self._mask(ended.message))

    def catch_up(self, job: Job) -> None:
        """Show the log of a job that ended while no run waited for it, and read its metrics."""
        with self._log_of(job) as (log, relay):
            self._read_to_the_end(job, log, relay)

    @contextmanager
    def _log_of(self, job: Job) -> Iterator[tuple[FollowedLog, LogRelay]]:
        relay = LogRelay(self._run, self._task, self._log_location(job))
        with self._backend.log_reader.following(self._backend.log_of(job)) as log:
            try:
                yield log, relay
            finally:
                self._relay_lines(log.take(), relay)
                relay.close()

    def _watch(self, job: Job, heartbeat: Heartbeat, log: FollowedLog, relay: LogRelay) -> Job:
        shown = ""
        with self._backend.watcher.watching(job) as watched:
            while not watched.wait(MAX_TICK_SECONDS):
                self._run.check_running(f"job {job.name} was running")
                heartbeat.renew()
                shown = self._show_status(watched.job, shown)
                self._relay_lines(log.take(), relay)
                if log.failure and not log.transient:
                    self._warn(job, log.failure)
        return watched.job

    def _read_to_the_end(self, job: Job, log: FollowedLog, relay: LogRelay) -> None:
        self._backend.log_reader.prioritize(log, job)
        for new in log.rest(MAX_TICK_SECONDS):
            self._relay_lines(new, relay)
            if not log.over and self._run.cancelled():
                self.unread = "the run was cancelled before its end was read"
                return
        self.unread = log.failure
        if self.unread:
            self._warn(job, self.unread)
        elif job.phase is Phase.COMPLETED:
            for doubt in metric_warnings(self.metrics, [line.text for line in self.lines]):
                self._run.logger.warning("%s", self._mask(doubt))

    def _warn(self, job: Job, why: str) -> None:
        """Warn once that the log cannot be read, which does not affect the job."""
        if not self._warned:
            self._warned = True
            text = "The log of job %s could not be read: %s. It does not matter to the job; its log: %s"
            self._run.logger.warning(text, job.name, why, self._log_location(job))

    def _relay_lines(self, new: Iterable[LogLine], relay: LogRelay) -> None:
        """Relay new lines with secrets masked. Metrics are read from the lines before that."""
        relay.send(self._masked(line) for line in new)

    def _masked(self, line: LogLine) -> LogLine:
        self.metrics.read(line.timestamp, line.text)
        line = replace(line, text=self._mask(line.text))
        self._last[line.host].append(line)
        return line

    def _show_status(self, job: Job, shown: str) -> str:
        now = job.progress.words
        if now != shown:
            self._run.log_status(self._task, now)
            self._report.progress(job)
        return now

    def _log_location(self, job: Job) -> str:
        project = self._backend.project
        return log_url(project, job.kind, job.name) or (
            f"`result.logs()`, or the files of {job.name} below {project.local_home}/logs"
        )


@dataclass
class LogMetrics(MetricReader):
    """Metrics read from the log of a finished job.

    Args:
        unread: Why part of the log was not read; None (default) if all of it was read.
    """

    unread: str | None = None


def metrics_from_log(backend: Backend, job: Job, patterns: dict[str, str]) -> LogMetrics:
    """Read the metrics of a finished job from its log; without patterns the log is not read."""
    reader, tail = LogMetrics(patterns), backend.log_of(job)
    for line in tail.all_lines() if patterns else ():
        reader.read(line.timestamp, line.text)
    return replace(reader, unread=tail.failure)
