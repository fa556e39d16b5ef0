"""The crash harness: kill a flow before and after each of its AWS calls, run it again, and compare what is left.

At a crash point (`crash_points.py`), the local SageMaker holds the call before or after it acts (`hold`,
docs/decisions/0010). Then the flow's process gets SIGKILL. So it is known exactly what had been done.
"""

from __future__ import annotations

import queue
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crash_picture import Camera, Picture, differences, overlaps
from crash_points import Point, Recorder, Trace
from crash_processes import PATIENCE_SECONDS, Preloaded, Run
from crash_scenarios import Scenario
from typing_extensions import Self

_TICK_SECONDS = 0.1
_MOST_TOLD = 4
# The harness's own listings must pass while all other calls are held; the first rule that fires is applied.
_PASS = {"kind": "slow", "seconds": 0, "service": "sagemaker", "operation": "List*Jobs"}


@dataclass
class Outcome:
    """The outcome of one crash point."""

    scenario: str
    point: Point
    reached: bool
    wrong: list[str]
    seconds: float


def told(outcome: Outcome) -> list[str]:
    """Return the first few errors at a point: one extra job causes many."""
    more = len(outcome.wrong) - _MOST_TOLD
    lines = [*outcome.wrong[:_MOST_TOLD], *([f"and {more} more"] if more > 0 else [])]
    return [f"{outcome.scenario}, {outcome.point}: {line}" for line in lines]


@dataclass(frozen=True)
class Undisturbed:
    """What an undisturbed run left."""

    picture: Picture
    results: list[dict[str, Any]]


class Stuck(Exception):
    """A run did not end in time."""


