"""The Prefect run that a task is called in: its ids, whether it was forced, and whether it is being ended.

The module uses private parts of Prefect, measured on 3.8.8 and 3.9.1 (`docs/decisions/0007-stop-on-cancel.md`). Each of
them has a test (`docs/decisions/0013-private-parts-of-prefect.md`).
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
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
from prefect.logging.handlers import PrefectConsoleHandler
from prefect.settings import get_current_settings
from prefect.task_runners import ThreadPoolTaskRunner

from tasks_lib.prefect_runtime.cancelled_state import STOP_EXCEPTIONS, end_cancelled
from tasks_lib.prefect_runtime.server_watch import ServerWatch, watch_of

NO_FLOW = "no-flow"
"""Placeholder for the flow run in the name of a waiter outside of a flow."""

LONGEST_MESSAGE = 20_000
"""Most characters of a log message. Prefect Cloud cuts a record after 25,000 characters (`PREFECT_CLOUD_MAX_LOG_SIZE`),
counted as JSON and with the record's ids; a self-hosted server after a million (`PREFECT_LOGGING_TO_API_MAX_LOG_SIZE`).
"""

MAX_TICK_SECONDS = 0.25
"""Most seconds between two checks for a cancellation. Prefect's task timeouts reach a thread only between two waits: a
wait of 8 s was seen to outlast a timeout of 2 s."""


PATIENCE_SECONDS = 10.0
"""Seconds that a second signal waits for the action of the first. A worker sends SIGKILL 30 s after its SIGTERM."""

_HANDED_ON = frozenset({"reschedule", "relinquish"})
"""Intents of `prefect flow-run execute` by which a run continues elsewhere; its jobs are left running for it."""

_USER_CREATORS = {None, "USER", "SERVICE_ACCOUNT", "AUTOMATION"}
"""Types of a flow run's creator that identify a user; of a schedule, Prefect knows only the schedule's name."""

_Result = TypeVar("_Result")


class RunCancelled(Exception):
    """The flow run is being ended while a task waited for its job, or before the job was created."""


Logger: TypeAlias = "logging.Logger | logging.LoggerAdapter[Any]"  # a string, since Python 3.10 cannot evaluate it


@dataclass(frozen=True)
class RunContext:
    """The run that a task is called in.

    Args:
        flow_run: Id of the flow run; None outside a flow.
        flow_try: How often the flow run has been started. A retry keeps its id, and makes new task runs.
        task_run: Id of the task run; by default a random id.
        refresh: Whether `refresh_cache` forces the task to run; by default False.
        logger: The logger for the user's log lines.
        cancelled: Returns whether the run is being ended from outside.
        is_rescheduled: Returns whether the run continues elsewhere, so that its job is left running for it.
        note_stop: Gets the exception that ended the call, after its job was stopped. The flow run then does not count
            as crashed.
        api: Client of Prefect's API, with the task run's open connection; None outside a task run.
        server: Watch of that API's server; None if the server is not on this machine.
        longest_message: Most characters of a log message for the API, as JSON.
    """

    flow_run: str | None = None
    flow_try: int = 0
    task_run: str = field(default_factory=lambda: uuid.uuid4().hex)
    refresh: bool = False
    logger: Logger = field(default_factory=lambda: get_logger("sagemaker"))
    cancelled: Callable[[], bool] = lambda: False
    is_rescheduled: Callable[[], bool] = lambda: get_intent() in _HANDED_ON
    note_stop: Callable[[BaseException], None] = lambda _: None
    api: SyncPrefectClient | None = None
    server: ServerWatch | None = None
    longest_message: int = LONGEST_MESSAGE

    @property
    def waiter(self) -> str:
        """The name of this run as the waiter for a job: `<flow run>/<flow try>-<task run>`."""
        return f"{self.flow_run or NO_FLOW}/{self.flow_try}-{self.task_run}"

    def log_status(self, task: str, text: str) -> None:
        """Log what happens to a task's job; a console may show it under the task's name."""
        extra = {"sagemaker_prefix": task, "sagemaker_status": text}
        self.logger.info("%s: %s", task, text, extra=extra)

    def show(
        self, place: str, said: Sequence[str], lines: Sequence[str], *, to_api: bool = True, to_console: bool = True
    ) -> None:
        """Log lines of a job's log as one record.

        Args:
            place: Where the lines come from: `task/host`.
            said: The lines of the record's message.
            lines: The whole lines that a console shows instead, under the place's name.
            to_api: Whether the record goes to Prefect's API, too, and not only to a terminal; by default True.
            to_console: Whether it goes to a terminal, too, and not only to Prefect's API; by default True.
        """
        if not to_console:
            _hide_from_consoles(self.logger)
        extra = {
            "sagemaker_prefix": place,
            "sagemaker_lines": tuple(lines),
            "send_to_api": to_api,
            "sagemaker_api_only": not to_console,
        }
        self.logger.info("%s", "\n".join(f"{place} | {text}" for text in said), extra=extra)

    def check_running(self, what: str) -> None:
        """Raise if the run is being ended, before an action that must not be left half done.

        Args:
            what: The current activity, for the error: `The run was cancelled while …`.

        Raises:
            RunCancelled: The run was cancelled.
            PrefectServerLost: Prefect's server on this machine died.
        """
        if self.cancelled():
            raise RunCancelled(f"The run was cancelled while {what}.")
        if self.server:
            self.server.check(what)

    def pause(self, seconds: float, what: str) -> None:
        """Check the run, then wait for at most one tick (`MAX_TICK_SECONDS`).

        Args:
            seconds: Most seconds to wait.
            what: The current activity, for the error.

        Raises:
            RunCancelled: The run was cancelled.
            PrefectServerLost: Prefect's server on this machine died.
        """
        self.check_running(what)
        threading.Event().wait(min(seconds, MAX_TICK_SECONDS))


def current_run() -> RunContext:
    """Return the context of the calling task run; outside of one, a context without a flow run."""
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
        note_stop=lambda ended: end_cancelled(ended, _flows(flow), by_prefect=get_intent() is not None),
        api=api,
        server=watch_of(api.api_url),
        longest_message=min(LONGEST_MESSAGE, get_current_settings().logging.to_api.max_log_size // 2),
    )


def _api(task: TaskRunContext) -> SyncPrefectClient:
    """Return the task run's own client. An asynchronous one would need an event loop, but our tasks never have one."""
    return task.client if isinstance(task.client, SyncPrefectClient) else get_client(sync_client=True)


