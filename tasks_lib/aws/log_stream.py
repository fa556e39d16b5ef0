"""The read position in one stream of a job's log, and which of its lines are new. Pure.

CloudWatch's events have no id here, so lines are told apart by time and text. Equal lines of one millisecond are
counted: a new pass skips as many of each as earlier passes saw. A token alone is not enough. It expires after 24 hours,
and lines that arrived late, with an earlier time, lie before it.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

_HOST = re.compile(r"/(algo-\d+)")
_LOOK_BACK = 60_000  # milliseconds; an agent sends its lines every few seconds, and retries for some seconds more
_REMEMBERED = 2_000  # lines of a stream; with more, those older than `_LOOK_BACK` are forgotten


@dataclass
class LogStream:
    """The read position in one stream.

    Args:
        name: Its name, `<job>/algo-<n>-<epoch>`. A host that replaces one after a spot interruption has its own stream.
        token: Token of the next page; None at the start of a pass.
        read: Whether this pass has reached the stream's end.
        gone: Whether the stream was deleted.
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
        """The host that writes the stream, such as `algo-1`."""
        found = _HOST.search(self.name)
        return found.group(1) if found else self.name.rpartition("/")[2]

    @property
    def place(self) -> dict[str, Any]:
        """Arguments of GetLogEvents for the next page. A start time makes empty pages rarer (its API reference)."""
        start = {"startTime": self._start} if self._start else {}
        return {**start, "nextToken": self.token} if self.token else start

    def takes(self, timestamp: int, message: str) -> bool:
        """Record an event; return whether it is new, not one that an earlier pass saw."""
        event = (timestamp, message)
        self._met[event] += 1
        if self._met[event] <= self._seen[event]:
            return False
        self._seen[event] = self._met[event]
        self._newest = max(self._newest, timestamp)
        return True

    def go_back(self) -> None:
        """Start another pass, from 60 seconds before the newest line."""
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
