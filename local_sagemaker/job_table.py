"""The table of jobs: what Create stores and Describe returns, shared by the server and the supervisors.

It is a table and not a file per job, because a state change is a compare-and-swap: a stop that races with the end of a
job has one winner. Also, listings sort and filter thousands of jobs.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from local_sagemaker.database import Database
from local_sagemaker.disk import Reserve, with_space
from local_sagemaker.jobs import Job, JobExists, JobFinished, JobInProgress, JobUnknown, advance

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path
    from types import TracebackType

    from local_sagemaker.jobs import Runner

SortBy = Literal["CreationTime", "Name", "Status"]

_COLUMNS = "kind, name, arn, request, created, status, secondary, fields, modified, stop_requested, runner, role_id"

_Jobs = list[Job]  # inside JobTable the name `list` is its method


class JobTable:
    """All jobs of one home, in `<home>/jobs.sqlite`; safe for threads and processes.

    Args:
        home: the data directory; created if it is missing.
        clock: returns epoch seconds; tests may replace it.
    """

    def __init__(self, home: Path, clock: Callable[[], float] = time.time) -> None:
        self.database = Database(home)
        self._reserve = Reserve(home)
        self._clock = clock

    def close(self) -> None:
        """Close the database; the table cannot be used afterwards."""
        self.database.close()

    def __enter__(self) -> JobTable:  # noqa: PYI034 -- `Self` came with Python 3.11
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def create(
        self,
        kind: str,
        name: str,
        arn: str,
        request: Mapping[str, Any],
        tags: Mapping[str, str] | None = None,
        *,
        runner: Runner = "process",
        role_id: str = "",
    ) -> Job:
        """Add a job, `InProgress` with the secondary status `Starting`.

        Raises:
            JobExists: a job of this kind has the name, even if another process added it a moment ago.
        """
        now = self._clock()
        more = (dict(tags or {}), runner, role_id)
        new = Job(kind, name, arn, dict(request), now, "InProgress", None, {}, now, False, *more)
        job = advance(new, now, secondary="Starting", message="Starting the training job")
        with self.database.writing() as db:
            if db.execute("SELECT 1 FROM jobs WHERE kind = ? AND name = ?", (kind, name)).fetchone():
                raise JobExists(f"A {kind} named {name} exists already; choose another name.", kind, name)
            db.execute(f"INSERT INTO jobs ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", _to_row(job))  # noqa: S608 -- a constant of this module
            _put_tags(db, arn, job.tags)
        return job

    def get(self, kind: str, name: str) -> Job:
        """Return one job.

        Raises:
            JobUnknown: the job does not exist.
        """
        found = self._select("WHERE kind = ? AND name = ?", (kind, name))
        if not found:
            raise JobUnknown(f"There is no {kind} named {name}.", kind, name)
        return found[0]

    def update(
        self,
        kind: str,
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
            secondary: the new secondary status; None keeps it.
            message: the `StatusMessage` of the current transition; None keeps it.
            fields: further fields for Describe, merged over the present ones.

        Raises:
            JobUnknown: the job does not exist.
            JobFinished: the job is in a terminal status.
        """
        with self.database.writing() as db:
            job = advance(
                self.get(kind, name), self._clock(), status=status, secondary=secondary, message=message, fields=fields
            )
            _store(db, job)
        return job

    def request_stop(self, kind: str, name: str) -> Job:
        """Request the stop of a job. Its status is `Stopping` until its runner has ended it. May be repeated.

        Raises:
            JobUnknown: the job does not exist.
            JobFinished: the job is in a terminal status.
        """
        return with_space(lambda: self._request_stop(kind, name), self._reserve.spend)

    def _request_stop(self, kind: str, name: str) -> Job:
        with self.database.writing() as db:
            job = self.get(kind, name)
            if not job.stop_requested:
                stopping = advance(
                    job, self._clock(), status="Stopping", secondary="Stopping", message="Stopping the training job"
                )
                job = replace(stopping, stop_requested=True)
                _store(db, job)
            elif job.finished:
                raise JobFinished(f"The {kind} {name} is {job.status}; there is nothing to stop.", kind, name)
        return job

    def list(
        self,
        kind: str,
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
        """Return the jobs of a kind that pass all given filters, sorted. Time bounds are exclusive."""
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

    def live(self, runner: Runner | None = None) -> _Jobs:
        """Return the unfinished jobs of all kinds, oldest first: those of one runner, or all if it is None."""
        return self._select(
            "WHERE status IN ('InProgress', 'Stopping') AND runner = coalesce(?, runner) ORDER BY created, rowid",
            (runner,),
        )

    def stopping(self, runner: Runner) -> _Jobs:
        """Return the jobs of a runner whose status is `Stopping`."""
        return self._select("WHERE status = 'Stopping' AND runner = ?", (runner,))

    def delete(self, kind: str, name: str) -> None:
        """Remove a finished job and its tags; its name can be used again.

        Raises:
            JobUnknown: the job does not exist.
            JobInProgress: the job has not finished (`DeleteTrainingJob`: only jobs in a terminal state).
        """
        with self.database.writing() as db:
            job = self.get(kind, name)
            if not job.finished:
                raise JobInProgress(f"The {kind} {name} is {job.status}; stop it first.", kind, name)
            db.execute("DELETE FROM jobs WHERE kind = ? AND name = ?", (kind, name))
            db.execute("DELETE FROM tags WHERE arn = ?", (job.arn,))

    def tags(self, arn: str) -> dict[str, str]:
        """Return the tags of a resource, sorted by key."""
        return dict(self.database.query("SELECT key, value FROM tags WHERE arn = ? ORDER BY key", (arn,)))

    def add_tags(self, arn: str, tags: Mapping[str, str]) -> dict[str, str]:
        """Add or overwrite tags of a resource. Return all of its tags."""
        with self.database.writing() as db:
            _put_tags(db, arn, tags)
            return self.tags(arn)

    def delete_tags(self, arn: str, keys: Iterable[str]) -> None:
        """Remove tags of a resource by key. Ignore unknown keys."""
        with self.database.writing() as db:
            db.executemany("DELETE FROM tags WHERE arn = ? AND key = ?", [(arn, key) for key in keys])

    def _select(self, rest: str, values: tuple[Any, ...]) -> _Jobs:
        rows = self.database.query(f"SELECT {_COLUMNS} FROM jobs {rest}", values)  # noqa: S608 -- clauses of this module, values bound
        return [_from_row(row, self.tags(row[2])) for row in rows]


def _store(db: sqlite3.Connection, job: Job) -> None:
    db.execute(
        "UPDATE jobs SET status = ?, secondary = ?, fields = ?, modified = ?, stop_requested = ?"
        " WHERE kind = ? AND name = ?",
        (*_to_row(job)[5:10], job.kind, job.name),
    )


def _put_tags(db: sqlite3.Connection, arn: str, tags: Mapping[str, str]) -> None:
    db.executemany(
        "INSERT INTO tags (arn, key, value) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
        [(arn, key, value) for key, value in tags.items()],
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
        job.runner,
        job.role_id,
    )


def _from_row(row: tuple[Any, ...], tags: dict[str, str]) -> Job:
    kind, name, arn, request, created, status, secondary, fields, modified, stop, runner, role_id = row
    return Job(
        kind=kind,
        name=name,
        arn=arn,
        request=json.loads(request),
        created=created,
        status=status,
        secondary_status=secondary,
        fields=json.loads(fields),
        modified=modified,
        stop_requested=bool(stop),
        tags=tags,
        runner=runner,
        role_id=role_id,
    )
