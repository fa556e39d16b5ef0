"""One log reader per process and account, for the logs of all jobs that this process waits for.

Logs are not read in the threads that wait for jobs. A request to CloudWatch Logs may hang, as in a VPC without an
endpoint for it. That must not delay a task's cancellation, its heartbeat, or the news that its job has ended. Nor does
each job have a thread: the account's quota is small and shared, so jobs take turns. Jobs that have ended come first,
then the job that has been due longest.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager

from blocks import SageMakerProject
from tasks_lib.aws.logs import PATIENCE, LogLine, LogTail
from tasks_lib.aws.rate_limit import account_key
from tasks_lib.jobs.job import Job

_THREADS = 4
"""More than one, so that a slow answer does not hold up all logs. Still more would only wait for the quota."""

_BACK_OFF, _LONGEST_BACK_OFF = 1.0, 30.0
_LONGEST_QUEUE = 120.0
"""Seconds that an ended job waits for its turn, at most. Five hundred jobs may end at once."""


class FollowedLog:
    """The log of one job while it is being read.

    Args:
        tail: Reads the log; called only in the reader's threads.
        clock: Monotonic seconds.

    Attributes:
        ended: The job as it ended; None while it runs.
        busy: Whether one of the reader's threads is reading it now.
        over: Whether all of it was read, or reading was given up.
    """

    def __init__(self, tail: LogTail, clock: Callable[[], float]) -> None:
        self._tail, self._clock = tail, clock
        self.ended: Job | None = None
        self._ended_at = 0.0
        self.busy = self.over = False
        self._told = self._hangs = False
        self._moved_at = clock()
        self._new: list[LogLine] = []
        self._news = threading.Condition()

    @property
    def failure(self) -> str | None:
        """Why the log cannot be read, or could not be read to its end; None if there is no failure."""
        if self._hangs and not self._tail.failure:
            return f"CloudWatch Logs did not answer within {PATIENCE:.0f} s"
        return self._tail.failure

    @property
    def transient(self) -> bool:
        """Whether the failure is transient."""
        return self._tail.transient

    @property
    def throttled(self) -> bool:
        """Whether CloudWatch Logs throttled the last look."""
        return self._tail.throttled

    @property
    def due(self) -> float:
        """When to look next, by `clock`; 0 if the job has ended and was not looked at since."""
        return self._tail.due if self._told or not self.ended else 0.0

    def end(self, job: Job) -> None:
        """Note that the job has ended."""
        self.ended, self._ended_at = job, self._clock()

    def take(self) -> list[LogLine]:
        """Return the lines that arrived since the last call; never wait."""
        with self._news:
            new, self._new = self._new, []
            return new

    def rest(self, tick: float) -> Iterator[list[LogLine]]:
        """Yield the remaining lines of an ended job; give up if the log does not answer.

        Args:
            tick: Seconds between two yields, at most, so that the caller can be cancelled meanwhile.
        """
        since = self._clock()
        while not (self.over or self._hangs):
            with self._news:
                self._news.wait_for(lambda: self.over, timeout=tick)
            yield self.take()
            patience = PATIENCE if self.busy else _LONGEST_QUEUE
            self._hangs = not self.over and self._clock() > max(since, self._moved_at) + patience
        yield self.take()

    def poll_once(self) -> None:
        """Look once; called in a thread of the reader."""
        if self.ended and not self._told:
            self._told = True
            self._tail.end(self.ended, self._ended_at)
        self._moved_at = self._clock()
        for line in self._tail.poll_once():
            with self._news:
                self._new.append(line)
            self._moved_at = self._clock()
        with self._news:
            self.over = self._tail.done
            self._news.notify_all()


class LogReader:
    """Reads the logs of one account in a few threads, which end when there is nothing to read.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._followed: list[FollowedLog] = []
        self._changed = threading.Condition()
        self._threads = self._looking = 0
        self._back_off = self._rests_until = 0.0

    @contextmanager
    def following(self, tail: LogTail) -> Iterator[FollowedLog]:
        """Read a job's log inside this block."""
        followed = FollowedLog(tail, self._clock)
        with self._changed:
            self._followed.append(followed)
            # A thread that waits for an answer cannot serve another log, even if its own is no longer followed.
            waiting = sum(not each.busy for each in self._followed)
            if self._threads < min(_THREADS, self._looking + waiting):
                self._threads += 1
                threading.Thread(target=self._run, name="sagemaker-logs", daemon=True).start()
            self._changed.notify_all()
        try:
            yield followed
        finally:
            with self._changed:
                self._followed.remove(followed)
                self._changed.notify_all()

    def prioritize(self, followed: FollowedLog, job: Job) -> None:
        """Read a log to its end before those of running jobs: its job has ended.

        Args:
            followed: The log.
            job: The job as it ended.
        """
        with self._changed:
            followed.end(job)
            self._changed.notify_all()

    def _run(self) -> None:
        while followed := self._next_or_leave():
            try:
                followed.poll_once()
            finally:
                with self._changed:
                    followed.busy = False
                    self._looking -= 1
                    self._note_throttling(followed)

    def _next_or_leave(self) -> FollowedLog | None:
        """Wait for the next log that is due and return it. If no log is left, end the thread under the same lock."""
        with self._changed:
            while self._followed:
                idle = [each for each in self._followed if not (each.busy or each.over)]
                now = self._clock()
                ready = [each for each in idle if self._due(each) <= now]
                if ready:
                    turn = min(ready, key=lambda each: (each.ended is None, self._due(each)))
                    turn.busy = True
                    self._looking += 1
                    return turn
                soonest = min(map(self._due, idle), default=None)
                self._changed.wait(None if soonest is None else soonest - now)
            self._threads -= 1
            return None

    def _due(self, followed: FollowedLog) -> float:
        return followed.due if followed.ended else max(followed.due, self._rests_until)

    def _note_throttling(self, followed: FollowedLog) -> None:
        """Back off from the logs of running jobs while CloudWatch Logs throttles."""
        if not followed.throttled:
            self._back_off = 0.0
            return
        self._back_off = min(_LONGEST_BACK_OFF, max(_BACK_OFF, self._back_off * 2))
        self._rests_until = self._clock() + self._back_off


_readers: dict[Hashable, LogReader] = {}
_readers_lock = threading.Lock()


def reader_of(project: SageMakerProject) -> LogReader:
    """Return the reader of a project's account; projects with the same access share one."""
    with _readers_lock:
        return _readers.setdefault(account_key(project), LogReader())
