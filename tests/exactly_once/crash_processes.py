"""Flows in processes that can be killed: forks of a process that has imported everything (`crash_scenarios.py`)."""

from __future__ import annotations

import itertools
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from crash_scenarios import Scenario

CHECKOUT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("crash_scenarios.py")
PATIENCE_SECONDS = 300.0  # Prefect's client alone retries a call for a minute while the server's SQLite is busy


class Run:
    """A flow that runs in its own process.

    Args:
        pid: The process id.
        words: The messages of its parent process.
        said: The file of its results.
    """

    def __init__(self, pid: int, words: queue.Queue[dict[str, Any]], said: Path) -> None:
        self.pid, self._words, self._said = pid, words, said
        self.code: int | None = None

    def over(self, seconds: float = 0.0) -> bool:
        """Return whether the flow has ended; wait for at most `seconds`."""
        if self.code is None:
            try:
                self.code = self._words.get(seconds > 0, seconds or None)["ended"]
            except queue.Empty:
                return False
        return True

    def kill(self) -> None:
        """Send SIGKILL to the process, and wait for its end."""
        if not self.over():
            with suppress(ProcessLookupError):  # it has ended meanwhile
                os.kill(self.pid, signal.SIGKILL)
            assert self.over(PATIENCE_SECONDS)

    @property
    def results(self) -> list[dict[str, Any]]:
        """The results that its flow returned."""
        results: list[dict[str, Any]] = json.loads(self._said.read_text())
        return results

    @property
    def flow_run(self) -> str:
        """The id of its flow run."""
        return self._said.with_suffix(".run").read_text()


class Preloaded:
    """The process that has imported everything and forks for each flow.

    Args:
        home: The home of the local SageMaker.
        prefect_api: The URL of the Prefect server to which flows report.
        directory: A directory for results and logs; created here.
    """

    def __init__(self, home: Path, prefect_api: str, directory: Path) -> None:
        directory.mkdir()
        self.directory, self._numbers = directory, itertools.count()
        self.log = directory / "log"
        # Coverage is off: a killed process saves none, other tests cover the same lines, and each fork would be slower.
        foreign = ("AWS_", "PREFECT_", "LOCAL_SAGEMAKER_", "PYTHON", "COVERAGE_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        variables = {
            "PREFECT_API_URL": prefect_api,
            "PREFECT_HOME": str(directory / "prefect"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_API_TLS_INSECURE_SKIP_VERIFY": "true",  # no TLS here, and reading certificates takes 0.1 s
            "PYTHONPATH": str(CHECKOUT),
        }
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(PROGRAM), str(home)],
                env=kept | variables,
                cwd=directory,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._words: queue.Queue[dict[str, Any]] = queue.Queue()
        self._last: Run | None = None
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._words.put(json.loads(line))

    def wait_until_ready(self) -> None:
        """Wait until everything is imported."""
        assert self._words.get(timeout=PATIENCE_SECONDS)["ready"]

    def run(self, scenario: Scenario, project: str, how: dict[str, Any], places: dict[str, str], retried: Any) -> Run:
        """Start the flow of a scenario."""
        said = self.directory / f"{project}-{next(self._numbers)}"
        order = {
            **places,
            "tasks": scenario.tasks,
            "project": project,
            "how": how,
            "said": str(said),
            "log": str(self.log),
            "flow_run": retried,
        }
        assert self._process.stdin
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        self._last = Run(self._words.get(timeout=PATIENCE_SECONDS)["pid"], self._words, said)
        return self._last

    def end(self) -> None:
        """End the process, and a flow that it may still run."""
        if self._last:
            self._last.kill()
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(timeout=PATIENCE_SECONDS)
