"""Who waits for a job: one small object per waiter, so that cancelling one run never stops what others wait for.

A waiter writes its mark again every few minutes, so that the mark of a process that was killed lapses by itself, by
S3's own clock: without that, one crash would keep every later cancel from stopping the job. Who leaves a job on purpose
(`on_exit="leave"`) leaves a mark that does not lapse. Who stops a job says so before: one that attached to it at that
moment then goes on with the next attempt, and does not take the stop for somebody's verdict on the work.
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
"""A mark that was not written for so long is of nobody."""

_TRIES_TO_WITHDRAW = 3
_RENEWED_EVERY, _TRIED_AGAIN_AFTER = 300.0, 60.0


class Heartbeat:
    """The waiters of one job.

    Args:
        objects: Access to S3.
        folder: The folder of the job's task.
        job: The job's name.
        waiter: Who we are: `<flow run>/<which try of it>-<task run>`, or something as unique.
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
        self._mine, self._all_left = self._all.below(waiter), self._all.below(LEFT)
        self._left = self._all_left.below(waiter.partition("/")[0])
        self._our_stop = self._stops.below(waiter.replace("/", "-"))
        self._written: float | None = None
        self._may_be_there = False

    def start(self) -> None:
        """Wait for the job from now on, until `withdraw` or `leave`.

        A process that is killed meanwhile leaves its mark: the job is then left for a later run to attach to.
        """
        if self._written is None or self._clock() - self._written >= _RENEWED_EVERY:
            self._write()

    def adopt(self) -> None:
        """Wait for a job that is running already, and take it over from those who left it: it is ours to stop now."""
        self.start()
        for name in self._objects.ages(self._all_left):
            self._objects.delete(self._all_left.below(name))

    def end(self) -> None:
        """Wait no more. A mark that S3 does not let go of lapses by itself: the result must not wait for it."""
        for _ in range(_TRIES_TO_WITHDRAW):
            if not self._may_be_there:
                return
            with suppress(ServiceError):
                self._delete()

    def renew(self) -> None:
        """Write the mark again if it is time to; called by whoever waits, as often as it likes.

        What S3 refuses is tried again a minute later: a mark has three lives, and the wait must not end for it.
        """
        now = self._clock()
        if self._written is not None and now - self._written >= _RENEWED_EVERY:
            self._written = now - _RENEWED_EVERY + _TRIED_AGAIN_AFTER
            with suppress(ServiceError):
                self._write()

    def leave(self) -> list[str]:
        """Wait no more; return who still does.

        In this order: of two that leave together, the one who looks last sees nobody. The other way round each would
        see the other, and both would leave the job to nobody.
        """
        self._delete()
        return self.waiting()

    def leave_running(self) -> None:
        """Wait no more, and have the job kept for a later run: nobody who is cancelled stops it."""
        self._objects.put(self._left, b"", "text/plain")
        self.end()

    def waiting(self) -> list[str]:
        """Return who waits for the job, or left it to be kept; marks that have lapsed do not count."""
        return sorted(
            name
            for name, age in self.ages().items()
            if name.startswith(LEFT) or (age <= EXPIRES_AFTER and not self._is_of_earlier_try(name))
        )

    def ages(self) -> dict[str, timedelta]:
        """Return how long ago each mark was written, by S3's clock; those that lapsed, too."""
        return self._objects.ages(self._all)

    def _is_of_earlier_try(self, waiter: str) -> bool:
        """Whether a mark is of our own flow run, before it was tried again: what was killed waits no more."""
        flow_run, _, number = self._waiter.partition("/")
        ours = f"{flow_run}/{number.partition('-')[0]}-"
        return waiter.startswith(f"{flow_run}/") and not waiter.startswith(ours)

    def announce_stop(self) -> None:
        """Say that the job is about to be stopped because nobody waits for it."""
        self._objects.put(self._our_stop, b"", "text/plain")

    def take_back_stop(self) -> None:
        """Say that we do not stop the job after all."""
        self._objects.delete(self._our_stop)

    def stop_was_announced(self) -> bool:
        """Whether the job was stopped for want of waiters, which says nothing about the work."""
        return bool(self._objects.ages(self._stops))

    def _write(self) -> None:
        self._may_be_there = True  # from now on, since a signal may cut us off before we hear that it is
        self._objects.put(self._mine, b"", "text/plain")
        self._written = self._clock()

    def _delete(self) -> None:
        self._objects.delete(self._mine)
        self._written, self._may_be_there = None, False
