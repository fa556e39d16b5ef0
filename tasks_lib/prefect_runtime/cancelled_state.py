"""The state `Cancelled`, in place of `Crashed`, for a flow run that a signal ended and whose jobs were stopped.

On a Ctrl-C or a SIGTERM that is not Prefect's own cancel, Prefect's engine sets `Crashed` by force, and then calls the
flow's `on_crashed` hooks. A hook of ours then sets `Cancelled`. A run whose jobs were left running (`on_exit="leave"`)
stays `Crashed`, so that an automation that restarts crashed runs attaches to them.
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

STOP_EXCEPTIONS = (KeyboardInterrupt, TerminationSignal, asyncio.CancelledError)
"""Exceptions by which a user or Prefect ends a call on purpose, so that its job is stopped. Prefect's timeouts come as
`CancelledError`, too. Any other exception leaves the job running for a later attach: a `TimeoutError` comes from some
other call."""

_TELLS = "Its jobs were stopped, or left to others that wait for them."

_stopped: set[uuid.UUID] = set()


def end_cancelled(ended: BaseException, flows: Iterable[FlowRunContext], *, by_prefect: bool) -> None:
    """Make these flow runs end `Cancelled` if a signal ended the call of a task in them.

    Args:
        ended: The exception that ended the call.
        flows: The contexts of the flow around the call, and of the flows around that one.
        by_prefect: Whether Prefect itself sent the signal, to cancel the run. Then Prefect sets the state.
    """
    if isinstance(ended, asyncio.CancelledError):
        return  # the timeout of a task or a flow: Prefect sets its own state
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
        # A blocked event loop raises a Ctrl-C only at the engine's next `await`, and interrupts the engine's own write.
        if flow and flow_run and flow.isasync:
            _write_if_possible(flow_run, f"The run was ended by a signal. {_TELLS}")


def cancelled_by_signal(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Set a crashed or failed flow run to `Cancelled`; a hook that Prefect calls while it handles the exception."""
    del flow
    # The exception is checked, since another crash, such as `sys.exit()`, or a failure may have come first.
    if flow_run.id in _stopped and isinstance(sys.exc_info()[1], (*STOP_EXCEPTIONS, CancelledRun)):
        written = _write(flow_run, f"{state.message} {_TELLS}")
        flow_run.state, flow_run.state_name, flow_run.state_type = written, written.name, written.type


def _write_if_possible(flow_run: FlowRun, message: str) -> None:
    try:
        _write(flow_run, message)
    except (httpx.HTTPError, PrefectException) as error:  # the signal must still be raised
        get_logger("sagemaker").warning("That flow run %s is cancelled could not be written: %s", flow_run.name, error)


def _write(flow_run: FlowRun, message: str) -> State[Any]:
    cancelled: State[Any] = Cancelled(message=message)
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(flow_run.id, cancelled, force=True)
    return cancelled


def _is_out_of_time(context: FlowRunContext) -> bool:
    limit = context.flow.timeout_seconds if context.flow else None
    return limit is not None and datetime.now(timezone.utc) - context.start_time >= timedelta(seconds=limit)
