"""Prefect for tests: a home and a server of their own, so that the user's profile and Prefect Cloud stay untouched.

Import this module before Prefect, which reads its settings at its import.
"""
# ruff: noqa: E402  see above

from __future__ import annotations

import atexit
import os
import shutil
import sqlite3
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path

HOME = Path(tempfile.mkdtemp(prefix="tests-prefect-"))
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
for name in [name for name in os.environ if name.startswith("PREFECT_")]:
    del os.environ[name]
os.environ.update(
    PREFECT_HOME=str(HOME),
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
)

import prefect.settings as prefect_settings
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.server.api.server import SubprocessASGIServer
from prefect.settings import temporary_settings
from server_logs import errors, watch

from flows.prefect_server import PrefectServer

# Prefect draws a port and checks whether it is free. If two processes draw the same port at once, one would use the
# other's server as its own. So each worker of xdist has its own range.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
SubprocessASGIServer._port_range = range(8000 + _WORKER % 10 * 100, 8100 + _WORKER % 10 * 100)

# Set once more, because a test of another folder may have imported Prefect before this module.
ISOLATED = {
    prefect_settings.PREFECT_HOME: HOME,
    prefect_settings.PREFECT_API_KEY: None,
    prefect_settings.PREFECT_SERVER_ANALYTICS_ENABLED: False,
    prefect_settings.PREFECT_SERVER_DATABASE_CONNECTION_URL: f"sqlite+aiosqlite:///{HOME}/prefect.db",
    # At the end of each flow run, Prefect waits a second for the thread of its heartbeat.
    prefect_settings.PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
}


def make_database(home: Path) -> Path:
    """Make the database of a fresh Prefect server by a first start; return its file.

    A first start runs a hundred migrations and registers the blocks, which takes 10 s of a core. Servers that start
    with a copy of this file need not do it.
    """
    home.mkdir(parents=True)
    file = home / "prefect.db"
    before = os.environ["PREFECT_HOME"]
    os.environ["PREFECT_HOME"] = str(home)
    try:
        server = PrefectServer(home)
        try:
            server.wait_until_up()
        finally:
            server.stop()
    finally:
        os.environ["PREFECT_HOME"] = before
    with closing(sqlite3.connect(file)) as database:  # moves the content of the write-ahead log into the file
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return file


@contextmanager
def served(database: Path | None = None):
    """Run a Prefect server inside this block; yield the URL of its API.

    Args:
        database: The database to copy for the start; None if the server makes a new one.
    """
    if database:
        shutil.copy(database, HOME / "prefect.db")
    server = PrefectServer(HOME)
    watch("the Prefect server", HOME / "server.log")
    try:
        server.wait_until_up()
        yield server.api
        # Otherwise unsent logs and events would be retried for a minute after the server's end.
        with temporary_settings({**ISOLATED, prefect_settings.PREFECT_API_URL: server.api}):
            APILogWorker.drain_all()
            EventsWorker.drain_all()
    finally:
        server.stop()
    assert errors() == []
