"""A flow called for its plan: its own Python runs, its tasks are looked at one after the other, Prefect hears nothing.

There is no server and no run, so Prefect's engines must not start. Prefect has a place for another task runner, which
serves `.submit`, `.map` and `.sweep` of every task by Prefect's own rules for expanding and resolving. It has none for
a direct call of a task or of a flow: both look their engine up at each call (`prefect.task_engine.run_task`,
`prefect.flow_engine.run_flow`, measured on 3.8.8 and 3.9.1), and there it is replaced as long as a plan is being made,
for the callers in a plan alone. The one module that does so.
"""

from __future__ import annotations

import concurrent.futures
import logging
import threading
import uuid
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import prefect.flow_engine
import prefect.task_engine
from prefect import Flow, Task
from prefect._internal.result_records import ResultRecord, ResultRecordMetadata
from prefect.client.schemas.objects import FlowRun, State, TaskRun
from prefect.context import FlowRunContext, TaskRunContext
from prefect.futures import PrefectConcurrentFuture
from prefect.settings import PREFECT_LOGGING_TO_API_ENABLED, temporary_settings
from prefect.states import Completed
from prefect.task_runners import TaskRunner
from prefect.utilities.asyncutils import run_coro_as_sync
from prefect.utilities.callables import call_with_parameters
from prefect.utilities.engine import resolve_inputs_sync

from tasks_lib.dry_run.dry_run import DryRun, PlannedStep
from tasks_lib.dry_run.placeholders import NotYetKnown, PlannedResult
from tasks_lib.errors import InvalidTask
from tasks_lib.prefect_runtime.run_context import RunContext, refresh_wanted
from tasks_lib.results.job_result import JobResult

_QUIET = logging.getLogger("sagemaker.plan")
_QUIET.setLevel(logging.ERROR)  # the plan says what there is to say


@dataclass
class PlanInProgress:
    """A plan in the making.

    Args:
        steps: The tasks so far, in the order of their calls.
        ends: Why not everything could be planned, a sentence each.
    """

    steps: list[PlannedStep] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    _planned: dict[str, PlannedResult] = field(default_factory=dict)

    @property
    def run(self) -> RunContext:
        """The run that a task is called in: without an API, so that nobody is told, and nothing is left in the UI."""
        flow, task = FlowRunContext.get(), TaskRunContext.get()
        return RunContext(
            flow_run=str(flow.flow_run.id) if flow and flow.flow_run else None,
            task_run=str(task.task_run.id if task else uuid.uuid4()),
            refresh=refresh_wanted(task.task.refresh_cache if task else None),
            logger=_QUIET,
        )

    def add(self, call: DryRun) -> JobResult:
        """Note what a call would do, and return its result as far as it is known."""
        step, result = call.foresee(self._planned)
        self.steps.append(step)
        if isinstance(result, PlannedResult):
            self._planned[call.folder.uri] = result
        return result

    def end(self, who: str, why: NotYetKnown) -> None:
        """Note that somebody cannot be planned any further."""
        self.ends.append(f"{who} reads {why}: what follows from it is not planned.")


_planning: ContextVar[PlanInProgress | None] = ContextVar("planning", default=None)
_lock = threading.Lock()
_in_progress = 0


def current_plan() -> PlanInProgress | None:
    """Return the plan that the caller is a part of; none in a real run."""
    return _planning.get()


def check_thread(flow_run: str | None) -> None:
    """See that a call outside of every run was not lost by a plan: in a thread of the flow's own it would be real.

    Raises:
        InvalidTask: There is a plan in the making, and the caller is in no flow run.
    """
    if _in_progress and flow_run is None:
        raise InvalidTask(
            "A task is called in a thread that knows neither a flow run nor the plan that is being made.",
            fix="start the thread's work with contextvars.copy_context().run(…), or submit the task.",
        )


@contextmanager
def planning_mode() -> Iterator[PlanInProgress]:
    """Make a plan of all that is called inside."""
    planning = PlanInProgress()
    with ExitStack() as stack:
        stack.enter_context(_engines_replaced())
        stack.enter_context(temporary_settings({PREFECT_LOGGING_TO_API_ENABLED: False}))
        token = _planning.set(planning)
        stack.callback(_planning.reset, token)
        yield planning


@contextmanager
def _engines_replaced() -> Iterator[None]:
    global _in_progress  # noqa: PLW0603 - plans of several threads share one replacement
    with _lock:
        _in_progress += 1
        if _in_progress == 1:
            prefect.task_engine.run_task = _run_task  # type: ignore[assignment]
            prefect.flow_engine.run_flow = _run_flow  # type: ignore[assignment]
    try:
        yield
    finally:
        with _lock:
            _in_progress -= 1
            if not _in_progress:
                prefect.task_engine.run_task = _real_run_task
                prefect.flow_engine.run_flow = _real_run_flow


