"""A Prefect server for all pages of this process, and a story for each page with a local SageMaker of its own."""
# ruff: noqa: E402  Prefect reads its settings when it is imported

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HOME = Path(tempfile.mkdtemp(prefix="docs-prefect-"))
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
os.environ.update(
    PREFECT_HOME=str(HOME),
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW="ignore",
)

import prefect.settings as prefect_settings
import pytest
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.server.api.server import SubprocessASGIServer
from prefect.settings import temporary_settings
from story import Story, shell_variables

FIXTURES = Path(__file__).with_name("fixtures")
_STARTUP_SECONDS = 120

# Said again, because another folder's tests may have imported Prefect before.
_ISOLATED = {
    prefect_settings.PREFECT_HOME: HOME,
    prefect_settings.PREFECT_API_KEY: None,
    prefect_settings.PREFECT_SERVER_ANALYTICS_ENABLED: False,
    prefect_settings.PREFECT_SERVER_DATABASE_CONNECTION_URL: f"sqlite+aiosqlite:///{HOME}/prefect.db",
    prefect_settings.PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW: "ignore",
    # Prefect waits a second for its heartbeat's thread at the end of each flow run.
    prefect_settings.PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
}


@pytest.fixture(scope="session")
def prefect_api():
    """The URL of a Prefect server that is there for all pages."""
    server = SubprocessASGIServer()
    with temporary_settings(_ISOLATED):
        server.start(timeout=_STARTUP_SECONDS)
    try:
        yield server.api_url
        # What is still to be sent would be tried again for a minute after the server's end.
        with temporary_settings({**_ISOLATED, prefect_settings.PREFECT_API_URL: server.api_url}):
            APILogWorker.drain_all()
            EventsWorker.drain_all()
    finally:
        server.stop()


@pytest.fixture
def own_homes(prefect_api, tmp_path):
    """The variables by which Prefect and the local SageMaker are ours; the latter is ended with all its jobs."""
    sagemaker = tmp_path / "sagemaker"
    yield {
        "PREFECT_API_URL": prefect_api,
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        "DO_NOT_TRACK": "1",
        "LOCAL_SAGEMAKER_HOME": str(sagemaker),
        "QUICKSTART_HOME": str(tmp_path / "quickstart"),
    }
    down = [sys.executable, "-m", "local_sagemaker", "down", "--home", str(sagemaker)]
    subprocess.run(down, capture_output=True, check=True)


@pytest.fixture
def make_story(own_homes, prefect_api, tmp_path, monkeypatch):
    """A function that makes the story of a page, in a directory with what `fixtures/<page>` holds."""
    for name, value in own_homes.items():
        monkeypatch.setenv(name, value)
    before = set(sys.modules)
    with temporary_settings({**_ISOLATED, prefect_settings.PREFECT_API_URL: prefect_api}):

        def make(page: Path) -> Story:
            directory = tmp_path / "reader"
            given = FIXTURES / page.stem.lower()
            shutil.copytree(given, directory) if given.is_dir() else directory.mkdir()
            monkeypatch.chdir(directory)
            monkeypatch.syspath_prepend(str(directory))
            return Story(page, directory, shell_variables(**own_homes))

        yield make
    for name in set(sys.modules) - before:  # a page's `flow.py` must not be the next page's
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
