"""Fixtures of all tests: the local SageMaker as a real server, started by its command line, with unmodified clients."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import boto3
import botocore.session
import pytest
import server_logs
import tiers
from botocore.config import Config
from hypothesis import HealthCheck, settings

from local_sagemaker.faults.client import FaultClient
from local_sagemaker.keys import HomeKey, Keys

# Other tests slow this machine down, and a slow example is not a failure. The profiles must be set before a test module
# is imported.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("fast", settings.get_profile("tests"), max_examples=20)
settings.register_profile("sample", settings.get_profile("tests"), max_examples=30)
settings.load_profile("tests")

# A job that ignores SIGTERM is killed after this many seconds, and not after AWS's 120 s.
STOP_GRACE_SECONDS = 5


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option `--tier`; see `tiers.py`."""
    parser.addoption("--tier", choices=tiers.TIERS, default="all", help="how much of the suite: %(choices)s")


def pytest_configure(config: pytest.Config) -> None:
    """Restore the default handling of SIGINT, and try fewer examples of a property in all tiers except `all`."""
    tier = config.getoption("tier")
    settings.load_profile("tests" if tier == "all" else tier)
    # A background job of a shell ignores SIGINT, and so would every process that the tests start.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log):
    """Keep tests with shared slow fixtures together, and start with the slow ones; xdist starts with large modules."""
    config.option.loadscopereorder = False
    return tiers.SlowModulesTogether(config, log)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not import modules that the fast tests do not need."""
    return True if config.getoption("tier") == "fast" and collection_path.name in tiers.WITH_PROCESSES else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tests that are not in the tier, and start with the slow ones."""
    selected = tiers.select(items, tiers.sample_of(config))
    config.hook.pytest_deselected(items=[item for item in items if item not in selected])
    items[:] = tiers.slow_first([item for item in items if item in selected])


def pytest_collection_finish(session: pytest.Session) -> None:
    """Make a fast test fail if it starts a process. The collection itself may start one, for `pytest.mark.skipif`."""
    if session.config.getoption("tier") == "fast":
        tiers.forbid_processes()


def pytest_terminal_summary(terminalreporter, exitstatus: int, config: pytest.Config) -> None:
    """Print the command that repeats a failed run with the same sample and order."""
    tier, seed = config.getoption("tier"), config.getoption("randomly_seed", 0)
    if exitstatus and tier != "all":
        terminalreporter.write_line(f"again: .venv/bin/python -m pytest --tier={tier} --randomly-seed={seed}")


@pytest.fixture(scope="session")
def sample(pytestconfig: pytest.Config) -> tiers.Sample:
    """Return an object that draws a sample of what would take too long in full, as `--tier` says."""
    return tiers.sample_of(pytestconfig)


@pytest.fixture(autouse=True)
def no_error_in_a_log(request: pytest.FixtureRequest):
    """Fail if a server or worker logged an error that the test does not expect by `logs_errors(REGEX)`."""
    yield
    expected = [pattern for mark in request.node.iter_markers("logs_errors") for pattern in mark.args]

    assert server_logs.errors(expected) == []


class Backend:
    """A home of the local SageMaker, and its server.

    Args:
        home: The data directory. It is created here, with a short grace period for stopped jobs.
        python: The Python that runs the server and its jobs; by default the one that runs the tests.
    """

    def __init__(self, home: Path, python: Path = Path(sys.executable)) -> None:
        home.mkdir(parents=True)
        self._python = python
        self.home = home
        (home / "settings.json").write_text(json.dumps({"stop_grace_seconds": STOP_GRACE_SECONDS}))
        self._client = cache(self._new_client)

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of a command on this home."""
        return [str(self._python), "-m", "local_sagemaker", *arguments, "--home", str(self.home)]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the command line to its end; fail after 180 s."""
        return subprocess.run(self.command(*arguments), capture_output=True, text=True, check=False, timeout=180)

    def up(self) -> dict:
        """Start the server if it is not running; return its status."""
        done = self.run("up", "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def status(self) -> dict:
        """Return the status that the server reports."""
        return json.loads(self.run("status", "--json").stdout)

    def kill(self) -> None:
        """Send SIGKILL to the server."""
        os.kill(self.status()["pid"], signal.SIGKILL)

    def down(self) -> None:
        """Stop the server and its jobs, and wait up to 30 s until their processes are gone."""
        done = self.run("down")
        assert done.returncode == 0, done.stderr
        deadline = time.monotonic() + 30
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not left

    def processes(self) -> list[str]:
        """Return the command lines of all processes that serve this home or run its jobs."""
        listed = subprocess.run(["ps", "-ww", "-eo", "args="], capture_output=True, text=True, check=True).stdout
        return [line for line in listed.splitlines() if str(self.home) in line]

    @property
    def keys(self) -> Keys:
        """The access key of the home's user, with which requests are signed."""
        return HomeKey.of(self.home).keys

    @property
    def faults(self) -> FaultClient:
        """A client of the control endpoint of faults."""
        return FaultClient(self.endpoint, HomeKey.of(self.home).control)

    @property
    def endpoint(self) -> str:
        """The URL of the server."""
        return json.loads((self.home / "endpoint.json").read_text())["endpoint"]

    def client(self, service: str, region: str = "us-east-1"):
        """Return a cached boto3 client of the server; it ignores the user's profile, credentials and endpoints."""
        return self._client(service, region)

    def _new_client(self, service: str, region: str):
        nothing = dict.fromkeys(("config_file", "credentials_file"), (None, None, os.devnull, None))
        core = botocore.session.Session(session_vars={**nothing, "profile": (None, None, None, None)})
        return boto3.Session(botocore_session=core).client(
            service,
            region_name=region,
            endpoint_url=self.endpoint,
            aws_access_key_id=self.keys.access_key,
            aws_secret_access_key=self.keys.secret_key,
            config=Config(retries={"total_max_attempts": 2}, ignore_configured_endpoint_urls=True),
        )


@pytest.fixture(scope="session")
def backend(tmp_path_factory: pytest.TempPathFactory):
    """One running local SageMaker for all tests of this process (one for each worker of xdist); stopped at the end."""
    backend = Backend(tmp_path_factory.mktemp("backend") / "home")
    try:
        backend.up()
        yield backend
    finally:
        backend.down()


@pytest.fixture(scope="session")
def make_backend():
    """Return a function that makes a `Backend` without starting it; each is stopped after all tests."""
    with ExitStack() as made:

        def make(home: Path, **options: Path) -> Backend:
            backend = Backend(home, **options)
            made.callback(backend.down)
            return backend

        yield make


@pytest.fixture(scope="session")
def prefect_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the database of a fresh Prefect server, made once for all workers of xdist."""
    from own_prefect import make_database

    place = tmp_path_factory.getbasetemp()
    place = place.parent if "PYTEST_XDIST_WORKER" in os.environ else place
    with (place / "prefect-database.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        file = place / "prefect-database" / "prefect.db"
        return file if file.exists() else make_database(file.parent)


@pytest.fixture(scope="session")
def prefect_api(prefect_database: Path):
    """The URL of a Prefect server that runs during all tests of this process."""
    from own_prefect import served

    with served(prefect_database) as url:
        yield url


@pytest.fixture
def own_backend(tmp_path: Path):
    """A home of this test alone, not yet started, for tests that kill, stop or fill it; stopped afterwards."""
    backend = Backend(tmp_path / "home")
    try:
        yield backend
    finally:
        backend.down()
