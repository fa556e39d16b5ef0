"""Each private part and undocumented behaviour of Prefect that the source uses, with a test that names it.

A test checks the installed Prefect without a server. Its row is the decorator above it (`prefect_parts.py`). All rows
form the table of `docs/decisions/0013-private-parts-of-prefect.md`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import functools
import json
import logging
import sys
import threading
import time
import typing
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from copy import copy
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pkgutil import resolve_name
from typing import Any

import anyio
import prefect
import prefect.settings as prefect_settings
import pytest
import yaml
from prefect import Task, flow, task
from prefect.blocks.core import Block
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import FlowRun, TaskRun
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import CancelledRun, MissingResult, UnfinishedRun, UpstreamTaskError
from prefect.futures import PrefectConcurrentFuture, PrefectFuture
from prefect.settings import temporary_settings
from prefect.states import Cancelled, Completed, Failed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from prefect_double import PrefectDouble, played_prefect
from prefect_parts import HELD_ELSEWHERE, ROWS, Row, holds, is_of_part
from private_uses import CHECKOUT, private_names_of_bases, private_uses, sources
from pydantic import ValidationError

from tasks_lib import output_of
from tasks_lib.prefect_runtime.server_watch import release_exit

LONG_SECONDS = 30


@pytest.fixture
def api() -> Iterator[PrefectDouble]:
    """Prefect's API, as a double in this process."""
    with played_prefect() as played:
        yield played


# -- the current run ---------------------------------------------------------------------------------------------------


@holds(
    "prefect._internal.control_listener.get_intent",
    where="tasks_lib/prefect_runtime/run_context.py",
    what_for="to tell a cancel by Prefect from a signal from outside, and a run that goes on elsewhere",
)
def test_get_intent():
    """There is no intent without a cancellation, and the intents have the known names."""
    get_intent = resolve_name("prefect._internal.control_listener.get_intent")
    returned = typing.get_args(typing.get_type_hints(get_intent)["return"])

    assert get_intent() is None
    assert {"cancel", "reschedule", "relinquish"} == {name for each in returned for name in typing.get_args(each)}


@holds(
    "prefect.context.ContextModel._token",
    where="tasks_lib/prefect_runtime/run_context.py",
    what_for="to find the flow runs around a flow run",
)
def test_context_token():
    """The token of a flow run's context has the context around it, or `MISSING` in the outermost flow."""
    flow_run = FlowRunContext.model_construct
    with flow_run() as outer, flow_run() as inner:
        assert FlowRunContext.get() is inner
        assert inner._token.old_value is outer
        assert outer._token.old_value is contextvars.Token.MISSING


@dataclass(frozen=True)
class Seen:
    """What a submitted task saw when its flow ended.

    Args:
        was_set_before: Whether its event was set while the flow ran.
        events: All events of the task runner.
        closing_threads: The threads that close the runner.
        handled: The exceptions that these threads handle.
    """

    was_set_before: bool
    events: list[threading.Event]
    closing_threads: list[int]
    handled: list[BaseException | None]


def _end_of_a_flow(error: BaseException | None) -> Seen:
    """Run a flow that raises an error or returns, while a submitted task observes its end."""
    started = threading.Event()
    looks: list[PrefectFuture[Seen]] = []

    @task(cache_policy=NO_CACHE, persist_result=False)
    def look() -> Seen:
        runner = FlowRunContext.get().task_runner
        try:
            event = runner._cancel_events[TaskRunContext.get().task_run.id]
            before = event.is_set()
        finally:
            started.set()
        assert event.wait(LONG_SECONDS), "the event was not set when the flow ended"
        closing = [thread for thread, frame in sys._current_frames().items() if _is_closing(frame, runner)]
        handled = [_error(sys._current_exceptions().get(thread)) for thread in closing]
        return Seen(before, [*runner._cancel_events.values()], closing, handled)

    @flow(persist_result=False)
    def ending() -> None:
        looks.append(look.submit())
        looks[0].add_done_callback(lambda _: started.set())  # also if Prefect fails before the task starts
        _of_task(lambda: None).submit()
        assert started.wait(LONG_SECONDS)
        if error:
            raise error

    with pytest.raises(type(error)) if error else nullcontext():
        ending()
    return looks[0].result()


def _is_closing(frame: Any, runner: Any) -> bool:
    while frame:
        if frame.f_code is ThreadPoolTaskRunner.cancel_all.__code__ and frame.f_locals.get("self") is runner:
            return True
        frame = frame.f_back
    return False


def _error(handled: Any) -> BaseException | None:
    return handled[1] if isinstance(handled, tuple) else handled  # a triple before Python 3.12


