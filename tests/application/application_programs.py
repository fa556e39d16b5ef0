"""The application's commands and flows as processes, and queries to Prefect's API about them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

from waiting import PATIENCE_SECONDS, wait_until

CHECKOUT = Path(__file__).resolve().parents[2]
WAITING_FLOW = Path(__file__).with_name("waiting_flow.py")


def environment(**variables: str) -> dict[str, str]:
    """Return this process's environment without the user's settings for AWS, Prefect, this package or a proxy."""
    foreign = ("AWS_", "PREFECT_", "LOCAL_SAGEMAKER_", "QUICKSTART_", "PYTHONPATH", "FORCE_COLOR", "COLUMNS")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(foreign) and not name.lower().endswith("_proxy")
    }
    return {**kept, "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1", **variables}


@dataclass(frozen=True)
class Done:
    """The exit code and the output of a program."""

    code: int
    out: str
    err: str

    @property
    def summary(self) -> dict[str, Any]:
        """The line of JSON at the end of a quickstart's output."""
        return json.loads(self.out.splitlines()[-1])

    @property
    def result(self) -> dict[str, Any]:
        """The line of JSON that `waiting_flow.py` prints for its task's result."""
        return json.loads(next(line for line in self.out.splitlines() if line.startswith("{")))


class Program:
    """A Python program in its own session, with its output in files.

    Args:
        arguments: The arguments of the interpreter.
        variables: The whole environment.
        logs: A directory for its output; created here.
        cwd: Its working directory.
    """

    def __init__(self, arguments: list[str], variables: dict[str, str], logs: Path, cwd: Path) -> None:
        logs.mkdir(parents=True)
        self._out, self._err, self._mark = logs / "out", logs / "err", f"TEST_PROGRAM={logs}"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, *arguments],
                env={**variables, "TEST_PROGRAM": str(logs)},
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        """All output so far."""
        return self._out.read_text(errors="replace") + self._err.read_text(errors="replace")  # may end in a character

    def wait_for(self, text: str) -> None:
        """Wait until the output contains a text; fail if the program ends without it."""

        def has_said() -> bool:
            assert self.process.poll() is None or text in self.said, f"ended without {text!r}:\n{self.said}"
            return text in self.said

        wait_until(has_said, f"a program to say {text!r}")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process alone, as `kill` does."""
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        """Send SIGKILL to the process alone, and wait for its end."""
        self.signal(signal.SIGKILL)
        self.process.wait()

    def done(self) -> Done:
        """Wait for the program's end; return its exit code and output."""
        code = self.process.wait(timeout=PATIENCE_SECONDS)
        return Done(code, self._out.read_text(), self._err.read_text())

    def group(self) -> list[int]:
        """Return the ids of the processes that still exist in the program's process group."""
        rows = subprocess.run(["ps", "-eo", "pid=,pgid=,stat="], capture_output=True, text=True, check=True).stdout
        found = [row.split() for row in rows.splitlines()]
        return [int(pid) for pid, group, state in found if int(group) == self.process.pid and state[0] != "Z"]

    def end(self) -> None:
        """Kill the program and all processes that it left in its group.

        If the program itself has ended, they are killed one by one: another program may have its process id by then.
        """
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        for number in self.group():
            with suppress(OSError):  # it has ended meanwhile, or belongs to another user
                if self._mark.encode() in Path(f"/proc/{number}/environ").read_bytes().split(b"\0"):
                    os.kill(number, signal.SIGKILL)


def ask(api: str, path: str, **body: Any) -> Any:
    """Send a request to a Prefect API: a POST if there is a body, otherwise a GET.

    It is repeated if Prefect's database is busy (503). A GET is also repeated if the server has not answered for a
    minute, since it changes nothing.
    """
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(f"{api}{path}", data=data, headers={"Content-Type": "application/json"})

    def answer() -> tuple[Any] | None:
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return (json.load(answer),)
        except HTTPError as refused:
            if refused.code != HTTPStatus.SERVICE_UNAVAILABLE:
                raise
            return None
        except TimeoutError:
            if data:
                raise
            return None

    return wait_until(answer, f"an answer to {path}")[0]


def flow_runs(api: str) -> list[dict[str, Any]]:
    """Return all flow runs of a Prefect API, newest first."""
    runs: list[dict[str, Any]] = ask(api, "/flow_runs/filter", sort="START_TIME_DESC")
    return runs


def task_states(api: str, flow_run: str) -> dict[str, str]:
    """Return the name of each task run of a flow run, with the name of its state."""
    found = ask(api, "/task_runs/filter", task_runs={"flow_run_id": {"any_": [flow_run]}})
    return {run["name"]: run["state_name"] for run in found}


def recorded_states(api: str, flow_run: str, expected: dict[str, str]) -> dict[str, str]:
    """Wait until the states of a flow run's tasks are the expected ones; return them.

    Prefect records task runs from a stream of events, with a short delay.
    """
    wait_until(lambda: task_states(api, flow_run) == expected, f"the states {expected} of flow run {flow_run}")
    return task_states(api, flow_run)
