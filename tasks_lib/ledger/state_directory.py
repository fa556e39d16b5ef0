"""A task's state directory in S3, `state/`: its content, and which job may write it.

The content is kept from job to job, so only one job may write at a time; the lease names it. A task with
`state="none"` has no state directory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

from pydantic import TypeAdapter, ValidationError

from tasks_lib.aws.jobs import Jobs
from tasks_lib.aws.objects import DocumentDamaged, Objects
from tasks_lib.errors import StateBusy
from tasks_lib.jobs.job import Job
from tasks_lib.jobs.kinds import StoredKind
from tasks_lib.jobs.s3_layout import TaskFolder
from tasks_lib.jobs.spec import JobSpec
from tasks_lib.options import OnBusy
from tasks_lib.prefect_runtime.run_context import run_shielded

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

    def acquire(self, wanted: Holder) -> Holder:
        """Try to take the lease; return its holder afterwards."""
        while True:
            holder, etag = self._read()
            if holder and (holder.job == wanted.job or not self._is_free(holder)):
                return holder
            if self._objects.write(self._place, document(wanted), etag=etag):
                return wanted
            # Another writer was faster: read the lease again.

    def release(self, holder: Holder) -> None:
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


class StateDirectory:
    """The state directory of one task, for one piece of work.

    Args:
        spec: The job that wants to write it.
        folder: The task's folder in S3.
        objects: Access to S3.
        jobs: SageMaker's jobs, for whether a holder's job is over.
    """

    def __init__(self, spec: JobSpec, folder: TaskFolder, objects: Objects, jobs: Jobs) -> None:
        self._spec, self._objects, self._jobs = spec, objects, jobs
        self._project = folder.key.split("/")[-3]
        self._place = folder.state
        self._lease = Lease(objects, folder, self._is_over, self._live_holder)

    @property
    def kept(self) -> bool:
        """Whether the task keeps a state."""
        return self._spec.state == "task"

    def digest(self) -> str | None:
        """Return the digest of the state directory's listing; None if it is empty or the task keeps no state."""
        if not self.kept:
            return None
        listing = self._objects.listing(self._place)
        return listing.digest if len(listing) else None

    def empty(self) -> None:
        """Delete everything in it."""
        if self.kept:
            self._objects.empty(self._place)

    def acquire(self, wanted: Holder, on_busy: OnBusy, wait: Callable[[Holder], None]) -> None:
        """Take the lease for a job that is about to be created.

        Args:
            wanted: The job.
            on_busy: Wait while other work holds the lease, or fail at once.
            wait: Called between two tries while another job holds it.

        Raises:
            StateBusy: Other work holds it, and `on_busy` is `fail`.
        """
        # Shielded from signals: the code that gives the lease back after one must find it written, not under way.
        while self.kept and (holder := run_shielded(lambda: self._lease.acquire(wanted))).job != wanted.job:
            if on_busy == "fail":
                raise self._busy(holder)
            wait(holder)

    def holds_lease(self, wanted: Holder) -> bool:
        """Return whether the job still holds the lease after its creation; if not, it must be stopped before it writes.

        A free lease is taken again: another run of this work may have given it back after its create was refused.
        """
        return not self.kept or self._lease.acquire(wanted).job == wanted.job

    def release(self, wanted: Holder) -> None:
        """Release the lease that was taken for a job which could not be created."""
        if self.kept:
            self._lease.release(wanted)

    def taken_by_other_work(self, job: Job) -> bool:
        """Return whether another job has taken the lease since this one, so that the state is no longer its own."""
        holder = self._lease.holder() if self.kept else None
        return holder is not None and holder.job != job.name

    def _is_over(self, holder: Holder) -> bool | None:
        job = self._jobs.describe(holder.kind, holder.job)
        return job.phase.terminal if job else None

    def _live_holder(self) -> Holder | None:
        job = self._jobs.newest_of(self._spec.task, self._project)
        return Holder(job.name, job.fingerprint, job.kind) if job and not job.phase.terminal else None

    def _busy(self, holder: Holder) -> StateBusy:
        return StateBusy(
            f"The state of task {self._spec.task!r} is written by other work: {holder.job}.",
            fix="wait for that job (on_busy='wait'), stop it, give this work a task name of its own, "
            "or declare state='none' if it keeps nothing.",
        )