@holds(
    "prefect.task_runners.ThreadPoolTaskRunner._cancel_events",
    where="tasks_lib/prefect_runtime/run_context.py",
    what_for="to tell a submitted task that its flow run is going down",
)
def test_cancel_events(api):
    """The runner has an event for each submitted task, by the task run's id, and sets all of them when it closes."""
    seen = _end_of_a_flow(ValueError("the flow fails"))

    assert not seen.was_set_before
    assert [event.is_set() for event in seen.events] == [True, True]


@holds(
    "prefect.task_runners.ThreadPoolTaskRunner.cancel_all.__code__",
    where="tasks_lib/prefect_runtime/run_context.py",
    what_for="to find the thread that closes a task runner",
)
def test_cancel_all_waits_in_the_flows_thread(api):
    """`cancel_all` is on the stack of the flow's thread, with the runner as `self`, until the tasks have ended."""
    assert _end_of_a_flow(ValueError("the flow fails")).closing_threads == [threading.get_ident()]


@holds(
    "The engine closes the task runner while it handles what ended the flow",
    where="tasks_lib/prefect_runtime/run_context.py",
    what_for="to tell a flow run that is ended from one that returns or fails",
    named=False,
)
@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("the flow fails"), None])
def test_closing_thread_handles_the_error(api, error):
    """The thread that closes the runner handles the flow's exception, or none if the flow returns."""
    assert _end_of_a_flow(error).handled == [error]


@holds(
    "prefect.utilities.timeout",
    where="tasks_lib/prefect_runtime/cancelled_state.py tasks_lib/prefect_runtime/run_context.py",
    what_for="to stop the job of a task or a flow whose time is over",
    named=False,
)
@pytest.mark.parametrize("in_thread", [False, True])
def test_timeout_of_synchronous_code(in_thread):
    """A timeout raises `CancelledError` inside its block and `TimeoutError` outside."""
    timeout = resolve_name("prefect.utilities.timeout.timeout")
    inside: list[BaseException] = []

    def wait() -> None:
        try:
            until = time.monotonic() + LONG_SECONDS
            while time.monotonic() < until:
                time.sleep(0.01)
        except BaseException as error:
            inside.append(error)
            raise

    def out_of_time() -> None:
        with pytest.raises(TimeoutError), timeout(seconds=0.05):
            wait()

    if in_thread:
        with concurrent.futures.ThreadPoolExecutor(1) as threads:
            threads.submit(out_of_time).result(LONG_SECONDS)
    else:
        out_of_time()

    assert [isinstance(error, asyncio.CancelledError) for error in inside] == [True]


@holds(
    "prefect.utilities.timeout",
    where="tasks_lib/prefect_runtime/run_context.py",
    what_for="to notice the timeout of an asynchronous flow whose loop our task blocks",
    named=False,
)
def test_timeout_of_asynchronous_code():
    """The end of an asynchronous timeout is anyio's effective deadline."""
    timeout = resolve_name("prefect.utilities.timeout.timeout_async")

    async def left() -> float:
        with timeout(seconds=3600):
            return anyio.current_effective_deadline() - anyio.current_time()

    assert 0 < asyncio.run(left()) <= 3600


# -- the final state of a flow run -------------------------------------------------------------------------------------


@holds(
    "prefect.flows.Flow.on_crashed_hooks",
    where="tasks_lib/prefect_runtime/cancelled_state.py",
    what_for="to write `Cancelled` after the `Crashed` of a run that a signal ended",
    named=False,
)
def test_crashed_hook_that_is_added_late(api):
    """A hook added during the run is called after `Crashed` was forced, while the engine handles the signal."""
    seen = []

    @flow(persist_result=False)
    def ended() -> None:
        FlowRunContext.get().flow.on_crashed_hooks.append(
            lambda flow, run, state: seen.append((state.name, type(sys.exc_info()[1]), api.written[-1]))
        )
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ended()

    assert seen == [("Crashed", KeyboardInterrupt, ("Crashed", True))]
    assert api.written == [("Running", False), ("Crashed", True)]


@holds(
    "prefect.flows.Flow.on_failure_hooks",
    where="tasks_lib/prefect_runtime/cancelled_state.py",
    what_for="to write `Cancelled` after the `Failed` of a run that fails by a cancelled one",
    named=False,
)
def test_failure_hook_that_is_added_late(api):
    """A hook added during the run is called while the engine handles the error.

    The state that it sets on the run is the final one.
    """
    seen = []

    def cancelled(flow, run, state) -> None:
        seen.append((state.name, type(sys.exc_info()[1])))
        run.state = Cancelled()

    @flow(persist_result=False)
    def ended() -> None:
        FlowRunContext.get().flow.on_failure_hooks.append(cancelled)
        raise CancelledRun("a flow below was cancelled")

    state = ended(return_state=True)

    assert seen == [("Failed", CancelledRun)]
    assert state.name == "Cancelled"


