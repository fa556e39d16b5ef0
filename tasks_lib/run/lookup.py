"""What S3 and SageMaker know about one call of a task, and the decision that follows from it. Read-only.

`Execution` acts on the decision; a dry run only reports it.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property

from tasks_lib.backend import Backend
from tasks_lib.jobs.capacity import InstanceChoice
from tasks_lib.jobs.fingerprint import Ingredients, differences
from tasks_lib.jobs.job import FINGERPRINT_VARIABLE, FORCED_IN_VARIABLE, STARTED_BY_VARIABLE, Job, past_job
from tasks_lib.jobs.kind import Phase
from tasks_lib.jobs.metrics import MetricReader, metric_warnings
from tasks_lib.jobs.request import outputs_of
from tasks_lib.jobs.spec import JobPlace, ResolvedChannel
from tasks_lib.ledger.records import CloseReason, Entry, Ledger, Record
from tasks_lib.ledger.state_directory import StateDirectory
from tasks_lib.prefect_runtime.run_context import RunContext
from tasks_lib.results.job_result import JobResult
from tasks_lib.run.audit_tags import audit_tags
from tasks_lib.run.decision import Action, Decision, Intact, from_job, from_ledger
from tasks_lib.run.prepare import Call
from tasks_lib.run.step import Step
from tasks_lib.run.waiter import metrics_from_log
from tasks_lib.staging.source import bundle_digest

BY_NAME = "a completed job of that name is there"
UNCHANGED = "nothing changed"
UNRECORDED = "its job had completed without a record"
ATTACHED = "attached to its running job"
"""Reasons in a result and in a plan."""

_OTHER_WORK = "written by other work"
"""Stands in a record for the state's digest, which it never equals: other work took the state before the record."""

_PLACEHOLDER_ROLE = "arn:aws:iam::000000000000:role/not-yet-known"
"""The role in a request that is only checked. The real role is looked up, or created, just before the job is."""


_MOST_CHANGES = 3  # that a reason names

CLOSE_REASONS: dict[CloseReason, str] = {
    "failed": "the previous attempt failed",
    "stopped": "the previous attempt was stopped",
    "capacity": "AWS had no capacity for the previous attempt",
    "service fault": "the previous attempt failed by a fault of SageMaker's",
    "forced": "it was asked to run in any case",
    "clean_state": "its state was cleaned",
    "outputs gone": "its outputs were changed or deleted",
    "state changed": "its state was changed by other work",
    "inputs changed": "an input had changed while it ran",
    "foreign job": "another job had taken its name",
    "superseded": "a later attempt was there",
}


