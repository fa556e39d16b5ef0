"""Stories for Hypothesis: what may happen to one task, in any order, and what must hold after each step.

The client is a process, so that it can be killed and interrupted at any of its calls. After that, the objects in S3 are
made 16 minutes older where it matters. There is one task with a state, and its jobs are simulated.
"""

from __future__ import annotations

import signal
import sqlite3
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from contestants import Contestant, Machine, Order, Outcome
from fault_mixtures import BUCKET, Lane
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from race_invariants import TaskSeen, assert_one_writer
from waiting import wait_until

_LIVE = {"InProgress", "Stopping"}
_A_WHILE = 16 * 60.0
"""Seconds after which heartbeats expire, and leases of jobs that were never created may be taken."""

_CODES = st.sampled_from(["a", "b"])
_HOW = st.sampled_from(["", "", "", "forced", "clean"])
_CALLS = st.integers(1, 25)
_DAMAGE = st.sampled_from([None, b"", b"{", b"[]", b'{"job": 7}'])
_ARGUMENTS: dict[str, dict[str, Any]] = {"": {}, "forced": {"rerun": "always"}, "clean": {"clean_state": True}}


class Stage:
    """A local SageMaker, and a process that runs flows there and is replaced after it was killed.

    Args:
        lane: The local SageMaker.
        prefect_api: The URL of the Prefect server to which flows report.
        directory: A directory for the processes' homes.
    """

    def __init__(self, lane: Lane, prefect_api: str, directory: Path) -> None:
        self.lane = lane
        self._api, self._directory = prefect_api, directory
        self._client: Contestant | None = None

    @property
    def client(self) -> Contestant:
        """An idle process."""
        if self._client is None or not self._client.alive:
            self.close()
            self._client = Contestant(
                Machine(self.lane.backend.home, self._api, self._directory / uuid.uuid4().hex[:8])
            )
            self._client.until_ready()
        return self._client

    def close(self) -> None:
        """End the process."""
        if self._client is not None:
            self._client.close()
        self._client = None

    def let_pass(self, folder: str, seconds: float) -> None:
        """Make all objects of a folder older by a number of seconds, by S3's clock."""
        with closing(sqlite3.connect(self.lane.backend.home / "s3" / "index.sqlite", timeout=60)) as index, index:
            index.execute("UPDATE objects SET modified = modified - ? WHERE key GLOB ?", (seconds, f"{folder}*"))


