"""How far one stream of a job's log has been read, and which of its lines are new. Pure; used by `logs.py`.

CloudWatch's events have no id, so lines are told apart by time and text, and equal lines of one millisecond are
counted: a pass that begins anew passes over as many of each as were seen before. Not a token alone: one expires after
24 hours, and what was taken in late, with an earlier time, lies before it.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

_HOST = re.compile(r"/(algo-\d+)")
_LOOK_BACK = 60_000  # milliseconds; an agent sends what it has every few seconds, and tries again for some more
_REMEMBERED = 2_000  # lines of a stream, before those that are older than that are forgotten


@dataclass
class LogStream:
    """How far a stream has been read.

    Args:
        name: Its name, `<job>/algo-<n>-<epoch>`; a host that comes after a spot interruption has one of its own.
        token: Where to go on; none where it begins.
        read: Whether its end was met in this pass.
        gone: Whether somebody deleted it.
    """

    name: str
    token: str | None = None
    read: bool = False
    gone: bool = False
    _start: int | None = None
    _newest: int = 0
    _seen: Counter[tuple[int, str]] = field(default_factory=Counter)
    _met: Counter[tuple[int, str]] = field(default_factory=Counter)

    @property
    def host(self) -> str:
        """Whose stream it is, such as `algo-1`."""
        found = _HOST.search(self.name)
        return found.group(1) if found else self.name.rpartition("/")[2]

    @property
    def place(self) -> dict[str, Any]:
        """Where to go on reading, in GetLogEvents' words; a start in time makes empty pages rarer (its reference)."""
        start = {"startTime": self._start} if self._start else {}
        return {**start, "nextToken": self.token} if self.token else start

    def takes(self, timestamp: int, message: str) -> bool:
        """Note an event; tell whether it is a new one, and not one that an earlier pass met."""
        event = (timestamp, message)
        self._met[event] += 1
        if self._met[event] <= self._seen[event]:
            return False
        self._seen[event] = self._met[event]
        self._newest = max(self._newest, timestamp)
        return True

    def go_back(self) -> None:
        """Begin another pass a little before the newest line."""
        self.forget()
        self._start = max(0, self._newest - _LOOK_BACK)
        self._met.clear()
        self.token = None

    def forget(self) -> None:
        """Forget lines that no later pass will meet."""
        if len(self._seen) > _REMEMBERED:
            oldest = self._newest - _LOOK_BACK
            self._seen = Counter({event: count for event, count in self._seen.items() if event[0] >= oldest})
            self._met = Counter({event: count for event, count in self._met.items() if event[0] >= oldest})