# -- tasks -------------------------------------------------------------------------------------------------------------


def _of_task(body: Callable[..., Any], **options: Any) -> Task[..., Any]:
    return Task(body, cache_policy=NO_CACHE, persist_result=False, **options)


@holds(
    "A copy of a task runs the `fn` that it was given, and a direct call returns the state that the body returned",
    where="tasks_lib/prefect_runtime/prefect_task.py tasks_lib/functions/task.py",
    what_for="to note a signal in a direct call, and to return the result of a skipped step",
    named=False,
)
def test_copied_task_with_another_function(api):
    """The copy calls its function, the original keeps its own, and a returned state is returned unchanged."""
    original = _of_task(lambda: "original")
    changed = copy(original)
    changed.fn = lambda: Completed(name="Cached", data=3)

    answer = changed()

    assert (answer.name, answer.result(_sync=True)) == ("Cached", 3)
    assert original() == "original"


@holds(
    "prefect.tasks.Task.__class__",
    where="tasks_lib/prefect_runtime/prefect_task.py",
    what_for="to keep our class in `with_options`, which makes a plain `Task`",
)
def test_class_of_a_task_with_options(api):
    """The task that `with_options` returns has the same function, and its class can be set."""

    class Own(Task):
        def twice(self) -> Any:
            return self(), self()

    own = Own(lambda: 2, cache_policy=NO_CACHE, persist_result=False)
    changed = Own.with_options(own, retries=2)
    changed.__class__ = Own

    assert changed.fn is own.fn
    assert changed.retries == 2
    assert changed.twice() == (2, 2)


@holds(
    "prefect._internal.concurrency.services.QueueService",
    "prefect._internal.concurrency.services.QueueService.drain.__code__",
    "prefect._internal.concurrency.services.QueueService._loop",
    "prefect._internal.concurrency.services.QueueService._done_event",
    where="tasks_lib/prefect_runtime/server_watch.py",
    what_for="to let a process exit whose Prefect server has died",
)
def test_drain_of_a_queue():
    """At exit a thread waits for a queue whose items never finish, and setting its event releases the thread."""
    service: Any = resolve_name("prefect._internal.concurrency.services.QueueService")
    run = resolve_name("prefect._internal.concurrency.threads.get_global_loop")

    class Stuck(service):
        async def _handle(self, item: Any) -> None:
            await asyncio.Event().wait()

    stuck = Stuck.instance()
    assert run()
    stuck.send("an event")
    exiting = threading.Thread(target=stuck.drain, kwargs={"at_exit": True}, daemon=True)
    exiting.start()
    until = time.monotonic() + LONG_SECONDS
    while exiting.is_alive() and time.monotonic() < until:
        release_exit(exiting.ident or 0)
        exiting.join(0.05)

    assert not exiting.is_alive()


@holds(
    "All threads of a flow run have one object of settings, and a client reads the number of its retries there",
    where="tasks_lib/prefect_runtime/server_watch.py",
    what_for="to end the retries when the server has died",
    named=False,
)
def test_retries_are_read_each_time(monkeypatch):
    """A change of the setting in one thread is read by another thread in the flow's context."""
    settings, read = prefect_settings.get_current_settings(), []
    monkeypatch.setattr(settings.client, "max_retries", 7)
    other = threading.Thread(
        target=contextvars.copy_context().run,
        args=(lambda: read.append(prefect_settings.PREFECT_CLIENT_MAX_RETRIES.value()),),
    )
    other.start()
    other.join()

    assert read == [7]
    assert (
        "PREFECT_CLIENT_MAX_RETRIES"
        in resolve_name("prefect.client.base.PrefectHttpxSyncClient._send_with_retry").__code__.co_names
    )


@holds(
    "`retry_condition_fn` gets a state whose `data` is the exception",
    where="tasks_lib/prefect_runtime/prefect_task.py",
    what_for="to see that a user's error is not retried",
    named=False,
)
def test_state_of_a_retry_condition(api):
    """The state has the exception itself, not a reference to a stored one."""
    error, seen = ValueError("misspelt"), []

    def fail() -> None:
        raise error

    def condition(task, run, state) -> bool:
        seen.append(state.data)
        return False

    state = _of_task(fail, retries=1, retry_condition_fn=condition)(return_state=True)

    assert seen == [error]
    assert state.is_failed()


