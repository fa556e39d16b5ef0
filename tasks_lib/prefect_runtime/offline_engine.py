"""The engine of a dry run: the flow's own Python runs, and each of its tasks is planned and not executed.

Prefect's engines must not start, since there is no server and no run. For `.submit`, `.map` and `.sweep`, Prefect
accepts another task runner, and expands and resolves arguments by its own rules. For a direct call of a task or a flow
it accepts no other engine, so `_engines_replaced` replaces `run_task` and `run_flow`. No other module replaces code of
Prefect's.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
import uuid
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

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

from tasks_lib.errors import InvalidTask
from tasks_lib.prefect_runtime.run_context import RunContext, refresh_wanted

if TYPE_CHECKING:  # a dry run relies on this room
    from tasks_lib.dry_run.plan import PlanBuilder

_QUIET = logging.getLogger("sagemaker.plan")
_QUIET.setLevel(logging.ERROR)  # the plan itself has all information


class NotYetKnown(BaseException):
    """A plan needs something that is not known before a job has run.

    It is not an `Exception`, since a flow that catches those would continue in its `except` and be planned wrongly.

    Args:
        task: The task that has not run.
        what: What is not known, for the message.
    """

    def __init__(self, task: str, what: str) -> None:
        super().__init__(f"the {what} of {task}, which has not run")
        self.task = task


_planning: ContextVar[PlanBuilder | None] = ContextVar("planning", default=None)
_lock = threading.Lock()
_in_progress = 0


def current_plan() -> PlanBuilder | None:
    """Return the plan of the calling context; None in a real run."""
    return _planning.get()


def check_thread(flow_run: str | None) -> None:
    """Refuse a call outside of every flow run while a plan is being made.

    A thread that a planned flow starts itself does not inherit the plan, so its calls would create real jobs.

    Raises:
        InvalidTask: A plan is being made, and the caller is in no flow run.
    """
    if _in_progress and flow_run is None:
        raise InvalidTask(
            "A task is called in a thread that knows neither a flow run nor the plan that is being made.",
            fix="start the thread's work with contextvars.copy_context().run(…), or submit the task.",
        )


@contextmanager
def planning_mode(planning: PlanBuilder) -> Iterator[None]:
    """Plan every task and flow that is called in this context."""
    with ExitStack() as stack:
        stack.enter_context(_engines_replaced())
        stack.enter_context(temporary_settings({PREFECT_LOGGING_TO_API_ENABLED: False}))
        token = _planning.set(planning)
        stack.callback(_planning.reset, token)
        yield


def offline_run() -> RunContext:
    """Return the run that a task is called in, without an API client, so that nothing is written to Prefect."""
    flow, task = FlowRunContext.get(), TaskRunContext.get()
    return RunContext(
        flow_run=str(flow.flow_run.id) if flow and flow.flow_run else None,
        task_run=str(task.task_run.id if task else uuid.uuid4()),
        refresh=refresh_wanted(task.task.refresh_cache if task else None),
        logger=_QUIET,
    )


@contextmanager
def _engines_replaced() -> Iterator[None]:
    # Tasks and flows look these functions up at each direct call (measured on 3.8.8 and 3.9.1). The replacements plan
    # calls in a plan only, and pass all others to the real engines.
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
    """Return what the engine would: a coroutine if the function is one, and a state if `return_type` asks for it."""
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
    """Enter a flow run without a server, for a flow or a plain function; yield its resolved, validated parameters."""
    parameters = resolve_inputs_sync(parameters)
    if flow and flow.should_validate_parameters:
        parameters = flow.validate_parameters(parameters)
    run = FlowRun(id=uuid.uuid4(), flow_id=uuid.uuid4(), name="plan", parameters=parameters)
    runner = PlanRunner()  # type: ignore[no-untyped-call] # Prefect's constructor has no annotations
    with runner, _entered(FlowRunContext, flow=flow, flow_run=run, task_runner=runner):
        yield parameters


@contextmanager
def _task_run(task: Task[..., Any], parameters: dict[str, Any], wait_for: Any) -> Iterator[dict[str, Any]]:
    """Enter a task run without a server; yield its resolved parameters."""
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
    """Return a Prefect context, made without its constructor, which needs a client of a server."""
    made: AbstractContextManager[Any] = context.model_construct(persist_result=False, **fields)
    return made


class PlanRunner(TaskRunner[PrefectConcurrentFuture[Any]]):
    """A task runner that plans each submitted task at once; the future of one that it cannot plan raises the error."""

    def duplicate(self) -> PlanRunner:
        """Return a new runner."""
        return type(self)()

    def submit(
        self,
        task: Task[..., Any],
        parameters: dict[str, Any],
        wait_for: Iterable[Any] | None = None,
        dependencies: Any = None,  # noqa: ARG002 - for the edges of a graph, which a plan does not draw
    ) -> PrefectConcurrentFuture[Any]:
        """Plan a task and return a future that is done."""
        planning, done = current_plan(), concurrent.futures.Future[Any]()
        assert planning is not None
        known = len(planning.steps)
        try:
            state = _run_task(task, parameters=parameters, wait_for=wait_for, return_type="state")
            done.set_result(run_coro_as_sync(state) if task.isasync else state)
        except NotYetKnown as unknown:
            # If only the task's own result is not known yet, the plan goes on until a caller reads that result.
            if unknown.task not in {step.task for step in planning.steps[known:]}:
                planning.end(f"The task {task.name!r}", unknown)
            done.set_exception(unknown)
        return PrefectConcurrentFuture(uuid.uuid4(), done)


def _as_value(answer: Any) -> Any:
    return answer.result(_sync=True) if isinstance(answer, State) else answer  # type: ignore[call-overload]


def _as_state(answer: Any) -> State[Any]:
    if isinstance(answer, State):
        return answer
    # A record, as Prefect's engine makes it: a state with the plain data None would count as one without a result.
    metadata = ResultRecordMetadata.model_construct(storage_key="plan")
    return Completed(data=ResultRecord.model_construct(result=answer, metadata=metadata))


def run_to_its_end(coroutine: Any) -> None:
    """Run an async flow, also if an event loop is running already, as in a notebook or an async function."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(coroutine)
    else:
        run_coro_as_sync(coroutine)
