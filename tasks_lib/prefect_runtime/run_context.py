"""What Prefect tells us of the run we are in: who waits, whether it was forced, and whether it is being ended.

It uses private parts of Prefect, measured on 3.8.8 and 3.9.1 (`docs/decisions/0007-stop-on-cancel.md`). Each has a test
(`docs/decisions/0013-private-parts-of-prefect.md`). Only the thread that Prefect calls a flow or a task in hears of a
signal or a timeout, as an exception. A submitted task, and whatever that calls, can see the event that its task runner
sets when it goes down. That event is also set when a flow returns or raises, so the exception that the closing thread
is handling tells the two apart.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, TypeAlias, TypeVar

import anyio
from prefect._internal.control_listener import get_intent
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import MissingContextError
from prefect.logging import get_logger, get_run_logger
from prefect.settings import get_current_settings
from prefect.task_runners import ThreadPoolTaskRunner

from tasks_lib.prefect_runtime.cancelled_state import MEANS_STOP, end_cancelled
from tasks_lib.prefect_runtime.server_watch import ServerWatch, watch_of

NO_FLOW = "no-flow"
"""What stands for the flow run in the mark of a task that is called outside a flow."""

LONGEST_MESSAGE = 20_000
"""Prefect Cloud cuts a log record behind 25,000 characters (`PREFECT_CLOUD_MAX_LOG_SIZE`), counted as JSON and with
the record's ids; a server of one's own behind a million (`PREFECT_LOGGING_TO_API_MAX_LOG_SIZE`)."""

LONGEST_TICK = 0.25
"""Seconds between two looks at a cancellation. Prefect's task timeouts reach a thread only between two waits, and a
wait of 8 s was seen to sleep through one of 2 s."""


PATIENCE_SECONDS = 10.0
"""How long a second signal waits for what the first one began. A worker's SIGKILL comes 30 s after its SIGTERM."""

_HANDED_ON = frozenset({"reschedule", "relinquish"})
"""Intents of `prefect flow-run execute` by which a run goes on elsewhere: its jobs are left to it."""

_Result = TypeVar("_Result")


class RunCancelled(Exception):
    """The flow run is being ended while a job was waited for, or before there was one."""


Logger: TypeAlias = "logging.Logger | logging.LoggerAdapter[Any]"  # which Python 3.10 cannot evaluate


@dataclass(frozen=True)
class RunContext:
    """The run that a task is called in.

    Args:
        flow_run: Id of the flow run; none outside a flow.
        flow_try: How often that flow run has been started: a retry keeps its id, and makes new task runs.
        task_run: Id of the task run, or something as unique.
        refresh: Whether Prefect was told to run the task whatever a cache says (`refresh_cache`).
        logger: Where lines for the reader go.
        cancelled: Tells whether the run is being ended from outside.
        handed_on: Tells whether it is only to go on elsewhere: its job is left to it.
        stopped: Is told what ended the call, once its job is stopped: a signal is no crash of the flow run then.
        api: Prefect's API, by the connection that the task run has open; none outside a task run.
        server: Watches the server of that API; none if it is not on this machine.
        longest_message: Characters of the longest log message that goes to the API, as JSON.
    """

    flow_run: str | None = None
    flow_try: int = 0
    task_run: str = field(default_factory=lambda: uuid.uuid4().hex)
    refresh: bool = False
    logger: Logger = field(default_factory=lambda: get_logger("sagemaker"))
    cancelled: Callable[[], bool] = lambda: False
    handed_on: Callable[[], bool] = lambda: get_intent() in _HANDED_ON
    stopped: Callable[[BaseException], None] = lambda _: None
    api: SyncPrefectClient | None = None
    server: ServerWatch | None = None
    longest_message: int = LONGEST_MESSAGE

    @property
    def waiter(self) -> str:
        """The name under which this run waits for a job: `<flow run>/<which try of it>-<task run>`."""
        return f"{self.flow_run or NO_FLOW}/{self.flow_try}-{self.task_run}"

    def tell(self, task: str, text: str) -> None:
        """Say what happens to a task's job; a console may show it under the task's name."""
        extra = {"sagemaker_prefix": task, "sagemaker_status": text}
        self.logger.info("%s: %s", task, text, extra=extra)

    def show(self, place: str, said: Sequence[str], lines: Sequence[str], *, to_api: bool = True) -> None:
        """Show lines of a job's log as one record.

        Args:
            place: Whose: `task/host`.
            said: What the record says, line by line.
            lines: The whole lines that a console shows for it, under the place's name.
            to_api: Whether the record goes to Prefect's API, and not only to a terminal.
        """
        extra = {"sagemaker_prefix": place, "sagemaker_lines": tuple(lines), "send_to_api": to_api}
        self.logger.info("%s", "\n".join(f"{place} | {text}" for text in said), extra=extra)

    def check(self, what: str) -> None:
        """See that the run goes on, before something is begun that could not be left half done.

        Raises:
            RunCancelled: The run was cancelled.
            PrefectServerLost: Prefect's server on this machine died.
        """
        if self.cancelled():
            raise RunCancelled(f"The run was cancelled while {what}.")
        if self.server:
            self.server.check(what)

    def pause(self, seconds: float, what: str) -> None:
        """Wait, but not beyond a cancellation.

        Args:
            seconds: How long, at most: it returns after a tick.
            what: What is being waited for, for the message.

        Raises:
            RunCancelled: The run was cancelled.
        """
        self.check(what)
        threading.Event().wait(min(seconds, LONGEST_TICK))


