"""The keeper of a Prefect server: whatever it dies of, the server does not outlive it."""

from __future__ import annotations

import os
import shutil
import signal

import pytest
from waiting import wait_until

from flows.prefect_server import PrefectServer, answers


@pytest.mark.exhaustive
def test_a_killed_keeper_takes_its_server_along(tmp_path, prefect_database, monkeypatch):
    """After `kill -9` nobody is left who could end it, so the kernel does."""
    shutil.copy(prefect_database, tmp_path)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    server = PrefectServer(tmp_path)
    try:
        server.wait_until_up()
        os.kill(server.pid, signal.SIGKILL)
        wait_until(lambda: not answers(server.api), "the server to end")
    finally:
        server.stop()
