"""The SQLite database of a home, `<home>/jobs.sqlite`: its connection, transactions and schema.

The database is in WAL mode, so that the server, the supervisors and the command line can open it at the same time.
SQLite is in the standard library, so a supervisor starts fast. Jobs and faults share one file, because a supervisor
reads both.
"""

from __future__ import annotations

import fcntl
import sqlite3
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_BUSY_TIMEOUT = 30.0  # seconds that a writer waits for another

# Migrations: step n turns a database of version n into one of version n + 1, so that an upgrade keeps a home's data.
_STEPS = (
    """
    CREATE TABLE IF NOT EXISTS jobs (
        kind TEXT NOT NULL, name TEXT NOT NULL, arn TEXT NOT NULL, request TEXT NOT NULL, created REAL NOT NULL,
        status TEXT NOT NULL, secondary TEXT, fields TEXT NOT NULL, modified REAL NOT NULL,
        stop_requested INTEGER NOT NULL, PRIMARY KEY (kind, name));
    CREATE INDEX IF NOT EXISTS jobs_by_status ON jobs (status);
    CREATE INDEX IF NOT EXISTS jobs_by_creation ON jobs (kind, created);
    CREATE TABLE IF NOT EXISTS tags (
        arn TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (arn, key));
    """,
    """
    ALTER TABLE jobs ADD COLUMN runner TEXT NOT NULL DEFAULT 'process';
    CREATE TABLE faults (
        position INTEGER PRIMARY KEY, rule TEXT NOT NULL, matched INTEGER NOT NULL, fired INTEGER NOT NULL);
    """,
    "ALTER TABLE jobs ADD COLUMN role_id TEXT NOT NULL DEFAULT '';",
)


class Database:
    """A connection to the database, safe for threads. Each process has its own.

    Args:
        home: the data directory; created if it is missing.
    """

    def __init__(self, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        # One connection under one lock: statements take microseconds. Connections per thread would have to be closed by
        # threads that belong to the thread pool.
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(
            home / "jobs.sqlite", timeout=_BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare(home)
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self, home: Path) -> None:
        # NORMAL: a commit survives kill -9. A power cut may lose the last commits, but cannot damage the file.
        self._connection.execute("PRAGMA synchronous=NORMAL")
        if self._version() == len(_STEPS):
            return
        # If two processes switch to WAL at the same time, one fails with "locked" at once, whatever the timeout.
        with (home / "jobs.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._connection.execute("PRAGMA journal_mode=WAL")
            for number, step in enumerate(_STEPS[self._version() :], self._version() + 1):
                self._connection.executescript(f"BEGIN IMMEDIATE;{step}PRAGMA user_version={number};COMMIT;")

    def _version(self) -> int:
        return int(self._connection.execute("PRAGMA user_version").fetchone()[0])

    def close(self) -> None:
        """Close the connection; it cannot be used afterwards."""
        with self._lock:
            self._connection.close()

    def query(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """Return the rows of one statement. Inside `writing` the statement is part of that transaction."""
        with self._lock:
            return self._connection.execute(statement, values).fetchall()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Run one write transaction.

        It is IMMEDIATE, because a transaction that begins with a read fails instead of waiting at its first write.
        """
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
