"""The lease on a task's state directory, held by a job.

`_ledger/lease.json` names the job that writes `state/`. The lease is free when that job is terminal. So it is never
renewed, and a client that dies holds nothing. If SageMaker does not know the holder, the job was perhaps never created,
or is about to be. Such a lease may be taken 15 minutes after it was written, by S3's own clock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

from pydantic import TypeAdapter, ValidationError

from tasks_lib.aws.objects import DocumentDamaged, Objects
from tasks_lib.jobs.kinds import StoredKind
from tasks_lib.jobs.s3_layout import TaskFolder

TAKE_OVER_AFTER = timedelta(minutes=15)


@dataclass(frozen=True)
class Holder:
    """The holder of the lease. If the job's name is empty, the lease is free."""

    job: str
    fingerprint: str
    kind: StoredKind


_HOLDER = TypeAdapter(Holder)


def document(holder: Holder) -> dict[str, str]:
    """Return a holder as its document in S3."""
    fields: dict[str, str] = _HOLDER.dump_python(holder, mode="json")
    return fields


class Lease:
    """The lease of one task.

    Args:
        objects: Access to S3.
        folder: The task's folder.
        is_over: Return whether a holder's job is terminal; None if SageMaker does not know it.
        live: Return the task's live job, or None; it holds a lease that cannot be read.
    """

    def __init__(
        self,
        objects: Objects,
        folder: TaskFolder,
        is_over: Callable[[Holder], bool | None],
        live: Callable[[], Holder | None],
    ) -> None:
        self._objects = objects
        self._ledger, self._place = folder.ledger, folder.lease
        self._is_over, self._live = is_over, live

    def take(self, wanted: Holder) -> Holder:
        """Try to take the lease; return its holder afterwards."""
        while True:
            holder, etag = self._read()
            if holder and (holder.job == wanted.job or not self._is_free(holder)):
                return holder
            if self._objects.write(self._place, document(wanted), etag=etag):
                return wanted
            # Another writer was faster: read the lease again.

    def give_back(self, holder: Holder) -> None:
        """Release the lease if this holder still has it: its job was never created."""
        found, etag = self._read()
        if found == holder:
            self._objects.write(self._place, document(replace(holder, job="")), etag=etag)

    def holder(self) -> Holder | None:
        """Return the holder of the lease; None if it is free."""
        holder, _ = self._read()
        return holder if holder and holder.job else None

    def _is_free(self, holder: Holder) -> bool:
        if not holder.job:
            return True
        over = self._is_over(holder)
        if over is None:
            age = self._objects.ages(self._place).get("")
            return age is not None and age > TAKE_OVER_AFTER
        return over

    def _read(self) -> tuple[Holder | None, str | None]:
        """Return the lease's holder and its ETag.

        A lost or damaged lease is held by the task's live job, if there is one.
        """
        try:
            found = self._objects.read(self._place)
            if found is None:
                # A task without records has lost none: its first job needs no search among the account's jobs.
                return (self._live() if len(self._objects.listing(self._ledger)) else None), None
            return _HOLDER.validate_python(found.value), found.etag
        except DocumentDamaged as error:
            return self._live(), error.etag
        except ValidationError:
            return self._live(), found.etag if found else None
