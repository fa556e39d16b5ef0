"""The lease on a task's state directory: the job itself.

`_ledger/lease.json` names the job that writes `state/`. It is free when that job is terminal, so nothing has to be
renewed and a dead client holds nothing. A holder that SageMaker does not know was perhaps never created, or is about
to be: it may be taken over 15 minutes after the lease was written, by S3's own clock.
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
    """Who holds the lease; one whose job has no name holds nothing."""

    job: str
    fingerprint: str
    kind: StoredKind


_HOLDER = TypeAdapter(Holder)


def document(holder: Holder) -> dict[str, str]:
    """Return a holder as its document in S3 has it."""
    fields: dict[str, str] = _HOLDER.dump_python(holder, mode="json")
    return fields


class Lease:
    """The lease of one task.

    Args:
        objects: Access to S3.
        folder: The task's folder.
        is_over: Tells whether a holder's job is terminal; `None` when SageMaker does not know it.
        live: Finds the live job of the task, if there is one: the holder of a lease that cannot be read.
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
        """Try to take the lease; return who holds it afterwards."""
        while True:
            holder, etag = self._read()
            if holder and (holder.job == wanted.job or not self._is_free(holder)):
                return holder
            if self._objects.write(self._place, document(wanted), etag=etag):
                return wanted
            # Somebody else was faster: look again who holds it now.

    def give_back(self, holder: Holder) -> None:
        """Let go of the lease, if it is still this holder's: its job was never made."""
        found, etag = self._read()
        if found == holder:
            self._objects.write(self._place, document(replace(holder, job="")), etag=etag)

    def holder(self) -> Holder | None:
        """Return who holds the lease."""
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
        """Return what the lease says, and its ETag. One that is lost or damaged is held by the task's live job, if any.

        A task without any record has lost none, which spares its first job a search among those of the account.
        """
        try:
            found = self._objects.read(self._place)
            if found is None:
                return (self._live() if len(self._objects.listing(self._ledger)) else None), None
            return _HOLDER.validate_python(found.value), found.etag
        except DocumentDamaged as error:
            return self._live(), error.etag
        except ValidationError:
            return self._live(), found.etag if found else None
