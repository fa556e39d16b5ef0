"""Flows in processes that can be killed: forks of a process that has everything imported (`crash_scenarios.py`)."""

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
PATIENCE_SECONDS = 300.0  # Prefect's client alone tries for a minute where the server's SQLite is busy, call by call


class Run:
    """A flow in a process of its own, while it runs.

    Args:
        pid: The process.
        words: What its parent says of it.
        said: The file of its results.
    """

    def __init__(self, pid: int, words: queue.Queue[dict[str, Any]], said: Path) -> None:
        self.pid, self._words, self._said = pid, words, said
        self.code: int | None = None

    def over(self, seconds: float = 0.0) -> bool:
        """Whether it has ended, after waiting so long at most."""
        if self.code is None:
            try:
                self.code = self._words.get(seconds > 0, seconds or None)["ended"]
            except queue.Empty:
                return False
        return True

    def kill(self) -> None:
        """Kill it, as `kill -9` does, and take in its end."""
        if not self.over():
            with suppress(ProcessLookupError):  # it ended meanwhile
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
    """The process that has everything imported and forks for each flow.

    Args:
        home: Of the local SageMaker.
        prefect_api: Where flows report.
        directory: For what is said; made here.
    """

    def __init__(self, home: Path, prefect_api: str, directory: Path) -> None:
        directory.mkdir()
        self.directory, self._numbers = directory, itertools.count()
        self.log = directory / "log"
        # Coverage too: what is killed leaves none, other tests see the same lines, and each fork would pay for it.
        foreign = ("AWS_", "PREFECT_", "LOCAL_SAGEMAKER_", "PYTHON", "COVERAGE_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        variables = {
            "PREFECT_API_URL": prefect_api,
            "PREFECT_HOME": str(directory / "prefect"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_API_TLS_INSECURE_SKIP_VERIFY": "true",  # no TLS there, and reading certificates takes 0.1 s
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
        """Wait until all is imported."""
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
