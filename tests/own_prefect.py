"""Prefect for tests: a home and a server of our own, so that neither the user's profile nor a cloud is touched.

To be imported before Prefect is, which reads its settings then.
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

# Prefect draws a port and looks whether it is free; of two processes that draw the same one at once, one would take the
# other's server for its own.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
SubprocessASGIServer._port_range = range(8000 + _WORKER % 10 * 100, 8100 + _WORKER % 10 * 100)

# Said again, because another folder's tests may have imported Prefect before.
ISOLATED = {
    prefect_settings.PREFECT_HOME: HOME,
    prefect_settings.PREFECT_API_KEY: None,
    prefect_settings.PREFECT_SERVER_ANALYTICS_ENABLED: False,
    prefect_settings.PREFECT_SERVER_DATABASE_CONNECTION_URL: f"sqlite+aiosqlite:///{HOME}/prefect.db",
    # Prefect waits a second for its heartbeat's thread at the end of each flow run.
    prefect_settings.PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
}


def make_database(home: Path) -> Path:
    """Make the database of a fresh Prefect server, by a first start; return it.

    A first start runs a hundred migrations and registers the blocks, 10 s of a core. A copy of this file spares it.
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
    with closing(sqlite3.connect(file)) as database:  # what is still in the write-ahead log goes into the file
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return file


@contextmanager
def served(database: Path | None = None):
    """Serve Prefect inside this block, and yield the URL of its API.

    Args:
        database: What to begin with; by default the server makes it.
    """
    if database:
        shutil.copy(database, HOME / "prefect.db")
    server = PrefectServer(HOME)
    watch("the Prefect server", HOME / "server.log")
    try:
        server.wait_until_up()
        yield server.api
        # What is still to be sent would be tried again for a minute after the server's end.
        with temporary_settings({**ISOLATED, prefect_settings.PREFECT_API_URL: server.api}):
            APILogWorker.drain_all()
            EventsWorker.drain_all()
    finally:
        server.stop()
    assert errors() == []
