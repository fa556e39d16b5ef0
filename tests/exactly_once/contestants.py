"""Worker processes that call tasks as a pipe tells them, and send back the outcome.

They live as long as the tests, since making a process's clients costs more than a call of a task. They are forked from
a process that has imported everything. The parent's half is `Contestant`, the worker's half is `_compete`.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Literal

PATIENCE_SECONDS = 120
IMAGE = "local/simulated"

# The fork server imports these modules once, before its first fork.
PRELOADED = ["blocks", "tasks_lib.tasks", "prefect.main", "prefect.flow_engine", "prefect.task_engine", "boto3"]

How = Literal["notebook", "flow", "submitted", "threads"]


@dataclass(frozen=True)
class Machine:
    """The environment in which a contestant works.

    Attributes:
        home: The home of the local SageMaker.
        prefect_api: The URL of the Prefect server to which its flows report; if None, it starts a server of its own.
        directory: The directory used as `HOME`, with a `PREFECT_HOME` below it.
    """

    home: Path
    prefect_api: str | None
    directory: Path


@dataclass(frozen=True)
class Order:
    """One call of a task.

    Attributes:
        project: Name of the project.
        task: Name of the task.
        arguments: Arguments of the call; the image is `local/simulated` unless they name another.
        kind: Which of the project's tasks is called.
        how: Called outside of any flow (`notebook`), called in a flow, submitted in a flow, or submitted eight times
            side by side in one flow (`threads`).
        at: Monotonic seconds at which to call; the clock is the same in all processes.
    """

    project: str
    task: str
    arguments: dict[str, Any] = field(default_factory=dict)
    kind: Literal["train", "process"] = "train"
    how: How = "flow"
    at: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """The outcome of a call.

    Attributes:
        job: The job of its result, or of its error.
        reason: The result's `reason`.
        cached: The result's `cached`.
        error: The class name of the exception; empty if there is a result.
        message: The message of the exception.
        began: Epoch seconds.
        ended: Epoch seconds.
        jobs: The jobs of all results; more than one only with `how="threads"`.
    """

    job: str = ""
    reason: str = ""
    cached: bool = False
    error: str = ""
    message: str = ""
    began: float = 0.0
    ended: float = 0.0
    jobs: tuple[str, ...] = ()


class Contestant:
    """A process that calls tasks.

    Args:
        machine: The environment in which it works.

    Attributes:
        busy: Whether it has an order whose outcome has not been read.
    """

    def __init__(self, machine: Machine) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_compete, args=(theirs, machine), daemon=True)
        self._process.start()
        self.busy = False
        theirs.close()

    def until_ready(self) -> None:
        """Wait until its clients are made, so that later calls begin at once."""
        assert self._answer() == "ready"

    def begin(self, order: Order) -> None:
        """Send it an order."""
        self.busy = True
        self._pipe.send(order)

    def outcome(self) -> Outcome:
        """Wait for the call's end; return its outcome."""
        answer: Outcome = self._answer()
        self.busy = False
        return answer

    def has_ended(self, within: float = 0.0) -> bool:
        """Return whether the call ends within a number of seconds."""
        return bool(wait([self._pipe], within))

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def until_dead(self) -> int | None:
        """Wait for the end of the process; return its exit code. Unread outcomes are dropped."""
        self._process.join(PATIENCE_SECONDS)
        return self._process.exitcode

    @property
    def alive(self) -> bool:
        """Whether the process still exists."""
        return self._process.is_alive()

    def close(self) -> None:
        """End the process. It is killed if it is busy, or if it does not end within 10 s."""
        self._pipe.close()
        self._process.join(0 if self.busy else 10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _answer(self) -> Any:
        assert wait([self._pipe], PATIENCE_SECONDS), "a contestant is silent"
        return self._pipe.recv()


# -- the worker's half -------------------------------------------------------------------------------------------------


def _compete(pipe: Connection, machine: Machine) -> None:
    """Do what the pipe says until its other end is closed."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a fork server ignores it
    machine.directory.mkdir(parents=True, exist_ok=True)
    os.environ["HOME"] = str(machine.directory)
    logging.disable()  # errors are sent to the test
    with suppress(EOFError, OSError), _prefect(machine):
        _clients(machine.home)
        pipe.send("ready")
        while True:
            _answer_one(pipe, machine)


def _answer_one(pipe: Connection, machine: Machine) -> None:
    try:
        order = pipe.recv()
    except KeyboardInterrupt:
        return  # the signal was meant for a call that had already ended
    pipe.send(_outcome(order, machine))


def _outcome(order: Order, machine: Machine) -> Outcome:
    began = time.time()
    try:
        _wait_until(order.at)
        began = time.time()
        results = _HOW[order.how](order, machine)
    except BaseException as error:  # noqa: BLE001 - sent to the test; it may be a cancellation
        job = str(getattr(error, "job", "") or "")
        return Outcome(job, error=type(error).__name__, message=str(error), began=began, ended=time.time())
    jobs = tuple(result.job for result in results)
    first = results[0]
    return Outcome(first.job, first.reason, first.cached, began=began, ended=time.time(), jobs=jobs)


def _wait_until(moment: float) -> None:
    threading.Event().wait(max(0.0, moment - time.monotonic()))


def _called(order: Order, machine: Machine) -> list[Any]:
    return [_task(order, machine)(order.task, **_arguments(order))]


def _in_flow(order: Order, machine: Machine) -> list[Any]:
    return _flow("called", lambda: _called(order, machine))


def _submitted(order: Order, machine: Machine) -> list[Any]:
    return _flow("submitted", lambda: [_task(order, machine).submit(order.task, **_arguments(order)).result()])


def _in_threads(order: Order, machine: Machine) -> list[Any]:
    def body() -> list[Any]:
        futures = [_task(order, machine).submit(order.task, **_arguments(order)) for _ in range(8)]
        return [future.result() for future in futures]

    return _flow("threads", body)


_HOW: dict[How, Callable[[Order, Machine], list[Any]]] = {
    "notebook": _called,
    "flow": _in_flow,
    "submitted": _submitted,
    "threads": _in_threads,
}


def _flow(name: str, body: Callable[[], list[Any]]) -> list[Any]:
    from prefect import Flow

    results: list[Any] = Flow(body, name=name, persist_result=False)()
    return results


def _task(order: Order, machine: Machine) -> Any:
    from tasks_lib import sagemaker_tasks

    project = _clients(machine.home).model_copy(update={"project": order.project})
    return getattr(sagemaker_tasks(project), order.kind)


def _arguments(order: Order) -> dict[str, Any]:
    return {"image": IMAGE, **order.arguments}


@cache
def _clients(home: Path) -> Any:
    """Return a project whose clients are made; its copies share them."""
    from blocks import SageMakerProject

    project = SageMakerProject.local("races", home=home)
    for service in ("s3", "sagemaker", "logs", "iam"):
        project.client(service)
    return project


@contextmanager
def _prefect(machine: Machine) -> Iterator[None]:
    """Set Prefect up for a machine inside this block, with a server of its own if the machine has none."""
    import prefect.settings as names
    from prefect.settings import temporary_settings

    place = machine.directory / "prefect"
    settings = {
        names.PREFECT_HOME: place,
        names.PREFECT_API_KEY: None,
        names.PREFECT_API_URL: machine.prefect_api,
        names.PREFECT_SERVER_ANALYTICS_ENABLED: False,
        names.PREFECT_SERVER_DATABASE_CONNECTION_URL: f"sqlite+aiosqlite:///{place}/prefect.db",
        names.PREFECT_LOGGING_TO_API_ENABLED: False,
        names.PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
    }
    with temporary_settings(settings):
        if machine.prefect_api is not None:
            yield
            return
        place.mkdir(parents=True, exist_ok=True)
        with _own_server() as api, temporary_settings({names.PREFECT_API_URL: api}):
            yield


@contextmanager
def _own_server() -> Iterator[str]:
    from prefect.server.api.server import SubprocessASGIServer

    # Not in the port range of the tests' own processes: of two processes that draw one port, one would use the other's
    # server.
    SubprocessASGIServer._port_range = range(9000, 9900)
    server = SubprocessASGIServer()
    server.start(timeout=PATIENCE_SECONDS)
    try:
        yield server.api_url
    finally:
        server.stop()