@holds(
    "A bound method with the argument `parameters` as `task_run_name`",
    where="tasks_lib/functions/task.py",
    what_for="to name each run of a function task by its arguments",
    named=False,
)
def test_task_run_name_of_a_method(api):
    """The method gets the parameters of the call, and its result is the name of the task run."""

    class Work:
        def run_name(self, parameters: dict[str, Any]) -> str:
            return f"fit-{parameters['c']}"

    def name(c: float) -> str:
        return TaskRunContext.get().task_run.name

    assert _of_task(name, task_run_name=Work().run_name)(0.1) == "fit-0.1"


@holds(
    "prefect.states.State.result(_sync=True)",
    where="tasks_lib/prefect_runtime/prefect_task.py tasks_lib/prefect_runtime/offline_engine.py",
    what_for="to read a result inside an asynchronous flow, where `result` alone returns a coroutine",
)
def test_sync_result_of_a_state():
    """With a running loop the value is returned at once."""

    async def read() -> Any:
        return Completed(data=3).result(_sync=True)

    assert asyncio.run(read()) == 3


@holds(
    "prefect.utilities.callables.get_call_parameters",
    where="tasks_lib/prefect_runtime/prefect_task.py",
    what_for="to find out what a `.map` runs over",
)
def test_get_call_parameters():
    """Without defaults the function returns only the given arguments, by parameter."""
    get_call_parameters = resolve_name("prefect.utilities.callables.get_call_parameters")

    def fit(c: float, epochs: int = 3, *, seed: int = 0) -> None: ...

    assert get_call_parameters(fit, (1,), {"seed": 2}, apply_defaults=False) == {"c": 1, "seed": 2}


@holds(
    "prefect.utilities.collections.isiterable",
    where="tasks_lib/prefect_runtime/prefect_task.py",
    what_for="to find out what a `.map` runs over",
)
@pytest.mark.parametrize(
    ("value", "is_mapped"), [([1], True), ((1,), True), ({"a": 1}, True), ("ab", False), (1, False)]
)
def test_isiterable(value, is_mapped):
    """The function returns what `.map` iterates over, which does not include strings."""
    assert resolve_name("prefect.utilities.collections.isiterable")(value) is is_mapped


# -- dry runs ----------------------------------------------------------------------------------------------------------


@holds(
    "prefect.task_engine.run_task",
    where="tasks_lib/prefect_runtime/offline_engine.py",
    what_for="to plan a task that is called directly",
)
def test_replaced_run_task(api, monkeypatch):
    """A direct call looks up the engine at each call, and returns its result."""
    calls = []
    monkeypatch.setattr("prefect.task_engine.run_task", lambda **call: calls.append(call) or "planned")
    add = task(lambda x, y=2: x + y)

    assert add(1) == "planned"
    assert add(1, return_state=True) == "planned"
    assert [(call["task"], call["parameters"], call["return_type"]) for call in calls] == [
        (add, {"x": 1, "y": 2}, "result"),
        (add, {"x": 1, "y": 2}, "state"),
    ]
    assert "wait_for" in calls[0]


@holds(
    "prefect.flow_engine.run_flow",
    where="tasks_lib/prefect_runtime/offline_engine.py",
    what_for="to plan a flow that is called",
)
def test_replaced_run_flow(api, monkeypatch):
    """A call looks up the engine at each call, and returns its result."""
    calls = []
    monkeypatch.setattr("prefect.flow_engine.run_flow", lambda **call: calls.append(call) or "planned")
    add = flow(lambda x, y=2: x + y, name="add")

    assert add(1) == "planned"
    assert add(1, return_state=True) == "planned"
    assert [(call["flow"], call["parameters"], call["return_type"]) for call in calls] == [
        (add, {"x": 1, "y": 2}, "result"),
        (add, {"x": 1, "y": 2}, "state"),
    ]


@holds(
    "prefect._internal.result_records.ResultRecord",
    "prefect._internal.result_records.ResultRecordMetadata",
    where="tasks_lib/prefect_runtime/offline_engine.py",
    what_for="to plan a task that returns None, whose state without a record has no result",
)
def test_result_record():
    """A state with a record has the result None; without a record it has no result."""
    record = resolve_name("prefect._internal.result_records.ResultRecord")
    metadata = resolve_name("prefect._internal.result_records.ResultRecordMetadata")
    made = record.model_construct(result=None, metadata=metadata.model_construct(storage_key="plan"))

    assert Completed(data=made).result(_sync=True) is None
    with pytest.raises(MissingResult):
        Completed(data=None).result(_sync=True)


