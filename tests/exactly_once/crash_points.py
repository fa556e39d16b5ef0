"""Crash points: the calls of a flow, by names that mean the same calls in each run.

A call is named by its operation, its path and how often both had come, and not by its number among all calls: threads
poll meanwhile, and a number would mean another call in each run. The names come from an undisturbed run, which is
stepped through call by call.

What polls is made to stand still: a job runs until its gate is open, and that is opened when the first Describe of the
live job has been answered and is held back, so there is one Describe of a live job and one of a job that is over. Of
the log's calls, whose number is left to the clock, the first while the job lives and the first after its end are taken.

Whether the job goes on or ends while no flow is there is a third coordinate of the points at which it is live.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from crash_scenarios import Scenario

When = Literal["before", "after"]
Meanwhile = Literal["goes on", "ends"]

_HEX, _UUID = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_JOB_HASH = re.compile(r"-[0-9a-f]{16}-(?=\d)")


@dataclass(frozen=True)
class Call:
    """The how-manieth request of a kind: service, operation, and path as a glob with `PROJECT` in it."""

    service: str
    operation: str
    path: str
    nth: int = 1

    def rule(self, project: str, when: When) -> dict[str, Any]:
        """The rule that holds it."""
        path = self.path.replace("PROJECT", project)
        return {"kind": "hold", "when": when, **asdict(self), "path": path}

    def __str__(self) -> str:
        path = re.sub(r"\?+", "…", self.path)
        return f"{self.service}:{self.operation} {path} #{self.nth}".replace(" / ", " ")


@dataclass(frozen=True)
class Point:
    """Where a flow is killed.

    Args:
        call: The call; where there is a trigger, counted from its answer on.
        when: Before or after it acts.
        trigger: For a call that polls: the call whose answer comes first.
        meanwhile: What a job that is live does until the next run has come.
    """

    call: Call
    when: When
    trigger: Call | None = None
    meanwhile: Meanwhile = "goes on"

    @property
    def leaves_another_world(self) -> bool:
        """Whether S3 or SageMaker is no longer what it was at the point before."""
        reads = self.call.operation.startswith(("Get", "Head", "List", "Describe"))
        return self.when == "after" and not reads

    @property
    def polls(self) -> bool:
        """Whether the clock decides if the call is made."""
        return self.trigger is not None

    def __str__(self) -> str:
        behind = f" behind {self.trigger}" if self.trigger else ""
        return f"{self.when} {self.call}{behind}, job {self.meanwhile}"


@dataclass(frozen=True)
class Trace:
    """The calls of an undisturbed run.

    Args:
        calls: Those that do not poll the log, in their order.
        logs: How often each call about the log came.
        live: By Describe that is first to see a live job: its task.
    """

    calls: tuple[Call, ...]
    logs: dict[str, int]
    live: dict[Call, str]

    def points(self) -> list[Point]:
        """All crash points."""
        both: tuple[When, ...] = ("before", "after")
        plain = [
            Point(call, when, meanwhile=meanwhile)
            for call in self.calls
            for when in both
            for meanwhile in self._meanwhile(call, when)
        ]
        triggers = [call for first in self.live for call in (first, replace(first, nth=first.nth + 1))]
        calls = [Call("logs", operation, "/") for operation in sorted(self.logs)]
        return plain + [
            Point(call, when, trigger, "goes on" if when == "before" else "ends")
            for call, when, trigger in itertools.product(calls, both, triggers)
        ]

    def _meanwhile(self, call: Call, when: When) -> tuple[Meanwhile, ...]:
        return ("goes on", "ends") if (call, when) in self._with_live_job else ("goes on",)

    @property
    def _with_live_job(self) -> set[tuple[Call, When]]:
        found, live = set(), False
        for call in self.calls:
            for when in ("before", "after"):
                live = live or (call.operation.startswith("Create") and call.service == "sagemaker" and when == "after")
                if live:
                    found.add((call, when))
            live = live and call not in self.live
        return found


@dataclass
class Recorder:
    """Names the calls of a run that is stepped through."""

    scenario: Scenario
    project: str
    _calls: list[Call] = field(default_factory=list)
    _counts: Counter[Call] = field(default_factory=Counter)
    _live: dict[Call, str] = field(default_factory=dict)
    _created: dict[str, int] = field(default_factory=dict)

    def take(self, held: dict[str, Any]) -> str | None:
        """Take in a call; return the task whose live job it is the first to describe, if it is."""
        kind = Call(held["service"], held["operation"], self._path(held["path"]))
        self._counts[kind] += 1
        call = replace(kind, nth=self._counts[kind])
        if call.service == "logs":
            return None
        self._calls.append(call)
        return self._live_job(call)

    def _live_job(self, call: Call) -> str | None:
        verb, _, what = call.operation.partition("T" if "Training" in call.operation else "P")
        if call.service != "sagemaker" or verb not in ("Create", "Describe"):
            return None
        if verb == "Create":
            self._created[what] = len(self._live)
            return None
        number = self._created.pop(what, None)
        if number is None:
            return None
        self._live[call] = self.scenario.tasks[number]
        return self._live[call]

    def _path(self, path: str) -> str:
        """The path as a glob that matches the same call of another run."""
        path = path.replace(self.project, "PROJECT")
        path = _JOB_HASH.sub(f"-{'?' * 16}-", path)
        path = _HEX.sub("?" * 64, path)
        return _UUID.sub("?" * 36, path)

    @property
    def trace(self) -> Trace:
        """The calls so far."""
        logs = {call.operation: count for call, count in self._counts.items() if call.service == "logs"}
        return Trace(tuple(self._calls), logs, self._live)
