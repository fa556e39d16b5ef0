"""Mixtures of faults: how one is drawn, how a flow runs under it, and what must hold afterwards.

A mixture is a small flow and a document of faults for the local SageMaker. Its text is enough to repeat it
(`fault_soak.py --replay`). All faults in it are transient, so every flow must complete:

- Requests that fail (`lose`, `drop`, `error`) are at most as many as one call of a task retries
  (`tasks_lib.run.retries.CALL_RETRIES`), and so are requests with expired credentials.
- Conditional writes that are refused (412, 409) are fewer than the ledger's own retries.
- `throttle` and `slow` may last forever: they cost time, but no retry.
- Capacity is refused at most twice, which takes seconds of the hour that a task waits for it. A quota has room for one
  job.

Hypothesis draws and does not shrink. The effect of a mixture depends on the order in which threads make requests, so a
smaller mixture that passes proves nothing.
"""

from __future__ import annotations

import json
import os
import random
import time
import traceback
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path
from threading import Lock, Thread
from typing import Any

import own_prefect  # before any import of Prefect
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from prefect import Flow
from prefect.exceptions import PrefectHTTPStatusError
from race_invariants import TaskSeen, assert_exactly_once, assert_one_writer

from blocks import SageMakerProject
from tasks_lib import output_of, sagemaker_tasks
from tasks_lib.error_categories import ErrorCategory
from tasks_lib.run.retries import CALL_RETRIES

