"""`plan(flow)`: what a run of a flow would do, and what it could cost at most, before any job is paid for.

The flow's own Python runs, since only it knows its tasks. Each of its SageMaker tasks is decided as a real run decides
it (`dry_run.py`), including the job's name, and so are the steps that read a job that has not run.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

from prefect import Flow
from prefect.utilities.asyncutils import run_coro_as_sync

from tasks_lib.dry_run.dry_run import PlannedStep
from tasks_lib.dry_run.engine import flow_run, planning_mode
from tasks_lib.dry_run.placeholders import NotYetKnown
from tasks_lib.jobs.job import shown_cost
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
    with planning_mode() as planning:
        try:
            with surroundings:
                answer = flow(*args, **kwargs)
                if inspect.iscoroutine(answer):
                    _run_to_its_end(answer)
        except NotYetKnown as unknown:
            planning.end("The flow", unknown)
    return Plan(tuple(planning.steps), tuple(dict.fromkeys(planning.ends)))


def _run_to_its_end(coroutine: Any) -> None:
    """Run an async flow, also if an event loop is running already, as in a notebook or an async function."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(coroutine)
    else:
        run_coro_as_sync(coroutine)