def deployment_of_run() -> dict[str, str | None]:
    """Return the deployment's id, and its name if the worker has set it; asking Prefect costs a request per job."""
    context = FlowRunContext.get()
    deployment = context.flow_run.deployment_id if context and context.flow_run else None
    if deployment is None:
        return {}
    return {"deployment": str(deployment), "deployment-name": os.environ.get("PREFECT__DEPLOYMENT_NAME")}


def creator_of_run() -> str | None:
    """Return the user that created the flow run; None outside a flow, or if a schedule created it."""
    context = FlowRunContext.get()
    creator = context.flow_run.created_by if context and context.flow_run else None
    return creator.display_value if creator and creator.type in _USER_CREATORS else None


def refresh_wanted(option: bool | None) -> bool:
    """Return the value of `refresh_cache`; if it is None, that of `PREFECT_TASKS_REFRESH_CACHE`, as Prefect does."""
    return get_current_settings().tasks.refresh_cache if option is None else option


def _logger() -> Logger:
    try:
        return get_run_logger()
    except MissingContextError:
        return get_logger("sagemaker")


def _hide_from_consoles(logger: Logger) -> None:
    """Make Prefect's handlers for terminals leave out records that are only for its API."""
    found: logging.Logger | None = logger.logger if isinstance(logger, logging.LoggerAdapter) else logger
    while found:
        for handler in found.handlers:
            if isinstance(handler, PrefectConsoleHandler) and _is_for_consoles not in handler.filters:
                handler.addFilter(_is_for_consoles)
        found = found.parent if found.propagate else None


def _is_for_consoles(record: logging.LogRecord) -> bool:
    return not getattr(record, "sagemaker_api_only", False)


def run_shielded(act: Callable[[], _Result]) -> _Result:
    """Run a function that a signal must not interrupt, such as one that stops a job, and return its result.

    It runs in a thread of its own, which no signal reaches. A second Ctrl-C is raised after the function has returned,
    or after `PATIENCE_SECONDS`. A function that hangs goes on until the process ends.
    """
    done: list[_Result] = []
    failed: list[BaseException] = []
    context, over, asked = contextvars.copy_context(), threading.Event(), [act]

    def run() -> None:
        try:
            what = asked.pop()
        except IndexError:  # a signal interrupted the first start, and the thread was started twice
            return
        try:
            done.append(context.run(what))
        except BaseException as error:  # noqa: BLE001 - raised below, in the calling thread
            failed.append(error)
        finally:
            over.set()

    def begin() -> None:
        if asked:
            threading.Thread(target=run, name="sagemaker-run_shielded").start()

    _see_through(begin, over)
    if failed:
        raise failed[0]
    return done[0]


