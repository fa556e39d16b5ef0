"""`plan(flow)`: what a run of a flow would do, and what it could cost at most, before any job is paid for.

The flow's own Python runs, since only it knows its tasks. Each of its SageMaker tasks is decided as a real run decides
it (`dry_run.py`), including the job's name, and so are the steps that read a job that has not run.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from html import escape
from typing import Any

from prefect import Flow

from tasks_lib.dry_run.dry_run import DryRun, PlannedStep
from tasks_lib.dry_run.placeholders import PlannedResult
from tasks_lib.jobs.job import shown_cost
from tasks_lib.prefect_runtime.offline_engine import NotYetKnown, flow_run, planning_mode, run_to_its_end
from tasks_lib.results.job_result import JobResult
from tasks_lib.tables import Table


@dataclass(frozen=True)
class Plan:
    """What a run of a flow would do.

    Args:
        steps: The tasks in the order of their calls.
        ends: A sentence for each place after which the flow cannot be planned, because it reads a result of a job that
            has not run.
    """

    steps: tuple[PlannedStep, ...]
    ends: tuple[str, ...] = ()

    @property
    def at_most(self) -> float | None:
        """The highest possible cost of all new jobs with one attempt each; None if a price is unknown."""
        costs = [step.at_most for step in self.steps]
        return None if None in costs else sum(cost for cost in costs if cost is not None)

    @property
    def table(self) -> Table:
        """The steps as a table."""
        rows = [
            (
                step.task,
                step.action,
                step.why,
                step.job,
                f"{step.instance_count} x {step.instance_type}" if step.instance_type else "",
                shown_cost(step.at_most) if step.action == "run" else None,
            )
            for step in self.steps
        ]
        return Table(("task", "action", "why", "job", "instance", "at most"), tuple(rows), self.summary)

    @property
    def summary(self) -> str:
        """The number of tasks by action, and the highest possible cost, in one line."""
        count = {action: sum(step.action == action for step in self.steps) for action in ("run", "attach", "skip")}
        parts = [f"{count['run']} to run", *([f"{count['attach']} to attach to"] if count["attach"] else [])]
        return f"{', '.join(parts)}, {count['skip']} skipped; at most {shown_cost(self.at_most)}"

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as one JSON value."""
        return {"steps": self.to_dicts(), "at_most": self.at_most, "ends": list(self.ends)}

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return the steps as plain values; `at_most` is None if the price is unknown."""
        return [asdict(step) for step in self.steps]

    def __str__(self) -> str:
        return "\n".join([str(self.table), *self.ends])

    def _repr_html_(self) -> str:
        return "".join([self.table._repr_html_(), *(f"<p>{escape(end)}</p>" for end in self.ends)])


@dataclass
class PlanBuilder:
    """A plan that is being made.

    Args:
        steps: The planned tasks so far, in the order of their calls.
        ends: A sentence for each place that could not be planned further.
    """

    steps: list[PlannedStep] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    _planned: dict[str, PlannedResult] = field(default_factory=dict)

    def add(self, call: DryRun) -> JobResult:
        """Plan a call, and return its result as far as it is known."""
        step, result = call.plan_call(self._planned)
        self.steps.append(step)
        if isinstance(result, PlannedResult):
            self._planned[call.folder.uri] = result
        return result

    def end(self, who: str, why: NotYetKnown) -> None:
        """Note that a task or the flow cannot be planned further."""
        self.ends.append(f"{who} reads {why}: what follows from it is not planned.")


def plan(flow: Flow[..., Any] | Callable[..., Any], *args: Any, **kwargs: Any) -> Plan:
    """Return what a run of a flow with these arguments would do. No job is created, and nothing is written to S3.

    A Prefect server is not needed, unless the flow itself uses it, for example to load a saved block. Plain Prefect
    tasks, and other flows that the flow calls, run as plain Python functions: with all their effects, but without
    retries, caching or timeouts. The cost is that of one attempt of each job for its longest run, at `hourly_prices`
    without the discount of spot instances.

    Args:
        flow: The flow, or any function that calls tasks.
        *args: Positional arguments of the flow.
        **kwargs: Keyword arguments of the flow.

    Raises:
        InvalidTask: A real run would refuse a task.
        ServiceError: A call to S3 or SageMaker failed.
    """
    # The replaced engine enters a flow run for a flow; for a plain function it is entered here.
    surroundings: AbstractContextManager[Any] = nullcontext() if isinstance(flow, Flow) else flow_run(None, {})
    planning = PlanBuilder()
    with planning_mode(planning):
        try:
            with surroundings:
                answer = flow(*args, **kwargs)
                if inspect.iscoroutine(answer):
                    run_to_its_end(answer)
        except NotYetKnown as unknown:
            planning.end("The flow", unknown)
    return Plan(tuple(planning.steps), tuple(dict.fromkeys(planning.ends)))
