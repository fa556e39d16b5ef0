"""Heartbeats of a job's waiters, so that cancelling one run never stops a job that another run waits for.

Each waiter has a small object in S3 and writes it again every few minutes. The heartbeat of a process that was killed
expires by S3's own clock. Otherwise one crash would keep every later cancellation from stopping the job. A waiter that
leaves a job running on purpose (`on_exit="leave"`) writes a mark that does not expire.

A stop is announced before the job is stopped. A waiter that attached to the job at that moment then makes the next
attempt, and does not take the stop for a failure of the work.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

from tasks_lib.aws.objects import Objects
from tasks_lib.errors import ServiceError
from tasks_lib.jobs.s3_layout import LEFT, TaskFolder

EXPIRES_AFTER = timedelta(minutes=15)
"""A heartbeat older than this is ignored: its process is gone."""

_TRIES_TO_WITHDRAW = 3
_RENEWED_EVERY, _TRIED_AGAIN_AFTER = 300.0, 60.0  # seconds


class Heartbeat:
    """This waiter's heartbeat for one job, and the view of the job's other waiters.

    Args:
        objects: Access to S3.
        folder: The folder of the job's task.
        job: The job's name.
        waiter: This waiter's name: `<flow run>/<which try of it>-<task run>`, or something as unique.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        objects: Objects,
        folder: TaskFolder,
        job: str,
        waiter: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._objects, self._clock = objects, clock
        self.job, self._waiter = job, waiter
        self._all, self._stops = folder.waiters(job), folder.stops(job)
        self._mine, self._our_stop = folder.heartbeat(job, waiter), folder.stop(job, waiter)
        self._left, self._all_left = folder.left(job, waiter), folder.left(job)
        self._written: float | None = None
        self._may_be_there = False

    def start(self) -> None:
        """Wait for the job from now on, until `end`, `leave` or `leave_running`.

        If the process is killed meanwhile, its heartbeat stays, and the job keeps running for a later run to attach to.
        """
        if self._written is None or self._clock() - self._written >= _RENEWED_EVERY:
            self._write()

    def take_over(self) -> None:
        """Wait for a job that is already running.

        Marks of waiters that left it running are deleted: this waiter may stop it now.
        """
        self.start()
        for name in self._objects.ages(self._all_left):
            self._objects.delete(self._all_left.below(name))

    def end(self) -> None:
        """Stop waiting. The result must not wait for a heartbeat that S3 does not delete: it expires by itself."""
        for _ in range(_TRIES_TO_WITHDRAW):
            if not self._may_be_there:
                return
            with suppress(ServiceError):
                self._delete()

    def renew(self) -> None:
        """Write the heartbeat again if it is due; may be called at any rate.

        If S3 refuses the write, it is retried after a minute. A heartbeat lasts three renewals, so a refusal does not
        end the wait.
        """
        now = self._clock()
        if self._written is not None and now - self._written >= _RENEWED_EVERY:
            self._written = now - _RENEWED_EVERY + _TRIED_AGAIN_AFTER
            with suppress(ServiceError):
                self._write()

    def leave(self) -> list[str]:
        """Stop waiting; return the job's other waiters."""
        # Delete first. If two waiters leave together, the last to look then sees no waiter. In the other order each
        # would see the other, and neither would stop the job.
        self._delete()
        return self.waiting()

    def leave_running(self) -> None:
        """Stop waiting and keep the job for a later run: no cancelled run stops it."""
        self._objects.put(self._left, b"", "text/plain")
        self.end()

    def waiting(self) -> list[str]:
        """Return the waiters of the job, and those that left it running; expired heartbeats do not count."""
        return sorted(
            name
            for name, age in self.ages().items()
            if name.startswith(LEFT) or (age <= EXPIRES_AFTER and not self._is_of_earlier_try(name))
        )

    def ages(self) -> dict[str, timedelta]:
        """Return how long ago each heartbeat was written, by S3's clock; expired ones, too."""
        return self._objects.ages(self._all)

    def _is_of_earlier_try(self, waiter: str) -> bool:
        """Whether a heartbeat is of an earlier try of this flow run: its process was killed and waits no more."""
        flow_run, _, number = self._waiter.partition("/")
        ours = f"{flow_run}/{number.partition('-')[0]}-"
        return waiter.startswith(f"{flow_run}/") and not waiter.startswith(ours)

    def announce_stop(self) -> None:
        """Announce that the job is about to be stopped because it has no waiters."""
        self._objects.put(self._our_stop, b"", "text/plain")

    def withdraw_stop(self) -> None:
        """Withdraw the announcement: the job is not stopped after all."""
        self._objects.delete(self._our_stop)

    def stop_was_announced(self) -> bool:
        """Whether the job was stopped because it had no waiters, which says nothing about the work."""
        return bool(self._objects.ages(self._stops))

    def _write(self) -> None:
        self._may_be_there = True  # before the request, since a signal may interrupt it after S3 has done it
        self._objects.put(self._mine, b"", "text/plain")
        self._written = self._clock()

    def _delete(self) -> None:
        self._objects.delete(self._mine)
        self._written, self._may_be_there = None, False
