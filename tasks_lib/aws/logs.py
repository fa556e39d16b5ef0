"""Reads a job's log lines from all its hosts, each line once and in order per host.

Lines are read from CloudWatch Logs, stream by stream, while the job runs and after it has ended. Reading logs never
fails a task. `log_reader.py` calls this for all jobs that a process waits for.

A stream is followed by its token. It can be read again from a little before its newest line, skipping as many of each
line as were seen before. That is done when a token is refused, and once after the job's end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from blocks import SageMakerProject
from tasks_lib.aws.errors import code_of, translated
from tasks_lib.aws.log_stream import LogStream
from tasks_lib.aws.rate_limit import LogRateLimit, log_rate_limit_of, poll_interval
from tasks_lib.errors import CredentialsExpired, ServiceFault, Throttled
from tasks_lib.jobs.job import Job

if TYPE_CHECKING:
    from types_boto3_logs import CloudWatchLogsClient
    from types_boto3_logs.type_defs import GetLogEventsResponseTypeDef

_PAGES_A_LOOK = 10  # of a stream: a job that writes faster than it is read must not hold up the others
_SLOWEST_LOOK = 30.0  # seconds between two looks at a job that has been silent for ten minutes or more
_SHARE_OF_SILENCE = 0.05

_SETTLED_AFTER = 5.0
"""Seconds after a job's end in which its last lines may still arrive. CloudWatch's agent keeps lines for up to 5 s
(`force_flush_interval`), and SageMaker uploads the job's model in between.
"""

_LOOK_AGAIN = 2.0
# Seconds. A job that ended longer ago gets no more lines. Its end is told by AWS's clock, which may differ from this
# machine's by as much before AWS refuses a signature.

_FRESH = 900.0
_SURELY_SETTLED_AFTER = 10.0  # seconds; a pass that begins later is the last, even if it finds new lines

_BETWEEN_TURNS = 0.05
_RETRY, _LONGEST_RETRY = 1.0, 60.0
PATIENCE = 10.0
"""Seconds after its end that a job waits for a log that gives no answer."""


@dataclass(frozen=True)
class LogLine:
    """One log line: when it was written (epoch seconds), on which host, and its text."""

    timestamp: float
    host: str
    text: str


@dataclass
class _Pass:
    """One reading of all streams to their ends; it may take several looks.

    Args:
        settled: Whether CloudWatch should have had all lines when the pass began.
        last: Whether it certainly had them.
        spoke_at: When a line of the job had last been read, by the clock.
        sought: Whether the pass has looked for new streams.
    """

    settled: bool
    last: bool
    spoke_at: float
    sought: bool = False


class LogTail:
    """Follows the log of one job, look by look. Not thread-safe.

    Args:
        project: The project whose account is asked.
        job: The job.
        clock: Monotonic seconds.
        wall: Epoch seconds.
        sleep: How to wait for the rate limit, and in `drain` for the next look.
        pace: Rate limit of requests to CloudWatch Logs; by default shared by all readers of this account in this
            process.

    Attributes:
        failure: Why the last look failed, or what the log lacks; None otherwise. The caller reports it once.
        transient: Whether the last error was transient.
        throttled: Whether CloudWatch Logs throttled the last look.
        due: When to look next, by `clock`.
        done: Whether all lines were read, or reading was given up.
    """

    def __init__(
        self,
        project: SageMakerProject,
        job: Job,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        pace: LogRateLimit | None = None,
    ) -> None:
        self.project, self.job = project, job
        self._pace = pace or log_rate_limit_of(project)
        self._clock, self._wall, self._sleep = clock, wall, sleep
        self.failure: str | None = None
        self.transient = self.throttled = self.done = False
        self._since = self.due = clock()
        self._streams: dict[str, LogStream] = {}
        self._found_at = self._spoke_at = self._moved_at = self._answered_at = self._since
        self._seek_at = self._since
        self._retry = 0.0
        self._ended_at: float | None = None
        self._noticed_at = self._settled_at = 0.0
        self._fresh = self._sought_after_end = False
        self._pass: _Pass | None = None

    def poll(self) -> Iterator[LogLine]:
        """Yield the new lines if the next look is due."""
        if self._clock() >= self.due:
            yield from self.poll_once()

    def end(self, job: Job, noticed: float | None = None) -> None:
        """Note that the job has ended; the remaining lines are due at once.

        Args:
            job: The job as it ended. If the time of its end is unknown, it is taken to have ended long ago.
            noticed: When the end was noticed, by `clock`; default now. The job may have waited for its turn since.
        """
        now, since = self._clock(), self._wall() - job.ended if job.ended else _FRESH
        self.job, self._ended_at, self.due, self._pass = job, now, now, None
        # The local SageMaker has stored all lines of a job before it reports the end.
        self._fresh = abs(since) < _FRESH and not self.project.is_local
        self._noticed_at = now if noticed is None else noticed
        settling = max(_LOOK_AGAIN, min(_SETTLED_AFTER, _SETTLED_AFTER - since)) if self._fresh else 0.0
        self._settled_at = self._noticed_at + settling

    def drain(self) -> Iterator[LogLine]:
        """Yield all remaining lines of an ended job; `failure` says why some are missing."""
        if self._ended_at is None:
            self.end(self.job)
        while not self.done:
            self._sleep(max(0.0, self.due - self._clock()))
            yield from self.poll_once()

    def all_lines(self) -> list[LogLine]:
        """Return all lines of an ended job in order of time; `failure` says why some are missing."""
        return sorted(self.drain(), key=lambda line: line.timestamp)

    def poll_once(self) -> Iterator[LogLine]:
        """Yield the new lines; then set `due` to the time of the next look, or `done` if there is none.

        After an error the next look continues where this one stopped. Otherwise, if every second request failed, no
        pass would ever complete.
        """
        try:
            self._pass = self._pass or self._begin()
            if not self._pass.sought:
                self._find_streams()
                self._pass.sought = True
            for stream in self._streams.values():
                if not (stream.read or stream.gone):
                    yield from self._read(stream)
        except Exception as error:  # noqa: BLE001 - a log that cannot be read fails no job; `failure` tells it
            self._went_wrong(error)
        else:
            self._went_well(self._pass)

    def _begin(self) -> _Pass:
        """Begin a pass over all streams; once CloudWatch has settled, from a little before their newest lines."""
        now = self._clock()
        settled = self._ended_at is not None and now >= self._settled_at
        for stream in self._streams.values():
            stream.read = False
            if settled and self._fresh:
                stream.go_back()
        last = settled and (not self._fresh or now >= self._noticed_at + _SURELY_SETTLED_AFTER)
        return _Pass(settled, last, self._spoke_at)

    # -- requests of a look ----------------------------------------------------------------------------------------

    def _find_streams(self) -> None:
        """Look for streams of new hosts: often while hosts may be starting, rarely later, and again after the end."""
        hosts = {stream.host for stream in self._streams.values()}
        complete = self._sought_after_end and self.job.instance_count and len(hosts) >= self.job.instance_count
        if complete or (self._clock() < self._seek_at and self._ended_at is None):
            return
        self._sought_after_end = self._ended_at is not None
        for name in self._stream_names():
            if name not in self._streams:
                self._streams[name] = LogStream(name)
                self._found_at = self._clock()
        if self._streams:
            quiet = self._clock() - self._found_at
            self._seek_at = self._clock() + min(_SLOWEST_LOOK, max(poll_interval(quiet), quiet * _SHARE_OF_SILENCE))

    def _stream_names(self) -> Iterator[str]:
        group, prefix = self.job.kind.log_group, f"{self.job.name}/"
        pages = self._api.get_paginator("describe_log_streams")
        self._wait_for_turn()
        try:
            for page in pages.paginate(logGroupName=group, logStreamNamePrefix=prefix):
                yield from (row["logStreamName"] for row in page["logStreams"])
        except ClientError as error:
            if code_of(error) != "ResourceNotFoundException":
                raise  # otherwise the log group does not exist yet: it is created with the account's first line

    def _read(self, stream: LogStream) -> Iterator[LogLine]:
        """Yield the new lines of a stream, up to its end or for at most ten pages."""
        for _ in range(_PAGES_A_LOOK):
            answer = self._page(stream)
            if answer is None:
                return
            self._answered_at = self._clock()
            self._moved_at = self._answered_at if answer["events"] else self._moved_at
            for event in answer["events"]:
                if stream.takes(event["timestamp"], event["message"]):
                    self._spoke_at = self._clock()
                    yield LogLine(event["timestamp"] / 1000, stream.host, event["message"].rstrip("\n"))
            # A page may be empty or not full before the end. At the end the same token is returned (API reference of
            # GetLogEvents).
            ended, stream.token = answer["nextForwardToken"] == stream.token, answer["nextForwardToken"]
            if ended:
                stream.read = True
                stream.forget()
                return

    def _page(self, stream: LogStream) -> GetLogEventsResponseTypeDef | None:
        """Return the next page of a stream; None if the stream was deleted."""
        self._wait_for_turn()
        group = self.job.kind.log_group
        try:
            return self._ask(stream, group)
        except ClientError as error:
            if code_of(error) == "ResourceNotFoundException":
                stream.gone = True
                return None
            if code_of(error) != "InvalidParameterException" or not stream.token:
                raise
        stream.go_back()  # the token has expired: it is valid for 24 hours
        self._wait_for_turn()
        return self._ask(stream, group)

    def _ask(self, stream: LogStream, group: str) -> GetLogEventsResponseTypeDef:
        # Events come in order of time, those of one millisecond in order of ingestion (API reference of PutLogEvents).
        # FilterLogEvents would return all hosts in one call, and event ids. But its quota is five requests a second for
        # the whole account (Knowledge Center, "throttling in CloudWatch logs").
        return self._api.get_log_events(
            logGroupName=group, logStreamName=stream.name, startFromHead=True, **stream.place
        )

    def _wait_for_turn(self) -> None:
        while not self._pace.try_acquire(urgent=self._ended_at is not None):
            self._sleep(_BETWEEN_TURNS)

    @property
    def _api(self) -> CloudWatchLogsClient:
        # Ask the project each time: it replaces its clients when credentials have expired.
        return self.project.client("logs")

    # -- results of a look -----------------------------------------------------------------------------------------

    def _went_well(self, over: _Pass) -> None:
        now = self._answered_at = self._clock()
        self._retry, self.throttled = 0.0, False
        gone = [stream.name for stream in self._streams.values() if stream.gone]
        self.failure = f"its log stream {gone[0]} was deleted" if gone else None
        if not all(stream.read or stream.gone for stream in self._streams.values()):
            self.due = now
            self._give_up_on_empty_pages(now)
            return
        self._pass = None
        if self._ended_at is None:
            self.due = now + self._pause(now)
        elif over.last or (over.settled and self._spoke_at == over.spoke_at):
            self.done = True
        else:
            self.due = self._settled_at if now < self._settled_at else now + _LOOK_AGAIN

    def _pause(self, now: float) -> float:
        silence = min(_SLOWEST_LOOK, (now - self._spoke_at) * _SHARE_OF_SILENCE)
        return max(poll_interval(now - self._since), silence)

    def _give_up_on_empty_pages(self, now: float) -> None:
        """Give up on the log of an ended job if it yields only empty pages for ten seconds.

        A log past its retention was seen to do this.
        """
        if self._ended_at is not None and now - max(self._ended_at, self._moved_at) > PATIENCE:
            self.failure, self.done = "CloudWatch Logs turned empty pages without end", True

    def _went_wrong(self, error: Exception) -> None:
        """Record a failure and when to look next."""
        now, meaning = self._clock(), translated(error, f"read the log of job {self.job.name}")
        self.failure, self.throttled = str(error), isinstance(meaning, Throttled)
        self.transient = isinstance(meaning, (Throttled, ServiceFault, CredentialsExpired))
        if isinstance(meaning, CredentialsExpired) or (self.project.is_local and isinstance(error, BotoCoreError)):
            self.project.forget_clients()  # new clients get fresh credentials, or find the local SageMaker again
        self._retry = min(_LONGEST_RETRY, max(_RETRY, self._retry * 2))
        self.due = now + (self._retry if self._ended_at is None else _RETRY)
        if self._ended_at is not None:
            self.done = not self.transient or now - max(self._ended_at, self._answered_at) > PATIENCE
