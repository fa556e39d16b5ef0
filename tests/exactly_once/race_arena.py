"""The arena of the races: a local SageMaker, processes that live through all tests, faults, and pieces of work.

Not a conftest, since other tests of this folder do not need it.
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

import own_prefect  # before any import of Prefect
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
"""Seconds from the first order of a round to its start, which is the same for all."""
assert own_prefect.HOME


def rounds(number: int) -> Iterator[int]:
    """Yield the seeds of `number` rounds, times `RACE_ROUNDS`; print each, so that a failure can be repeated."""
    for seed in range(SEED, SEED + number * _TIMES):
        sys.stdout.write(f"RACE_SEED={seed}\n")
        yield seed


class Arena:
    """Contestants, and the backend for whose jobs they compete.

    Args:
        backend: A running local SageMaker of these tests alone, since its faults affect all requests.
        prefect_api: The URL of the Prefect server to which flows report.
        directory: A directory for the contestants' homes.
    """

    def __init__(self, backend, prefect_api, directory) -> None:
        self.backend, self._api, self._directory = backend, prefect_api, directory
        self.faults = backend.faults
        self._pool: list[Contestant] = []
        backend.client("s3").create_bucket(Bucket=BUCKET)

    def contestants(self, number: int) -> list[Contestant]:
        """Return idle processes on one machine; those that an earlier test left busy or dead are replaced."""
        for used_up in [each for each in self._pool if each.busy or not each.alive]:
            self._pool.remove(used_up)
            used_up.close()
        made = [self._contestant(self._api) for _ in range(number - len(self._pool))]
        self._pool += made
        for each in made:
            each.until_ready()
        return self._pool[:number]

    def stranger(self) -> Contestant:
        """Return a process on another machine: with its own home directory, profile and Prefect server."""
        return self._contestant(None)

    def _contestant(self, api: str | None) -> Contestant:
        return Contestant(Machine(self.backend.home, api, self._directory / uuid.uuid4().hex[:8]))

    def work(self, **arguments) -> Work:
        """Return a new piece of work; its job is simulated and takes half a second by default."""
        simulated = {"environment": {"SIMULATED_SECONDS": "0.5"}}
        return Work(self.backend, f"race-{uuid.uuid4().hex[:12]}", simulated | arguments)

    def gated_work(self) -> Work:
        """Return a new piece of work whose job is real and ends when its gate is open: it does not depend on time."""
        gate = self._directory / f"gate-{uuid.uuid4().hex[:8]}"
        wait = f"until [ -e {gate} ]; do sleep 0.05; done"
        return Work(self.backend, f"race-{uuid.uuid4().hex[:12]}", {"image": "local/python", "command": wait}, gate)

    @contextmanager
    def slow(self, seed: int):
        """Delay some responses inside this block, so that steps interleave differently; the seed chooses which."""
        draw = random.Random(seed)
        rules = [
            {"kind": "slow", "service": service, "probability": draw.uniform(0, 0.4), "seconds": draw.uniform(0, 0.08)}
            for service in ("s3", "sagemaker")
        ]
        self.faults.set({"seed": seed, "requests": rules})
        yield
        self.faults.clear()

    def hold(self, operation: str, path: str = "*", when: str = "before", nth: int = 1) -> None:
        """Hold one request; this replaces all other faults."""
        rule = {"kind": "hold", "operation": operation, "path": path, "when": when, "nth": nth}
        self.faults.set({"requests": [rule]})

    def until_held(self) -> None:
        """Wait until a request is held."""
        wait_until(lambda: self.faults.wait_for_held(20), "a request to be held")

    def age(self, pattern: str, seconds: float) -> None:
        """Make an object older by a number of seconds, by S3's clock."""
        with closing(sqlite3.connect(self.backend.home / "s3" / "index.sqlite", timeout=60)) as index, index:
            changed = index.execute("UPDATE objects SET modified = modified - ? WHERE key GLOB ?", (seconds, pattern))
            assert changed.rowcount == 1

    def reap(self, work: Work) -> ReapReport:
        """Let the reaper look at the jobs of a piece of work, and stop the orphans."""
        project = SageMakerProject.local(work.project, home=self.backend.home)
        return Reaper(project, lambda _: "unknown", Rules(grace=timedelta())).reap(dry_run=False)

    def close(self) -> None:
        """End all processes."""
        for each in self._pool:
            each.close()


class Work:
    """A task of its own project, and the arguments of its calls.

    Args:
        backend: The local SageMaker.
        project: The project's name.
        arguments: The arguments of each call.
        gate: The file for which its jobs wait; None if they wait for none.
    """

    def __init__(self, backend, project: str, arguments: dict, gate: Path | None = None) -> None:
        self.project, self._arguments, self._gate = project, arguments, gate
        self.seen = TaskSeen(backend, BUCKET, project, "fit")

    def order(self, at: float = 0.0, how: str = "notebook", kind: str = "train", **arguments) -> Order:
        """Return an order to call it."""
        return Order(self.project, "fit", {**self._arguments, **arguments}, kind=kind, how=how, at=at)

    def other_order(self, **arguments) -> Order:
        """Return an order to call the same task with other code."""
        return self.order(**{"command": self._arguments.get("command", "") + "\necho of the others", **arguments})

    def open_gate(self) -> None:
        """Let its jobs end."""
        assert self._gate is not None
        self._gate.touch()

    def until_running(self) -> str:
        """Wait until it has a job; return the name of the newest."""
        return wait_until(self.seen.jobs, "a job to run")[-1].name

    def heartbeats(self) -> list[str]:
        """Return the keys of the heartbeats of its jobs."""
        return self.seen.keys("_ledger/interest/")

    def statuses(self) -> list[str]:
        """Return the status of each of its jobs, oldest first."""
        return [job.status for job in self.seen.jobs()]


def for_seconds(seconds: float, **more: str) -> dict[str, dict[str, str]]:
    """Return the environment of a simulated job that takes a number of seconds."""
    return {"environment": {"SIMULATED_SECONDS": str(seconds), **more}}


def race(contestants: list[Contestant], orders: list[Order]) -> list[Outcome]:
    """Let each contestant begin its order; return all outcomes."""
    for each, order in zip(contestants, orders, strict=True):
        each.begin(order)
    return [each.outcome() for each in contestants]


def soon() -> float:
    """Return the time at which a round begins: after all contestants have their orders."""
    return time.monotonic() + _HEADSTART


@pytest.fixture(scope="session")
def the_arena(tmp_path_factory, make_backend, prefect_api):
    """One arena for all races: starting processes takes longer than a race."""
    backend = make_backend(tmp_path_factory.mktemp("races") / "home")
    backend.up()
    arena = Arena(backend, prefect_api, tmp_path_factory.mktemp("machines"))
    yield arena
    arena.close()


@pytest.fixture
def arena(the_arena):
    """The arena, without faults before and after the test."""
    the_arena.faults.clear()
    yield the_arena
    the_arena.faults.clear()
    # A contestant that still waits for a long job is busy: the next test replaces it. Its job ends with the backend.
