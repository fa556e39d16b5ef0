"""Decides whether a live job is an orphan: a job that no live run needs. Pure.

There are three signals, and none is sufficient alone. Heartbeats of waiters expire by S3's clock, but also while a
laptop sleeps. Prefect's state of a flow run stays `Running` for ever if its process was killed. And a waiter may have
left the job running on purpose. Unless all of them agree, the job is kept: it ends by its own time limit anyway.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from typing import Literal

from tasks_lib.jobs.job import Job
from tasks_lib.ledger.heartbeats import EXPIRES_AFTER

RunState = Literal["live", "over", "unknown", "unreachable"]
"""Prefect's answer about a flow run. `unknown`: this server has none of that id. `unreachable`: it did not answer."""


@dataclass(frozen=True)
class Rules:
    """When a job is an orphan.

    Args:
        grace: A job younger than this is not an orphan.
        silence: A run that Prefect calls live keeps its job for so long after its last heartbeat.
        include_left: Whether jobs that were left running on purpose may be orphans, too.
    """

    grace: timedelta = timedelta(minutes=15)
    silence: timedelta = timedelta(hours=12)
    include_left: bool = False


@dataclass(frozen=True)
class JobActivity:
    """A live job, and what is known of the runs that need it.

    Args:
        job: The job.
        task: Its task.
        age: Time since its creation.
        waiters: Time since each waiter's last heartbeat, by `<flow run>/<task run>`.
        left: The flow runs that left it running on purpose.
        runs: Prefect's answer about each flow run that waited, and about the one that created the job.
    """

    job: Job
    task: str
    age: timedelta
    waiters: Mapping[str, timedelta] = field(default_factory=dict)
    left: tuple[str, ...] = ()
    runs: Mapping[str, RunState] = field(default_factory=dict)

    @property
    def fresh(self) -> list[str]:
        """The waiters whose heartbeats have not expired."""
        return sorted(waiter for waiter, age in self.waiters.items() if age <= EXPIRES_AFTER)

    @property
    def last(self) -> tuple[str, timedelta] | None:
        """The waiter with the latest heartbeat, and the time since; None if there are no heartbeats."""
        return min(self.waiters.items(), key=lambda pair: (pair[1], pair[0]), default=None)

    def silence_of(self, flow_run: str) -> timedelta | None:
        """Return the time since a flow run's last heartbeat; None if it has none."""
        return min((age for waiter, age in self.waiters.items() if run_of(waiter) == flow_run), default=None)


class Verdict(Enum):
    """What a live job is found to be."""

    WAITED_FOR = "waited for"
    YOUNG = "young"
    RUN_IS_LIVE = "its run is not over"
    RUN_NOT_KNOWN_NOW = "Prefect did not answer"
    LEFT = "left on purpose"
    ORPHAN = "orphan"


@dataclass(frozen=True)
class Assessment:
    """A verdict, and the reason for it as text."""

    verdict: Verdict
    why: str

    @property
    def orphan(self) -> bool:
        """Whether the job may be stopped."""
        return self.verdict is Verdict.ORPHAN


def assess(seen: JobActivity, rules: Rules) -> Assessment:
    """Return the verdict on a live job; the first reason to keep it decides."""
    if seen.fresh:
        return Assessment(Verdict.WAITED_FOR, f"{_runs(len(seen.fresh))} for it")
    if seen.age < rules.grace:
        return Assessment(Verdict.YOUNG, f"younger than {duration_text(rules.grace)}")
    for run, state in sorted(seen.runs.items()):
        if state in ("live", "unreachable") and _is_believed(seen.silence_of(run), rules):
            return _kept_for(run, state)
    if seen.left and not rules.include_left:
        return Assessment(Verdict.LEFT, f"left on purpose by {', '.join(seen.left)}")
    return Assessment(Verdict.ORPHAN, _why_orphan(seen))


def needs_runs(seen: JobActivity, rules: Rules) -> bool:
    """Return whether the states of flow runs can change the verdict."""
    return not seen.fresh and seen.age >= rules.grace


def run_of(waiter: str) -> str:
    """Return the flow run of a waiter, or `no-flow`."""
    return waiter.partition("/")[0]


def duration_text(time: timedelta) -> str:
    """Return a duration as text: its two largest units, from days to minutes."""
    minutes = max(0, round(time.total_seconds() / 60))
    units = [(minutes // 1440, "d"), (minutes // 60 % 24, "h"), (minutes % 60, "min")]
    first = next((number for number, (count, _) in enumerate(units) if count), len(units) - 1)
    return " ".join(f"{count} {unit}" for count, unit in units[first : first + 2] if count or first == len(units) - 1)


def _is_believed(silence: timedelta | None, rules: Rules) -> bool:
    # A killed process would have left its heartbeat. So a run without one deleted it, or the ledger was deleted.
    return silence is None or silence <= rules.silence


def _kept_for(run: str, state: RunState) -> Assessment:
    if state == "live":
        return Assessment(Verdict.RUN_IS_LIVE, f"flow run {run} is not over in Prefect")
    return Assessment(Verdict.RUN_NOT_KNOWN_NOW, f"Prefect did not say what became of flow run {run}")


def _why_orphan(seen: JobActivity) -> str:
    unwanted = "no run waits for it" if seen.waiters else "no run waits for it or has a heartbeat"
    words = [f"flow run {run} {_word(state, seen.silence_of(run))}" for run, state in sorted(seen.runs.items())]
    if not any(state in ("live", "over") for state in seen.runs.values()):
        words.append("only the heartbeats decide")
    if seen.left:
        words.append("it was left on purpose, and that was asked for")
    return "; ".join([unwanted, *words])


def _word(state: RunState, silence: timedelta | None) -> str:
    if state == "over":
        return "is over"
    if state == "unknown":
        return "is not known to this Prefect server"
    return f"was not heard of for {duration_text(silence or timedelta())}"


def _runs(count: int) -> str:
    return "1 run waits" if count == 1 else f"{count} runs wait"
