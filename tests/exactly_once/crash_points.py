"""Crash points: the calls of a flow, named so that a name means the same call in each run.

A call is named by its operation, its path, and its number among the calls with both. Its number among all calls would
mean another call in each run, because threads poll meanwhile. The names come from an undisturbed run, which is stepped
through call by call.

Polling is made predictable. A job runs until its gate is open, and the gate opens when the first Describe of the live
job has been answered and is held. So there is one Describe of a live job and one of a job that is over. The number of
the log's calls depends on the clock. Of these, the first while the job is live and the first after its end are taken.

At points where the job is live, it may go on or end until the next run starts. Both variants are points.
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
    """The nth request of a kind: service, operation, and path as a glob with `PROJECT` in it."""

    service: str
    operation: str
    path: str
    nth: int = 1

    def rule(self, project: str, when: When) -> dict[str, Any]:
        """Return the rule that holds this call."""
        path = self.path.replace("PROJECT", project)
        return {"kind": "hold", "when": when, **asdict(self), "path": path}

    def __str__(self) -> str:
        path = re.sub(r"\?+", "…", self.path)
        return f"{self.service}:{self.operation} {path} #{self.nth}".replace(" / ", " ")


@dataclass(frozen=True)
class Point:
    """A point at which a flow is killed.

    Args:
        call: The call; with a trigger, calls are counted from the trigger's answer on.
        when: Before or after the call acts.
        trigger: The call whose answer comes first, for a call that polls; None for any other call.
        meanwhile: What a live job does until the next run starts.
    """

    call: Call
    when: When
    trigger: Call | None = None
    meanwhile: Meanwhile = "goes on"

    @property
    def leaves_another_world(self) -> bool:
        """Whether S3 or SageMaker may have changed since the point before: it is after a call that writes."""
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
        calls: All calls except those to the log, in order.
        logs: The number of calls by operation of the log.
        live: The task by the first Describe of its live job.
    """

    calls: tuple[Call, ...]
    logs: dict[str, int]
    live: dict[Call, str]

    def points(self) -> list[Point]:
        """Return all crash points."""
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
        """Record a call. Return the task if the call is the first Describe of the task's live job; otherwise None."""
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
        """Return the path as a glob that matches the same call in another run."""
        path = path.replace(self.project, "PROJECT")
        path = _JOB_HASH.sub(f"-{'?' * 16}-", path)
        path = _HEX.sub("?" * 64, path)
        return _UUID.sub("?" * 36, path)

    @property
    def trace(self) -> Trace:
        """The calls so far."""
        logs = {call.operation: count for call, count in self._counts.items() if call.service == "logs"}
        return Trace(tuple(self._calls), logs, self._live)
