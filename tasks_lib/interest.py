"""Who waits for a job: one small object per waiter, so that cancelling one run never stops what others wait for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tasks_lib.ledger import Ledger
from tasks_lib.objects import Location, Objects


class Interest:
    """The waiters of one job.

    Args:
        objects: Access to S3.
        ledger: The ledger of the job's task.
        job: The job's name.
        waiter: Who we are: a flow run's id, or something as unique.
    """

    def __init__(self, objects: Objects, ledger: Ledger, job: str, waiter: str) -> None:
        self._objects = objects
        self._all = ledger.place(f"interest/{job}/")
        self._mine = Location(self._all.bucket, self._all.key + waiter)

    @contextmanager
    def declared(self) -> Iterator[Interest]:
        """Wait for the job inside this block; whoever leaves it, however, waits no more.

        A process that is killed inside leaves its mark: the job is then left for a later run to attach to.
        """
        self._objects.put(self._mine, b"", "text/plain")
        try:
            yield self
        finally:
            self._objects.delete(self._mine)

    def leave(self) -> list[str]:
        """Wait no more; return who still does.

        In this order: of two that leave together, the one who looks last sees nobody. The other way round each would
        see the other, and both would leave the job to nobody.
        """
        self._objects.delete(self._mine)
        return [name for name, _ in self._objects.listing(self._all)]
