"""A task's state directory in S3, `state/`: its content, and which job may write it.

The content is kept from job to job, so only one job may write at a time; the lease (`lease.py`) names it. A task with
`state="none"` has no state directory.
"""

from __future__ import annotations

from collections.abc import Callable

from tasks_lib.aws.jobs import Jobs
from tasks_lib.aws.objects import Objects
from tasks_lib.errors import StateBusy
from tasks_lib.jobs.job import Job
from tasks_lib.jobs.s3_layout import TaskFolder
from tasks_lib.jobs.spec import JobSpec
from tasks_lib.ledger.lease import Holder, Lease
from tasks_lib.options import OnBusy
from tasks_lib.prefect_runtime.run_context import run_shielded


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

    def take(self, wanted: Holder, on_busy: OnBusy, wait: Callable[[Holder], None]) -> None:
        """Take the lease for a job that is about to be created.

        Args:
            wanted: The job.
            on_busy: Wait while other work holds the lease, or fail at once.
            wait: Called between two tries while another job holds it.

        Raises:
            StateBusy: Other work holds it, and `on_busy` is `fail`.
        """
        # Unbroken by signals: the code that gives the lease back after one must find it written, not under way.
        while self.kept and (holder := run_shielded(lambda: self._lease.take(wanted))).job != wanted.job:
            if on_busy == "fail":
                raise self._busy(holder)
            wait(holder)

    def holds_lease(self, wanted: Holder) -> bool:
        """Return whether the job still holds the lease after its creation; if not, it must be stopped before it writes.

        A free lease is taken again: another run of this work may have given it back after its create was refused.
        """
        return not self.kept or self._lease.take(wanted).job == wanted.job

    def give_back(self, wanted: Holder) -> None:
        """Release the lease that was taken for a job which could not be created."""
        if self.kept:
            self._lease.give_back(wanted)

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
