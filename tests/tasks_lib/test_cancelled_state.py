"""The state of a flow run that a signal ended, if Prefect's API does not answer. `test_stop.py` has the other cases."""

import asyncio
import logging
import subprocess
import sys

import httpx
import pytest
from prefect import flow
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext

from tasks_lib.prefect_runtime import cancelled_state
from tasks_lib.prefect_runtime.cancelled_state import cancelled_by_signal, end_cancelled

_SECOND_CTRL_C = """
import os, signal, threading
from tasks_lib.prefect_runtime.run_context import run_shielded

raised = threading.Event()

def act():
    os.kill(os.getpid(), signal.SIGINT)
    print("ended before it was done" if raised.wait(1) else "done")

signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    run_shielded(act)
except KeyboardInterrupt:
    raised.set()
    print("raised")
"""


@pytest.mark.processes
def test_a_second_signal_waits_for_what_the_first_one_began():
    """A second signal is raised only after the shielded action ends.

    Otherwise it would interrupt the stop of the job that the first signal began.
    """
    ended = subprocess.run([sys.executable, "-c", _SECOND_CTRL_C], capture_output=True, text=True, check=True)

    assert ended.stdout == "done\nraised\n"


@pytest.fixture
def away(monkeypatch):
    """A Prefect API that does not answer; the list has the requested states."""
    asked = []

    class Away:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

        def set_flow_run_state(self, flow_run, state, force):
            asked.append((flow_run, state.name, force))
            raise httpx.ConnectError("nobody there")

    monkeypatch.setattr(cancelled_state, "get_client", lambda sync_client: Away())
    return asked


@pytest.fixture
def around():
    """The context of a run of an asynchronous flow."""

    @flow
    async def waiting():
        """Wait."""

    return FlowRunContext.model_construct(
        flow=waiting, flow_run=FlowRun(flow_id="1c8a1a0e-7d4e-4e3b-9a8c-0f5a3b6a5f11"), start_time=None
    )


def test_the_signal_is_kept_if_the_api_does_not_answer(away, around, caplog):
    """If the API does not answer, a warning says so, and no exception replaces the signal."""
    with caplog.at_level(logging.WARNING):
        end_cancelled(KeyboardInterrupt(), [around], by_prefect=False)

    assert away == [(around.flow_run.id, "Cancelled", True)]
    assert "nobody there" in caplog.text


@pytest.mark.parametrize(("ended", "by_prefect"), [(asyncio.CancelledError(), False), (KeyboardInterrupt(), True)])
def test_what_prefect_writes_itself_is_left_to_it(away, around, ended, by_prefect):
    """States that Prefect writes itself, for a timeout and for its own cancellation, are left to it."""
    end_cancelled(ended, [around], by_prefect=by_prefect)

    assert away == []


def test_a_crash_is_no_cancel(away, around):
    """After a crash, such as `sys.exit()` in a flow whose task was stopped before, the hook keeps Prefect's state."""
    end_cancelled(KeyboardInterrupt(), [around], by_prefect=True)
    try:
        sys.exit(3)
    except SystemExit:
        cancelled_by_signal(around.flow, around.flow_run, around.flow_run.state)

    assert away == []
