"""Where races are held: a local SageMaker, processes that live through all tests, faults, and pieces of work.

Not a conftest, since other tests of this folder need none of it.
"""

from __future__ import annotations

import os
import random
import sqlite3
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

import own_prefect  # before anybody imports Prefect
import pytest
from contestants import Contestant, Machine, Order, Outcome
from race_invariants import TaskSeen
from waiting import wait_until

from blocks import SageMakerProject
from tasks_lib.orphans.policy import Rules
from tasks_lib.orphans.reaper import Reaper, ReapReport

BUCKET = "local-sagemaker"
SEED = int(os.environ.get("RACE_SEED", random.SystemRandom().randrange(10**6)))
_TIMES = int(os.environ.get("RACE_ROUNDS", "1"))
_HEADSTART = 0.05
"""Seconds from the first order of a round to the moment at which all begin."""
assert own_prefect.HOME


def rounds(number: int) -> Iterator[int]:
    """The seeds of so many rounds, times `RACE_ROUNDS`; each is said, so that a failure can be had again."""
    for seed in range(SEED, SEED + number * _TIMES):
        sys.stdout.write(f"RACE_SEED={seed}\n")
        yield seed


class Arena:
    """Contestants and the backend for which they compete.

    Args:
        backend: A running local SageMaker of these tests alone, since faults meet everybody.
        prefect_api: Where flows report.
        directory: For the contestants' homes.
    """

    def __init__(self, backend, prefect_api, directory) -> None:
        self.backend, self._api, self._directory = backend, prefect_api, directory
        self.faults = backend.faults
        self._pool: list[Contestant] = []
        backend.client("s3").create_bucket(Bucket=BUCKET)

    def contestants(self, number: int) -> list[Contestant]:
        """So many idle processes on one machine; those that an earlier test used up are replaced."""
        for used_up in [each for each in self._pool if each.busy or not each.alive]:
            self._pool.remove(used_up)
            used_up.close()
        made = [self._contestant(self._api) for _ in range(number - len(self._pool))]
        self._pool += made
        for each in made:
            each.until_ready()
        return self._pool[:number]

    def stranger(self) -> Contestant:
        """A process on another machine: its own home, profile and Prefect server."""
        return self._contestant(None)

    def _contestant(self, api: str | None) -> Contestant:
        return Contestant(Machine(self.backend.home, api, self._directory / uuid.uuid4().hex[:8]))

    def work(self, **arguments) -> Work:
        """A piece of work that nobody has wanted yet; its job is simulated, and takes half a second."""
        simulated = {"environment": {"SIMULATED_SECONDS": "0.5"}}
        return Work(self.backend, f"race-{uuid.uuid4().hex[:12]}", simulated | arguments)

    def gated_work(self) -> Work:
        """A piece of work whose job is real, and ends when its gate is open: nothing there depends on time."""
        gate = self._directory / f"gate-{uuid.uuid4().hex[:8]}"
        wait = f"until [ -e {gate} ]; do sleep 0.05; done"
        return Work(self.backend, f"race-{uuid.uuid4().hex[:12]}", {"image": "local/python", "command": wait}, gate)

    @contextmanager
    def slow(self, seed: int):
        """Inside, some answers come late, so that steps fall otherwise than usual; which ones, the seed says."""
        draw = random.Random(seed)
        rules = [
            {"kind": "slow", "service": service, "probability": draw.uniform(0, 0.4), "seconds": draw.uniform(0, 0.08)}
            for service in ("s3", "sagemaker")
        ]
        self.faults.set({"seed": seed, "requests": rules})
        yield
        self.faults.clear()

    def hold(self, operation: str, path: str = "*", when: str = "before", nth: int = 1) -> None:
        """Let one request stand still, in the place of all other faults."""
        rule = {"kind": "hold", "operation": operation, "path": path, "when": when, "nth": nth}
        self.faults.set({"requests": [rule]})

    def until_held(self) -> None:
        """Wait until a request stands still."""
        wait_until(lambda: self.faults.wait_for_held(20), "a request to be held")

    def age(self, pattern: str, seconds: float) -> None:
        """Set back S3's stamp on objects, as if they had been written so much earlier."""
        with closing(sqlite3.connect(self.backend.home / "s3" / "index.sqlite", timeout=60)) as index, index:
            changed = index.execute("UPDATE objects SET modified = modified - ? WHERE key GLOB ?", (seconds, pattern))
            assert changed.rowcount == 1

    def reap(self, work: Work) -> ReapReport:
        """Let the reaper look at the jobs of a piece of work, and stop what it finds nobody waits for."""
        project = SageMakerProject.local(work.project, home=self.backend.home)
        return Reaper(project, lambda _: "unknown", Rules(grace=timedelta())).reap(dry_run=False)

    def close(self) -> None:
        """End all processes."""
        for each in self._pool:
            each.close()


class Work:
    """A task of a project of its own, and what it is called with.

    Args:
        backend: Where.
        project: The project's name.
        arguments: Of the call.
        gate: The file for which its jobs wait, if they do.
    """

    def __init__(self, backend, project: str, arguments: dict, gate: Path | None = None) -> None:
        self.project, self._arguments, self._gate = project, arguments, gate
        self.seen = TaskSeen(backend, BUCKET, project, "fit")

    def order(self, at: float = 0.0, how: str = "notebook", kind: str = "train", **arguments) -> Order:
        """A call of it."""
        return Order(self.project, "fit", {**self._arguments, **arguments}, kind=kind, how=how, at=at)

    def other_order(self, **arguments) -> Order:
        """A call of the same task with other code."""
        return self.order(**{"command": self._arguments.get("command", "") + "\necho of the others", **arguments})

    def open_gate(self) -> None:
        """Let its jobs end."""
        assert self._gate is not None
        self._gate.touch()

    def until_running(self) -> str:
        """Wait until there is a job of it; return the name of the newest."""
        return wait_until(self.seen.jobs, "a job to run")[-1].name

    def heartbeats(self) -> list[str]:
        """Who waits for its jobs."""
        return self.seen.keys("_ledger/interest/")

    def statuses(self) -> list[str]:
        """The status of each of its jobs, oldest first."""
        return [job.status for job in self.seen.jobs()]


def for_seconds(seconds: float, **more: str) -> dict[str, dict[str, str]]:
    """The environment of a simulated job of that length."""
    return {"environment": {"SIMULATED_SECONDS": str(seconds), **more}}


def race(contestants: list[Contestant], orders: list[Order]) -> list[Outcome]:
    """Let each begin its order, and wait for all."""
    for each, order in zip(contestants, orders, strict=True):
        each.begin(order)
    return [each.outcome() for each in contestants]


def soon() -> float:
    """The moment at which a round begins: when all have their orders."""
    return time.monotonic() + _HEADSTART


@pytest.fixture(scope="session")
def the_arena(tmp_path_factory, make_backend, prefect_api):
    """One arena for all races: processes cost more than races do."""
    backend = make_backend(tmp_path_factory.mktemp("races") / "home")
    backend.up()
    arena = Arena(backend, prefect_api, tmp_path_factory.mktemp("machines"))
    yield arena
    arena.close()


@pytest.fixture
def arena(the_arena):
    """That arena without any faults, before and after."""
    the_arena.faults.clear()
    yield the_arena
    the_arena.faults.clear()
    # Who still waits for a long job would wait on; the next test replaces them, and the backend's end ends the jobs.