_real_run_task: Any = prefect.task_engine.run_task
_real_run_flow: Any = prefect.flow_engine.run_flow


def _run_task(task: Task[..., Any], **call: Any) -> Any:
    if current_plan() is None:
        return _real_run_task(task, **call)
    run = _task_run(task, call.get("parameters") or {}, call.get("wait_for"))
    return _called(task, run, call.get("return_type"))


def _run_flow(flow: Flow[..., Any], **call: Any) -> Any:
    if current_plan() is None:
        return _real_run_flow(flow, **call)
    return _called(flow, flow_run(flow, call.get("parameters") or {}), call.get("return_type"))


def _called(
    called: Task[..., Any] | Flow[..., Any], run: AbstractContextManager[dict[str, Any]], return_type: str | None
) -> Any:
    """Return what the engine would: a coroutine where the function is one, a state where that is wanted."""
    give = _as_state if return_type == "state" else _as_value
    function: Any = called.fn

    async def awaited() -> Any:
        with run as parameters:
            answer: Any = call_with_parameters(function, parameters)
            return give(await answer)

    if called.isasync:
        return awaited()
    with run as parameters:
        return give(call_with_parameters(function, parameters))


@contextmanager
def flow_run(flow: Flow[..., Any] | None, parameters: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Enter a flow run that no server knows, of a flow or of a plain function; give its parameters, ready for use."""
    parameters = resolve_inputs_sync(parameters)
    if flow and flow.should_validate_parameters:
        parameters = flow.validate_parameters(parameters)
    run = FlowRun(id=uuid.uuid4(), flow_id=uuid.uuid4(), name="plan", parameters=parameters)
    runner = PlanRunner()  # type: ignore[no-untyped-call] # Prefect's constructor has no annotations
    with runner, _entered(FlowRunContext, flow=flow, flow_run=run, task_runner=runner):
        yield parameters


@contextmanager
def _task_run(task: Task[..., Any], parameters: dict[str, Any], wait_for: Any) -> Iterator[dict[str, Any]]:
    """Enter a task run that no server knows; give its parameters, resolved."""
    resolve_inputs_sync({"wait_for": wait_for})
    resolved = resolve_inputs_sync(parameters)
    flow = FlowRunContext.get()
    run = TaskRun(
        id=uuid.uuid4(),
        name=task.name,
        flow_run_id=flow.flow_run.id if flow and flow.flow_run else None,
        task_key=task.task_key,
        dynamic_key="plan",
    )
    with _entered(TaskRunContext, task=task, task_run=run, parameters=resolved):
        yield resolved


def _entered(context: Any, **fields: Any) -> AbstractContextManager[Any]:
    """Return a context of Prefect's, made without its constructor, which wants a client of a server."""
    made: AbstractContextManager[Any] = context.model_construct(persist_result=False, **fields)
    return made


class PlanRunner(TaskRunner[PrefectConcurrentFuture[Any]]):
    """Looks at each submitted task at once; what cannot be planned is told when somebody asks for its result."""

    def duplicate(self) -> PlanRunner:
        """Return another one."""
        return type(self)()

    def submit(
        self,
        task: Task[..., Any],
        parameters: dict[str, Any],
        wait_for: Iterable[Any] | None = None,
        dependencies: Any = None,  # noqa: ARG002 - for the edges of a graph that nobody draws
    ) -> PrefectConcurrentFuture[Any]:
        """Return a future that is done."""
        planning, done = current_plan(), concurrent.futures.Future[Any]()
        assert planning is not None
        known = len(planning.steps)
        try:
            state = _run_task(task, parameters=parameters, wait_for=wait_for, return_type="state")
            done.set_result(run_coro_as_sync(state) if task.isasync else state)
        except NotYetKnown as unknown:
            # That a task does not know its own result is no news, unless somebody asks for it.
            if unknown.task not in {step.task for step in planning.steps[known:]}:
                planning.end(f"The task {task.name!r}", unknown)
            done.set_exception(unknown)
        return PrefectConcurrentFuture(uuid.uuid4(), done)


def _as_value(answer: Any) -> Any:
    return answer.result(_sync=True) if isinstance(answer, State) else answer  # type: ignore[call-overload]


def _as_state(answer: Any) -> State[Any]:
    if isinstance(answer, State):
        return answer
    # As Prefect's engine does it: data without a record that are `None` would count as missing.
    metadata = ResultRecordMetadata.model_construct(storage_key="plan")
    return Completed(data=ResultRecord.model_construct(result=answer, metadata=metadata))
