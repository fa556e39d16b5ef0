"""The keeper of a Prefect server: however the keeper ends, the server ends with it."""

from __future__ import annotations

import os
import shutil
import signal

import pytest
from waiting import wait_until

from flows.prefect_server import PrefectServer, answers


@pytest.mark.exhaustive
def test_a_killed_keeper_takes_its_server_along(tmp_path, prefect_database, monkeypatch):
    """If the keeper is killed, the kernel ends the server, since no other process could."""
    shutil.copy(prefect_database, tmp_path)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    server = PrefectServer(tmp_path)
    try:
        server.wait_until_up()
        os.kill(server.pid, signal.SIGKILL)
        wait_until(lambda: not answers(server.api), "the server to end")
    finally:
        server.stop()
