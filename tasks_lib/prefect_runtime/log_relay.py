"""A job's lines on their way into Prefect's log: several to a record, and not without end.

Prefect's API stores every record of a run in its database and its UI loads them all, so a job that prints each step of
a day's training would drown the run that it belongs to. The job's whole log stays at CloudWatch (or at the local
SageMaker); Prefect gets its beginning and its last lines, and a terminal gets all of it.
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
"""What one job sends to Prefect's API before only its last lines do: 25 pages of the UI's log view, or 1 MB of the
server's database; fifty such jobs a day are a gigabyte in three weeks."""

LAST_LINES = 200
LAST_CHARACTERS = 100_000
"""What is kept for the end."""


@dataclass(frozen=True)
class Batch:
    """What one record says, and the whole lines that begin in it: a line that is too long for one is in several."""

    said: tuple[str, ...]
    lines: tuple[str, ...]


@dataclass
class LogRelay:
    """Hands the lines of one job on to the log of one task run.

    Args:
        run: Whose log.
        task: The task's name.
        whole_log: Where all lines can be read, in words.
        most_lines: How many lines go to Prefect's API.
        most_characters: And how much of them, as JSON.
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
        """Hand on what a job said since the last time."""
        for host, said in groupby(lines, key=lambda line: line.host):
            self._send(host, list(said))

    def close(self) -> None:
        """Hand on the last lines of a job that said too much."""
        if not self._held:
            return
        last = _fitting(self._last, LAST_CHARACTERS)
        left_out = self._held - len(last)
        if left_out:
            self._say(f"{left_out} lines are only in the whole log: {self.whole_log}; these are the last {len(last)}:")
        for host, lines in groupby(last, key=lambda line: line.host):
            self._log(host, [line.text for line in lines], to_api=True, shown=False)
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
        """Count how many of the lines may still go to the API."""
        for number, line in enumerate(lines):
            self._lines, self._characters = self._lines + 1, self._characters + size(line.text)
            if self._lines > self.most_lines or self._characters > self.most_characters:
                return number
        return len(lines)

    def _log(self, host: str, texts: list[str], *, to_api: bool, shown: bool = True) -> None:
        place = f"{self.task}/{host}"
        for batch in batches(texts, self.run.longest_message, len(place) + 4):
            self.run.show(place, batch.said, batch.lines if shown else (), to_api=to_api)

    def _say(self, text: str) -> None:
        """Say something to Prefect's readers alone: a terminal has all lines."""
        self.run.show(self.task, (text,), ())


def batches(texts: Iterable[str], most: int, margin: int = 0) -> Iterator[Batch]:
    """Divide lines into records.

    Args:
        texts: The lines.
        most: Characters of a record, as JSON.
        margin: Characters that are added to each line.
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
    """Return how many characters a text has as JSON.

    Prefect 3.8 counts them, too. Prefect 3.9 counts the bytes of UTF-8, which are never more.
    """
    return len(json.dumps(text))


def _pieces(text: str, most: int) -> Iterator[str]:
    """Cut a text into pieces that fit, whatever is in them."""
    while size(text) > most:
        cut = max(1, most * len(text) // size(text))
        while size(text[:cut]) > most and cut > 1:
            cut = cut * 3 // 4
        yield text[:cut]
        text = text[cut:]
    yield text


def _fitting(lines: deque[LogLine], most: int) -> list[LogLine]:
    """Return the last of some lines that are no more than so many characters together, at least one."""
    kept: list[LogLine] = []
    for line in reversed(lines):
        most -= size(line.text)
        if kept and most < 0:
            break
        kept.append(line)
    return kept[::-1]
