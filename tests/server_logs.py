"""Search the logs of servers and workers that the tests start, after each test, for errors.

If a service of Prefect's server fails, only the server's log says so. Its API and `prefect deploy` look healthy
meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

SIGNS = re.compile(r"\b(ERROR|CRITICAL)\b|^Traceback ", re.MULTILINE)
RECORD = re.compile(r"^(?=\d\d:\d\d:\d\d\.\d{3} \| )", re.MULTILINE)
"""The start of a record in Prefect's logs. The lines that follow, such as a traceback, belong to the record."""

KNOWN = {
    r"database is locked": "Prefect on SQLite, when several write at once on a busy machine; it tries again",
    r"WorkerChannelRetryableError": "a worker's channel on a machine that is busy for seconds; it connects again",
}
"""Errors that are ignored: a regular expression of the record, and the reason."""


@dataclass
class WatchedLog:
    """A log file that grows.

    Attributes:
        name: The program that writes it.
        path: Its file.
        read: The offset in bytes of the last record that has been searched; more lines may be added to it.
        judged: Whether that record had an error, expected or not, when it was searched.
    """

    name: str
    path: Path
    read: int = 0
    judged: bool = False

    def errors(self, expected: Iterable[str]) -> list[str]:
        """Return the records since the last call that contain an error.

        Args:
            expected: Regular expressions of records to ignore in this call.
        """
        no_fault = re.compile("|".join([*KNOWN, *expected]))
        records = self._records()
        wrong = [bool(SIGNS.search(text)) and not no_fault.search(text) for text in records]
        new = [text for number, text in enumerate(records) if wrong[number] and not (number == 0 and self.judged)]
        self.judged = bool(SIGNS.search(records[-1]))
        return [f"{self.name}: {text}" for text in new]

    def _records(self) -> list[str]:
        """Return the last record of the previous call in its current form, and all later records."""
        if not self.path.exists():
            return [""]
        with self.path.open("rb") as file:
            file.seek(self.read)
            records = [text for text in RECORD.split(file.read().decode(errors="replace")) if text] or [""]
        self.read += sum(len(text.encode()) for text in records[:-1])
        return records


_watched: list[WatchedLog] = []


def watch(name: str, path: Path) -> None:
    """Search a log file after each test from now on."""
    _watched.append(WatchedLog(name, path))


def errors(expected: Iterable[str] = ()) -> list[str]:
    """Return all unexpected errors that servers and workers have logged since the last call."""
    return [error for log in _watched for error in log.errors(expected)]
