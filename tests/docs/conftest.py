"""A Prefect server for all pages of this process, and a story for each page with its own local SageMaker."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from own_prefect import ISOLATED  # before any import of Prefect

# ruff: isort: split
import prefect.settings as prefect_settings
import pytest
from prefect.settings import temporary_settings
from story import Story, shell_variables

FIXTURES = Path(__file__).with_name("fixtures")


@pytest.fixture
def own_homes(prefect_api, tmp_path):
    """Yield variables for the tests' Prefect and a new local SageMaker, which is stopped afterwards with its jobs."""
    sagemaker = tmp_path / "sagemaker"
    yield {
        "PREFECT_API_URL": prefect_api,
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "LOCAL_SAGEMAKER_HOME": str(sagemaker),
        "QUICKSTART_HOME": str(tmp_path / "quickstart"),
    }
    down = [sys.executable, "-m", "local_sagemaker", "down", "--home", str(sagemaker)]
    subprocess.run(down, capture_output=True, check=True)


@pytest.fixture
def make_story(own_homes, prefect_api, tmp_path, monkeypatch):
    """Return a function that makes the story of a page, in a directory with the files of `fixtures/<page>`."""
    for name, value in own_homes.items():
        monkeypatch.setenv(name, value)
    before = set(sys.modules)
    with temporary_settings({**ISOLATED, prefect_settings.PREFECT_API_URL: prefect_api}):

        def make(page: Path) -> Story:
            directory = tmp_path / "reader"
            given = FIXTURES / page.stem.lower()
            shutil.copytree(given, directory) if given.is_dir() else directory.mkdir()
            monkeypatch.chdir(directory)
            monkeypatch.syspath_prepend(str(directory))
            return Story(page, directory, shell_variables(**own_homes))

        yield make
    for name in set(sys.modules) - before:  # a page's `flow.py` must not be imported by the next page
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