class PlayedRunner(TaskRunner[PrefectConcurrentFuture[Any]]):
    """A task runner that only records submitted tasks."""

    def __init__(self) -> None:
        super().__init__()
        self.submitted: list[dict[str, Any]] = []

    def duplicate(self) -> PlayedRunner:
        return type(self)()

    def submit(
        self, task: Any, parameters: dict[str, Any], wait_for: Any = None, dependencies: Any = None
    ) -> PrefectConcurrentFuture[Any]:
        self.submitted.append(parameters)
        return _done(Completed(data=parameters))


def _done(answer: Any) -> PrefectConcurrentFuture[Any]:
    done: concurrent.futures.Future[Any] = concurrent.futures.Future()
    done.set_result(answer)
    return PrefectConcurrentFuture(uuid.uuid4(), done)


@contextmanager
def _flow_run_without_a_server() -> Iterator[PlayedRunner]:
    run = FlowRun(id=uuid.uuid4(), flow_id=uuid.uuid4(), name="plan")
    with PlayedRunner() as runner:
        made = FlowRunContext.model_construct(persist_result=False, flow=None, flow_run=run, task_runner=runner)
        with made:
            yield runner


@holds(
    "prefect.context.ContextModel.model_construct",
    where="tasks_lib/prefect_runtime/offline_engine.py",
    what_for="to enter a flow run and a task run that no server knows",
)
def test_contexts_without_a_client():
    """A context made with `model_construct` can be entered, and `get` returns it."""
    run = TaskRun(id=uuid.uuid4(), name="fit", task_key="fit", dynamic_key="plan")
    with _flow_run_without_a_server() as runner:
        with TaskRunContext.model_construct(persist_result=False, task=None, task_run=run, parameters={}):
            assert TaskRunContext.get().task_run is run
        assert TaskRunContext.get() is None
        assert FlowRunContext.get().task_runner is runner


@holds(
    "prefect.task_runners.TaskRunner.submit",
    where="tasks_lib/prefect_runtime/offline_engine.py",
    what_for="to plan the tasks that are submitted, mapped and swept",
    named=False,
)
def test_task_runner_of_our_own():
    """The context's runner gets each submitted task, and each element of a map, with its parameters."""
    add = task(lambda x, y: x + y)
    with _flow_run_without_a_server() as runner:
        submitted = add.submit(1, y=2)
        add.map([3, 4], y=prefect.unmapped(5))

    assert runner.submitted == [{"x": 1, "y": 2}, {"x": 3, "y": 5}, {"x": 4, "y": 5}]
    assert submitted.result() == {"x": 1, "y": 2}


@holds(
    "prefect.futures.PrefectConcurrentFuture",
    where="tasks_lib/prefect_runtime/offline_engine.py",
    what_for="to return a future that is done",
    named=False,
)
def test_future_that_is_done():
    """A future made of an id and a done future of the standard library has its state after a wait."""
    future = _done(Completed(data=3))
    future.wait()

    assert future.state.is_completed()
    assert future.result() == 3


@holds(
    "prefect.utilities.engine.resolve_inputs_sync",
    where="tasks_lib/prefect_runtime/offline_engine.py",
    what_for="to resolve futures in the arguments of a planned task",
)
def test_resolve_inputs_sync():
    """Futures and states are resolved at any depth, and one that did not complete is refused."""
    resolve_inputs_sync = resolve_name("prefect.utilities.engine.resolve_inputs_sync")
    given = {"x": _done(Completed(data=1)), "y": {"z": [Completed(data=2), 3]}}

    assert resolve_inputs_sync(given) == {"x": 1, "y": {"z": [2, 3]}}
    assert resolve_inputs_sync({"wait_for": None}) == {"wait_for": None}
    with pytest.raises(UpstreamTaskError):
        resolve_inputs_sync({"x": Failed()})


@holds(
    "prefect.utilities.callables.call_with_parameters",
    where="tasks_lib/prefect_runtime/offline_engine.py",
    what_for="to call the function of a planned task or flow",
)
def test_call_with_parameters():
    """The function gets its parameters as it declares them."""
    call_with_parameters = resolve_name("prefect.utilities.callables.call_with_parameters")

    def fit(name, /, c, *, seed=0, **others):
        return name, c, seed, others

    assert call_with_parameters(fit, {"name": "a", "c": 1, "seed": 2, "others": {"d": 3}}) == ("a", 1, 2, {"d": 3})


