"""The files of log groups, streams and events in a home.

A stream is the file `<logs>/<group, quoted>/<job>/<host>-<epoch>.jsonl`. A job's supervisor appends one JSON document a
line. The files are read for each request, and nothing is kept in memory. So logs survive the server, and include what
a supervisor wrote while the server was down. An event is identified by the byte offset of its line, which never
changes, because files only grow.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, unquote

_BLOCK = 1 << 16  # bytes read at a time from the end of a file
_SUFFIX = ".jsonl"


@dataclass(frozen=True)
class Event:
    """One log event.

    Attributes:
        stream: the name of its stream.
        offset: where its line begins in the file, in bytes.
        end: where the next line begins, in bytes.
        timestamp: epoch milliseconds.
        message: the line that the job wrote.
    """

    stream: str
    offset: int
    end: int
    timestamp: int
    message: str

    @property
    def event_id(self) -> str:
        """The event id: 56 digits as in CloudWatch, which sort by time and do not change after a restart."""
        return f"{self.timestamp:013d}{zlib.crc32(self.stream.encode()):010d}{self.offset:033d}"

    @property
    def size(self) -> int:
        """The size in bytes, as CloudWatch counts it: UTF-8, plus 26 for each event (its quotas page)."""
        return len(self.message.encode()) + 26


@dataclass(frozen=True)
class LogStream:
    """One stream of a group."""

    name: str
    path: Path

    @property
    def created(self) -> int:
        """When the host started, in epoch milliseconds, from the seconds in the name, which AWS's names have, too."""
        return int(self.name.rpartition("-")[2]) * 1000

    def events(self, start: int = 0, end: int | None = None) -> Iterator[Event]:
        """Yield the events between two offsets, without an incomplete line at the end of the file."""
        with self.path.open("rb") as file:
            file.seek(start)
            offset = start
            for line in file:
                if not line.endswith(b"\n") or (end is not None and offset >= end):
                    return
                yield self._event(line, offset)
                offset += len(line)

    def first(self) -> Event | None:
        """Return the first event; None if there is none yet."""
        return next(self.events(), None)

    def last(self) -> Event | None:
        """Return the last event, read from the end of the file; None if there is none yet."""
        with self.path.open("rb") as file:
            tail, start = _last_line(file)
        return self._event(tail, start) if tail else None

    def _event(self, line: bytes, offset: int) -> Event:
        document = json.loads(line)
        return Event(self.name, offset, offset + len(line), int(document["timestamp"]), document["message"])


def _last_line(file: BinaryIO) -> tuple[bytes, int]:
    """Return the last complete line and its offset; empty if there is no complete line."""
    position = file.seek(0, 2)
    tail = b""
    while position > 0 and tail[: tail.rfind(b"\n")].count(b"\n") == 0:
        step = min(_BLOCK, position)
        position -= step
        file.seek(position)
        tail = file.read(step) + tail
    whole = tail[: tail.rfind(b"\n") + 1]
    begin = whole.rfind(b"\n", 0, -1) + 1
    return whole[begin:], position + begin


class LogStore:
    """All log groups of a home.

    Args:
        directory: the home's directory of logs; need not exist yet.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def groups(self) -> list[str]:
        """Return the names of the groups, sorted."""
        if not self._directory.exists():
            return []
        return sorted(unquote(path.name) for path in self._directory.iterdir() if path.is_dir())

    def has_group(self, group: str) -> bool:
        """Tell whether a group exists."""
        return self._path(group).is_dir()

    def created(self, group: str) -> int:
        """Return when the group's first stream was created, in epoch milliseconds; 0 if there is none."""
        return min((stream.created for stream in self.streams(group)), default=0)

    def streams(self, group: str, prefix: str = "") -> list[LogStream]:
        """Return the streams of a group whose names begin with `prefix`, sorted by name."""
        job, slash, _ = prefix.partition("/")
        directory = self._path(group)
        # If the prefix has a complete job name, the directories of other jobs are not read.
        paths = (directory / job).glob(f"*{_SUFFIX}") if slash else directory.glob(f"*/*{_SUFFIX}")
        streams = [LogStream(f"{path.parent.name}/{path.name.removesuffix(_SUFFIX)}", path) for path in paths]
        return sorted((one for one in streams if one.name.startswith(prefix)), key=lambda one: one.name)

    def stream(self, group: str, name: str) -> LogStream | None:
        """Return one stream; None if it does not exist."""
        return next((one for one in self.streams(group, name) if one.name == name), None)

    def _path(self, group: str) -> Path:
        return self._directory / quote(group, safe="")