class Bench:
    """One local SageMaker with its preloaded process: the environment of one crash point at a time.

    Args:
        backend: The local SageMaker, running.
        prefect_api: The URL of the Prefect server to which flows report.
        directory: A directory for all files; created here.
    """

    def __init__(self, backend: Any, prefect_api: str, directory: Path) -> None:
        directory.mkdir()
        self._gates, data = directory.parent / "gates", directory.parent / "data"
        for folder in (self._gates, data):
            folder.mkdir(exist_ok=True)
        for name, lines in (("one.csv", "3\n1\n"), ("two.csv", "2\n")):
            (data / name).write_text(lines)
        # The path of the gates is in the jobs' environment, and so in their fingerprints: it must be the same for all
        # benches.
        self._places = {"gates": str(self._gates), "data": str(data)}
        self.faults, self.camera = backend.faults, Camera(backend)
        self._preloaded = Preloaded(backend.home, prefect_api, directory / "flows")

    def begin(self) -> None:
        """Wait until flows can be run."""
        self._preloaded.wait_until_ready()

    def end(self) -> None:
        """End the preloaded process."""
        self._preloaded.end()

    # -- the undisturbed run -----------------------------------------------------------------------------------------

    def record(self, scenario: Scenario) -> tuple[Trace, Undisturbed]:
        """Step through an undisturbed run; return its calls, and what it left."""
        project = self._new_project(scenario)
        recorder = Recorder(scenario, project)
        with self._faulty([_PASS, {"kind": "hold", "when": "after"}]):
            run = self._start(scenario, project, dict(scenario.killed))

            def step(held: dict[str, Any]) -> bool:
                task = recorder.take(held)
                if task:
                    self._open_and_end(project, task)
                self.faults.release(held["number"])
                return False

            self._attend(run, step)
        return recorder.trace, self._undisturbed(project, run)

    def _undisturbed(self, project: str, run: Run) -> Undisturbed:
        assert run.code == 0, f"the undisturbed run failed: see {self._preloaded.log}"
        picture = self.camera.picture(project)
        return Undisturbed(picture, self.camera.results(project, run.results, picture))

    # -- a crash -----------------------------------------------------------------------------------------------------

    def crash(
        self, scenario: Scenario, point: Point, trace: Trace, undisturbed: Undisturbed, *, thrice: bool = False
    ) -> Outcome:
        """Kill a flow at a point, run it again, and compare what is left with what an undisturbed run left.

        Args:
            scenario: The flow.
            point: The crash point.
            trace: The flow's calls.
            undisturbed: What an undisturbed run left.
            thrice: Whether to run the flow a third time, which must skip every task; default False.
        """
        began = time.monotonic()
        project = self._new_project(scenario)
        outcome = Outcome(scenario.name, point, False, [], 0.0)
        try:
            run = self._start(scenario, project, dict(scenario.killed), rules=self._rules(point, trace, project))
            outcome.reached = self._attend(run, self._killer(point, trace, project))
            run.kill()
            self._wait(lambda: not self.faults.show()["held"], "the server to see that its client died")
            self.faults.clear()
            left = self.camera.waiting(project)
            again = self._again(scenario, point, project, run.flow_run if scenario.again == "retry" else None)
            outcome.wrong = self._judge(scenario, project, again, undisturbed, left)
            if thrice and not outcome.wrong and not scenario.killed:
                outcome.wrong = self._judge_skip(scenario, project, undisturbed, left)
        except Stuck as stuck:
            outcome.wrong = [str(stuck)]
        finally:
            self.faults.clear()
        outcome.seconds = time.monotonic() - began
        return outcome

    def _rules(self, point: Point, trace: Trace, project: str) -> list[dict[str, Any]]:
        """Return the rule of the point or of its trigger, and the rules at which gates are opened."""
        first = point.trigger.rule(project, "after") if point.trigger else point.call.rule(project, point.when)
        return [first, *(call.rule(project, "after") for call in trace.live)]

    def _killer(self, point: Point, trace: Trace, project: str) -> Callable[[dict[str, Any]], bool]:
        """Return a function that tells whether a held call is the point; it handles and releases every other call."""
        triggered = not point.trigger
        tasks = list(trace.live.values())

        def see(held: dict[str, Any]) -> bool:
            nonlocal triggered
            if held["rule"] == 0 and triggered:
                return True
            if held["rule"] == 0:
                triggered = True
                self.faults.set({"requests": [point.call.rule(project, point.when)]})
                return False
            self._open_and_end(project, tasks[held["rule"] - 1])
            self.faults.release(held["number"])
            return False

        return see

    def _again(self, scenario: Scenario, point: Point, project: str, retried: str | None) -> Run:
        """Run the flow once more, to its end."""
        how = dict(scenario.killed)
        if point.meanwhile == "ends":
            self._open_all(scenario, project)
            self._wait(lambda: not any(job.live for job in self.camera.jobs(project)), "the job to end by itself")
        # A live job ends only when the new run waits for it: what the run finds must not be a matter of chance.
        waits = {"kind": "hold", "when": "after", "operation": "PutObject", "path": f"*/{project}/*/_ledger/interest/*"}
        run = self._start(scenario, project, how, rules=[waits], retried=retried)

        def see(held: dict[str, Any]) -> bool:
            self._gate(project, held["path"].split("/")[3]).touch()
            self.faults.release(held["number"])
            return False

        self._attend(run, see)
        self.faults.clear()
        return run

    # -- comparison --------------------------------------------------------------------------------------------------

    def _judge(
        self, scenario: Scenario, project: str, run: Run, undisturbed: Undisturbed, left: frozenset[str]
    ) -> list[str]:
        picture = self.camera.picture(project)
        wrong = self._judge_jobs(scenario, picture)
        if run.code != 0:
            wrong.append(f"the run after the crash failed: {run.code}, see {self._preloaded.log}")
        else:
            results = self.camera.results(project, run.results, picture)
            wrong += differences(undisturbed.results, results, "result")
        wrong += differences(undisturbed.picture.content, picture.content, "s3:/")
        wrong += [f"still waits, and was not killed: {mark}" for mark in sorted(picture.waiting - left)]
        return wrong

    def _judge_jobs(self, scenario: Scenario, picture: Picture) -> list[str]:
        counts = Counter(job.task for job in picture.jobs)
        wrong = [
            f"{counts[task]} jobs of {task} instead of {scenario.jobs}"
            for task in scenario.tasks
            if counts[task] != scenario.jobs
        ]
        wrong += [f"{job.name} is {job.status}" for job in picture.jobs if job.status != "Completed"]
        return wrong + overlaps(picture.jobs)

    def _judge_skip(
        self, scenario: Scenario, project: str, undisturbed: Undisturbed, left: frozenset[str]
    ) -> list[str]:
        """Run the flow once more; it must skip every task."""
        run = self._start(scenario, project, dict(scenario.killed))
        self._finish(run)
        wrong = self._judge(scenario, project, run, undisturbed, left)
        if run.code == 0:
            wrong += [f"{result['task']} was not skipped" for result in run.results if not result["cached"]]
        return [f"in a third run: {each}" for each in wrong]

    # -- helpers -----------------------------------------------------------------------------------------------------

    def _new_project(self, scenario: Scenario) -> str:
        project = f"crash-{uuid.uuid4().hex[:12]}"
        self.camera.forget_before(time.time() - 1)
        if scenario.prepared:
            self._open_all(scenario, project)
            run = self._start(scenario, project, {})
            self._finish(run)
            assert run.code == 0, f"the run before failed: see {self._preloaded.log}"
            for task in scenario.tasks:
                self._gate(project, task).unlink()
        return project

    def _start(
        self,
        scenario: Scenario,
        project: str,
        how: dict[str, Any],
        rules: Sequence[dict[str, Any]] = (),
        retried: str | None = None,
    ) -> Run:
        if rules:
            self.faults.set({"requests": list(rules)})
        return self._preloaded.run(scenario, project, how, self._places, retried)

    def _finish(self, run: Run) -> None:
        """Wait for the end of a run in which no call is held."""
        if not run.over(PATIENCE_SECONDS):
            self._give_up(run)

    def _give_up(self, run: Run) -> None:
        run.kill()
        raise Stuck(f"a run did not end within {PATIENCE_SECONDS:.0f} s: see {self._preloaded.log}")

    def _attend(self, run: Run, see: Callable[[dict[str, Any]], bool]) -> bool:
        """Pass each held call to `see` once, until it returns True or the run is over; return whether it did."""
        until, seen = time.monotonic() + PATIENCE_SECONDS, set()
        while not run.over():
            if time.monotonic() > until:
                self._give_up(run)
            for held in self.faults.wait_for_held(_TICK_SECONDS):
                if held["number"] not in seen:
                    seen.add(held["number"])
                    if see(held):
                        return True
        return False

    @contextmanager
    def _faulty(self, rules: list[dict[str, Any]]) -> Iterator[None]:
        self.faults.set({"requests": rules})
        try:
            yield
        finally:
            self.faults.clear()

    def _gate(self, project: str, task: str) -> Path:
        return self._gates / f"{project}.{task}"

    def _open_all(self, scenario: Scenario, project: str) -> None:
        for task in scenario.tasks:
            self._gate(project, task).touch()

    def _open_and_end(self, project: str, task: str) -> None:
        """Let a job end, and wait until it has ended. It uses only listings, since a Describe may be held."""
        self._gate(project, task).touch()
        done = {"Completed", "Failed", "Stopped"}
        self._wait(lambda: done.issuperset(self.camera.statuses(f"{task}-")), f"the job of {task} to end")

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        until = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            if time.monotonic() > until:
                raise Stuck(f"waited in vain for {what}")
            threading.Event().wait(0.02)


