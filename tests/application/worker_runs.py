"""A real Prefect worker, and runs of `stopped_flow.py` on it, controlled by the requests of Prefect's UI."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from application_programs import Program, ask
from waiting import wait_until

FLOWS = Path(__file__).with_name("stopped_flow.py")
POOL = "stopped"


class WorkerRuns:
    """Deployments of `stopped_flow.py`, and a worker for their runs.

    Args:
        api: The URL of a Prefect server's API.
        start: Starts a program.
        variables: The environment of the worker, and so of the flows.
    """

    def __init__(self, api: str, start, variables: dict[str, str]) -> None:
        self.api, self._start, self._variables = api, start, variables
        self.worker = self._work()

    def _work(self) -> Program:
        worker = self.prefect("worker", "start", "--type", "process", "--pool", POOL)
        wait_until(lambda: "started!" in worker.said, "the worker to start")
        return worker

    def work_again(self) -> None:
        """Start another worker after one was killed."""
        self.worker = self._work()

    def prefect(self, *arguments: str, **more: str) -> Program:
        """Start a command of Prefect."""
        return self._start("-m", "prefect", *arguments, cwd=FLOWS.parent, **self._variables, **more)

    def deploy(self, flow: str, pool: str | None = POOL) -> str:
        """Deploy a flow; return the deployment's id."""
        folder = {"prefect.deployments.steps.set_working_directory": {"directory": str(FLOWS.parent)}}
        deployment = ask(
            self.api,
            "/deployments/",
            name=f"in-{pool}",
            flow_id=ask(self.api, "/flows/", name=flow)["id"],
            entrypoint=f"{FLOWS.name}:{flow}",
            pull_steps=[folder],
            work_pool_name=pool,
            enforce_parameter_schema=False,
        )
        return str(deployment["id"])

    def run(self, flow: str, pool: str | None = POOL, **parameters: Any) -> Run:
        """Create a flow run for a deployment."""
        made = ask(self.api, f"/deployments/{self.deploy(flow, pool)}/create_flow_run", parameters=parameters)
        return Run(self.api, made["id"])


class Run:
    """One flow run.

    Args:
        api: The URL of a Prefect server's API.
        number: The run's id.
    """

    def __init__(self, api: str, number: str) -> None:
        self.number, self._api = number, api

    @property
    def state(self) -> str:
        """The name of its state."""
        return str(ask(self._api, f"/flow_runs/{self.number}")["state_name"])

    def wait_for(self, *states: str) -> str:
        """Wait until it is in one of these states; return that state."""
        return wait_until(
            lambda: (state := self.state) in states and state, f"{self.state} to be {' or '.join(states)}"
        )

    def wait_for_log(self, text: str, times: int = 1) -> None:
        """Wait until its log, with that of its tasks, contains a text."""
        wait_until(lambda: self.log().count(text) >= times, f"the run to say {text!r} {times} times")

    def log(self) -> str:
        """Return all log messages of the run and its tasks."""
        rows = ask(self._api, "/logs/filter", logs={"flow_run_id": {"any_": [self.number]}}, limit=200)
        return "\n".join(row["message"] for row in rows)

    def cancel(self) -> None:
        """Cancel it, as the button of Prefect's UI does."""
        self._set(type="CANCELLING", name="Cancelling")

    def retry(self) -> None:
        """Retry it, as the button of Prefect's UI does."""
        self._set(type="SCHEDULED", name="AwaitingRetry", message="Retry from the UI")

    def _set(self, **state: Any) -> None:
        answer = ask(self._api, f"/flow_runs/{self.number}/set_state", state=state)
        assert answer["status"] == "ACCEPT", answer

    def kill(self) -> None:
        """Send SIGKILL to its process."""
        os.kill(wait_until(self.process, "the run to have a process"), signal.SIGKILL)

    def process(self) -> int | None:
        """Return the id of the process that executes it; None if there is none."""
        mark = f"PREFECT__FLOW_RUN_ID={self.number}".encode()
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (process / "environ").read_bytes():
                    return int(process.name)
            except OSError:  # noqa: PERF203 - a process may end at any moment
                continue  # it has ended meanwhile, or belongs to another user
        return None
