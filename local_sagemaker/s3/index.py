"""The index of an object store: an SQLite file with its buckets, objects and uploads.

SQLite in WAL mode, not one document per object: a conditional write must be atomic across processes, and a listing is
a range of a sorted index.
"""

from __future__ import annotations

import fcntl
import sqlite3
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BUSY_TIMEOUT = 60.0  # seconds that a writer waits for a writer in another process
_VERSION = 1
# SQLite compares TEXT as bytes of the database's encoding, UTF-8, which is S3's order of keys.
_SCHEMA = f"""
CREATE TABLE buckets (name TEXT PRIMARY KEY, created REAL NOT NULL, region TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE documents (
    bucket TEXT NOT NULL, kind TEXT NOT NULL, content BLOB NOT NULL, PRIMARY KEY (bucket, kind)) WITHOUT ROWID;
CREATE TABLE objects (
    bucket TEXT NOT NULL, key TEXT NOT NULL, body TEXT NOT NULL, size INTEGER NOT NULL, etag TEXT NOT NULL,
    modified REAL NOT NULL, content_type TEXT NOT NULL, metadata TEXT NOT NULL, headers TEXT NOT NULL,
    tags TEXT NOT NULL, checksums TEXT NOT NULL, part_sizes TEXT NOT NULL, md5 TEXT NOT NULL,
    PRIMARY KEY (bucket, key)) WITHOUT ROWID;
CREATE TABLE uploads (
    id TEXT PRIMARY KEY, bucket TEXT NOT NULL, key TEXT NOT NULL, created REAL NOT NULL, properties TEXT NOT NULL,
    algorithm TEXT NOT NULL, checksum_type TEXT NOT NULL, completed_etag TEXT) WITHOUT ROWID;
CREATE INDEX uploads_by_key ON uploads (bucket, key, id);
CREATE TABLE parts (
    upload TEXT NOT NULL, number INTEGER NOT NULL, body TEXT NOT NULL, size INTEGER NOT NULL, etag TEXT NOT NULL,
    modified REAL NOT NULL, checksums TEXT NOT NULL, PRIMARY KEY (upload, number)) WITHOUT ROWID;
PRAGMA user_version={_VERSION};
"""


class Index:
    """A connection to the index, shared by all threads of this process.

    Args:
        directory: directory of `index.sqlite`; it must exist.
        fsync: whether a commit survives a power cut. Without it, a commit survives `kill -9`. A power cut may then undo
            the last commits, but never corrupts the file (https://sqlite.org/pragma.html#pragma_synchronous, NORMAL in
            WAL mode).
    """

    def __init__(self, directory: Path, *, fsync: bool) -> None:
        # One connection under one lock. Statements take microseconds. SQLite allows one writer at a time in any case
        # and lets others sleep in steps of up to 100 ms. A connection per thread would have to be closed by threads
        # that this class does not own.
        self._lock = threading.Lock()
        self._db = sqlite3.connect(
            directory / "index.sqlite", timeout=_BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare(directory, fsync=fsync)
        except BaseException:
            self._db.close()
            raise

    def _prepare(self, directory: Path, *, fsync: bool) -> None:
        # The switch to WAL fails instead of waiting for other connections, so processes open the index in turn.
        with (directory / "index.lock").open("ab") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}COMMIT;")
            elif version != _VERSION:
                raise RuntimeError(
                    f"{directory}/index.sqlite has version {version}, this program knows {_VERSION} only; use the"
                    " program that wrote it, or move the directory away."
                )
        self._db.execute(f"PRAGMA synchronous={'FULL' if fsync else 'NORMAL'}")

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection in a read transaction: all its statements see the same state of the index."""
        with self._transaction("BEGIN") as db:
            yield db

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection in a write transaction: committed at the end, rolled back on an error."""
        # IMMEDIATE: a transaction that begins as a reader and then writes fails instead of waiting.
        with self._transaction("BEGIN IMMEDIATE") as db:
            yield db

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute(begin)
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close the connection. The index cannot be used afterwards."""
        with self._lock:
            self._db.close()
