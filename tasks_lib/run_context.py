"""What Prefect tells us of the run we are in: who waits, whether it was forced, and whether it was cancelled.

The one module that leans on Prefect's private parts (measured on 3.8.8). A submitted task runs in a thread and sees no
signal; what it can see is the event that its task runner sets when it goes down. That event is also set when the flow
returns or raises, so the exception that the flow's own thread is handling tells the two apart.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import MissingContextError, TerminationSignal
from prefect.logging import get_logger, get_run_logger
from prefect.settings import get_current_settings

MEANS_STOP = (KeyboardInterrupt, TerminationSignal, asyncio.CancelledError, TimeoutError)
"""Exceptions by which somebody ends a run on purpose: the job is stopped. Any other leaves it, to be attached to."""

LONGEST_MESSAGE = 20_000
"""Prefect Cloud cuts a log record behind 25,000 characters (`PREFECT_CLOUD_MAX_LOG_SIZE`), counted as JSON and with
the record's ids; a server of one's own behind a million (`PREFECT_LOGGING_TO_API_MAX_LOG_SIZE`)."""

LONGEST_TICK = 0.25
"""Seconds between two looks at a cancellation. Prefect's task timeouts reach a thread only between two waits, and a
wait of 8 s was seen to sleep through one of 2 s."""


class RunCancelled(Exception):
    """The flow run was cancelled while a job was being waited for."""


Logger = logging.Logger | logging.LoggerAdapter[Any]


@dataclass(frozen=True)
class RunContext:
    """The run that a task is called in.

    Args:
        flow_run: Id of the flow run; none outside a flow.
        flow_try: How often that flow run has been started: a retry keeps its id, and makes new task runs.
        task_run: Id of the task run, or something as unique.
        refresh: Whether Prefect was told to run the task whatever a cache says (`refresh_cache`).
        logger: Where lines for the reader go.
        cancelled: Tells whether the run was cancelled.
        api: Prefect's API, by the connection that the task run has open; none outside a task run.
        longest_message: Characters of the longest log message that goes to the API, as JSON.
    """

    flow_run: str | None = None
    flow_try: int = 0
    task_run: str = field(default_factory=lambda: uuid.uuid4().hex)
    refresh: bool = False
    logger: Logger = field(default_factory=lambda: get_logger("sagemaker"))
    cancelled: Callable[[], bool] = lambda: False
    api: SyncPrefectClient | None = None
    longest_message: int = LONGEST_MESSAGE

    @property
    def waiter(self) -> str:
        """The name under which this run waits for a job."""
        return f"{self.flow_run or 'no-flow'}/{self.task_run}"

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

    def pause(self, seconds: float, what: str) -> None:
        """Wait, but not beyond a cancellation.

        Args:
            seconds: How long.
            what: What is being waited for, for the message.

        Raises:
            RunCancelled: The run was cancelled.
        """
        if self.cancelled():
            raise RunCancelled(f"The run was cancelled while {what}.")
        threading.Event().wait(min(seconds, LONGEST_TICK))


def current_run() -> RunContext:
    """Return the context of the task run that is calling."""
    task = TaskRunContext.get()
    flow = FlowRunContext.get()
    if task is None:
        return RunContext()
    return RunContext(
        flow_run=str(task.task_run.flow_run_id) if task.task_run.flow_run_id else None,
        flow_try=flow.flow_run.run_count if flow and flow.flow_run else 0,
        task_run=str(task.task_run.id),
        refresh=refresh_wanted(task.task.refresh_cache),
        logger=_logger(),
        cancelled=_cancellation(flow, task.task_run.id),
        api=_api(task),
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


def _cancellation(flow: FlowRunContext | None, task_run: uuid.UUID) -> Callable[[], bool]:
    events = getattr(getattr(flow, "task_runner", None), "_cancel_events", {})
    event = events.get(task_run)
    main = threading.main_thread().ident
    if event is None:
        return lambda: False  # called directly: signals arrive as exceptions in this very thread
    return lambda: event.is_set() and _is_going_down(main)


def _is_going_down(thread: int | None) -> bool:
    # The function is CPython's documented debugging aid; its values are exceptions since 3.12, triples before.
    handled: Any = sys._current_exceptions().get(thread or 0)  # noqa: SLF001
    error = handled[1] if isinstance(handled, tuple) else handled
    while error is not None:
        if isinstance(error, MEANS_STOP):
            return True
        error = error.__context__
    return False
