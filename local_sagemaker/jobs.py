"""The table of jobs: what Create stored and what Describe answers, shared by the server and every job's supervisor.

SQLite in WAL mode and not a file per job, because a state change is a compare-and-swap (a stop that races with the end
of a job has one winner) and because listing sorts and filters thousands of jobs. Server, supervisors and command line
open it side by side; it stands on the standard library, so that a supervisor starts in a moment. Inside
`local_sagemaker` anybody may import it.
"""

from __future__ import annotations

import fcntl
import json
import sqlite3
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path
    from types import TracebackType

Kind = Literal["training-job", "processing-job"]
SortBy = Literal["CreationTime", "Name", "Status"]
KINDS: tuple[Kind, ...] = get_args(Kind)
TERMINAL = frozenset({"Completed", "Failed", "Stopped"})

# The secondary statuses that a job may still take while its status is Stopping; a supervisor that learns of a stop
# late must not turn it back into Training.
_WHILE_STOPPING = frozenset({"Stopping", "Uploading"})
_BUSY_TIMEOUT = 30.0  # seconds that a writer waits for another
_COLUMNS = "kind, name, arn, request, created, status, secondary, fields, modified, stop_requested"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    kind TEXT NOT NULL, name TEXT NOT NULL, arn TEXT NOT NULL, request TEXT NOT NULL, created REAL NOT NULL,
    status TEXT NOT NULL, secondary TEXT, fields TEXT NOT NULL, modified REAL NOT NULL,
    stop_requested INTEGER NOT NULL, PRIMARY KEY (kind, name));
CREATE INDEX IF NOT EXISTS jobs_by_status ON jobs (status);
CREATE INDEX IF NOT EXISTS jobs_by_creation ON jobs (kind, created);
CREATE TABLE IF NOT EXISTS tags (
    arn TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (arn, key));