def current_run() -> RunContext:
    """Return the context of the task run that is calling."""
    task = TaskRunContext.get()
    flow = FlowRunContext.get()
    if task is None:
        return RunContext()
    api = _api(task)
    return RunContext(
        flow_run=str(task.task_run.flow_run_id) if task.task_run.flow_run_id else None,
        flow_try=flow.flow_run.run_count if flow and flow.flow_run else 0,
        task_run=str(task.task_run.id),
        refresh=refresh_wanted(task.task.refresh_cache),
        logger=_logger(),
        cancelled=_cancellation(flow, task.task_run.id),
        stopped=lambda ended: end_cancelled(ended, _flows(flow), by_prefect=get_intent() is not None),
        api=api,
        server=watch_of(api.api_url),
        longest_message=min(LONGEST_MESSAGE, get_current_settings().logging.to_api.max_log_size // 2),
    )


def _api(task: TaskRunContext) -> SyncPrefectClient:
    """Return the task run's own client; an asynchronous one, which our tasks never have, would need an event loop."""
    return task.client if isinstance(task.client, SyncPrefectClient) else get_client(sync_client=True)


def refresh_wanted(option: bool | None) -> bool:
    """Return what `refresh_cache` means; unset, `PREFECT_TASKS_REFRESH_CACHE` counts, as it does for Prefect itself."""
    return get_current_settings().tasks.refresh_cache if option is None else option


def _logger() -> Logger:
    try:
        return get_run_logger()
    except MissingContextError:
        return get_logger("sagemaker")


def unbroken(act: Callable[[], _Result]) -> _Result:
    """Do what a signal must not break off, such as stopping a job, and return its result.

    In a thread of its own, which no signal reaches. A second Ctrl-C waits for it, and is raised then; what hangs makes
    it wait for no more than `PATIENCE_SECONDS`, and goes on until the process ends.
    """
    done: list[_Result] = []
    failed: list[BaseException] = []
    context, over, asked = contextvars.copy_context(), threading.Event(), [act]

    def run() -> None:
        try:
            what = asked.pop()
        except IndexError:  # a signal came while we were begun, and we were begun again
            return
        try:
            done.append(context.run(what))
        except BaseException as error:  # noqa: BLE001 - raised below, in the thread that asked for it
            failed.append(error)
        finally:
            over.set()

    def begin() -> None:
        if asked:
            threading.Thread(target=run, name="sagemaker-unbroken").start()

    _see_through(begin, over)
    if failed:
        raise failed[0]
    return done[0]


def _see_through(begin: Callable[[], None], over: threading.Event) -> None:
    """Begin something and wait for its end; a signal that comes meanwhile is raised afterwards.

    By an event, since before Python 3.13 `Thread.join` that a signal interrupts takes the thread for ended.
    """
    try:
        begin()
        over.wait()
    except MEANS_STOP:
        until = time.monotonic() + PATIENCE_SECONDS
        while not over.is_set() and (left := until - time.monotonic()) > 0:
            try:
                begin()
                over.wait(left)
            except MEANS_STOP:  # noqa: PERF203 - the one that is raised stands for all of them
                continue
        raise


def check_event_loop() -> None:
    """Raise what the event loop would tell a coroutine at its next `await`, if we are called inside of one.

    A task that an asynchronous flow calls directly blocks the loop, so neither a Ctrl-C (which asyncio turns into a
    cancellation since Python 3.11) nor a flow's timeout comes through to it.

    Raises:
        asyncio.CancelledError: The coroutine is being cancelled.
        TimeoutError: Its time is over.
    """
    try:
        caller = asyncio.current_task()
    except RuntimeError:
        return
    if caller is None:
        return
    if hasattr(caller, "cancelling") and caller.cancelling():
        raise asyncio.CancelledError
    if anyio.current_effective_deadline() <= anyio.current_time():
        raise TimeoutError("The flow's time is over.")


def _cancellation(flow: FlowRunContext | None, task_run: uuid.UUID) -> Callable[[], bool]:
    """Return what tells a call that the flow around it, or one around that, is being ended."""
    runners = [(runner, event) for runner in _runners(flow) if (event := _event(runner, task_run))]
    return lambda: _loop_ends() or any(event.is_set() and _is_ended(runner) for runner, event in runners)


def _loop_ends() -> bool:
    try:
        check_event_loop()
    except (asyncio.CancelledError, TimeoutError):
        return True
    return False


def _runners(flow: FlowRunContext | None) -> Iterator[ThreadPoolTaskRunner[Any]]:
    """Yield the task runners of a flow and of those around it: a flow may be called by a submitted task."""
    for each in _flows(flow):
        if isinstance(each.task_runner, ThreadPoolTaskRunner):
            yield each.task_runner


def _flows(flow: FlowRunContext | None) -> Iterator[FlowRunContext]:
    """Yield a flow's context and those of the flows around it."""
    while isinstance(flow, FlowRunContext):
        yield flow
        token = flow._token  # noqa: SLF001 - Prefect has no other way from a flow to the one around it
        flow = token.old_value if token else None


def _event(runner: ThreadPoolTaskRunner[Any], task_run: uuid.UUID) -> threading.Event | None:
    """Return the event that is set when a runner goes down: all are set together.

    What a submitted task calls in turn has none of its own; that of the task was there before.
    """
    events = runner._cancel_events  # noqa: SLF001 - Prefect tells of it in no other way
    return events.get(task_run) or next(iter(events.copy().values()), None)


def _is_ended(runner: ThreadPoolTaskRunner[Any]) -> bool:
    """Tell whether a runner that goes down is ended by force, rather than by its flow's return or failure.

    Prefect waits for its tasks then. Where nobody does, the waiting was broken off, by a second Ctrl-C for example.
    """
    closing = _closing_thread(runner)
    # The function is CPython's documented debugging aid; its values are exceptions since 3.12, triples before.
    handled: Any = sys._current_exceptions().get(closing) if closing else None  # noqa: SLF001
    return closing is None or ends_run(handled[1] if isinstance(handled, tuple) else handled)


def _closing_thread(runner: ThreadPoolTaskRunner[Any]) -> int | None:
    """Return the thread that closes a runner: the flow's, which is not always the main thread."""
    closes = ThreadPoolTaskRunner.cancel_all.__code__
    for thread, innermost in sys._current_frames().items():  # noqa: SLF001 - CPython's documented debugging aid
        frame: FrameType | None = innermost
        while frame is not None:
            if frame.f_code is closes and frame.f_locals.get("self") is runner:
                return thread
            frame = frame.f_back
    return None


def ends_run(error: BaseException | None) -> bool:
    """Tell whether a flow that goes down with an exception is being ended from outside; `None` is a return."""
    while error is not None:
        if isinstance(error, MEANS_STOP):
            return True
        if isinstance(error, TimeoutError):
            return False  # of a task or a flow that was called: a failure as any other
        error = error.__context__
    return False
