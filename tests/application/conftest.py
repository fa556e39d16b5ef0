"""One quickstart and one Prefect server for all tests here; all programs are ended in any case."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import pytest
from application_programs import CHECKOUT, Done, Program, environment
from server_logs import watch
from waiting import wait_until


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory, make_backend):
    """Return a function that starts a Python program; all programs are killed after all tests.

    They are killed before the backends end, since a flow that still waits would start its backend again.
    """
    programs: list[Program] = []

    def start(*arguments: str, cwd: Path = CHECKOUT, **variables: str) -> Program:
        logs = tmp_path_factory.mktemp("program") / "logs"
        if arguments[:4] == ("-m", "prefect", "worker", "start"):
            watch("a worker", logs / "out")
            watch("a worker", logs / "err")
        programs.append(Program(list(arguments), environment(**variables), logs, cwd))
        return programs[-1]

    yield start
    for program in programs:
        program.end()


class Quickstart:
    """The quickstart's commands in their own directory.

    Args:
        directory: The directory that replaces the checkout's `.local/`.
        start: Starts a program.
        backend: The local SageMaker that it uses.
    """

    def __init__(self, directory: Path, start, backend) -> None:
        self.directory, self.backend, self._start = directory, backend, start
        self._variables = {"QUICKSTART_HOME": str(directory)}
        if backend.home != directory / "sagemaker":
            self._variables["LOCAL_SAGEMAKER_HOME"] = str(backend.home)
        self._ui: Program | None = None

    def start(self, module: str, *arguments: str, cwd: Path = CHECKOUT, **variables: str) -> Program:
        """Start a command."""
        return self._start("-m", module, *arguments, cwd=cwd, **self._variables, **variables)

    def run(self, *arguments: str, cwd: Path = CHECKOUT, **variables: str) -> Done:
        """Run the quickstart to its end."""
        return self.start("flows.quickstart", *arguments, cwd=cwd, **variables).done()

    def servers(self) -> list[int]:
        """Return the ids of Prefect server processes with this directory: it is their working directory."""
        place = self.directory / "prefect"
        return [int(one.name) for one in Path("/proc").glob("[0-9]*") if _target(one / "cwd") == place]

    def serve(self) -> Program:
        """Start `flows.ui` if it is not running."""
        if self._ui is None or self._ui.process.poll() is not None:
            wait_until(lambda: self.servers() == [], "the server of an earlier run to end")
            self._ui = self.start("flows.ui")
            self._ui.wait_for("Stop it with Ctrl-C.")
        return self._ui

    @property
    def api(self) -> str:
        """The URL of the API that `flows.ui` serves."""
        return json.loads((self.directory / "prefect" / "served.json").read_text())["api"]

    def jobs(self) -> set[str]:
        """Return the names of all jobs in SageMaker."""
        sagemaker = self.backend.client("sagemaker")
        training = sagemaker.get_paginator("list_training_jobs").paginate()
        processing = sagemaker.get_paginator("list_processing_jobs").paginate()
        return {
            *(job["TrainingJobName"] for page in training for job in page["TrainingJobSummaries"]),
            *(job["ProcessingJobName"] for page in processing for job in page["ProcessingJobSummaries"]),
        }


def _target(link: Path) -> Path | None:
    try:
        return link.readlink()
    except OSError:
        return None  # the process has ended, or is a zombie


@pytest.fixture(scope="session")
def no_usual_port():
    """Occupy Prefect's usual port: two UIs that start in the same second would both find it free."""
    with socket.socket() as taken:
        try:
            taken.bind(("127.0.0.1", 4200))
        except OSError:
            pass  # taken by another worker of these tests, or by the user
        else:
            taken.listen()
        yield


@pytest.fixture(scope="session")
def make_quickstart(tmp_path_factory: pytest.TempPathFactory, start, make_backend, no_usual_port, prefect_database):
    """Return a function that makes a new `Quickstart`, with its own local SageMaker or a given one.

    Its Prefect starts with the copy of a fresh database; with `bare`, the directory is empty.
    """

    def make(backend=None, *, bare: bool = False) -> Quickstart:
        directory = tmp_path_factory.mktemp("quickstart")
        if not bare:
            (directory / "prefect").mkdir()
            shutil.copy(prefect_database, directory / "prefect")
        return Quickstart(directory, start, backend or make_backend(directory / "sagemaker"))

    return make


@pytest.fixture(scope="session")
def first_run(make_quickstart) -> tuple[Quickstart, Done]:
    """A quickstart that has run once, and the outcome of that run."""
    quickstart = make_quickstart(bare=True)
    return quickstart, quickstart.run("--json")


@pytest.fixture
def quickstart(first_run) -> Quickstart:
    """A quickstart whose default steps are done and whose UI is served; tests add to it and remove nothing.

    It is served because a run without its own Prefect server is seconds faster.
    """
    quickstart, done = first_run
    assert done.code == 0, done.out + done.err
    quickstart.serve()
    return quickstart


@pytest.fixture
def unserved(first_run, make_quickstart) -> Quickstart:
    """A quickstart that starts its own Prefect server, and uses the local SageMaker of the first run."""
    quickstart, done = first_run
    assert done.code == 0, done.out + done.err
    return make_quickstart(quickstart.backend)
