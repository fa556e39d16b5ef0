"""Who waits for a job: one small object per waiter, so that cancelling one run never stops what others wait for.

A waiter writes its mark again every few minutes, so that the mark of a process that was killed lapses by itself, by
S3's own clock: without that, one crash would keep every later cancel from stopping the job.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

from tasks_lib.aws.objects import Location, Objects
from tasks_lib.errors import ServiceError
from tasks_lib.ledger.records import Ledger

LAPSES_AFTER = timedelta(minutes=15)
"""A mark that was not written for so long is of nobody."""

_RENEWED_EVERY, _TRIED_AGAIN_AFTER = 300.0, 60.0


class Interest:
    """The waiters of one job.

    Args:
        objects: Access to S3.
        ledger: The ledger of the job's task.
        job: The job's name.
        waiter: Who we are: a flow run's id, or something as unique.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        objects: Objects,
        ledger: Ledger,
        job: str,
        waiter: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._objects, self._clock = objects, clock
        self._all = ledger.place(f"interest/{job}/")
        self._mine = Location(self._all.bucket, self._all.key + waiter)
        self._written = clock()

    @contextmanager
    def declared(self) -> Iterator[Interest]:
        """Wait for the job inside this block; whoever leaves it, however, waits no more.

        A process that is killed inside leaves its mark: the job is then left for a later run to attach to.
        """
        self._write()
        try:
            yield self
        finally:
            self._objects.delete(self._mine)

    def renew(self) -> None:
        """Write the mark again if it is time to; called by whoever waits, as often as it likes.

        What S3 refuses is tried again a minute later: a mark has three lives, and the wait must not end for it.
        """
        now = self._clock()
        if now - self._written >= _RENEWED_EVERY:
            self._written = now - _RENEWED_EVERY + _TRIED_AGAIN_AFTER
            with suppress(ServiceError):
                self._write()

    def leave(self) -> list[str]:
        """Wait no more; return who still does.

        In this order: of two that leave together, the one who looks last sees nobody. The other way round each would
        see the other, and both would leave the job to nobody.
        """
        self._objects.delete(self._mine)
        return self.waiting()

    def waiting(self) -> list[str]:
        """Return who waits for the job; marks that have lapsed do not count."""
        return sorted(name for name, age in self._objects.ages(self._all).items() if age <= LAPSES_AFTER)

    def _write(self) -> None:
        self._objects.put(self._mine, b"", "text/plain")
        self._written = self._clock()
