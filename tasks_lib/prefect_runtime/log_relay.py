"""Relay of a job's log lines to Prefect's log: several lines in a record, and up to a limit.

Prefect's API stores every record of a run in its database, and its UI loads them all. So a job that prints each step of
a day's training would flood the log of its run. Prefect gets the first and the last lines, and a terminal gets all of
them. The whole log stays in CloudWatch Logs, or in the local SageMaker.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby

from tasks_lib.aws.logs import LogLine
from tasks_lib.prefect_runtime.run_context import RunContext

MOST_LINES = 5_000
MOST_CHARACTERS = 1_000_000
"""Limits of what one job sends to Prefect's API before its last lines: 25 pages of the UI's log view, or 1 MB of the
server's database. Fifty such jobs a day are a gigabyte in three weeks."""

LAST_LINES = 200
LAST_CHARACTERS = 100_000
"""Limits of the last lines, which are sent at the job's end."""


@dataclass(frozen=True)
class Batch:
    """The text of one record, and the whole lines that begin in it; a line that is too long spans several records."""

    said: tuple[str, ...]
    lines: tuple[str, ...]


@dataclass
class LogRelay:
    """Relays the lines of one job to the log of one task run.

    Args:
        run: The run whose log receives the lines.
        task: The task's name.
        whole_log: Where all lines can be read, in words.
        most_lines: Most lines that go to Prefect's API; by default 5,000.
        most_characters: Most characters that go there, as JSON; by default a million.
    """

    run: RunContext
    task: str
    whole_log: str
    most_lines: int = MOST_LINES
    most_characters: int = MOST_CHARACTERS
    _lines: int = 0
    _characters: int = 0
    _held: int = 0
    _last: deque[LogLine] = field(default_factory=lambda: deque(maxlen=LAST_LINES))

    def send(self, lines: Iterable[LogLine]) -> None:
        """Relay the lines that a job printed since the last call."""
        for host, said in groupby(lines, key=lambda line: line.host):
            self._send(host, list(said))

    def close(self) -> None:
        """Relay the last lines of a job that exceeded the limits."""
        if not self._held:
            return
        last = _fitting(self._last, LAST_CHARACTERS)
        left_out = self._held - len(last)
        if left_out:
            self._say(f"{left_out} lines are only in the whole log: {self.whole_log}; these are the last {len(last)}:")
        for host, lines in groupby(last, key=lambda line: line.host):
            self._log(host, [line.text for line in lines], to_api=True, to_console=False)
        self._held = 0

    def _send(self, host: str, lines: list[LogLine]) -> None:
        room = 0 if self._held else self._room(lines)
        self._log(host, [line.text for line in lines[:room]], to_api=True)
        rest = lines[room:]
        if rest and not self._held:
            self._say(f"the job goes on to say a lot; the whole log: {self.whole_log}; its last lines come at its end")
        self._log(host, [line.text for line in rest], to_api=False)
        self._held += len(rest)
        self._last.extend(rest)

    def _room(self, lines: list[LogLine]) -> int:
        """Count the given lines, and return how many of them may still go to the API."""
        for number, line in enumerate(lines):
            self._lines, self._characters = self._lines + 1, self._characters + size(line.text)
            if self._lines > self.most_lines or self._characters > self.most_characters:
                return number
        return len(lines)

    def _log(self, host: str, texts: list[str], *, to_api: bool, to_console: bool = True) -> None:
        place = f"{self.task}/{host}"
        for batch in batches(texts, self.run.longest_message, len(place) + 4):
            lines = batch.lines if to_console else ()
            self.run.show(place, batch.said, lines, to_api=to_api, to_console=to_console)

    def _say(self, text: str) -> None:
        """Log a remark to Prefect alone: a terminal has all lines."""
        self.run.show(self.task, (text,), (), to_console=False)


def batches(texts: Iterable[str], most: int, margin: int = 0) -> Iterator[Batch]:
    """Split lines into records.

    Args:
        texts: The lines.
        most: Most characters of a record, as JSON.
        margin: Characters that are added to each line; by default 0.
    """
    said: list[str] = []
    taken = 0
    for text in texts:
        needed = size(text) + margin
        if said and taken + needed > most:
            yield Batch(tuple(said), tuple(said))
            said, taken = [], 0
        if needed > most:
            first, *others = _pieces(text, most - margin)
            yield Batch((first,), (text,))
            yield from (Batch((piece,), ()) for piece in others)
        else:
            said, taken = [*said, text], taken + needed
    if said:
        yield Batch(tuple(said), tuple(said))


def size(text: str) -> int:
    """Return the number of characters of a text as JSON.

    Prefect 3.8 counts the same. Prefect 3.9 counts bytes of UTF-8, which are never more.
    """
    return len(json.dumps(text))


def _pieces(text: str, most: int) -> Iterator[str]:
    """Cut a text into pieces that fit, also if JSON escapes its characters."""
    while size(text) > most:
        cut = max(1, most * len(text) // size(text))
        while size(text[:cut]) > most and cut > 1:
            cut = cut * 3 // 4
        yield text[:cut]
        text = text[cut:]
    yield text


def _fitting(lines: deque[LogLine], most: int) -> list[LogLine]:
    """Return the last lines that have at most so many characters together, but at least one line."""
    kept: list[LogLine] = []
    for line in reversed(lines):
        most -= size(line.text)
        if kept and most < 0:
            break
        kept.append(line)
    return kept[::-1]
