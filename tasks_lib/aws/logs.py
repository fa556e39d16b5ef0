"""A job's log lines from all its hosts, each once, in order per host, while it runs and after it has ended.

Read from CloudWatch Logs by the forward token of each host's stream. Reading logs never fails a task: the job is the
truth, its log a commentary.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from blocks import SageMakerProject
from tasks_lib.aws.errors import code_of
from tasks_lib.aws.jobs import Job
from tasks_lib.aws.pace import Pace, interval
from tasks_lib.status import JobKind

LOG_GROUPS: dict[JobKind, str] = {
    "training": "/aws/sagemaker/TrainingJobs",
    "processing": "/aws/sagemaker/ProcessingJobs",
}
_HOST = re.compile(r"/(algo-\d+)")
_SETTLE_SECONDS = 2.0  # CloudWatch takes in a job's last lines a moment after its end
_SETTLE_ROUNDS = 3

_pace = Pace(rate=10, burst=40)
"""GetLogEvents has a quota of 25 a second, shared with everybody in the account."""


@dataclass(frozen=True)
class LogLine:
    """One line: when it was written (epoch seconds), on which host, and what it says."""

    timestamp: float
    host: str
    text: str


@dataclass
class _Stream:
    name: str
    token: str | None = None

    @property
    def host(self) -> str:
        found = _HOST.search(self.name)
        return found.group(1) if found else self.name.rpartition("/")[2]


@dataclass
class LogTail:
    """Follows the log of one job.

    Args:
        project: Whose account.
        job: The job.
        clock: Monotonic seconds.
        sleep: How to wait for CloudWatch to settle.
    """

    project: SageMakerProject
    job: Job
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    failure: str | None = None
    _streams: dict[str, _Stream] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._since = self.clock()
        self._due = self._since

    def poll(self) -> Iterator[LogLine]:
        """Yield the new lines, unless it is too early to ask again."""
        if self.clock() >= self._due and _pace.allows():
            yield from self._read()
            self._due = self.clock() + interval(self.clock() - self._since)

    def drain(self) -> Iterator[LogLine]:
        """Yield all that is left after the job's end."""
        yield from self._read()
        if self.project.is_local:
            return  # the local SageMaker has all lines before it says that a job is over
        for _ in range(_SETTLE_ROUNDS):
            self.sleep(_SETTLE_SECONDS)
            late = list(self._read())
            yield from late
            if not late:
                return

    def whole(self) -> list[LogLine]:
        """Return all lines of a job that is over, in the order of their time; `failure` says what kept some away."""
        return sorted(self.drain(), key=lambda line: line.timestamp)

    def _read(self) -> Iterator[LogLine]:
        try:
            self._find_streams()
            for stream in self._streams.values():
                yield from self._read_stream(stream)
            self.failure = None
        except (ClientError, BotoCoreError) as error:
            # Told once by whoever shows the lines; the job goes on, and the next poll begins where this one stopped.
            self.failure = str(error)

    def _find_streams(self) -> None:
        arguments: dict[str, Any] = {
            "logGroupName": LOG_GROUPS[self.job.kind],
            "logStreamNamePrefix": f"{self.job.name}/",
        }
        try:
            for page in self._api.get_paginator("describe_log_streams").paginate(**arguments):
                for row in page["logStreams"]:
                    self._streams.setdefault(row["logStreamName"], _Stream(row["logStreamName"]))
        except ClientError as error:
            if code_of(error) != "ResourceNotFoundException":
                raise  # the group is made with the first job's first line

    def _read_stream(self, stream: _Stream) -> Iterator[LogLine]:
        while True:
            token = {"nextToken": stream.token} if stream.token else {}
            answer = self._api.get_log_events(
                logGroupName=LOG_GROUPS[self.job.kind], logStreamName=stream.name, startFromHead=True, **token
            )
            for event in answer["events"]:
                yield LogLine(event["timestamp"] / 1000, stream.host, event["message"].rstrip("\n"))
            if answer["nextForwardToken"] == stream.token:  # AWS's sign for "nothing beyond"
                return
            stream.token = answer["nextForwardToken"]
            if not answer["events"]:
                return

    @property
    def _api(self) -> Any:
        return self.project.client("logs")


def read_all(project: SageMakerProject, job: Job) -> list[LogLine]:
    """Return all lines of a job's log, in the order of their time; what cannot be read is left out."""
    return LogTail(project, job).whole()