@holds(
    "prefect.utilities.asyncutils.run_coro_as_sync",
    where="tasks_lib/prefect_runtime/offline_engine.py",
    what_for="to plan an asynchronous flow or task where a loop is running",
)
def test_run_coro_as_sync():
    """A coroutine runs to its end with the caller's context variables, also while a loop is running."""
    run_coro_as_sync = resolve_name("prefect.utilities.asyncutils.run_coro_as_sync")
    variable = contextvars.ContextVar("variable", default=0)

    async def inner() -> int:
        await asyncio.sleep(0)
        return variable.get()

    async def outer() -> Any:
        variable.set(3)
        return run_coro_as_sync(inner())

    assert asyncio.run(outer()) == 3


# -- blocks, logs and commands -----------------------------------------------------------------------------------------


class Sized(Block):
    """A block type for this test."""

    _block_type_slug = "sized"
    size: int


@holds(
    "prefect.blocks.core.Block.load(_sync=True)",
    where="blocks/project.py",
    what_for="to load a project inside an asynchronous flow",
)
def test_sync_load_of_a_block(api):
    """With a running loop the block is returned at once."""
    api.save_block("big", {"size": 3})

    async def load() -> Any:
        return Sized.load("big", _sync=True)

    assert asyncio.run(load()).size == 3


@holds(
    "The errors of `Block.load`",
    where="blocks/project.py",
    what_for="to tell a block that is not there from one that is invalid",
    named=False,
)
def test_errors_of_load(api):
    """An unknown block raises `ValueError`; an invalid one raises `RuntimeError`, caused by pydantic's error."""
    api.save_block("bad", {"size": "big"})

    with pytest.raises(ValueError, match="Unable to find block document"):
        Sized.load("unknown")
    with pytest.raises(RuntimeError) as invalid:
        Sized.load("bad")
    assert isinstance(invalid.value.__cause__, ValidationError)