BUCKET = "local-sagemaker"
SERVICES = ("s3", "sagemaker", "logs")
SEED = int(os.environ.get("FAULT_SEED", random.SystemRandom().randrange(10**6)))
_DRAWING = settings(database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
assert own_prefect.HOME


# -- mixtures and outcomes ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mixture:
    """A flow and its faults.

    Attributes:
        shape: The flow: a key of `SHAPES`.
        faults: The document, as `FaultClient.set` takes it.
    """

    shape: str
    faults: dict[str, Any]

    @classmethod
    def read(cls, text: str) -> Mixture:
        """Return the mixture of a text."""
        return cls(**json.loads(text))

    def __str__(self) -> str:
        return json.dumps({"shape": self.shape, "faults": self.faults})

    @property
    def rules(self) -> list[dict[str, Any]]:
        """All its rules."""
        return [*self.faults.get("requests", ()), *self.faults.get("jobs", ())]


@dataclass
class Outcome:
    """The outcome of a mixture.

    Attributes:
        mixture: The mixture.
        wrong: What does not hold, in words; empty if everything holds.
        fired: How often each kind of fault happened.
        results: The results of the flow's tasks.
        error: The exception of the flow, or of the next run, which should skip every task; None if both completed.
        seconds: Wall time.
    """

    mixture: Mixture
    wrong: list[str] = field(default_factory=list)
    fired: Counter[str] = field(default_factory=Counter)
    results: list[Any] = field(default_factory=list)
    error: Exception | None = None
    seconds: float = 0.0

    def __str__(self) -> str:
        """Return what is wrong, and the command that repeats the mixture."""
        command = f"python tests/exactly_once/fault_soak.py --replay '{self.mixture}'"
        return "\n    ".join([*self.wrong, f"again: {command}"])


# -- drawing -----------------------------------------------------------------------------------------------------------

_OPERATIONS = (
    *(
        "*",
        "*",
        "*",
        "s3:*",
        "sagemaker:*",
        "logs:*",
        "s3:PutObject",
        "s3:GetObject",
        "s3:ListObjectsV2",
        "s3:DeleteObject",
    ),
    *("sagemaker:Create*Job", "sagemaker:Describe*Job"),
)
_ON_LEDGER = {"service": "s3", "operation": "PutObject", "path": "*/_ledger/*.json"}
_CODES = {"s3": ("InternalError", "ServiceUnavailable"), "sagemaker": ("InternalFailure", "ServiceUnavailable")}
_MOST = {
    **dict.fromkeys(("lose", "drop", "error"), CALL_RETRIES[ErrorCategory.SERVICE_FAULT].tries or 0),
    "expire": CALL_RETRIES[ErrorCategory.EXPIRED].tries or 0,
}
"""How many of these faults a flow must survive: each counts as one failed call, as if botocore's retry did not help."""

_PROBABILITIES = st.sampled_from([0.05, 0.1, 0.2, 0.3, 0.4])


def _where(text: str) -> dict[str, str]:
    service, _, operation = text.partition(":")
    return {name: glob for name, glob in (("service", service), ("operation", operation)) if glob not in ("", "*")}


@st.composite
def _chance(draw: st.DrawFn) -> dict[str, Any]:
    """Draw which requests a rule is for: any, or two in a row, against which botocore's one retry does not help."""
    if draw(st.booleans()):
        return {"probability": draw(_PROBABILITIES)}
    first = draw(st.integers(1, 15))
    return {"nth": [first, first + 1]}


@st.composite
def _bounded(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Draw rules of requests that fail, together at most as many as a task retries."""
    rules = []
    left = {"fault": _MOST["lose"], "expire": _MOST["expire"]}
    for kind in draw(st.lists(st.sampled_from(["lose", "drop", "error", "expire"]), min_size=1, max_size=3)):
        pool = "expire" if kind == "expire" else "fault"
        if not left[pool]:
            continue
        where = _where(draw(st.sampled_from(_OPERATIONS)))
        rule = {"kind": kind, **where, **draw(_chance()), "times": draw(st.integers(1, left[pool]))}
        left[pool] -= rule["times"]
        if kind == "error":
            codes = _CODES.get(where.get("service", ""), ("ServiceUnavailable",))
            rule |= {"code": draw(st.sampled_from(codes)), "when": draw(st.sampled_from(["before", "after"]))}
        rules.append(rule)
    return rules


@st.composite
def _throttled(draw: st.DrawFn) -> dict[str, Any]:
    where = _where(draw(st.sampled_from(_OPERATIONS)))
    often = draw(st.booleans())
    rule = {"kind": "throttle", **where, "probability": draw(_PROBABILITIES) if often else 0.1}
    return rule | ({"times": draw(st.integers(1, 20))} if often else {})


@st.composite
def _conflicting(draw: st.DrawFn) -> dict[str, Any]:
    code = draw(st.sampled_from(["PreconditionFailed", "ConditionalRequestConflict"]))
    # A PUT that is refused after it took effect and is then retried finds its own object.
    when = draw(st.sampled_from(["before", "after"]))
    conflict = {"kind": "error", "code": code, "when": when, **_ON_LEDGER}
    return conflict | {"probability": draw(_PROBABILITIES), "times": draw(st.integers(1, 8))}


@st.composite
def _slow(draw: st.DrawFn) -> dict[str, Any]:
    seconds = draw(st.sampled_from([0.01, 0.05, 0.1]))
    where = _where(draw(st.sampled_from(_OPERATIONS)))
    return {"kind": "slow", **where, "probability": draw(_PROBABILITIES), "seconds": seconds}


_JOB_RULES = st.one_of(
    st.builds(lambda times: {"kind": "capacity", "times": times}, st.integers(1, 2)),
    st.builds(lambda seconds: {"kind": "pending", "seconds": seconds}, st.sampled_from([0.1, 0.5])),
    st.just({"kind": "quota", "limit": 1}),
)


@st.composite
def mixtures(draw: st.DrawFn) -> Mixture:
    """Draw a mixture under which a flow must complete."""
    shape = draw(st.sampled_from(["one", "chain", "two"]))
    passing = draw(st.lists(st.one_of(_throttled(), _conflicting(), _slow()), max_size=2))
    requests = draw(st.permutations([*draw(_bounded()), *passing]))
    jobs = draw(st.lists(_JOB_RULES, max_size=2, unique_by=lambda rule: rule["kind"]))
    return Mixture(shape, {"seed": draw(st.integers(0, 2**16)), "requests": list(requests), "jobs": jobs})


# -- the flows ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """What a flow needs.

    Attributes:
        sm: The tasks of its project.
        names: Names for its tasks, unique because SageMaker lists jobs by parts of their names.
        data: A directory of inputs.
    """

    sm: Any
    names: Sequence[str]
    data: Path


def _one(place: Place) -> list[Any]:
    return [place.sm.train(place.names[0], inputs={"data": place.data})]


def _chain(place: Place) -> list[Any]:
    prepared = place.sm.process.submit(place.names[0])
    return [prepared.result(), place.sm.train(place.names[1], inputs={"data": output_of(prepared)})]


def _two(place: Place) -> list[Any]:
    return [each.result() for each in [place.sm.train.submit(name) for name in place.names]]


def _real(place: Place) -> list[Any]:
    clean = 'sort "$SM_CHANNEL_RAW"/* > "$SM_OUTPUT_DATA_DIR/all"'
    fit = 'sort "$SM_CHANNEL_DATA/all" > "$SM_MODEL_DIR/all"; echo 1 >> "$SSM_STATE/began"; echo loss=0.25'
    clean_name, fit_name = place.names
    cleaned = place.sm.process(clean_name, image="local/python", command=clean, inputs={"raw": place.data})
    fitted = place.sm.train(
        fit_name,
        image="local/python",
        command=fit,
        inputs={"data": output_of(cleaned)},
        metrics={"loss": r"loss=([0-9.]+)"},
    )
    assert fitted.metrics == {"loss": 0.25}
    return [cleaned, fitted]


SHAPES: dict[str, tuple[int, Callable[[Place], list[Any]]]] = {
    "one": (1, _one),
    "chain": (2, _chain),
    "two": (2, _two),
    "real": (2, _real),
}
"""The number of tasks of each flow, and its function: one task with an input, one task after the other, two tasks side
by side, and one after the other with real jobs, a state and a metric, which is slow and never drawn."""


# -- running -----------------------------------------------------------------------------------------------------------


class Stuck(Exception):
    """A flow did not end."""


class Lane:
    """A local SageMaker on which one flow runs at a time, since its faults affect all requests.

    Args:
        backend: The local SageMaker, running.
        directory: A directory for inputs.
    """

    def __init__(self, backend: Any, directory: Path) -> None:
        self.backend = backend
        self._data = directory / "data"
        self._data.mkdir(parents=True, exist_ok=True)
        (self._data / "one.csv").write_text("3\n1\n")
        self._first = SageMakerProject.local("mixtures", home=backend.home, image="local/simulated", spot=False)
        for service in SERVICES:
            self._first.client(service)

    @property
    def faults(self):
        """The client of its faults. A new one each time, since a server that was killed may have another port."""
        return self.backend.faults

    def fired(self) -> Counter[str]:
        """Return how often each kind of fault has happened since the faults were set."""
        shown, fired = self.faults.show(), Counter[str]()
        for rule in (*shown["requests"], *shown["jobs"]):
            fired[rule["kind"]] += rule["fired"]
        return fired

    def clear(self) -> None:
        """Turn all faults off, and start the server if it is down."""
        self.backend.up()
        self.faults.clear()

    def project(self, **fields: Any) -> SageMakerProject:
        """Return a new project. All projects share their clients, which are slow to make."""
        return self._first.model_copy(update={"project": f"mix-{uuid.uuid4().hex[:12]}", **fields})

    def run(self, mixture: Mixture) -> Outcome:
        """Run a mixture's flow under its faults, and once more without faults; return what does not hold.

        Prefect's own server answers 503 if its SQLite was locked for a minute, which happens on a busy machine. This
        says nothing about the product, so the mixture is run again, in another project.
        """
        outcome = self._run(mixture)
        return self._run(mixture) if isinstance(outcome.error, PrefectHTTPStatusError) else outcome

    def _run(self, mixture: Mixture) -> Outcome:
        began = time.monotonic()
        count, body = SHAPES[mixture.shape]
        project = self.project()
        names = [f"t{uuid.uuid4().hex[:8]}" for _ in range(count)]
        sm = sagemaker_tasks(project, environment={"SIMULATED_SECONDS": "0.1"})
        place = Place(sm, names, self._data)
        outcome = self.under(mixture, lambda: body(place))
        outcome.wrong += self._judge(project, names, outcome)
        if not outcome.wrong:
            outcome.wrong += self._judge_skip(outcome, lambda: body(place))
        outcome.seconds = time.monotonic() - began
        return outcome

    def under(self, mixture: Mixture, body: Callable[[], list[Any]]) -> Outcome:
        """Run a flow under a mixture's faults; turn the faults off afterwards."""
        outcome = Outcome(mixture)
        self.faults.set(mixture.faults)
        try:
            outcome.results = _in_time(lambda: _flow(mixture.shape, body))
        except Exception as error:  # noqa: BLE001 - it is part of the outcome
            outcome.error = error
        finally:
            outcome.fired = self.fired()
            self.faults.clear()
        return outcome

    def _judge(self, project: SageMakerProject, names: Sequence[str], outcome: Outcome) -> list[str]:
        if outcome.error is not None:
            return [f"the flow ended in {type(outcome.error).__name__}: {outcome.error}"]
        tasks = [TaskSeen(self.backend, BUCKET, project.project, name) for name in names]
        if refuses(outcome, "DeleteObject"):
            for task in tasks:
                expire_heartbeats(self.backend, task)
        wrong = [text for task, result in zip(tasks, outcome.results, strict=True) for text in _task(task, result)]
        limit = min((rule["limit"] for rule in outcome.mixture.rules if rule["kind"] == "quota"), default=None)
        return wrong + ([] if limit is None else _over_quota(tasks, limit))

    def _judge_skip(self, outcome: Outcome, body: Callable[[], list[Any]]) -> list[str]:
        again = self.under(Mixture(outcome.mixture.shape, {}), body)
        if again.error is not None:
            outcome.error = again.error
            return [f"the next run ended in {type(again.error).__name__}: {again.error}"]
        expected = [(result.job, dict(result.outputs), result.metrics) for result in outcome.results]
        found = [(result.job, dict(result.outputs), result.metrics) for result in again.results]
        wrong = [f"{result.job} was not skipped: {result.reason}" for result in again.results if not result.cached]
        return wrong + ([f"skipped as {found} instead of {expected}"] if found != expected else [])


MOST_SECONDS = 180
"""Seconds after which a flow is considered hung: on an idle machine no drawn mixture needs a tenth of it."""


def _in_time(work: Callable[[], list[Any]]) -> list[Any]:
    """Run a function in its own thread with this thread's context, which contains Prefect's settings."""
    done: list[Any] = []
    failed: list[Exception] = []

    def run() -> None:
        try:
            done.extend(work())
        except Exception as error:  # noqa: BLE001 - raised below
            failed.append(error)

    thread = Thread(target=copy_context().run, args=(run,), daemon=True)
    thread.start()
    thread.join(MOST_SECONDS)
    if thread.is_alive():
        raise Stuck(f"the flow did not end within {MOST_SECONDS} s")
    if failed:
        raise failed[0]
    return done


def _flow(name: str, body: Callable[[], list[Any]]) -> list[Any]:
    results: list[Any] = Flow(body, name=f"mixture-{name}", persist_result=False)()
    return results


# -- invariants --------------------------------------------------------------------------------------------------------


def refuses(outcome: Outcome, operation: str) -> bool:
    """Return whether a request of S3 may have failed."""
    return any(
        fnmatchcase("s3", rule.get("service", "*")) and fnmatchcase(operation, rule.get("operation", "*"))
        for rule in outcome.mixture.faults.get("requests", ())
        if rule["kind"] != "slow" and outcome.fired[rule["kind"]]
    )


def expire_heartbeats(backend: Any, task: TaskSeen) -> None:
    """Delete the heartbeats that S3 did not delete, as if they had expired."""
    for key in task.keys("_ledger/interest/"):
        backend.client("s3").delete_object(Bucket=task.bucket, Key=task.prefix + key)


def _task(task: TaskSeen, result: Any) -> list[str]:
    try:
        jobs = assert_exactly_once(task)
        assert_one_writer(task)
        newest = task.document("_ledger/latest.json")
        assert (result.status, result.job, newest["job"]) == ("Completed", jobs[-1].name, jobs[-1].name), result
    except AssertionError as error:
        where = traceback.extract_tb(error.__traceback__)[-1].line
        return [f"{task.prefix}: {where}: {error}; jobs {task.jobs()}, ledger {task.keys('_ledger/')}"]
    return []


def _over_quota(tasks: Sequence[TaskSeen], limit: int) -> list[str]:
    """Return the pairs of jobs that were live at the same time under a quota with room for one."""
    jobs = sorted((job for task in tasks for job in task.jobs()), key=lambda job: job.created)
    return [f"{a} and {b} at once, with a quota of {limit}" for a, b in pairwise(jobs) if b.created < a.ended]


# -- many mixtures -----------------------------------------------------------------------------------------------------


def drawn(number: int, seed: int = SEED) -> list[Mixture]:
    """Return a number of mixtures; the same seed draws the same mixtures.

    They are drawn before any is run, since Hypothesis seeds `random` for the whole process while it draws.
    """
    found: list[Mixture] = []

    @seeded(seed)
    @settings(_DRAWING, max_examples=number)
    @given(mixtures())
    def draw(mixture: Mixture) -> None:
        found.append(mixture)

    draw()
    return found


def run_mixtures(lanes: Sequence[Lane], some: Sequence[Mixture], tell: Callable[[Outcome], None]) -> None:
    """Run mixtures, one at a time on each lane: most of the time they wait.

    Args:
        lanes: The lanes.
        some: The mixtures.
        tell: Called with each outcome, one call at a time.
    """
    lock, left = Lock(), iter(some)

    def work(lane: Lane) -> None:
        while True:
            with lock:
                mixture = next(left, None)
            if mixture is None:
                return
            outcome = lane.run(mixture)
            with lock:
                tell(outcome)

    with ThreadPoolExecutor(len(lanes)) as pool:
        for done in [pool.submit(copy_context().run, work, lane) for lane in lanes]:
            done.result()