class Harness:
    """Several benches that work at the same time.

    Args:
        backends: Running local SageMakers, one for each bench.
        prefect_api: The URL of the Prefect server to which flows report.
        directory: A directory for all files.
    """

    def __init__(self, backends: Sequence[Any], prefect_api: str, directory: Path) -> None:
        self._benches = [
            Bench(backend, prefect_api, directory / f"b{number}") for number, backend in enumerate(backends)
        ]

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for bench in self._benches:
                stack.callback(bench.end)
            for bench in self._benches:
                bench.begin()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def crash_everywhere(
        self,
        scenario: Scenario,
        tell: Callable[[Outcome], None] = lambda _: None,
        *,
        thrice: bool = False,
        choose: Callable[[list[Point]], Iterable[Point]] = iter,
    ) -> tuple[Trace, list[Outcome]]:
        """Kill the flow of a scenario at all its points; return its calls, and the outcome of each point.

        Args:
            scenario: The flow.
            tell: Called with the outcome of each point, in any order.
            thrice: As in `Bench.crash`.
            choose: Returns the points to try, out of all points; by default all.
        """
        trace, undisturbed = self._benches[0].record(scenario)
        free: queue.Queue[Bench] = queue.Queue()
        for bench in self._benches:
            free.put(bench)

        def crash(point: Point) -> Outcome:
            bench = free.get()
            try:
                outcome = bench.crash(scenario, point, trace, undisturbed, thrice=thrice)
            finally:
                free.put(bench)
            tell(outcome)
            return outcome

        with ThreadPoolExecutor(len(self._benches)) as pool:
            return trace, list(pool.map(crash, choose(trace.points())))
