"""The dry run of one call of a task: the decision of a real call, without its actions.

It reads S3 and SageMaker as the call would. What the call would write to the ledger, a closed attempt or a record, is
kept in memory only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from tasks_lib.backend import Backend
from tasks_lib.dry_run.placeholders import PlannedOutputs, PlannedResult
from tasks_lib.jobs.channels import Channel, TaskOutput
from tasks_lib.jobs.job import cost_of, instances_of
from tasks_lib.jobs.kind import Phase
from tasks_lib.jobs.request import to_request
from tasks_lib.jobs.s3_layout import TaskFolder
from tasks_lib.ledger.records import Entry, Record
from tasks_lib.prefect_runtime.offline_engine import NotYetKnown
from tasks_lib.prefect_runtime.run_context import RunContext
from tasks_lib.results.job_result import JobResult
from tasks_lib.run.decision import Action
from tasks_lib.run.lookup import ATTACHED, BY_NAME, UNCHANGED, UNRECORDED, Lookup
from tasks_lib.run.prepare import Call
from tasks_lib.run.step import Step, check_call, resolve
from tasks_lib.run.waiter import metrics_from_log
from tasks_lib.staging.inputs import check_inputs_exist

PlanAction = Literal["skip", "attach", "run"]


@dataclass(frozen=True)
class PlannedStep:
    """One task of a plan.

    Args:
        task: The task's name.
        action: `skip`, `attach` to its running job, or `run` a new one.
        why: The reason.
        job: The job's name.
        instance_type: The job's instance type.
        instance_count: Number of hosts.
        at_most: Highest possible cost of a new job by the project's `hourly_prices`: price x hosts x longest run. 0 if
            no job is created; None if the price is unknown.
    """

    task: str
    action: PlanAction
    why: str
    job: str
    instance_type: str
    instance_count: int
    at_most: float | None


class DryRun:
    """The dry run of one call of a task.

    Args:
        call: The call.
        backend: The backend where its job would run.
        run: The run of the plan.
    """

    def __init__(self, call: Call, backend: Backend, run: RunContext) -> None:
        self._call, self._backend, self._run = call, backend, run
        self._lookup = Lookup(call, backend, run)

    @property
    def folder(self) -> TaskFolder:
        """The task's folder in S3."""
        return self._lookup.folder

    def plan_call(self, planned: Mapping[str, PlannedResult]) -> tuple[PlannedStep, JobResult]:
        """Return what the call would do, and its result as far as it is known.

        Args:
            planned: The results of jobs that have not ended, by the URI of the task's folder.

        Raises:
            NotYetKnown: The call depends on something of such a job that is not known before the job has run.
            InvalidTask: A real call would be refused.
        """
        if record := self._lookup.record_by_name():
            return self._skip(record, BY_NAME)
        inputs, to_come = self._with_planned_results(planned)
        step = resolve(replace(self._call, inputs=inputs), self._backend)
        check_call(self._run, step.folder.uri, step.ingredients)
        if (before := planned.get(step.folder.uri)) and before.fingerprint == step.fingerprint:
            request = self._request(step, before.job)
            return self._planned_step(step, request, "attach", "the same work is called before"), before
        return self._plan_step(step, to_come)

    def _plan_step(self, step: Step, to_come: set[str]) -> tuple[PlannedStep, JobResult]:
        entry = self._lookup.ledger.entry(step.fingerprint)
        decision, job = self._lookup.decide(step, entry)
        if decision.action is Action.SKIP and entry.record:
            return self._skip(entry.record, UNCHANGED)
        while decision.because or (job and job.phase is Phase.STOPPING):
            entry = entry.close(decision.because or "stopped")
            decision, job = self._lookup.decide(step, entry)
        if job is None:
            return self._start(step, entry, to_come)
        if decision.action is Action.RECORD:
            metrics = metrics_from_log(self._backend, job, step.spec.metrics)
            record = self._lookup.record(step, job, entry, UNRECORDED, metrics=metrics, unread=metrics.unread)
            return self._skip(record, UNRECORDED)
        planned = self._planned_step(step, self._request(step, job.name), "attach", ATTACHED)
        return planned, self._result(step, job.name, job.arn, ATTACHED)

    def _skip(self, record: Record, why: str) -> tuple[PlannedStep, JobResult]:
        count = record.instance_count or self._call.spec.instance_count
        step = PlannedStep(self._call.spec.task, "skip", why, record.job, record.instance_type, count, 0.0)
        record = self._lookup.with_metrics(record)
        return step, self._lookup.result(record, cached=True, reason=f"skipped: {why}", seconds=0.0)

    def _start(self, step: Step, entry: Entry, to_come: set[str]) -> tuple[PlannedStep, JobResult]:
        job = step.job_name(entry.attempt)
        request = self._request(step, job)
        self._backend.jobs.check(step.spec.kind, request)
        check_inputs_exist(step.spec.task, step.inputs.channels, self._backend.objects, to_come=to_come)
        why = self._lookup.why(step, entry, self._lookup.ledger.latest())
        return self._planned_step(step, request, "run", why), self._result(step, job, "", f"would run: {why}")

    def _request(self, step: Step, job: str) -> dict[str, Any]:
        return to_request(step.spec, self._lookup.place(step, job))

    def _planned_step(self, step: Step, request: Mapping[str, Any], action: PlanAction, why: str) -> PlannedStep:
        # The instances are those of the request, which includes `overrides`.
        kind, job = step.spec.kind, request[step.spec.kind.api.name]
        cluster = kind.cluster(request)
        type_, count = instances_of((cluster.get("InstancePreferences") or [cluster])[0])
        at_most = self._at_most(cluster, step.spec.max_runtime_seconds)
        return PlannedStep(step.spec.task, action, why, job, type_, count or 0, at_most if action == "run" else 0.0)

    def _at_most(self, cluster: Mapping[str, Any], seconds: float) -> float | None:
        """Return the cost of all instance groups, or of the most expensive preference; None if a price is unknown."""
        prices, groups = self._backend.project.hourly_prices, cluster.get("InstanceGroups")
        hosts = groups or cluster.get("InstancePreferences") or [cluster]
        costs = [
            cost_of(prices.get(one.get("InstanceType", "")), one.get("InstanceCount", 0), seconds) for one in hosts
        ]
        known = [cost for cost in costs if cost is not None]
        if len(known) < len(costs):
            return None
        return sum(known) if groups else max(known)

    def _result(self, step: Step, job: str, arn: str, reason: str) -> PlannedResult:
        spec, possible = step.spec, step.spec.kind.possible_objects(step.spec)
        outputs = self._lookup.outputs(step, job, possible, has_state=spec.state == "task")
        result = PlannedResult(
            project=self._backend.project.project,
            task=spec.task,
            job=job,
            arn=arn,
            kind=spec.kind.name,
            cached=False,
            reason=reason,
            seconds=0.0,
            fingerprint=step.fingerprint,
            instance_type=spec.instance_types[0],
            instance_count=spec.instance_count,
            inputs={channel.name: channel.uri for channel in step.inputs.channels},
        )
        # Set afterwards, since pydantic would copy an argument into a plain dict.
        object.__setattr__(result, "outputs", PlannedOutputs(spec.task, outputs))
        result.bound(self._backend.project, step.ingredients)
        return result

    def _with_planned_results(
        self, planned: Mapping[str, PlannedResult]
    ) -> tuple[dict[str, Channel | TaskOutput], set[str]]:
        """Return the inputs, with planned results for task names, and the names of inputs that do not exist yet.

        The name of a planned task is replaced because the task's ledger has no record of that job yet.

        Raises:
            NotYetKnown: An S3 URI is below the output of a job that has not run.
        """
        inputs = dict(self._call.inputs)
        for name, wanted in self._call.inputs.items():
            if isinstance(wanted, TaskOutput) and isinstance(wanted.source, str):
                result = planned.get(self._backend.folder(wanted.source, wanted.project).uri)
                if result:
                    inputs[name] = replace(wanted, source=result, project=None)
            elif isinstance(wanted, Channel) and wanted.is_s3:
                _check_is_there(str(wanted.source), planned)
        to_come = {
            name
            for name, wanted in inputs.items()
            if isinstance(wanted, TaskOutput) and isinstance(wanted.source, PlannedResult)
        }
        return inputs, to_come


def _check_is_there(uri: str, planned: Mapping[str, PlannedResult]) -> None:
    for folder, result in planned.items():
        if f"{uri.rstrip('/')}/".startswith(f"{folder}{result.job}/"):
            raise NotYetKnown(result.task, "output")