class Story(RuleBasedStateMachine):
    """What may happen to one task.

    Args:
        stage: The local SageMaker and the process.
        tell: Called with a line for each step, so that a failure can be read.
    """

    def __init__(self, stage: Stage, tell: Callable[[str], None]) -> None:
        super().__init__()
        self._stage, self._tell = stage, tell
        self._project = f"story-{uuid.uuid4().hex[:8]}"
        self._task = f"t{uuid.uuid4().hex[:8]}"
        self._seen = TaskSeen(stage.lane.backend, BUCKET, self._project, self._task)
        self._recorded: dict[str, str] = {}
        self._last = ""
        tell(f"-- {self._project} {self._task}")

    # -- steps ---------------------------------------------------------------------------------------------------------

    @rule(code=_CODES, how=_HOW)
    def run(self, code: str, how: str) -> None:
        """Run the flow. It must end with at most one new job, and skip work that is recorded."""
        self._tell(f"run {code} {how}")
        before = {job.name for job in self._seen.jobs()}
        client = self._stage.client
        client.begin(self._order(code, how))
        self._ended_well(code, how, before, client.outcome())

    @rule(code=_CODES, how=_HOW, number=_CALLS, when=st.sampled_from(["before", "after"]))
    def crash(self, code: str, how: str, number: int, when: str) -> None:
        """Kill the client at one of its calls."""
        self._tell(f"crash {code} {how} at call {number}, {when}")
        if self._held(code, how, number, when):
            self._stage.client.signal(signal.SIGKILL)
            self._stage.client.until_dead()
            wait_until(lambda: not self._stage.lane.faults.show()["held"], "the server to see its death")
            self._stage.lane.faults.clear()
            self._broken_off(code, how)
            self._stage.let_pass(f"{self._project}/{self._task}/_ledger/", _A_WHILE)

    @rule(code=_CODES, how=_HOW, number=_CALLS, when=st.sampled_from(["before", "after"]))
    def cancel(self, code: str, how: str, number: int, when: str) -> None:
        """Interrupt the client at one of its calls. No live job may remain, and only heartbeats of killed clients."""
        self._tell(f"cancel {code} {how} at call {number}, {when}")
        of_killed = self._marks()
        if operation := self._held(code, how, number, when):
            client = self._stage.client
            client.signal(signal.SIGINT)
            client.has_ended(0.2)
            self._stage.lane.faults.clear()
            client.outcome()
            self._broken_off(code, how)
            wait_until(lambda: not self._live(), "the job of a cancelled flow to end")
            assert self._marks() <= of_killed
            if operation.startswith("Create"):  # SageMaker may still get the create, so the lease stays taken
                self._stage.let_pass(f"{self._project}/{self._task}/_ledger/lease.json", _A_WHILE)

    @rule()
    def restart(self) -> None:
        """Kill the server, and start it again."""
        self._tell("restart")
        self._stage.lane.backend.kill()
        self._stage.lane.backend.up()

    @precondition(lambda self: self._documents())
    @rule(data=st.data(), damage=_DAMAGE)
    def lose(self, data: st.DataObject, damage: bytes | None) -> None:
        """Delete or damage a document of the ledger while no job runs."""
        wait_until(lambda: not self._live(), "jobs to end")
        name = data.draw(st.sampled_from(self._documents()))
        self._tell(f"lose {name[:14]} {damage!r}")
        if damage is None:
            s3 = self._stage.lane.backend.client("s3")
            s3.delete_object(Bucket=BUCKET, Key=self._seen.prefix + name)
        else:
            self._seen.write(name, damage)
        lost = [code for code, job in self._recorded.items() if self._work_of(job) in name]
        for code in lost:
            if code != self._last:  # other work has written the state since, so what this job left of it is unknown
                del self._recorded[code]

    # -- invariants ----------------------------------------------------------------------------------------------------

    @invariant()
    def one_writes(self) -> None:
        """No two jobs of the task are ever live at the same time."""
        assert_one_writer(self._seen)

    def _ended_well(self, code: str, how: str, before: set[str], outcome: Outcome) -> None:
        jobs = self._seen.jobs()
        new = [job.name for job in jobs if job.name not in before]
        assert outcome.error == "", outcome
        assert len(new) <= 1, new
        assert not self._live()
        (own,) = (job for job in jobs if job.name == outcome.job)
        assert own.status == "Completed"
        entry = self._seen.document(f"_ledger/{own.fingerprint}.json")
        assert (entry["record"]["job"], entry["record"]["attempt"]) == (own.name, len(entry["spent"]) + 1)
        if how:
            assert not outcome.cached, outcome
        elif code in self._recorded:
            assert (outcome.job, new) == (self._recorded[code], []), outcome
        self._recorded[code] = outcome.job
        self._last = code if new else self._last

    def _broken_off(self, code: str, how: str) -> None:
        """Forget what is unknown now: a run that was broken off may have revoked or completed its work."""
        if how or code not in self._recorded:
            self._recorded.pop(code, None)
            self._last = ""

    # -- helpers -------------------------------------------------------------------------------------------------------

    def _order(self, code: str, how: str) -> Order:
        # Only a job that a killed client left may hold the state.
        busy = "wait" if self._live() else "fail"
        simulated = {"environment": {"SIMULATED_SECONDS": "0.3"}, "command": f"echo {code}", "on_busy": busy}
        return Order(self._project, self._task, simulated | _ARGUMENTS[how], how="flow")

    def _held(self, code: str, how: str, number: int, when: str) -> str:
        """Begin a run; return the operation of its held call. If it makes fewer calls, return an empty string."""
        before, client = {job.name for job in self._seen.jobs()}, self._stage.client
        order = self._order(code, how)
        hold = {"kind": "hold", "nth": number, "when": when}
        self._stage.lane.faults.set({"requests": [hold | {"service": "s3"}, hold | {"service": "sagemaker"}]})
        client.begin(order)
        while not client.has_ended():
            if held := self._stage.lane.faults.wait_for_held(0.1):
                return str(held[0]["operation"])
        self._stage.lane.faults.clear()
        self._ended_well(code, how, before, client.outcome())
        return ""

    def _live(self) -> list[str]:
        return [job.name for job in self._seen.jobs() if job.status in _LIVE]

    def _marks(self) -> set[str]:
        return set(self._seen.keys("_ledger/interest/"))

    def _work_of(self, job: str) -> str:
        return next(each.fingerprint for each in self._seen.jobs() if each.name == job)

    def _documents(self) -> list[str]:
        return sorted(name for name in self._seen.keys("_ledger/") if name.endswith(".json"))

    def teardown(self) -> None:
        """Turn all faults off."""
        self._stage.lane.clear()
