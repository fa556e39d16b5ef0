"""The execution of one call of a task, up to its result; all other parts meet only here.

The order is: resolve, decide, create or attach, wait, record. Pure functions in `decision.py` decide. Each action is
one call of the module that owns it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

from tasks_lib.backend import Backend
from tasks_lib.errors import JobError, ServiceError, ServiceFault
from tasks_lib.job_errors import job_error
from tasks_lib.jobs.capacity import InstanceChoice, attempts_without_capacity, choice_after
from tasks_lib.jobs.job import Job
from tasks_lib.jobs.kind import Phase
from tasks_lib.jobs.masking import Masking
from tasks_lib.jobs.metrics import MetricReader
from tasks_lib.jobs.request import to_request
from tasks_lib.jobs.spec import JobPlace
from tasks_lib.ledger.heartbeats import Heartbeat
from tasks_lib.ledger.project_file import check_account
from tasks_lib.ledger.records import Entry, Record
from tasks_lib.ledger.state_directory import Holder
from tasks_lib.prefect_runtime.cancelled_state import STOP_EXCEPTIONS
from tasks_lib.prefect_runtime.run_context import RunCancelled, RunContext, run_shielded
from tasks_lib.quotas.preflight import check_quotas
from tasks_lib.quotas.slots import Slots
from tasks_lib.reports.artifacts import Report
from tasks_lib.results.job_result import JobResult
from tasks_lib.run.cancellation import Cancellation
from tasks_lib.run.decision import Action
from tasks_lib.run.lookup import ATTACHED, BY_NAME, UNCHANGED, UNRECORDED, Lookup
from tasks_lib.run.prepare import Call
from tasks_lib.run.retries import LOCAL_SPEED, RetryPolicy
from tasks_lib.run.step import Step, check_call, resolve
from tasks_lib.run.waiter import JobWaiter
from tasks_lib.staging.inputs import JobFiles, changed_inputs, check_inputs_exist
from tasks_lib.staging.source import IGNORE_FILE, looks_secret, named

_SPOT_WARNING_SECONDS = 3600.0
"""Seconds of runtime on spot instances without checkpoints beyond which there is a warning."""


class Execution:
    """The execution of one call of a task.

    A skip uses only `lookup` and `report`. What a job needs is made when a job is run.

    Args:
        call: The call.
        backend: The backend where its jobs run.
        run: The run of the call.
        clock: Monotonic seconds.
        sleep: Waits for a number of seconds, between the last requests of a cancelled run.
    """

    def __init__(
        self,
        call: Call,
        backend: Backend,
        run: RunContext,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.call, self.backend, self.run = call, backend, run
        self.spec = call.spec
        self.lookup = Lookup(call, backend, run)
        self._clock, self._sleep, self._began = clock, sleep, clock()
        self._resolved: Step | None = None
        self._work = ""  # the fingerprint that was looked at last
        self._logged_holder = ""
        self._cleaned = False
        self._create_uncertain = False
        self._finished_waiter: tuple[str, JobWaiter] | None = None
        self._slots: Slots | None = None
        self._heartbeat: Heartbeat | None = None

    @cached_property
    def mask(self) -> Masking:
        """Masks secrets in texts."""
        return Masking.of(self.spec.environment, self.spec.hyperparameters)

    @cached_property
    def report(self) -> Report:
        """The artifacts of the call in Prefect's UI."""
        return Report(self.run, self.backend.project, self.spec.task, self.mask)

    @cached_property
    def retries(self) -> RetryPolicy:
        """The retry policy for transient errors."""
        speed = LOCAL_SPEED if self.backend.is_local else 1.0
        seconds = self.call.options.capacity_seconds
        return RetryPolicy(self.run, self.spec.task, capacity_seconds=seconds, speed=speed, clock=self._clock)

    @cached_property
    def cancellation(self) -> Cancellation:
        """Stops or leaves the job when the run is being ended."""
        return Cancellation(self.backend, self.run, self.spec.task, report=self.report, sleep=self._sleep)

    def result(self) -> JobResult:
        """Return the task's result, running a job only if there is none yet."""
        try:
            return self._until_done()
        except (*STOP_EXCEPTIONS, RunCancelled) as ended:
            run_shielded(partial(self._leave_job, ended))  # a second Ctrl-C must not interrupt it
            raise
        except JobError as error:
            self.report.failed(error)
            raise
        finally:
            if self._slots or self._heartbeat:  # nothing is held after a skip
                run_shielded(self._release)

    def _until_done(self) -> JobResult:
        """Look, decide and act until there is a result; after a transient error, look again."""
        while True:
            try:
                result = self._decide_and_act()
            except (ServiceError, JobError) as error:
                self._release_slots()
                self.retries.wait_or_raise(error)
                self.backend.refresh_clients(error.category)
                if self._heartbeat:
                    self._heartbeat.renew()
                continue
            if result is not None:
                return result
            self.retries.reset()

    def _decide_and_act(self) -> JobResult | None:
        """Look, decide, act; return None if the caller has to look again."""
        if record := self.lookup.record_by_name():
            return self._skipped(record, BY_NAME)
        step = self.step
        self._work = step.fingerprint
        check_call(self.run, step.folder.uri, step.ingredients)
        entry = self.lookup.ledger.entry(step.fingerprint)
        decision, job = self.lookup.decide(step, entry)
        if decision.action is Action.SKIP and entry.record:
            return self._skipped(entry.record, UNCHANGED)
        if decision.because:
            self.lookup.ledger.close(step.fingerprint, entry.attempt, decision.because, self.run.flow_run)
            return None
        if job is None:
            return self._create(step, entry)
        if decision.action is Action.RECORD:
            return self._record_completed(
                step, job, entry, self._reason(step, job, entry, UNRECORDED), self._waiter_with_log(job)
            )
        return self._attach(step, job, entry)

    @property
    def step(self) -> Step:
        """The step, with its inputs resolved; after `_invalidate_step` they are resolved again."""
        if self._resolved is None:
            self._resolved = resolve(self.call, self.backend)
        return self._resolved

    def _invalidate_step(self) -> None:
        self._resolved = None

    # -- create or attach ------------------------------------------------------------------------------------------

    def _create(self, step: Step, entry: Entry) -> JobResult | None:
        place = self.lookup.place(step, step.job_name(entry.attempt), self._instance_choice(entry))
        asked = to_request(self.spec, place)
        self.backend.jobs.check(self.spec.kind, asked)
        check_quotas(self.backend.project, self.run, self.spec.task, self.spec.kind, asked)
        check_account(self.backend.project, self.backend.objects)
        check_inputs_exist(self.spec.task, step.inputs.channels, self.backend.objects)
        # If AWS refuses the role, this run does not hold the lease yet.
        place = replace(place, role=self.backend.role(asked, self.spec.secrets))
        self._slots = self._slots or Slots(self.backend.project, self.run, self.spec.task)
        if self._slots.acquire(self.spec.kind, asked):
            self._invalidate_step()  # the wait may have taken hours: look again
            return None
        holder = Holder(place.job, step.fingerprint, self.spec.kind)
        ready = self._prepare_job(step, entry, place, holder)
        if ready is None:
            return None
        place, why = ready
        job = self._create_or_find(to_request(self.spec, place), holder)
        if job is None:
            return None
        return self._wait(step, job, entry, why if job.started_by == self.run.waiter else ATTACHED)

    def _prepare_job(self, step: Step, entry: Entry, place: JobPlace, holder: Holder) -> tuple[JobPlace, str] | None:
        """Take the lease, upload the job's files and start the heartbeat; return the job's place and why it runs.

        Return None if the state must be emptied first, but another run has created the job meanwhile.
        """
        try:
            self.lookup.state.acquire(holder, self.call.options.on_busy, self._wait_for_state)
            if self._must_clean_state(entry):
                if self.backend.jobs.describe(self.spec.kind, place.job):
                    return None  # by another run of this work: it took the same job's lease, so this run has it, too
                self.lookup.state.empty()
                self._cleaned = True
            self._warn_of_secret_files(step)
            latest = self.lookup.ledger.latest()
            JobFiles(self.backend.objects, self.lookup.ledger).send(step.inputs, step.source, place.bundle_uri, latest)
            has_state = self.spec.kind.state_is_input and self.lookup.state.digest() is not None
            self._heartbeat_of(place.job).start()
            self.run.check_running(f"task {self.spec.task!r} was being prepared")
            # Ask for the reason before the job exists: another run may write the job's record.
            return replace(place, has_state=has_state), f"ran: {self.lookup.why(step, entry, latest)}"
        except (*STOP_EXCEPTIONS, RunCancelled):
            run_shielded(lambda: self._release_lease(holder))
            raise

    def _warn_of_secret_files(self, step: Step) -> None:
        """Warn about files whose names suggest secrets: those of the code were left out, those of inputs are sent."""
        task, left_out = self.spec.task, step.source.left_out if step.source else ()
        if left_out:
            self.run.logger.warning(
                "%s: left out of the code, since they look like secrets: %s. A line such as `!%s` in %s sends one; "
                "`secrets=` gives a job a secret without a file.",
                *(task, named(left_out), left_out[0], IGNORE_FILE),
            )
        for upload in step.inputs.uploads:
            if looking := [name for name in upload.files if looks_secret(name)]:
                self.run.logger.warning(
                    "%s: the input %r takes files along that look like secrets: %s",
                    task,
                    upload.channel,
                    named(looking),
                )

    def _release_lease(self, holder: Holder) -> None:
        """Release the lease, since no job will end that holds it, unless another run creates or has created the job."""
        others = self._heartbeat_of(holder.job).leave()
        if not others and self.backend.jobs.describe(self.spec.kind, holder.job) is None:
            self.lookup.state.release(holder)

    def _must_clean_state(self, entry: Entry) -> bool:
        """Return whether to empty the state: before a run's first attempt. A later one goes on from what is left."""
        return self.call.options.clean_state and not (self._cleaned or entry.cleaned_by(self.run.flow_run))

    def _create_or_find(self, request: dict[str, Any], holder: Holder) -> Job | None:
        """Create the job, or return the existing one.

        Return None if it belongs to other work, or lost the lease and was stopped; the caller then decides again.
        """
        self._create_uncertain = True
        try:
            job = self.backend.jobs.create(self.spec.kind, request)
        except ServiceError as refused:
            if not isinstance(refused, ServiceFault):  # after a fault, the job may exist all the same
                self.lookup.state.release(holder)
            raise
        self._create_uncertain = False
        if job.fingerprint != holder.fingerprint:
            return None
        if not self.lookup.state.holds_lease(holder):
            self.cancellation.stop(job, self._heartbeat_of(job.name))
            return None
        return job

    def _attach(self, step: Step, job: Job, entry: Entry) -> JobResult | None:
        self.run.log_status(self.spec.task, f"attached to the job {job.name}, which is {job.status}")
        self._heartbeat_of(job.name).take_over()
        if job.started_by != self.run.waiter:
            self._release_slots()  # the run that created the job holds its slots
        if job.phase is Phase.STOPPING:
            # Its name is in use until it has stopped. The next look then closes the attempt.
            self._waiter().wait(job, self._heartbeat_of(job.name))
            return None
        return self._wait(step, job, entry, self._reason(step, job, entry, ATTACHED))

    def _reason(self, step: Step, job: Job, entry: Entry, otherwise: str) -> str:
        """Return why the job ran if this run created it, else `otherwise`."""
        if job.started_by != self.run.waiter:
            return otherwise
        return f"ran: {self.lookup.why(step, entry, self.lookup.ledger.latest())}"

    def _instance_choice(self, entry: Entry) -> InstanceChoice:
        closed = [(each.because, each.flow_run) for each in entry.closed]
        choice = choice_after(self.spec.instance_choices, attempts_without_capacity(closed, self.run.flow_run))
        # The local SageMaker interrupts spot jobs only by a fault rule.
        at_risk = choice.spot and self.spec.state == "none" and not self.backend.is_local
        if at_risk and self.spec.max_runtime_seconds > _SPOT_WARNING_SECONDS:
            self.run.logger.warning(
                "%s: a spot instance may be taken back at any moment, and with state='none' there are no checkpoints: "
                "up to %.0f h of work start again then. Keep checkpoints in $SSM_STATE, or do without spot.",
                *(self.spec.task, self.spec.max_runtime_seconds / 3600),
            )
        return choice

    def _wait_for_state(self, holder: Holder) -> None:
        if holder.job != self._logged_holder:
            self.run.log_status(self.spec.task, f"waiting for job {holder.job}, which writes its state")
            self._logged_holder = holder.job
        self.run.pause(1.0, f"task {self.spec.task!r} waited for job {holder.job}")

    # -- wait ------------------------------------------------------------------------------------------------------

    def _heartbeat_of(self, job: str) -> Heartbeat:
        """Return this run's heartbeat for a job, and end that for any other job."""
        if self._heartbeat is None or self._heartbeat.job != job:
            if self._heartbeat:
                self._heartbeat.end()
            self._heartbeat = Heartbeat(self.backend.objects, self.lookup.folder, job, self.run.waiter)
        return self._heartbeat

    def _waiter(self) -> JobWaiter:
        metrics = MetricReader(self.spec.metrics)
        return JobWaiter(self.backend, self.spec.task, self.run, metrics, mask=self.mask, report=self.report)

    def _wait(self, step: Step, job: Job, entry: Entry, reason: str) -> JobResult | None:
        waiter, heartbeat = self._waiter(), self._heartbeat_of(job.name)
        ended = waiter.wait(job, heartbeat)
        if ended.phase is Phase.COMPLETED:
            self._finished_waiter = (job.name, waiter)
            return self._record_completed(step, ended, entry, reason, waiter)
        if ended.phase is Phase.STOPPED and heartbeat.stop_was_announced():
            return None  # by a run that saw no waiter just before this run attached; this run makes the next attempt
        raise self._error_of(step, ended, entry, reason, waiter)

    def _waiter_with_log(self, job: Job) -> JobWaiter:
        """Return the waiter of a finished job, which has read its log. A retry does not show the log again."""
        name, waiter = self._finished_waiter or ("", self._waiter())
        if name != job.name:
            waiter.catch_up(job)
            self._finished_waiter = (job.name, waiter)
        return waiter

    def _error_of(self, step: Step, job: Job, entry: Entry, reason: str, waiter: JobWaiter) -> JobError:
        """Return the error of a job that failed or was stopped, with a result if S3 can be read."""
        error = job_error(self.backend.project, self.spec.task, job, waiter.lines)
        try:
            record = self.lookup.record(step, job, entry, reason, metrics=waiter.metrics, unread=waiter.unread)
            error.result = self._result(record, cached=False, reason=reason, job=job)
        except ServiceError as unread:
            self.run.logger.warning("What job %s left could not be listed: %s", job.name, unread)
        return error

    def _release_slots(self) -> None:
        if self._slots:
            self._slots.release()

    def _release(self) -> None:
        self._release_slots()
        if self._heartbeat:
            self._heartbeat.end()

    def _leave_job(self, ended: BaseException) -> None:
        """Stop or leave the job of a run that is being ended. It may be known only by its name, from the heartbeat."""
        if self._heartbeat:
            kind, how = self.spec.kind, self.call.options.on_exit
            self.cancellation.stop_or_leave(
                kind, self._heartbeat, self._work, how, create_uncertain=self._create_uncertain
            )
        if self.call.options.on_exit == "stop" and not self.run.is_rescheduled():
            self.run.note_stop(ended)

    # -- record ----------------------------------------------------------------------------------------------------

    def _record_completed(self, step: Step, job: Job, entry: Entry, reason: str, waiter: JobWaiter) -> JobResult:
        for changed in changed_inputs(self.spec.task, job.name, step.inputs.channels, self.backend.objects):
            self.lookup.ledger.close(step.fingerprint, entry.attempt, "inputs changed", self.run.flow_run)
            raise changed
        record = self.lookup.record(step, job, entry, reason, metrics=waiter.metrics, unread=waiter.unread)
        self.lookup.ledger.complete(record)
        return self.report.finished(self._result(record, cached=False, reason=reason, job=job))

    def _skipped(self, record: Record, reason: str) -> JobResult:
        record = self.lookup.with_metrics(record)
        self.run.log_status(self.spec.task, f"skipped: {reason}")
        return self.report.finished(self._result(record, cached=True, reason=f"skipped: {reason}"))

    def _result(self, record: Record, *, cached: bool, reason: str, job: Job | None = None) -> JobResult:
        seconds = self._clock() - self._began
        return self.lookup.result(record, cached=cached, reason=reason, seconds=seconds, job=job)