"""


class JobError(Exception):
    """The table refuses an operation on one job. Base of the four below."""

    def __init__(self, message: str, kind: str, name: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.name = name


class JobExists(JobError):
    """A job of this kind and name is in the table already."""


class JobUnknown(JobError):
    """No job of this kind and name is in the table."""


class JobFinished(JobError):
    """The job is in a terminal status, which is never left."""


class JobInProgress(JobError):
    """The job still runs, and what was asked needs a finished one."""


@dataclass(frozen=True)
class Job:
    """One job as it stands; all times are epoch seconds.

    `request` is the Create request as it was given. `fields` holds what Describe adds to it: `FailureReason`,
    `TrainingStartTime`, `SecondaryStatusTransitions`, `ModelArtifacts`, `ExitMessage` and so on.
    """

    kind: Kind
    name: str
    arn: str
    request: dict[str, Any]
    created: float
    status: str
    secondary_status: str | None
    fields: dict[str, Any]
    modified: float
    stop_requested: bool
    tags: dict[str, str]

    @property
    def finished(self) -> bool:
        """Whether the status is one that is never left."""
        return self.status in TERMINAL


def advance(
    job: Job,
    now: float,
    *,
    status: str | None = None,
    secondary: str | None = None,
    message: str | None = None,
    fields: Mapping[str, Any] | None = None,
) -> Job:
    """Return `job` after one update at `now`; the state machine of the table, without I/O.

    A job that is Stopping stays so until it is terminal, and takes only the secondary statuses of that phase. A
    training job that becomes terminal without a secondary status of its own gets the one of the same name.

    Raises:
        JobFinished: the job is terminal.
    """
    if job.finished:
        raise JobFinished(
            f"The {job.kind} {job.name} is {job.status}; a finished job does not change.", job.kind, job.name
        )
    new_status = status or job.status
    if job.status == "Stopping" and new_status not in TERMINAL:
        new_status = "Stopping"
        secondary = secondary if secondary in _WHILE_STOPPING else None
    if job.kind != "training-job":
        secondary = None
    elif secondary is None and new_status in TERMINAL:
        secondary = new_status
    merged = {**job.fields, **(fields or {})}
    if secondary is not None:
        earlier = merged.get("SecondaryStatusTransitions", [])
        closes = new_status in TERMINAL
        merged["SecondaryStatusTransitions"] = _with_transition(earlier, secondary, message, now, closes=closes)
    return replace(
        job,
        status=new_status,
        secondary_status=secondary or job.secondary_status,
        fields=merged,
        modified=max(now, job.modified),
    )


def _with_transition(
    earlier: list[dict[str, Any]], secondary: str, message: str | None, now: float, *, closes: bool
) -> list[dict[str, Any]]:
    """Close the last transition and append one; the same secondary status again only changes its message."""
    transitions = [dict(one) for one in earlier]
    if transitions and transitions[-1]["Status"] == secondary:
        current = transitions[-1]
    else:
        if transitions:
            transitions[-1]["EndTime"] = now
        current = {"Status": secondary, "StartTime": now}
        transitions.append(current)
    if message is not None:
        current["StatusMessage"] = message
    if closes:
        current["EndTime"] = now
    return transitions


_Jobs = list[Job]  # inside JobTable the name `list` is its method


class JobTable:
    """All jobs of one home, in `<home>/jobs.sqlite`; safe over threads and processes.

    Args:
        home: the data directory of this local SageMaker; made when it is missing.
        clock: epoch seconds; an argument so that a test can turn it.
    """

    def __init__(self, home: Path, clock: Callable[[], float] = time.time) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self._clock = clock
        # One connection under one lock: statements take microseconds, and a connection per thread would have to be
        # closed by threads that we do not own.
        self._lock = threading.RLock()
        self._db = sqlite3.connect(
            home / "jobs.sqlite", timeout=_BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare(home)
        except BaseException:
            self._db.close()
            raise

    def _prepare(self, home: Path) -> None:
        # NORMAL: a commit survives kill -9; only a power cut may lose the last ones (never tear the file).
        self._db.execute("PRAGMA synchronous=NORMAL")
        if self._db.execute("PRAGMA user_version").fetchone()[0] == 1:
            return
        # The switch to WAL answers "locked" at once when two processes make the table, whatever the timeout.
        with (home / "jobs.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}PRAGMA user_version=1;COMMIT;")

    def close(self) -> None:
        """Close the connection; the table cannot be used after it."""
        with self._lock:
            self._db.close()

    def __enter__(self) -> JobTable:  # noqa: PYI034 -- `Self` came with Python 3.11
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One write transaction; IMMEDIATE, since a reader that turns writer late fails instead of waiting."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def create(
        self, kind: Kind, name: str, arn: str, request: Mapping[str, Any], tags: Mapping[str, str] | None = None
    ) -> Job:
        """Add a job, `InProgress`; a training job begins in the secondary status `Starting`.

        Raises:
            JobExists: the name is taken, also when another process took it a moment ago.
        """
        now = self._clock()
        new = Job(kind, name, arn, dict(request), now, "InProgress", None, {}, now, False, dict(tags or {}))
        job = advance(new, now, secondary="Starting", message="Starting the training job")
        with self._writing():
            taken = self._db.execute("SELECT 1 FROM jobs WHERE kind = ? AND name = ?", (kind, name)).fetchone()
            if taken:
                raise JobExists(f"A {kind} named {name} exists already; choose another name.", kind, name)
            self._db.execute(f"INSERT INTO jobs ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", _to_row(job))  # noqa: S608 -- a constant of this module
            self._put_tags(arn, job.tags)
        return job

    def get(self, kind: Kind, name: str) -> Job:
        """Return one job.

        Raises:
            JobUnknown: there is none of this kind and name.
        """
        found = self._select("WHERE kind = ? AND name = ?", (kind, name))
        if not found:
            raise JobUnknown(f"There is no {kind} named {name}.", kind, name)
        return found[0]

    def update(
        self,
        kind: Kind,
        name: str,
        *,
        status: str | None = None,
        secondary: str | None = None,
        message: str | None = None,
        **fields: Any,
    ) -> Job:
        """Change one job atomically, by the rules of `advance`.

        Args:
            kind: the job's kind.
            name: the job's name.
            status: the new status; None keeps it.
            secondary: the new secondary status (training jobs only); None keeps it.
            message: the `StatusMessage` of the current transition.
            fields: what Describe shall show besides, merged over what is there.

        Raises:
            JobUnknown: there is no such job.
            JobFinished: the job is terminal.
        """
        with self._writing():
            job = advance(
                self.get(kind, name), self._clock(), status=status, secondary=secondary, message=message, fields=fields
            )
            self._store(job)
        return job

    def request_stop(self, kind: Kind, name: str) -> Job:
        """Mark a job as to be stopped; its status is `Stopping` until its supervisor has ended it. May be repeated.

        Raises:
            JobUnknown: there is no such job.
            JobFinished: the job is terminal.
        """
        with self._writing():
            job = self.get(kind, name)
            if not job.stop_requested:
                stopping = advance(
                    job, self._clock(), status="Stopping", secondary="Stopping", message="Stopping the training job"
                )
                job = replace(stopping, stop_requested=True)
                self._store(job)
            elif job.finished:
                raise JobFinished(f"The {kind} {name} is {job.status}; there is nothing to stop.", kind, name)
        return job

    def list(
        self,
        kind: Kind,
        *,
        name_contains: str | None = None,
        created_after: float | None = None,
        created_before: float | None = None,
        modified_after: float | None = None,
        modified_before: float | None = None,
        status: str | None = None,
        sort_by: SortBy = "CreationTime",
        descending: bool = True,
        offset: int = 0,
        limit: int | None = None,
    ) -> _Jobs:
        """Return the jobs of a kind that pass all filters given, sorted; bounds of time are exclusive."""
        filters: list[tuple[str, str | float | None]] = [
            ("instr(name, ?) > 0", name_contains),
            ("created > ?", created_after),
            ("created < ?", created_before),
            ("modified > ?", modified_after),
            ("modified < ?", modified_before),
            ("status = ?", status),
        ]
        given = [(clause, value) for clause, value in filters if value is not None]
        column = {"CreationTime": "created", "Name": "name", "Status": "status"}[sort_by]
        way = "DESC" if descending else "ASC"
        clauses = " AND ".join(["kind = ?", *(clause for clause, _ in given)])
        return self._select(
            f"WHERE {clauses} ORDER BY {column} {way}, rowid {way} LIMIT ? OFFSET ?",
            (kind, *(value for _, value in given), -1 if limit is None else limit, offset),
        )

    def live(self) -> _Jobs:
        """Return the jobs of all kinds that are not terminal, oldest first."""
        return self._select("WHERE status IN ('InProgress', 'Stopping') ORDER BY created, rowid", ())

    def delete(self, kind: Kind, name: str) -> None:
        """Remove a finished job and its tags; the name is free again.

        Raises:
            JobUnknown: there is no such job.
            JobInProgress: it still runs (`DeleteTrainingJob`: only jobs in a terminal state).
        """
        with self._writing():
            job = self.get(kind, name)
            if not job.finished:
                raise JobInProgress(f"The {kind} {name} is {job.status}; stop it first.", kind, name)
            self._db.execute("DELETE FROM jobs WHERE kind = ? AND name = ?", (kind, name))
            self._db.execute("DELETE FROM tags WHERE arn = ?", (job.arn,))

    def tags(self, arn: str) -> dict[str, str]:
        """Return the tags of a resource, sorted by key."""
        with self._lock:
            rows = self._db.execute("SELECT key, value FROM tags WHERE arn = ? ORDER BY key", (arn,)).fetchall()
        return dict(rows)

    def add_tags(self, arn: str, tags: Mapping[str, str]) -> dict[str, str]:
        """Add or overwrite tags of a resource; return all that it has now."""
        with self._writing():
            self._put_tags(arn, tags)
            return self.tags(arn)

    def delete_tags(self, arn: str, keys: Iterable[str]) -> None:
        """Remove tags of a resource by key; unknown keys are no error."""
        with self._writing():
            self._db.executemany("DELETE FROM tags WHERE arn = ? AND key = ?", [(arn, key) for key in keys])

    def _put_tags(self, arn: str, tags: Mapping[str, str]) -> None:
        self._db.executemany(
            "INSERT INTO tags (arn, key, value) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
            [(arn, key, value) for key, value in tags.items()],
        )

    def _select(self, rest: str, values: tuple[Any, ...]) -> _Jobs:
        with self._lock:
            rows = self._db.execute(f"SELECT {_COLUMNS} FROM jobs {rest}", values).fetchall()  # noqa: S608 -- clauses of this module, values bound
            return [_from_row(row, self.tags(row[2])) for row in rows]

    def _store(self, job: Job) -> None:
        self._db.execute(
            "UPDATE jobs SET status = ?, secondary = ?, fields = ?, modified = ?, stop_requested = ?"
            " WHERE kind = ? AND name = ?",
            (*_to_row(job)[5:], job.kind, job.name),
        )


def _to_row(job: Job) -> tuple[Any, ...]:
    return (
        job.kind,
        job.name,
        job.arn,
        json.dumps(job.request),
        job.created,
        job.status,
        job.secondary_status,
        json.dumps(job.fields),
        job.modified,
        int(job.stop_requested),
    )


def _from_row(row: tuple[Any, ...], tags: dict[str, str]) -> Job:
    kind, name, arn, request, created, status, secondary, fields, modified, stop = row
    return Job(
        kind, name, arn, json.loads(request), created, status, secondary, json.loads(fields), modified, bool(stop), tags
    )
