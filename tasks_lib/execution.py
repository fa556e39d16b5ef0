"""One call of a task, from its spec to its result: the only place where all the parts meet.

Read it from top to bottom: prepare -> fingerprint -> decide -> create or attach -> wait -> record. What decides is a
pure function of `completion.py`; what acts is one call of the part that owns it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from blocks import SageMakerProject
from tasks_lib.attendance import Attendance, metrics_from_log
from tasks_lib.aws.roles import role_arn
from tasks_lib.completion import Action, Decision, from_job, from_ledger
from tasks_lib.departure import Departure
from tasks_lib.diagnosis import job_error
from tasks_lib.errors import JobError, ServiceError, ServiceFault
from tasks_lib.flow_calls import check_call
from tasks_lib.interruption import MEANS_STOP
from tasks_lib.jobs.capacity import Rung, attempts_without_capacity, rung_after
from tasks_lib.jobs.channels import Channel, TaskOutput
from tasks_lib.jobs.job import Job, ended_job
from tasks_lib.jobs.masking import Masking
from tasks_lib.jobs.metrics import MetricReader, doubts
from tasks_lib.jobs.request import to_request
from tasks_lib.jobs.spec import JobPlace, JobSpec
from tasks_lib.jobs.status import Phase
from tasks_lib.ledger.interest import Interest
from tasks_lib.ledger.lease import Holder
from tasks_lib.ledger.project_file import check_home
from tasks_lib.ledger.records import Entry, Record
from tasks_lib.meaning import Meaning
from tasks_lib.options import RunOptions
from tasks_lib.outcome import result_of
from tasks_lib.patience import ON_THIS_MACHINE, Patience
from tasks_lib.quotas.preflight import check_quotas
from tasks_lib.quotas.slots import Slots
from tasks_lib.reports.artifacts import Report
from tasks_lib.results import JobResult
from tasks_lib.run_context import RunCancelled, RunContext, unbroken
from tasks_lib.shipping.bundle import IGNORE_FILE, Source
from tasks_lib.shipping.inputs import changes_meanwhile, check_are_there
from tasks_lib.shipping.secret_files import looks_secret, named
from tasks_lib.shipping.shipment import Shipment
from tasks_lib.work import Work

_LONG_FOR_SPOT = 3600.0
"""Seconds of a run without checkpoints on spot that are worth a warning."""

BY_NAME = "a completed job of that name is there"
UNCHANGED = "nothing changed"
UNRECORDED = "its job had completed without a record"
ATTACHED = "attached to its running job"
"""Reasons, as a result and a plan say them."""


class Execution(Work):
    """One call of a task: the work, and what is done about it.

    Args:
        project: Where.
        spec: What.
        source: The code; none where the image runs as it is.
        inputs: Channels by name.
        options: How the call runs.
        run: For whom.
        clock: Monotonic seconds.
        sleep: Waits so many seconds, for what a cancelled run still has to do.
    """

    def __init__(
        self,
        project: SageMakerProject,
        spec: JobSpec,
        *,
        source: Source | None,
        inputs: dict[str, Channel | TaskOutput],
        options: RunOptions,
        run: RunContext,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(project, spec, source=source, inputs=inputs, options=options, run=run)
        self._clock, self._began = clock, clock()
        self._told_of = ""
        self._cleaned = False
        self._untold = False
        self._attended: tuple[str, Attendance] | None = None
        self._interest: Interest | None = None
        self.mask = Masking.of(spec.environment, spec.hyperparameters)
        self.report = Report(run, project, spec.task, self.mask)
        speed = ON_THIS_MACHINE if project.is_local else 1.0
        self.slots = Slots(project, run, spec.task)
        renew = self._renew_clients
        self._departure = Departure(self.jobs, run, spec.task, report=self.report, renew=renew, sleep=sleep)
        self.patience = Patience(run, spec.task, capacity_seconds=options.capacity_seconds, speed=speed, clock=clock)

    def result(self) -> JobResult:
        """Return the task's result, running a job only if there is none yet."""
        try:
            return self._until_done()
        except (*MEANS_STOP, RunCancelled) as ended:
            unbroken(partial(self._leave_job, ended))  # a second Ctrl-C must not break that off
            raise
        except JobError as error:
            self.report.failed(error)
            raise
        finally:
            unbroken(self._let_go)

    def _until_done(self) -> JobResult:
        """Take one step after the other; what passes by itself is borne, and the step taken anew."""
        while True:
            try:
                result = self._step()
            except (ServiceError, JobError) as error:
                self.slots.give_back()
                self.patience.bear(error)
                self._renew_clients(error)
                if self._interest:
                    self._interest.renew()
                continue
            if result is not None:
                return result
            self.patience.calm()

    def _renew_clients(self, error: ServiceError | JobError) -> None:
        """Ask by new clients from now on: with fresh credentials, or of a local SageMaker that is started again."""
        if error.meaning is Meaning.EXPIRED:
            self.project.forget_clients()
        elif error.meaning is Meaning.SERVICE_FAULT:
            self.project.wake()

    def _step(self) -> JobResult | None:
        """Look, decide, act; `None` means: look again."""
        if record := self._record_by_name():
            return self._skipped(record, BY_NAME)
        check_call(self.run, self.folder.uri, self.ingredients)
        entry = self.ledger.entry(self.fingerprint)
        decision, job = self._decide(entry)
        if decision.action is Action.SKIP and entry.record:
            return self._skipped(entry.record, UNCHANGED)
        if decision.because:
            self.ledger.spend(self.fingerprint, entry.attempt, decision.because, self.run.flow_run)
            return None
        if job is None:
            return self._create(entry)
        if decision.action is Action.RECORD:
            return self._completed(job, entry, self._reason(job, entry, UNRECORDED), self._caught_up(job))
        return self._attach(job, entry)

    def _record_by_name(self) -> Record | None:
        """Return the record that a caller is content with who asks for a completed job of the task's name.

        Only while its outputs are there: whoever reads them next would not know why they are not.
        """
        if self.options.rerun != "if_incomplete" or self._revoked:
            return None
        record = self.ledger.latest()
        return record if record and self._has_outputs(record) else None

    # -- decide ----------------------------------------------------------------------------------------------------

    def _decide(self, entry: Entry) -> tuple[Decision, Job | None]:
        kept = self._kept(entry.record) if entry.record else None
        revoked = None if entry.forced_by(self.run.flow_run) else self._revoked
        decision = from_ledger(entry, kept, revoked)
        if decision.action is not Action.ASK:
            return decision, None
        job = self.jobs.describe(self.spec.kind, self._job_name(entry.attempt))
        if job is None or job.phase is not Phase.COMPLETED:
            return from_job(job, self.fingerprint, revoked), job
        if job.forced_in and job.forced_in == self.run.flow_run:
            revoked = None  # it is the forced job of this very flow run, which died before it could write that down
        lost, later = self.state.went_to_others(job), self._has_later_attempt(entry)
        return from_job(job, self.fingerprint, revoked, state_lost=lost, superseded=later), job

    def _has_later_attempt(self, entry: Entry) -> bool:
        """Whether SageMaker knows of an attempt after the current one: then the ledger has forgotten something."""
        return self.jobs.describe(self.spec.kind, self._job_name(entry.attempt + 1)) is not None

    # -- create or attach ------------------------------------------------------------------------------------------

    def _create(self, entry: Entry) -> JobResult | None:
        place = self._place(self._job_name(entry.attempt), self._rung(entry))
        asked = to_request(self.spec, place)
        self.jobs.check(self.spec.kind, asked)
        check_quotas(self.project, self.run, self.spec.task, self.spec.kind, asked)
        check_home(self.project, self.objects)
        check_are_there(self.spec.task, self.resolved.channels, self.objects)
        # Refused, if it is, before the lease is ours.
        place = replace(place, role=role_arn(self.project, asked, self.spec.secrets))
        if self.slots.take(self.spec.kind, asked):
            self._forget_inputs()  # we stood in a queue, perhaps for hours: look again
            return None
        holder = Holder(place.job, self.fingerprint, self.spec.kind)
        ready = self._prepared(entry, place, holder)
        if ready is None:
            return None
        place, why = ready
        job = self._created(to_request(self.spec, place), holder)
        if job is None:
            return None
        return self._wait(job, entry, why if job.started_by == self.run.waiter else ATTACHED)

    def _prepared(self, entry: Entry, place: JobPlace, holder: Holder) -> tuple[JobPlace, str] | None:
        """Take the state, lay out what the job will read, and say that we wait for it; return where, and why it runs.

        `None`: another run has made it meanwhile.
        """
        try:
            self.state.take(holder, self.options.on_busy, self._wait_for_state)
            if self._is_to_clean(entry):
                if self.jobs.describe(self.spec.kind, place.job):
                    return None  # made by another run while we came to the lease, which is the job's and so ours, too
                self.state.empty()
                self._cleaned = True
            self._say_what_looks_secret()
            Shipment(self.objects, self.ledger).send(self.resolved, self.source, place.bundle_uri)
            has_state = self.spec.kind.state_is_input and self.state.digest() is not None
            self._interest_in(place.job).declare()
            self.run.check(f"task {self.spec.task!r} was being prepared")
            # Why is asked before there is a job, whose record another run may write.
            return replace(place, has_state=has_state), f"ran: {self._why(entry)}"
        except (*MEANS_STOP, RunCancelled):
            unbroken(lambda: self._give_back(holder))
            raise

    def _say_what_looks_secret(self) -> None:
        """Name the files that hold secrets by their names: those of the code stay behind, those of the data travel."""
        task, left_out = self.spec.task, self.source.left_out if self.source else ()
        if left_out:
            self.run.logger.warning(
                "%s: left out of the code, since they look like secrets: %s. A line such as `!%s` in %s sends one; "
                "`secrets=` gives a job a secret without a file.",
                *(task, named(left_out), left_out[0], IGNORE_FILE),
            )
        for upload in self.resolved.uploads:
            if looking := [name for name in upload.files if looks_secret(name)]:
                self.run.logger.warning(
                    "%s: the input %r takes files along that look like secrets: %s",
                    task,
                    upload.channel,
                    named(looking),
                )

    def _give_back(self, holder: Holder) -> None:
        """Free the lease, since no job is made whose end would; unless another run makes the same job, or has."""
        others = self._interest_in(holder.job).leave()
        if not others and self.jobs.describe(self.spec.kind, holder.job) is None:
            self.state.give_back(holder)

    def _is_to_clean(self, entry: Entry) -> bool:
        """Whether the state is to be emptied: before a run's first attempt; a later one goes on from what was left."""
        return self.options.clean_state and not (self._cleaned or entry.cleaned_by(self.run.flow_run))

    def _created(self, request: dict[str, Any], holder: Holder) -> Job | None:
        """Create the job, or find it; `None`: it is not to be waited for, and the next look says what it is."""
        self._untold = True
        try:
            job = self.jobs.create(self.spec.kind, request)
        except ServiceError as refused:
            if not isinstance(refused, ServiceFault):  # which may have made the job all the same
                self.state.give_back(holder)
            raise
        self._untold = False
        if job.fingerprint != self.fingerprint:
            return None
        if not self.state.is_kept(holder):
            self._departure.stop(job, self._interest_in(job.name))
            return None
        return job

    def _attach(self, job: Job, entry: Entry) -> JobResult | None:
        self.run.tell(self.spec.task, f"attached to the job {job.name}, which is {job.status}")
        self._interest_in(job.name).adopt()
        if job.started_by != self.run.waiter:
            self.slots.give_back()  # the job has its own
        if job.phase is Phase.STOPPING:
            # Its name is taken until it is over; then the attempt is spent.
            self._attendance().until_over(job, self._interest_in(job.name))
            return None
        return self._wait(job, entry, self._reason(job, entry, ATTACHED))

    def _reason(self, job: Job, entry: Entry, otherwise: str) -> str:
        """Return why there is a result: we had the job made, or something else where it was somebody else's."""
        return f"ran: {self._why(entry)}" if job.started_by == self.run.waiter else otherwise

    def _rung(self, entry: Entry) -> Rung:
        spent = [(each.because, each.flow_run) for each in entry.spent]
        rung = rung_after(self.spec.rungs, attempts_without_capacity(spent, self.run.flow_run))
        at_risk = rung.spot and self.spec.state == "none" and not self.project.is_local  # nobody takes a laptop back
        if at_risk and self.spec.max_runtime_seconds > _LONG_FOR_SPOT:
            self.run.logger.warning(
                "%s: a spot instance may be taken back at any moment, and with state='none' there are no checkpoints: "
                "up to %.0f h of work begin anew then. Keep checkpoints in $SSM_STATE, or do without spot.",
                *(self.spec.task, self.spec.max_runtime_seconds / 3600),
            )
        return rung

    def _wait_for_state(self, holder: Holder) -> None:
        if holder.job != self._told_of:
            self.run.tell(self.spec.task, f"waiting for job {holder.job}, which writes its state")
            self._told_of = holder.job
        self.run.pause(1.0, f"task {self.spec.task!r} waited for job {holder.job}")

    # -- wait ------------------------------------------------------------------------------------------------------

    def _interest_in(self, job: str) -> Interest:
        """Return our interest in a job, which is one at a time."""
        if self._interest is None or self._interest.job != job:
            if self._interest:
                self._interest.withdraw()
            self._interest = Interest(self.objects, self.folder, job, self.run.waiter)
        return self._interest

    def _attendance(self) -> Attendance:
        metrics = MetricReader(self.spec.metrics)
        return Attendance(self.project, self.spec.task, self.run, metrics, mask=self.mask, report=self.report)

    def _wait(self, job: Job, entry: Entry, reason: str) -> JobResult | None:
        attendance = self._attendance()
        interest = self._interest_in(job.name)
        ended = attendance.until_over(job, interest)
        if ended.phase is Phase.COMPLETED:
            self._attended = (job.name, attendance)
            return self._completed(ended, entry, reason, attendance)
        if ended.phase is Phase.STOPPED and interest.stop_was_announced():
            return None  # by a run that saw nobody wait, at the moment when we came; the next attempt is ours
        error = job_error(self.project, self.spec.task, ended, attendance.lines)
        raise self._with_result(error, ended, entry, reason, attendance)

    def _caught_up(self, job: Job) -> Attendance:
        """Return what its log says of a job that is over; it is shown once, also where this step is taken anew."""
        name, attendance = self._attended or ("", self._attendance())
        if name != job.name:
            attendance.catch_up(job)
            self._attended = (job.name, attendance)
        return attendance

    def _with_result(self, error: JobError, job: Job, entry: Entry, reason: str, attendance: Attendance) -> JobError:
        """Give an error what there is of a result, where S3 tells what the job left."""
        try:
            record = self._record(job, entry, reason, attendance.metrics, attendance.unread)
            error.result = self._result(record, cached=False, reason=reason, job=job)
        except ServiceError as unread:
            self.run.logger.warning("What job %s left could not be listed: %s", job.name, unread)
        return error

    def _let_go(self) -> None:
        self.slots.give_back()
        if self._interest:
            self._interest.withdraw()

    def _leave_job(self, ended: BaseException) -> None:
        """See to the job of a run that is ended on purpose; of a create that was cut off, only its name is known."""
        if self._interest:
            kind, work, how = self.spec.kind, self.fingerprint, self.options.on_exit
            self._departure.leave(kind, self._interest, work, how, untold=self._untold)
        if self.options.on_exit == "stop" and not self.run.handed_on():
            self.run.stopped(ended)

    # -- record ----------------------------------------------------------------------------------------------------

    def _completed(self, job: Job, entry: Entry, reason: str, attendance: Attendance) -> JobResult:
        for changed in changes_meanwhile(self.spec.task, job.name, self.resolved.channels, self.objects):
            self.ledger.spend(self.fingerprint, entry.attempt, "inputs changed", self.run.flow_run)
            raise changed
        record = self._record(job, entry, reason, attendance.metrics, attendance.unread)
        self.ledger.complete(record)
        return self.report.finished(self._result(record, cached=False, reason=reason, job=job))

    def _skipped(self, record: Record, reason: str) -> JobResult:
        if record.metric_patterns != self.spec.metrics:
            # Metrics are read off the log, so asking for others is no reason to run the job again.
            done = ended_job(record.kind, record.job, record.arn)
            metrics = metrics_from_log(self.project, done, self.spec.metrics)
            record = record.model_copy(update={"metrics": metrics.last, "metric_history": metrics.history})
            if metrics.unread:
                self.run.logger.warning("The metrics of job %s could not be read: %s", record.job, metrics.unread)
            else:
                for doubt in doubts(metrics, ()):
                    self.run.logger.warning("%s", doubt)
        self.run.tell(self.spec.task, f"skipped: {reason}")
        return self.report.finished(self._result(record, cached=True, reason=f"skipped: {reason}"))

    def _result(self, record: Record, *, cached: bool, reason: str, job: Job | None = None) -> JobResult:
        task, metrics, seconds = self.spec.task, self.spec.metrics, self._clock() - self._began
        return result_of(
            record, self.project, task, metrics=metrics, cached=cached, reason=reason, seconds=seconds, job=job
        )