def _see_through(begin: Callable[[], None], over: threading.Event) -> None:
    """Start an action and wait for its end; a signal that arrives meanwhile is raised afterwards.

    An event marks the end, because before Python 3.13 a `Thread.join` that a signal interrupts takes the thread for
    ended.
    """
    try:
        begin()
        over.wait()
    except STOP_EXCEPTIONS:
        until = time.monotonic() + PATIENCE_SECONDS
        while not over.is_set() and (left := until - time.monotonic()) > 0:
            try:
                begin()
                over.wait(left)
            except STOP_EXCEPTIONS:  # noqa: PERF203 - the first signal is raised for all of them
                continue
        raise


def check_event_loop() -> None:
    """Raise what the event loop would raise in the calling coroutine at its next `await`.

    A task that an asynchronous flow calls directly blocks the event loop. So neither a Ctrl-C, which asyncio turns into
    a cancellation since Python 3.11, nor a flow's timeout reaches it. Outside of a coroutine nothing is raised.

    Raises:
        asyncio.CancelledError: The coroutine is being cancelled.
        TimeoutError: The coroutine's timeout has passed.
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
    """Return a check of whether the flow around a call, or an outer flow, is being ended.

    Only the thread in which Prefect calls a flow or a task gets a signal or a timeout as an exception. A submitted
    task, and whatever it calls, sees only the event that its task runner sets when it closes. The runner sets that
    event also when a flow returns or raises, so `_is_ended` looks at the exception that the closing thread handles.
    """
    runners = [(runner, event) for runner in _runners(flow) if (event := _event(runner, task_run))]
    return lambda: _loop_ends() or any(event.is_set() and _is_ended(runner) for runner, event in runners)


def _loop_ends() -> bool:
    try:
        check_event_loop()
    except (asyncio.CancelledError, TimeoutError):
        return True
    return False


def _runners(flow: FlowRunContext | None) -> Iterator[ThreadPoolTaskRunner[Any]]:
    """Yield the task runners of a flow and of the flows around it: a submitted task may call a flow."""
    for each in _flows(flow):
        if isinstance(each.task_runner, ThreadPoolTaskRunner):
            yield each.task_runner


def _flows(flow: FlowRunContext | None) -> Iterator[FlowRunContext]:
    """Yield a flow's context and those of the flows around it."""
    while isinstance(flow, FlowRunContext):
        yield flow
        token = flow._token  # noqa: SLF001 - Prefect has no other way to the outer flow
        flow = token.old_value if token else None


def _event(runner: ThreadPoolTaskRunner[Any], task_run: uuid.UUID) -> threading.Event | None:
    """Return an event that a task runner sets when it closes; None if it has no events.

    A task that a submitted task calls directly has no event of its own. Then any other will do, such as that of the
    submitted task: the runner sets all of them together.
    """
    events = runner._cancel_events  # noqa: SLF001 - Prefect has no public way to see that a runner closes
    return events.get(task_run) or next(iter(events.copy().values()), None)


def _is_ended(runner: ThreadPoolTaskRunner[Any]) -> bool:
    """Return whether a closing runner's flow is being ended from outside, and did not return or fail.

    The closing thread waits for the runner's tasks. If there is no such thread any more, the wait was interrupted, for
    example by a second Ctrl-C.
    """
    closing = _closing_thread(runner)
    # A documented debugging aid of CPython; its values are exceptions since 3.12, and triples before.
    handled: Any = sys._current_exceptions().get(closing) if closing else None  # noqa: SLF001
    return closing is None or is_cancellation(handled[1] if isinstance(handled, tuple) else handled)


def _closing_thread(runner: ThreadPoolTaskRunner[Any]) -> int | None:
    """Return the thread that closes a runner, or None. It is the flow's thread, which is not always the main thread."""
    closes = ThreadPoolTaskRunner.cancel_all.__code__
    for thread, innermost in sys._current_frames().items():  # noqa: SLF001 - CPython's documented debugging aid
        frame: FrameType | None = innermost
        while frame is not None:
            if frame.f_code is closes and frame.f_locals.get("self") is runner:
                return thread
            frame = frame.f_back
    return None


def is_cancellation(error: BaseException | None) -> bool:
    """Return whether an exception that a flow ends with means an end from outside; None, a return, does not."""
    while error is not None:
        if isinstance(error, STOP_EXCEPTIONS):
            return True
        if isinstance(error, TimeoutError):
            return False  # the timeout of a called task or flow: an ordinary failure
        error = error.__context__
    return False