@holds(
    "prefect.logging.handlers.APILogHandler",
    where="tasks_lib/prefect_runtime/log_relay.py tasks_lib/prefect_runtime/run_context.py",
    what_for="to cut a job's log into records that Prefect does not cut",
    named=False,
)
@pytest.mark.parametrize("text", ["plain ", 'quote" \\ ', "tab\t\0", "ü€", "😀"])
def test_size_of_a_log_record(text):
    """The size of a record is counted as JSON, with no more characters than `json.dumps` gives."""
    handler = resolve_name("prefect.logging.handlers.APILogHandler")()
    message = text * (20_000 // len(json.dumps(text)))
    record = logging.LogRecord("prefect.task_runs", logging.INFO, __file__, 1, message, (), None)
    record.flow_run_id, record.task_run_id = str(uuid.uuid4()), str(uuid.uuid4())
    with temporary_settings({prefect_settings.PREFECT_LOGGING_TO_API_MAX_LOG_SIZE: 25_000}):
        assert handler.prepare(record)["message"] == message


@holds(
    "PREFECT__DEPLOYMENT_NAME",
    where="tasks_lib/prefect_runtime/run_context.py",
    what_for="to name the deployment in a job's tags without a request",
)
def test_variable_with_the_deployments_name(monkeypatch):
    """Prefect reads the deployment's name from this variable of a worker's process."""
    monkeypatch.setenv("PREFECT__DEPLOYMENT_NAME", "nightly")
    run = FlowRun(id=uuid.uuid4(), flow_id=uuid.uuid4(), name="run", deployment_id=uuid.uuid4())
    logger = resolve_name("prefect.logging.loggers.flow_run_logger")(run)

    assert logger.extra["deployment_name"] == "nightly"


@holds(
    "prefect.logging.handlers.PrefectConsoleHandler",
    where="flows/quickstart_command.py tasks_lib/prefect_runtime/run_context.py",
    what_for="to replace Prefect's lines in the terminal by those of the jobs, and to hide what is only for its API",
)
def test_console_handler():
    """The handler is the root logger's in the logging configuration that Prefect ships."""
    shipped = yaml.safe_load(resolve_name("prefect.logging.configuration.DEFAULT_LOGGING_SETTINGS_PATH").read_text())

    assert shipped["root"]["handlers"] == ["console"]
    assert shipped["handlers"]["console"]["class"] == "prefect.logging.handlers.PrefectConsoleHandler"
    assert issubclass(resolve_name("prefect.logging.handlers.PrefectConsoleHandler"), logging.Handler)


@pytest.mark.processes  # Prefect's server reads the machine's architecture when it is imported
@holds(
    "prefect.server.schemas.schedules.CronSchedule",
    "prefect.server.schemas.schedules.IntervalSchedule",
    "prefect.server.schemas.schedules.RRuleSchedule",
    where="tasks_lib/prefect_runtime/schedules.py",
    what_for="to find out when a schedule should have a run, by the scheduler's own rules",
)
def test_dates_of_a_schedule():
    """Each type of schedule returns its next date between two times."""
    schedules = resolve_name("prefect.server.schemas.schedules")
    start = datetime(2026, 1, 1, 0, 30, tzinfo=timezone.utc)
    each = [
        schedules.CronSchedule(cron="0 * * * *"),
        schedules.IntervalSchedule(interval=timedelta(hours=1), anchor_date=start - timedelta(minutes=30)),
        schedules.RRuleSchedule(rrule="DTSTART:20260101T000000Z\nFREQ=HOURLY"),
    ]
    dates = [asyncio.run(one.get_dates(n=1, start=start, end=start + timedelta(days=1))) for one in each]

    assert [[date.isoformat() for date in found] for found in dates] == [["2026-01-01T01:00:00+00:00"]] * 3


# -- failures ----------------------------------------------------------------------------------------------------------


@holds(
    "prefect.futures.PrefectConcurrentFuture.__class__",
    where="tasks_lib/prefect_runtime/job_future.py",
    what_for="to raise the error of an input that failed, in the place of `UnfinishedRun`",
)
def test_future_whose_input_failed(api):
    """The future has a plain class that can be replaced.

    It has no result, and its message names the failed input.
    """

    class Own(PrefectConcurrentFuture[Any]):
        def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> Any:
            with pytest.raises(UnfinishedRun):
                super().result(timeout, raise_on_failure)
            return "ours"

    def fail() -> None:
        raise ValueError

    @flow(persist_result=False)
    def chain() -> tuple[Any, ...]:
        first = _of_task(fail).submit()
        second = _of_task(lambda _: 1).submit(first)
        kind = type(second)
        second.__class__ = Own
        return kind, second.result(), str(first.task_run_id) in second.state.message, second.state.name

    assert chain() == (PrefectConcurrentFuture, "ours", True, "NotReady")


@holds(
    "A direct call whose input failed returns None",
    where="tasks_lib/prefect_runtime/prefect_task.py",
    what_for="to raise the error of an input that failed",
    named=False,
)
def test_direct_call_whose_input_failed(api):
    """The body is not called, and nothing is raised."""

    def fail() -> None:
        raise ValueError

    @flow(persist_result=False)
    def chain() -> list[Any]:
        return [_of_task(lambda _: 1)(_of_task(fail).submit())]

    assert chain() == [None]


@holds(
    "prefect.utilities.collections.visit_collection",
    where="tasks_lib/prefect_runtime/job_future.py",
    what_for="to find the futures among a task's arguments",
)
def test_visit_collection():
    """The function visits values inside lists, dicts and dataclasses."""
    visit_collection = resolve_name("prefect.utilities.collections.visit_collection")
    seen = []

    visit_collection(({"inputs": {"a": [output_of("x")]}},), visit_fn=seen.append, return_data=False)

    assert "x" in seen


@holds(
    "The engine writes the exception of a run, as `exc_info`, to the loggers `prefect.task_runs`, `prefect.flow_runs` "
    "and `prefect.engine`",
    where="tasks_lib/prefect_runtime/failure_log.py",
    what_for="to tell an error of ours once, and without the engine's frames",
    named=False,
)
def test_loggers_of_the_engine(api):
    """A failed task run and its failed flow run each log one record with the exception."""
    error, seen = ValueError("told twice"), []

    def note(record: logging.LogRecord) -> bool:
        seen.append((record.name, record.exc_info and record.exc_info[1]))
        return False

    def fail() -> None:
        raise error

    @flow(persist_result=False)
    def chain() -> None:
        _of_task(fail)()

    loggers = [logging.getLogger(name) for name in ("prefect.task_runs", "prefect.flow_runs")]
    try:
        for logger in loggers:
            logger.addFilter(note)
        with pytest.raises(ValueError, match="told twice"):
            chain()
    finally:
        for logger in loggers:
            logger.removeFilter(note)

    assert [each for each in seen if each[1]] == [("prefect.task_runs", error), ("prefect.flow_runs", error)]
    assert resolve_name("prefect.engine.engine_logger").name == "prefect.engine"


@holds(
    "The message of a state has the exception as `format` gives it",
    where="blocks/errors.py",
    what_for="to put one line into the message, which is the text of a notification",
    named=False,
)
def test_message_of_a_failed_state(api):
    """The message has the exception's class and the result of `__format__`, after at most 59 characters."""

    class TwoTexts(Exception):
        def __format__(self, spec: str) -> str:
            return "short"

    def fail() -> None:
        raise TwoTexts("long")

    def failing() -> None:
        _of_task(fail)()

    of_task = _of_task(fail)(return_state=True)
    of_flow = flow(failing, persist_result=False)(return_state=True)

    assert of_task.message == "Task run encountered an exception TwoTexts: short"
    assert of_flow.message == "Flow run encountered an exception: TwoTexts: short"


# -- the table ---------------------------------------------------------------------------------------------------------


@functools.cache
def _found() -> frozenset[tuple[str, str]]:
    """Return each private name that the source uses, with its file."""
    return frozenset(
        (str(path.relative_to(CHECKOUT)), name) for path in sources() for name in private_uses(path.read_text())
    )


def test_every_private_part_has_a_row():
    """Every private part that the source uses has a row for its file, and so a test."""
    without = sorted(use for use in _found() if not any(row.covers(*use) for row in ROWS))

    assert without == [], "These private parts of Prefect have no row: add a test with `@holds(…)` above."


@pytest.mark.processes  # as above
def test_no_class_shares_a_private_name_with_its_base():
    """The package's classes neither use nor replace a private name of a Prefect class."""
    assert {str(path): names for path in sources() if (names := private_names_of_bases(path))} == {}


@pytest.mark.parametrize("row", [row for row in ROWS if row.named], ids=lambda row: row.test)
def test_every_row_is_needed(row):
    """The source still uses each part of a row, and each file of the row uses one."""
    uses = {(file, name) for file, name in _found() if row.covers(file, name)}

    assert [part for part in row.parts if not any(is_of_part(name, part) for _, name in uses)] == []
    assert {file for file, _ in uses} == set(row.where)


@pytest.mark.parametrize("row", [*ROWS, *HELD_ELSEWHERE], ids=lambda row: row.test)
def test_files_of_a_row_exist(row):
    """The files of a row exist, and so does the module of a test elsewhere."""
    modules = [row.test] if row in HELD_ELSEWHERE else []

    assert [file for file in (*row.where, *modules) if not (CHECKOUT / file).is_file()] == []


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("from prefect._internal.engine import get_hook_name", "prefect._internal.engine.get_hook_name"),
        ("from prefect.context import _deployment_id", "prefect.context._deployment_id"),
        ("import prefect.task_engine\nprefect.task_engine.run_task = None", "prefect.task_engine.run_task"),
        ("from prefect.server.api.server import create_app", "prefect.server.api.server.create_app"),
        ("runner._executor", "_executor"),
        ("getattr(runner, '_executor', None)", "_executor"),
        ("state.result(_sync=True)", "_sync"),
        ("os.environ['PREFECT__FLOW_RUN_ID']", "PREFECT__FLOW_RUN_ID"),
        ("changed.__class__ = Own", "__class__"),
        ("from prefect import Flow\nFlow.__call__.__code__", "__code__"),
        ("context.model_construct()", "model_construct"),
    ],
)
def test_a_new_use_is_found(source, name):
    """The scan finds each way to name a private part."""
    assert name in private_uses(source)


