"""One piece of work: what is to be done, where it lives in S3, and how its ledger is written. Nothing is done here.

What `execution.py` acts on and `planning/prospect.py` only looks at: inputs as they were found, the fingerprint, the
names of attempts and their places, and the record of a completed one.
"""

from __future__ import annotations

from functools import cached_property

from blocks import SageMakerProject
from tasks_lib.audit import audit_tags
from tasks_lib.aws.jobs import Jobs
from tasks_lib.aws.objects import Objects
from tasks_lib.completion import Kept
from tasks_lib.jobs.capacity import Rung
from tasks_lib.jobs.channels import Channel, TaskOutput
from tasks_lib.jobs.fingerprint import Ingredients, fingerprint, ingredients
from tasks_lib.jobs.job import FINGERPRINT_VARIABLE, FORCED_IN_VARIABLE, STARTED_BY_VARIABLE, Job
from tasks_lib.jobs.metrics import MetricReader
from tasks_lib.jobs.naming import job_name
from tasks_lib.jobs.outputs import outputs_of
from tasks_lib.jobs.s3_layout import ProjectFolder, TaskFolder
from tasks_lib.jobs.spec import JobPlace, JobSpec
from tasks_lib.ledger.records import Entry, Ledger, Record, SpentBecause
from tasks_lib.ledger.state_directory import StateDirectory
from tasks_lib.options import RunOptions
from tasks_lib.reasons import why
from tasks_lib.run_context import RunContext
from tasks_lib.shipping.bundle import Source, bundle_digest, toolkit
from tasks_lib.shipping.resolve import Resolved, Resolver

_OF_OTHERS = "written by other work"
"""In the place of a state's digest, which it never equals: other work took the state before this could be recorded."""

_NO_ROLE = "arn:aws:iam::000000000000:role/not-yet-known"
"""In a request that is only checked: a role is looked up, and perhaps made, for a job that will be."""


class Work:
    """One piece of work, as one call wants it.

    Args:
        project: Where.
        spec: What.
        source: The code; none where the image runs as it is.
        inputs: Channels by name.
        options: How the call runs.
        run: For whom.
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
    ) -> None:
        self.project, self.spec, self.source, self.inputs = project, spec, source, inputs
        self.options, self.run = options, run
        self.folder = self._folder_of(spec.task, project.project)
        self.objects = Objects(project)
        self.jobs = Jobs(project)
        self.ledger = Ledger(self.objects, self.folder)
        self.state = StateDirectory(spec, self.folder, self.objects, self.jobs)

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

    def _folder_of(self, task: str, project: str) -> TaskFolder:
        """Return the folder of a task of this or another project beside it."""
        return ProjectFolder.of(self.project.bucket, self.project.prefix, project).task(task)

    def _ledger_of(self, task: str, project: str) -> Ledger:
        return Ledger(self.objects, self._folder_of(task, project))

    @property
    def _revoked(self) -> SpentBecause | None:
        if self.options.clean_state:
            return "clean_state"
        return "forced" if self.options.rerun == "always" or self.run.refresh else None

    def _forget_inputs(self) -> None:
        for name in ("resolved", "ingredients", "fingerprint"):
            vars(self).pop(name, None)

    def _kept(self, record: Record) -> Kept:
        state = record.state_listing is None or self.state.digest() == record.state_listing
        return Kept(self._has_outputs(record), state)

    def _has_outputs(self, record: Record) -> bool:
        """Whether the outputs of a job are as it left them."""
        return self.objects.listing(self.folder.output(record.job)).digest == record.output_listing

    def _why(self, entry: Entry) -> str:
        return why(entry, self.ledger, self.ingredients, self.resolved.channels)

    def _job_name(self, attempt: int) -> str:
        return job_name(self.spec.task, self.folder.uri, self.fingerprint, attempt, limit=self.spec.kind.name_limit)

    def _place(self, job: str, rung: Rung | None = None) -> JobPlace:
        project = ProjectFolder(self.project.bucket, self.project.key_prefix)
        return JobPlace(
            job=job,
            folder=self.folder,
            role=_NO_ROLE,
            channels=self.resolved.channels,
            bundle_uri=project.bundle(bundle_digest(self.source)).uri if self.source else None,
            has_state=False,
            environment={
                FINGERPRINT_VARIABLE: self.fingerprint,
                STARTED_BY_VARIABLE: self.run.waiter,
                "SSM_PROJECT": self.project.project,
                "SSM_TASK": self.spec.task,
                **({FORCED_IN_VARIABLE: self.run.flow_run} if self._revoked and self.run.flow_run else {}),
            },
            tags=audit_tags(self.project, self.spec, self.fingerprint, self.run, self.source),
            rung=rung,
        )

    def _record(self, job: Job, entry: Entry, reason: str, metrics: MetricReader, unread: str | None) -> Record:
        """Return the record of a job; without metrics where some of its log is unread, so that a skip reads them."""
        left = self.objects.listing(self.folder.output(job.name))
        state, latest = self.state.digest(), self.ledger.latest()
        own_state = _OF_OTHERS if self.state.went_to_others(job) else state
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
            state_listing=own_state,
            metrics={} if unread else metrics.last,
            metric_history={} if unread else metrics.history,
            metric_patterns={} if unread else self.spec.metrics,
            seconds=job.ended - job.created if job.ended else None,
            billable_seconds=job.billable_seconds,
            forced_in=job.forced_in or None,
            reason=self._why_it_ran(job, entry, reason, latest),
            previous=self._previous(latest),
            inputs={channel.name: channel.uri for channel in self.resolved.channels},
            instance_type=job.instance_type,
            instance_count=job.instance_count,
            phases=dict(job.phases),
        )

    def _why_it_ran(self, job: Job, entry: Entry, reason: str, latest: Record | None) -> str:
        """Return a record's reason; `latest.json` has it already where a run died between the two writes."""
        if latest and latest.job == job.name:
            return latest.reason
        return reason if reason.startswith("ran: ") else f"ran: {self._why(entry)}"

    def _previous(self, latest: Record | None) -> str | None:
        """Return the fingerprint of the work that the task had completed before this one."""
        if latest is None:
            return None
        return latest.previous if latest.fingerprint == self.fingerprint else latest.fingerprint
