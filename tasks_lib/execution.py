"""One call of a task, from its spec to its result: the only place where all the parts meet.

Read it from top to bottom: prepare -> fingerprint -> decide -> create or attach -> wait -> record. What decides is a
pure function of `completion.py`; what acts is one call of the part that owns it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import cached_property
from typing import Any

from blocks import SageMakerProject
from tasks_lib.attendance import Attendance, metrics_from_log
from tasks_lib.aws.jobs import FINGERPRINT_VARIABLE, Job, Jobs
from tasks_lib.aws.objects import Location, Objects
from tasks_lib.aws.roles import role_arn
from tasks_lib.channels import Channel, TaskOutput
from tasks_lib.completion import Action, Decision, Kept, from_job, from_ledger
from tasks_lib.diagnosis import job_error
from tasks_lib.errors import InputNotReady, InputsChanged, JobError, ServiceError, ServiceFault
from tasks_lib.fingerprint import Ingredients, fingerprint, ingredients
from tasks_lib.flow_calls import check_call, first_cleaning
from tasks_lib.ledger.interest import Interest
from tasks_lib.ledger.lease import Holder
from tasks_lib.ledger.project_file import check_home
from tasks_lib.ledger.records import Entry, Ledger, Record, SpentBecause
from tasks_lib.ledger.state_directory import StateDirectory
from tasks_lib.masking import Masking
from tasks_lib.metrics import MetricReader
from tasks_lib.naming import job_name
from tasks_lib.outcome import result_of
from tasks_lib.reasons import why
from tasks_lib.reports.artifacts import Report
from tasks_lib.results import JobResult
from tasks_lib.run_context import MEANS_STOP, RunCancelled, RunContext
from tasks_lib.shipping.bundle import Source, bundle_digest, toolkit
from tasks_lib.shipping.resolve import Resolved, Resolver
from tasks_lib.shipping.shipment import Shipment
from tasks_lib.spec import JobPlace, JobSpec, outputs_of, to_request
from tasks_lib.status import Phase
from tasks_lib.wish import Wish

_NO_ROLE = "arn:aws:iam::000000000000:role/not-yet-known"
"""In a request that is only checked: a role is looked up, and perhaps made, for a job that will be."""

BY_NAME = "a completed job of that name is there"
UNCHANGED = "nothing changed"
UNRECORDED = "its job had completed without a record"
ATTACHED = "attached to its running job"
"""Reasons, as a result and a plan say them."""


class Execution:
    """One call of a task.

    Args:
        project: Where.
        spec: What.
        source: The code; none where the image runs as it is.
        inputs: Channels by name.
        wish: How.
        run: For whom.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        project: SageMakerProject,
        spec: JobSpec,
        *,
        source: Source | None,
        inputs: dict[str, Channel | TaskOutput],
        wish: Wish,
        run: RunContext,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.project, self.spec, self.source, self.inputs = project, spec, source, inputs
        self.wish, self.run, self._clock = wish, run, clock
        self._began = clock()
        self._told_of = ""
        self.folder = self._folder_of(spec.task, project.project)
        self.objects = Objects(project)
        self.jobs = Jobs(project)
        self.mask = Masking.of(spec.environment, spec.hyperparameters)
        self.report = Report(run, project, spec.task, self.mask)
        self.ledger = Ledger(self.objects, self.folder)
        self.state = StateDirectory(spec, self.folder, self.objects, self.ledger, self.jobs)

    def result(self) -> JobResult:
        """Return the task's result, running a job only if there is none yet."""
        if record := self._record_by_name():
            return self._skipped(record, BY_NAME)
        check_call(self.run, self.folder.uri, self.ingredients)
        while True:
            result = self._step()
            if result is not None:
                return result

    def _step(self) -> JobResult | None:
        """Look, decide, act; `None` means: look again."""
        entry = self.ledger.entry(self.fingerprint)
        revoked = None if entry.forced_by(self.run.flow_run) else self._revoked
        decision, job = self._decide(entry, revoked)
        if decision.action is Action.SKIP and entry.record:
            return self._skipped(entry.record, UNCHANGED)
        if decision.because:
            self.ledger.spend(self.fingerprint, entry.attempt, decision.because, self.run.flow_run)
            return None
        if job is None:
            return self._create(entry)
        if decision.action is Action.RECORD:
            return self._completed(job, entry, UNRECORDED, None)
        return self._attach(job, entry)

    def _record_by_name(self) -> Record | None:
        """Return the record that a caller is content with who asks for a completed job of the task's name."""
        return self.ledger.latest() if self.wish.rerun == "if_incomplete" and not self._revoked else None

    # -- prepare and decide ----------------------------------------------------------------------------------------

    @cached_property
    def resolved(self) -> Resolved:
        """The inputs, found and listed."""
        return Resolver(self.project, self.objects, self.jobs, self.folder, self._ledger_of).resolve(self.inputs)

    @cached_property
    def ingredients(self) -> Ingredients:
        """What the fingerprint is made of."""
        manifest = self.source.manifest if self.source else None
        return ingredients(self.spec, manifest, self.resolved.channels, toolkit().contract)

    @cached_property
    def fingerprint(self) -> str:
        """The work."""
        return fingerprint(self.ingredients)

    def _folder_of(self, task: str, project: str) -> Location:
        """Return the folder of a task of this or another project beside it."""
        prefix = f"{self.project.prefix}/" if self.project.prefix else ""
        return Location(self.project.bucket, f"{prefix}{project}/{task}/")

    def _ledger_of(self, task: str, project: str) -> Ledger:
        return Ledger(self.objects, self._folder_of(task, project))

    @property
    def _revoked(self) -> SpentBecause | None:
        if self.wish.clean_state:
            return "clean_state"
        return "forced" if self.wish.rerun == "always" or self.run.refresh else None

    def _decide(self, entry: Entry, revoked: SpentBecause | None) -> tuple[Decision, Job | None]:
        kept = self._kept(entry.record) if entry.record else None
        decision = from_ledger(entry, kept, revoked)
        if decision.action is not Action.ASK:
            return decision, None
        job = self.jobs.describe(self.spec.kind, self._job_name(entry.attempt))
        lost = job is not None and job.phase is Phase.COMPLETED and self.state.went_to_others(job)
        return from_job(job, self.fingerprint, revoked, state_lost=lost), job

    def _kept(self, record: Record) -> Kept:
        outputs = self.objects.listing(self._output_folder(record.job)).digest == record.output_listing
        return Kept(outputs, record.state_listing is None or self.state.digest() == record.state_listing)

    # -- create or attach ------------------------------------------------------------------------------------------

    def _create(self, entry: Entry) -> JobResult | None:
        place = self._place(self._job_name(entry.attempt))
        self.jobs.check(self.spec.kind, to_request(self.spec, place))
        check_home(self.project, self.objects)
        self._check_inputs_are_there()
        reason = f"ran: {self._why(entry)}"
        place = replace(place, role=role_arn(self.project))  # refused, if it is, before the lease is ours
        holder = Holder(place.job, self.fingerprint, self.spec.kind)
        self.state.take(holder, self.wish.on_busy, self._wait_for_state)
        self._ship(place)
        has_state = self.spec.kind == "processing" and self.state.digest() is not None
        request = to_request(self.spec, replace(place, has_state=has_state))
        with self._interest(place.job).declared() as interest:
            job = self._created(request, holder, interest)
            return self._wait(job, entry, interest, reason) if job else None

    def _ship(self, place: JobPlace) -> None:
        if self.wish.clean_state and first_cleaning(self.run, self.folder.uri):
            self.state.empty()
        Shipment(self.objects, self.ledger).send(self.resolved, self.source, place.bundle_uri)

    def _created(self, request: dict[str, Any], holder: Holder, interest: Interest) -> Job | None:
        """Create the job, or find it; `None`: somebody else's has the name, and the next look spends the attempt."""
        try:
            job = self.jobs.create(self.spec.kind, request)
            if job.fingerprint != self.fingerprint:
                return None
            self.state.check_kept(holder, job)
        except MEANS_STOP:
            self._stop_untold(holder.job, interest)
            raise
        except ServiceError as refused:
            if not isinstance(refused, ServiceFault):  # which may have made the job all the same
                self.state.give_back(holder)
            raise
        return job

    def _attach(self, job: Job, entry: Entry) -> JobResult | None:
        self.run.tell(self.spec.task, f"attached to the job {job.name}, which is {job.status}")
        with self._interest(job.name).declared() as interest:
            if job.phase is Phase.STOPPING:
                # Its name is taken until it is over; then the attempt is spent.
                self._attendance().until_over(job, interest)
                return None
            return self._wait(job, entry, interest, ATTACHED)

    def _wait_for_state(self, holder: Holder) -> None:
        if holder.job != self._told_of:
            self.run.tell(self.spec.task, f"waiting for job {holder.job}, which writes its state")
            self._told_of = holder.job
        self.run.pause(1.0, f"task {self.spec.task!r} waited for job {holder.job}")

    def _why(self, entry: Entry) -> str:
        return why(entry, self.ledger, self.ingredients, self.resolved.channels)

    def _job_name(self, attempt: int) -> str:
        return job_name(self.spec.task, self.folder.uri, self.fingerprint, attempt)

    def _place(self, job: str) -> JobPlace:
        bundles = f"s3://{self.project.bucket}/{self.project.key_prefix}_bundles/"
        return JobPlace(
            job=job,
            task_uri=self.folder.uri,
            role=_NO_ROLE,
            channels=self.resolved.channels,
            bundle_uri=f"{bundles}{bundle_digest(self.source)}/" if self.source else None,
            has_state=False,
            environment={
                FINGERPRINT_VARIABLE: self.fingerprint,
                "SSM_PROJECT": self.project.project,
                "SSM_TASK": self.spec.task,
            },
            tags=self._tags(),
        )

    def _tags(self) -> dict[str, str]:
        flow_run = {"prefect-sagemaker:flow-run": self.run.flow_run} if self.run.flow_run else {}
        return {
            "prefect-sagemaker:project": self.project.project,
            "prefect-sagemaker:task": self.spec.task,
            "prefect-sagemaker:fingerprint": self.fingerprint,
            **flow_run,
        }

    # -- wait ------------------------------------------------------------------------------------------------------

    def _interest(self, job: str) -> Interest:
        return Interest(self.objects, self.ledger, job, self.run.waiter)

    def _attendance(self) -> Attendance:
        metrics = MetricReader(self.spec.metrics)
        return Attendance(self.project, self.spec.task, self.run, metrics, mask=self.mask, report=self.report)

    def _wait(self, job: Job, entry: Entry, interest: Interest, reason: str) -> JobResult:
        attendance = self._attendance()
        try:
            ended = attendance.until_over(job, interest)
        except (*MEANS_STOP, RunCancelled):
            self._stop_unless_wanted(job, interest)
            raise
        if ended.phase is not Phase.COMPLETED:
            error = job_error(self.project, self.spec.task, ended, attendance.lines)
            error = self._with_result(error, ended, entry, reason, attendance.metrics)
            self.report.failed(error)
            raise error
        return self._completed(ended, entry, reason, attendance.metrics)

    def _with_result(self, error: JobError, job: Job, entry: Entry, reason: str, metrics: MetricReader) -> JobError:
        """Give an error what there is of a result, where S3 tells what the job left."""
        try:
            error.result = self._result(self._record(job, entry, reason, metrics), cached=False, reason=reason, job=job)
        except ServiceError as unread:
            self.run.logger.warning("What job %s left could not be listed: %s", job.name, unread)
        return error

    def _stop_untold(self, name: str, interest: Interest) -> None:
        """Stop the job of a create whose answer a signal took away, if there is one."""
        job = self.jobs.describe(self.spec.kind, name)
        if job and job.fingerprint == self.fingerprint and not job.phase.terminal:
            self._stop_unless_wanted(job, interest)

    def _stop_unless_wanted(self, job: Job, interest: Interest) -> None:
        others = interest.leave()
        if others:
            self.run.tell(self.spec.task, f"leaving job {job.name} to the {len(others)} other run(s) that wait for it")
            self.report.left(f"Left to other runs: {job.name}")
            return
        self.jobs.stop(job)
        self.run.tell(self.spec.task, f"stopped job {job.name}")
        self.report.left(f"Stopped: {job.name}")

    # -- record ----------------------------------------------------------------------------------------------------

    def _completed(self, job: Job, entry: Entry, reason: str, metrics: MetricReader | None) -> JobResult:
        self._check_inputs_stood_still(job, entry.attempt)
        metrics = metrics or metrics_from_log(self.project, job, self.spec.metrics)
        record = self._record(job, entry, reason, metrics)
        self.ledger.complete(record)
        return self.report.finished(self._result(record, cached=False, reason=reason, job=job))

    def _record(self, job: Job, entry: Entry, reason: str, metrics: MetricReader) -> Record:
        left = self.objects.listing(self._output_folder(job.name))
        state = self.state.digest()
        return Record(
            job=job.name,
            arn=job.arn,
            created=job.created,
            kind=job.kind,
            fingerprint=self.fingerprint,
            attempt=entry.attempt,
            ingredients=self.ingredients,
            outputs=outputs_of(self.spec, self._place(job.name), left.items.keys(), has_state=state is not None),
            output_listing=left.digest,
            state_listing=state,
            metrics=metrics.last,
            metric_history=metrics.history,
            metric_patterns=self.spec.metrics,
            seconds=job.ended - job.created if job.ended else None,
            billable_seconds=job.billable_seconds,
            forced_in=self.run.flow_run if self._revoked else None,
            reason=reason if reason.startswith("ran: ") else f"ran: {self._why(entry)}",
            previous=self._previous(),
            inputs={channel.name: channel.uri for channel in self.resolved.channels},
            instance_type=job.instance_type,
            instance_count=job.instance_count,
            phases=dict(job.phases),
        )

    def _previous(self) -> str | None:
        """Return the fingerprint of the work that the task had completed before this one."""
        latest = self.ledger.latest()
        if latest is None:
            return None
        return latest.previous if latest.fingerprint == self.fingerprint else latest.fingerprint

    def _output_folder(self, job: str) -> Location:
        return Location(self.folder.bucket, f"{self.folder.key}{job}/output/")

    def _check_inputs_are_there(self, *, to_come: Collection[str] = ()) -> None:
        """See that what other tasks left is still in S3; what was listed for the fingerprint was seen already.

        Args:
            to_come: The channels whose jobs have not run.
        """
        for channel in self.resolved.channels:
            if channel.name in to_come:
                continue
            if channel.manifest is None and not len(self.objects.listing(Location.parse(channel.uri))):
                raise InputNotReady(
                    f"The input {channel.name!r} of task {self.spec.task!r} is gone: nothing is at {channel.uri}.",
                    fix="run the task that makes it: it sees that its output is gone, and runs again.",
                )

    def _check_inputs_stood_still(self, job: Job, attempt: int) -> None:
        for channel in self.resolved.channels:
            if not channel.foreign or channel.manifest is None:
                continue
            changed = self.objects.listing(Location.parse(channel.uri)).changed(channel.manifest)
            if changed:
                self.ledger.spend(self.fingerprint, attempt, "inputs changed", self.run.flow_run)
                raise InputsChanged(
                    f"The input {channel.name!r} of task {self.spec.task!r} changed while job {job.name} was reading "
                    f"it: {len(changed)} object(s), such as {channel.uri}{changed[0]}. Its result is not recorded.",
                    fix="run again when nobody writes there any more.",
                )

    def _skipped(self, record: Record, reason: str) -> JobResult:
        if record.metric_patterns != self.spec.metrics:
            # Metrics are read off the log, so asking for others is no reason to run the job again.
            done = Job(record.kind, record.job, record.arn, "Completed")
            metrics = metrics_from_log(self.project, done, self.spec.metrics)
            record = record.model_copy(update={"metrics": metrics.last, "metric_history": metrics.history})
        self.run.tell(self.spec.task, f"skipped: {reason}")
        return self.report.finished(self._result(record, cached=True, reason=f"skipped: {reason}"))

    def _result(self, record: Record, *, cached: bool, reason: str, job: Job | None = None) -> JobResult:
        task, metrics, seconds = self.spec.task, self.spec.metrics, self._clock() - self._began
        return result_of(
            record, self.project, task, metrics=metrics, cached=cached, reason=reason, seconds=seconds, job=job
        )
