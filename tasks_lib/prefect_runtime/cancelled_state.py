"""A flow run that a signal ends, and whose jobs were stopped for that, is `Cancelled` and not `Crashed`.

Prefect's engine writes `Crashed` by force when a Ctrl-C or a SIGTERM comes that is no cancel of its own, and calls the
flow's `on_crashed` hooks before it goes on; a hook of ours then writes what it was. A run whose jobs were left
(`on_exit="leave"`) stays `Crashed`, so that whatever starts crashed runs again finds them.
"""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from typing import Any

import httpx
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import FlowRunContext
from prefect.exceptions import CancelledRun, PrefectException, TerminationSignal
from prefect.logging import get_logger
from prefect.states import Cancelled

MEANS_STOP = (KeyboardInterrupt, TerminationSignal, asyncio.CancelledError)
"""Exceptions by which somebody ends a call on purpose; Prefect's timeouts come as a `CancelledError` too. The job is
stopped. Any other leaves it, to be attached to: a `TimeoutError` is that of some other call."""

_TELLS = "Its jobs were stopped, or left to others that wait for them."

_stopped: set[uuid.UUID] = set()


def end_cancelled(ended: BaseException, flows: Iterable[FlowRunContext], *, by_prefect: bool) -> None:
    """Have these flow runs end `Cancelled` if a signal is what ends them: what they waited for was stopped.

    Args:
        ended: What ended the call of a task.
        flows: The flow around that call, and those around it.
        by_prefect: Whether it was Prefect that sent the signal, to cancel the run: it writes that itself.
    """
    if isinstance(ended, asyncio.CancelledError):
        return  # the time of a task or a flow is over, of which Prefect makes what it is
    around = [(context.flow, context.flow_run, _is_out_of_time(context)) for context in flows]
    for flow, flow_run, _ in around:
        if flow and flow_run:
            _stopped.add(flow_run.id)
            for hooks in (flow.on_crashed_hooks, flow.on_failure_hooks):
                if cancelled_by_signal not in hooks:
                    hooks.append(cancelled_by_signal)
    if by_prefect or any(out_of_time for *_, out_of_time in around):
        return
    for flow, flow_run, _ in around:
        # The loop of an asynchronous flow breaks off the engine's own writing after a Ctrl-C that it has not seen.
        if flow and flow_run and flow.isasync:
            _write_if_possible(flow_run, f"The run was ended by a signal. {_TELLS}")


def cancelled_by_signal(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Write what became of a flow run that Prefect takes for crashed or failed; called while it handles the cause."""
    del flow
    # Not a crash, such as `sys.exit()`, or a failure that came first.
    if flow_run.id in _stopped and isinstance(sys.exc_info()[1], (*MEANS_STOP, CancelledRun)):
        written = _write(flow_run, f"{state.message} {_TELLS}")
        flow_run.state, flow_run.state_name, flow_run.state_type = written, written.name, written.type


def _write_if_possible(flow_run: FlowRun, message: str) -> None:
    try:
        _write(flow_run, message)
    except (httpx.HTTPError, PrefectException) as error:  # the signal must go its way all the same
        get_logger("sagemaker").warning("That flow run %s is cancelled could not be written: %s", flow_run.name, error)


def _write(flow_run: FlowRun, message: str) -> State[Any]:
    cancelled: State[Any] = Cancelled(message=message)
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(flow_run.id, cancelled, force=True)
    return cancelled


def _is_out_of_time(context: FlowRunContext) -> bool:
    limit = context.flow.timeout_seconds if context.flow else None
    return limit is not None and datetime.now(timezone.utc) - context.start_time >= timedelta(seconds=limit)
