"""What a call of a task would do, found by the very decision of the real one (`execution.py`), and nothing done.

It reads S3 and SageMaker as the call would. What the call would write is only thought: a spent attempt, a record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from tasks_lib.attendance import metrics_from_log
from tasks_lib.completion import Action
from tasks_lib.execution import ATTACHED, BY_NAME, UNCHANGED, UNRECORDED, Execution
from tasks_lib.flow_calls import check_call
from tasks_lib.jobs.channels import Channel, TaskOutput
from tasks_lib.jobs.cost import cost_of
from tasks_lib.jobs.job import instances_of
from tasks_lib.jobs.outputs import outputs_of
from tasks_lib.jobs.request import to_request
from tasks_lib.jobs.status import Phase
from tasks_lib.ledger.records import Entry, Record
from tasks_lib.planning.planned import NotYetKnown, PlannedOutputs, PlannedResult
from tasks_lib.results import JobResult
from tasks_lib.shipping.inputs import check_are_there

PlanAction = Literal["skip", "attach", "run"]


@dataclass(frozen=True)
class Step:
    """One task of a plan.

    Args:
        task: The task's name.
        action: `skip`, `attach` to its running job, or `run` a new one.
        why: The reason.
        job: The job's name.
        instance_type: What the job runs on.
        instance_count: On how many hosts.
        at_most: The highest possible cost of a new job, by the project's `hourly_prices`: price x hosts x longest run.
            0 where no job is made, none where the price is unknown.
    """

    task: str
    action: PlanAction
    why: str
    job: str
    instance_type: str
    instance_count: int
    at_most: float | None


class Prospect(Execution):
    """One call of a task, as a plan sees it."""

    def foresee(self, planned: Mapping[str, PlannedResult]) -> tuple[Step, JobResult]:
        """Return what the call would do, and its result as far as it is known.

        Args:
            planned: Results of the jobs that have not ended, by the URI of the task's folder.

        Raises:
            NotYetKnown: It depends on more of such a job than its name.
            InvalidTask: The call would be refused.
        """
        if record := self._record_by_name():
            return self._skip(record, BY_NAME)
        to_come = self._put_planned_results_in(planned)
        check_call(self.run, self.folder.uri, self.ingredients)
        if (before := planned.get(self.folder.uri)) and before.fingerprint == self.fingerprint:
            return self._step_of(before.job, "attach", "the same work is called before"), before
        return self._foresee(to_come)

    def _foresee(self, to_come: set[str]) -> tuple[Step, JobResult]:
        entry = self.ledger.entry(self.fingerprint)
        decision, job = self._decide(entry)
        if decision.action is Action.SKIP and entry.record:
            return self._skip(entry.record, UNCHANGED)
        while decision.because or (job and job.phase is Phase.STOPPING):
            entry = entry.spend(decision.because or "stopped")
            decision, job = self._decide(entry)
        if job is None:
            return self._run(entry, to_come)
        if decision.action is Action.RECORD:
            metrics = metrics_from_log(self.project, job, self.spec.metrics)
            return self._skip(self._record(job, entry, UNRECORDED, metrics, metrics.unread), UNRECORDED)
        return self._step_of(job.name, "attach", ATTACHED), self._planned(job.name, job.arn, ATTACHED)

    def _skip(self, record: Record, why: str) -> tuple[Step, JobResult]:
        count = record.instance_count or self.spec.instance_count
        step = Step(self.spec.task, "skip", why, record.job, record.instance_type, count, 0.0)
        return step, self._skipped(record, why)

    def _run(self, entry: Entry, to_come: set[str]) -> tuple[Step, JobResult]:
        job = self._job_name(entry.attempt)
        request = to_request(self.spec, self._place(job))
        self.jobs.check(self.spec.kind, request)
        check_are_there(self.spec.task, self.resolved.channels, self.objects, to_come=to_come)
        why = self._why(entry)
        return self._step_of(job, "run", why), self._planned(job, "", f"would run: {why}")

    def _step_of(self, job: str, action: PlanAction, why: str) -> Step:
        request = to_request(self.spec, self._place(job))  # with `overrides`: what counts is what SageMaker is told
        cluster = self.spec.kind.cluster(request)
        type_, count = instances_of((cluster.get("InstancePreferences") or [cluster])[0])
        at_most = self._at_most(cluster, request["StoppingCondition"]["MaxRuntimeInSeconds"])
        return Step(self.spec.task, action, why, job, type_, count or 0, at_most if action == "run" else 0.0)

    def _at_most(self, cluster: Mapping[str, Any], seconds: float) -> float | None:
        """Return the cost of all groups, or the highest among types to choose from; none where a price is unknown."""
        prices, groups = self.project.hourly_prices, cluster.get("InstanceGroups")
        hosts = groups or cluster.get("InstancePreferences") or [cluster]
        costs = [
            cost_of(prices.get(one.get("InstanceType", "")), one.get("InstanceCount", 0), seconds) for one in hosts
        ]
        known = [cost for cost in costs if cost is not None]
        if len(known) < len(costs):
            return None
        return sum(known) if groups else max(known)

    def _planned(self, job: str, arn: str, reason: str) -> PlannedResult:
        place = self._place(job)
        outputs = outputs_of(
            self.spec, place, self.spec.kind.outputs_possible(self.spec), has_state=self.spec.state == "task"
        )
        result = PlannedResult(
            project=self.project.project,
            task=self.spec.task,
            job=job,
            arn=arn,
            kind=self.spec.kind.name,
            cached=False,
            reason=reason,
            seconds=0.0,
            fingerprint=self.fingerprint,
            instance_type=self.spec.instance_types[0],
            instance_count=self.spec.instance_count,
            inputs={channel.name: channel.uri for channel in self.resolved.channels},
        )
        # Not among the arguments: pydantic would make a plain dict of it.
        object.__setattr__(result, "outputs", PlannedOutputs(self.spec.task, outputs))
        result.bound(self.project, self.ingredients)
        return result

    def _put_planned_results_in(self, planned: Mapping[str, PlannedResult]) -> set[str]:
        """Let inputs that name a planned task by its name or by a URI read from its job to come; return all of those.

        By then its ledger and its folder will say what they do not say now.
        """
        for name, wanted in self.inputs.items():
            if isinstance(wanted, TaskOutput) and isinstance(wanted.source, str):
                result = planned.get(self._folder_of(wanted.source, wanted.project or self.project.project).uri)
                if result:
                    self.inputs = {**self.inputs, name: replace(wanted, source=result, project=None)}
            elif isinstance(wanted, Channel) and wanted.is_s3:
                _check_is_there(str(wanted.source), planned)
        return {
            name
            for name, wanted in self.inputs.items()
            if isinstance(wanted, TaskOutput) and isinstance(wanted.source, PlannedResult)
        }


def _check_is_there(uri: str, planned: Mapping[str, PlannedResult]) -> None:
    for folder, result in planned.items():
        if f"{uri.rstrip('/')}/".startswith(f"{folder}{result.job}/"):
            raise NotYetKnown(result.task, "output")