@pytest.mark.parametrize(
    "source",
    ["from prefect import flow", "from prefect.states import Completed", "import prefect\nprefect.flow", "self._own"],
)
def test_public_names_need_no_row(source):
    """Documented names of Prefect, and private names of the package's own classes, need no row."""
    assert private_uses(source) == set()


def test_a_changed_part_is_named():
    """The message of a failed test says what has changed, and where the source uses it for what."""
    row = Row(
        ("prefect.flows.Flow._gone",), ("tasks_lib/prefect_runtime/run_context.py",), "to see the flow", "test_gone"
    )

    def gone() -> None:
        raise AttributeError("'Flow' object has no attribute '_gone'")

    with pytest.raises(AssertionError) as told:
        row.checking(gone)()

    assert str(told.value) == (
        f"Prefect {prefect.__version__} has changed prefect.flows.Flow._gone. We lean on it in "
        "tasks_lib/prefect_runtime/run_context.py to see the flow. Adapt the code there, then this test and its row.\n"
        "AttributeError: 'Flow' object has no attribute '_gone'"
    )


def test_the_page_has_the_table():
    """The page has a line for each row; if they differ, the message has the lines for the page."""
    page = (CHECKOUT / "docs" / "decisions" / "0013-private-parts-of-prefect.md").read_text()
    table = page.partition("| part |")[2].splitlines()[2:]
    expected = [row.line for row in (*ROWS, *HELD_ELSEWHERE)]

    assert table == expected, "\n".join(expected)