class Lookup:
    """What is known about one call.

    Args:
        call: The call.
        backend: The backend where its jobs run.
        run: The run of the call.
    """

    def __init__(self, call: Call, backend: Backend, run: RunContext) -> None:
        self.call, self.backend, self.run = call, backend, run
        self.folder = backend.folder(call.spec.task)
        self.ledger = Ledger(backend.objects, self.folder)

    @cached_property
    def state(self) -> StateDirectory:
        """The task's state directory."""
        return StateDirectory(self.call.spec, self.folder, self.backend.objects, self.backend.jobs)

    @property
    def revoked(self) -> CloseReason | None:
        """Why a completed attempt does not count in this run; None if it counts."""
        if self.call.options.clean_state:
            return "clean_state"
        return "forced" if self.call.options.rerun == "always" or self.run.refresh else None

    def record_by_name(self) -> Record | None:
        """Return the task's newest record if it satisfies a call with `rerun="if_incomplete"`, else None.

        Its outputs must be unchanged. Otherwise the next step that reads them would fail without naming the cause.
        """
        if self.call.options.rerun != "if_incomplete" or self.revoked:
            return None
        record = self.ledger.latest()
        return record if record and self._has_outputs(record) else None

    def decide(self, step: Step, entry: Entry) -> tuple[Decision, Job | None]:
        """Return the decision, and the current attempt's job if SageMaker was asked and knows it."""
        kept = self._intact(entry.record) if entry.record else None
        revoked = None if entry.forced_by(self.run.flow_run) else self.revoked
        decision = from_ledger(entry, kept, revoked)
        if decision.action is not Action.ASK:
            return decision, None
        job = self._job(step, entry.attempt)
        if job is None or job.phase is not Phase.COMPLETED:
            return from_job(job, step.fingerprint, revoked), job
        if job.forced_in and job.forced_in == self.run.flow_run:
            revoked = None  # this flow run's own forced job, whose process died before it could record it
        # If SageMaker knows a later attempt, the ledger has lost entries.
        lost, later = self.state.taken_by_other_work(job), self._job(step, entry.attempt + 1) is not None
        return from_job(job, step.fingerprint, revoked, state_lost=lost, superseded=later), job

    def why(self, step: Step, entry: Entry, latest: Record | None) -> str:
        """Return why a job has to run, compared with the task's newest completed job."""
        return reason_to_run(entry, latest, self.ledger, step.ingredients, step.inputs.channels)

    def place(self, step: Step, job: str, choice: InstanceChoice | None = None) -> JobPlace:
        """Return the place of a job of this step. Its role is only a placeholder."""
        project = self.backend.project
        return JobPlace(
            job=job,
            folder=self.folder,
            role=_PLACEHOLDER_ROLE,
            channels=step.inputs.channels,
            bundle_uri=self._bundle_uri(step),
            has_state=False,
            environment={
                FINGERPRINT_VARIABLE: step.fingerprint,
                STARTED_BY_VARIABLE: self.run.waiter,
                "SSM_PROJECT": project.project,
                "SSM_TASK": step.spec.task,
                **({FORCED_IN_VARIABLE: self.run.flow_run} if self.revoked and self.run.flow_run else {}),
            },
            tags=audit_tags(project, step.spec, step.fingerprint, self.run, step.source),
            instances=choice,
        )

    def outputs(self, step: Step, job: str, left: Collection[str], *, has_state: bool) -> dict[str, str]:
        """Return the URI of each output of a job; see `outputs_of`."""
        bundle = self._bundle_uri(step)
        return outputs_of(step.spec, self.folder, job, left, bundle_uri=bundle, has_state=has_state)

    def _bundle_uri(self, step: Step) -> str | None:
        return self.backend.bundle(bundle_digest(step.source)) if step.source else None

    def record(
        self, step: Step, job: Job, entry: Entry, reason: str, *, metrics: MetricReader, unread: str | None
    ) -> Record:
        """Return the record of a job. If part of the log was not read, it has no metrics; a later skip reads them."""
        left = self.backend.objects.listing(self.folder.output(job.name))
        state, latest = self.state.digest(), self.ledger.latest()
        own_state = _OTHER_WORK if self.state.taken_by_other_work(job) else state
        return Record(
            job=job.name,
            arn=job.arn,
            created=job.created,
            kind=job.kind,
            fingerprint=step.fingerprint,
            attempt=entry.attempt,
            ingredients=step.ingredients,
            outputs=self.outputs(step, job.name, left.items.keys(), has_state=state is not None),
            output_listing=left.digest,
            state_listing=own_state,
            metrics={} if unread else metrics.last,
            metric_history={} if unread else metrics.history,
            metric_patterns={} if unread else step.spec.metrics,
            seconds=job.ended - job.created if job.ended else None,
            billable_seconds=job.billable_seconds,
            forced_in=job.forced_in or None,
            reason=self._why_it_ran(step, job, entry, reason, latest),
            previous=_previous(step, latest),
            inputs={channel.name: channel.uri for channel in step.inputs.channels},
            instance_type=job.instance_type,
            instance_count=job.instance_count,
            phases=dict(job.phases),
        )

    def with_metrics(self, record: Record) -> Record:
        """Return a record with the metrics that this call asks for.

        Metrics are read from the log, so asking for other metrics does not run the job again.
        """
        patterns = self.call.spec.metrics
        if record.metric_patterns == patterns:
            return record
        done = past_job(record.kind, record.job, record.arn)
        metrics = metrics_from_log(self.backend, done, patterns)
        if metrics.unread:
            self.run.logger.warning("The metrics of job %s could not be read: %s", record.job, metrics.unread)
        else:
            for doubt in metric_warnings(metrics, ()):
                self.run.logger.warning("%s", doubt)
        return record.model_copy(update={"metrics": metrics.last, "metric_history": metrics.history})

    def result(self, record: Record, *, cached: bool, reason: str, seconds: float, job: Job | None = None) -> JobResult:
        """Return the result of the call; see `JobResult.from_record`."""
        return JobResult.from_record(
            record,
            self.backend.project,
            self.call.spec.task,
            metrics=self.call.spec.metrics,
            cached=cached,
            reason=reason,
            seconds=seconds,
            job=job,
        )

    def _job(self, step: Step, attempt: int) -> Job | None:
        return self.backend.jobs.describe(step.spec.kind, step.job_name(attempt))

    def _intact(self, record: Record) -> Intact:
        state = record.state_listing is None or self.state.digest() == record.state_listing
        return Intact(self._has_outputs(record), state)

    def _has_outputs(self, record: Record) -> bool:
        """Return whether the outputs of a job are unchanged."""
        return self.backend.objects.listing(self.folder.output(record.job)).digest == record.output_listing

    def _why_it_ran(self, step: Step, job: Job, entry: Entry, reason: str, latest: Record | None) -> str:
        """Return the reason for a record. If a run died after writing `latest.json`, before the entry, it is there."""
        if latest and latest.job == job.name:
            return latest.reason
        return reason if reason.startswith("ran: ") else f"ran: {self.why(step, entry, latest)}"


def _previous(step: Step, latest: Record | None) -> str | None:
    """Return the fingerprint of the work that the task completed before this work; None if there was none."""
    if latest is None:
        return None
    return latest.previous if latest.fingerprint == step.fingerprint else latest.fingerprint


def reason_to_run(
    entry: Entry, latest: Record | None, ledger: Ledger, now: Ingredients, channels: tuple[ResolvedChannel, ...]
) -> str:
    """Return why a job has to run.

    Args:
        entry: The ledger's entry of the work.
        latest: The record of the task's newest completed job; None if there is none.
        ledger: The ledger, with the earlier listings of inputs.
        now: The ingredients of the work.
        channels: The inputs of the work.
    """
    if entry.closed:
        return CLOSE_REASONS[entry.closed[-1].because]
    if latest is None:
        return "first run"
    changes = [
        _with_count(change, latest.ingredients, ledger, channels) for change in differences(latest.ingredients, now)
    ]
    more = f"; and {len(changes) - _MOST_CHANGES} more" if len(changes) > _MOST_CHANGES else ""
    return ("; ".join(changes[:_MOST_CHANGES]) + more) or "it never completed"


def _with_count(change: str, before: Ingredients, ledger: Ledger, channels: tuple[ResolvedChannel, ...]) -> str:
    """Add to `input "x" changed` the number of changed objects, if both listings are known."""
    for channel in channels:
        if change == f'input "{channel.name}" changed' and channel.manifest is not None:
            digest = before.get("inputs", {}).get(channel.name, {}).get("digest")
            earlier = ledger.manifest(digest) if digest else None
            if earlier is not None:
                objects = channel.manifest.items.keys() | earlier.items.keys()
                changed = len(channel.manifest.changed(earlier))
                return f"{change} ({changed} of {len(objects)} object{'s' * (len(objects) != 1)})"
    return change
