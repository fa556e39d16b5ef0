"""The logs of servers and workers that tests start: after each test they are searched for errors.

A service of Prefect's server that fails says so in the server's log only. Its API, `prefect deploy` and all else look
healthy meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

SIGNS = re.compile(r"\b(ERROR|CRITICAL)\b|^Traceback ", re.MULTILINE)
RECORD = re.compile(r"^(?=\d\d:\d\d:\d\d\.\d{3} \| )", re.MULTILINE)
"""Where a record of Prefect's logs begins; what follows it, such as a traceback, belongs to it."""

KNOWN = {
    r"database is locked": "Prefect on SQLite, when several write at once on a busy machine; it tries again",
    r"WorkerChannelRetryableError": "a worker's channel on a machine that is busy for seconds; it connects again",
}
"""Errors that are no fault, as regular expressions of a record, each with its reason."""


@dataclass
class WatchedLog:
    """A log that grows.

    Attributes:
        name: Whose it is.
        path: Its file.
        read: Where the last record begins that has been searched; it may go on.
        judged: Whether that record told of an error when it was searched.
    """

    name: str
    path: Path
    read: int = 0
    judged: bool = False

    def errors(self, expected: Iterable[str]) -> list[str]:
        """Return the records since the last call that tell of an error.

        Args:
            expected: Regular expressions of records that are no fault here.
        """
        no_fault = re.compile("|".join([*KNOWN, *expected]))
        records = self._records()
        wrong = [bool(SIGNS.search(text)) and not no_fault.search(text) for text in records]
        new = [text for number, text in enumerate(records) if wrong[number] and not (number == 0 and self.judged)]
        self.judged = bool(SIGNS.search(records[-1]))
        return [f"{self.name}: {text}" for text in new]

    def _records(self) -> list[str]:
        """Return the record that was the last one, as it is now, and all that came after it."""
        if not self.path.exists():
            return [""]
        with self.path.open("rb") as file:
            file.seek(self.read)
            records = [text for text in RECORD.split(file.read().decode(errors="replace")) if text] or [""]
        self.read += sum(len(text.encode()) for text in records[:-1])
        return records


_watched: list[WatchedLog] = []


def watch(name: str, path: Path) -> None:
    """Search this file after each test, too."""
    _watched.append(WatchedLog(name, path))


def errors(expected: Iterable[str] = ()) -> list[str]:
    """All that servers and workers have said of errors since the last call; but for what is expected."""
    return [error for log in _watched for error in log.errors(expected)]
