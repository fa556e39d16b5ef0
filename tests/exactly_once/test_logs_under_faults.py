"""What a reader sees of a job's log if CloudWatch Logs fails, is slow or dies, or if the log has no reader for a while.

The tests run tasks against the local SageMaker with faults, and read the log of the Prefect task run.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context

from own_prefect import HOME, ISOLATED  # before any import of Prefect
from waiting import wait_until

# ruff: isort: split
import prefect.settings as prefect_settings
import pytest
from prefect.settings import temporary_settings

from blocks import SageMakerProject
from tasks_lib import sagemaker_tasks

LINES = 1000  # of each of two hosts
HALF, MOST = 500, 750
SEED = 2
HOSTS = ("algo-1", "algo-2")


class RunLog(logging.Handler):
    """The records that Prefect's task runs log, from all threads: they go to the log API and to a terminal."""

    def __init__(self):
        super().__init__()
        self.all = []

    def emit(self, record):
        self.all.append(record)

    def lines(self, host):
        """Return the log lines of a host that are numbers."""
        said = [line for each in list(self.all) if _host(each) == host for line in each.sagemaker_lines]
        return [int(line) for line in said if line.isdigit()]

    @property
    def warnings(self):
        """The warnings about logs that cannot be read."""
        texts = [each.getMessage() for each in list(self.all) if each.levelno >= logging.WARNING]
        return [text for text in texts if "log of job" in text]


def _host(record):
    return getattr(record, "sagemaker_prefix", "").partition("/")[2] if hasattr(record, "sagemaker_lines") else None


@pytest.fixture(scope="module", autouse=True)
def isolated_prefect(prefect_api):
    """Isolate Prefect from the user's settings, with the tests' own server."""
    with temporary_settings({**ISOLATED, prefect_settings.PREFECT_API_URL: prefect_api}):
        yield prefect_api


@pytest.fixture(scope="module")
def faulty_home(tmp_path_factory, make_backend):
    """A local SageMaker of these tests alone: its faults and its kills must not affect other tests."""
    backend = make_backend(tmp_path_factory.mktemp("logs") / "home")
    backend.up()
    return backend


@pytest.fixture
def faults(faulty_home):
    """A client that turns faults on; none is on before and after the test."""
    client = faulty_home.faults
    client.clear()
    yield client
    faulty_home.faults.clear()


@pytest.fixture
def sm(faulty_home, faults):
    """The tasks of a new project."""
    project = SageMakerProject.local(f"p-{uuid.uuid4().hex[:12]}", home=faulty_home.home)
    return sagemaker_tasks(project, state="none")


@pytest.fixture
def run_log():
    """All records of task runs during a test."""
    log = RunLog()
    logging.getLogger("prefect.task_runs").addHandler(log)
    yield log
    logging.getLogger("prefect.task_runs").removeHandler(log)


def counting(**waits):
    """Return a shell command that counts; after `HALF` or `MOST` lines it waits for a file (`half=`, `most=`)."""
    wait = "; ".join(
        f"[ $i -ne {number} ] || while [ ! -e {waits[name]} ]; do sleep 0.05; done"
        for name, number in (("half", HALF), ("most", MOST))
        if name in waits
    )
    return f"i=0; while [ $i -lt {LINES} ]; do echo $i; i=$((i+1)); {wait or ':'}; done"


@contextmanager
def in_background(work):
    """Run a function in its own thread with this thread's context, which contains Prefect's settings."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(copy_context().run, work)


@pytest.mark.sampled(1, group="logs")
def test_every_line_comes_once_and_in_order(sm, faults, run_log, tmp_path):
    """Each of 2,000 lines of two hosts arrives once and in order, although the log's calls fail or are slow."""
    kinds = [("throttle", 0.3), ("lose", 0.1), ("drop", 0.1), ("error", 0.1), ("expire", 0.05)]
    rules = [{"kind": kind, "service": "logs", "probability": share} for kind, share in kinds]
    faults.set({"seed": SEED, "requests": [*rules, {"kind": "slow", "service": "logs", "seconds": 0.05}]})
    with in_background(lambda: sm.train("count", command=counting(half=tmp_path / "half"), instance_count=2)):
        wait_until(lambda: all(run_log.lines(host) for host in HOSTS), "the first half")
        (tmp_path / "half").touch()

    assert [run_log.lines(host) for host in HOSTS] == [list(range(LINES))] * 2
    assert run_log.warnings == []


@pytest.mark.sampled(1, group="logs")
def test_the_log_goes_on_when_its_server_was_killed(sm, faulty_home, run_log, tmp_path):
    """If the local SageMaker dies during a job and comes back, no line is lost or repeated."""
    half = tmp_path / "half"
    with in_background(lambda: sm.train("count", command=counting(half=half), instance_count=2)) as running:
        wait_until(lambda: all(len(run_log.lines(host)) == HALF for host in HOSTS), "the first half")
        faulty_home.kill()
        faulty_home.up()
        half.touch()

    assert running.result().job
    assert [run_log.lines(host) for host in HOSTS] == [list(range(LINES))] * 2


FLOW = """
import sys
from blocks import SageMakerProject
from tasks_lib import sagemaker_tasks
from prefect import flow

@flow
def count():
    project = SageMakerProject.local(sys.argv[1], home=sys.argv[2])
    sagemaker_tasks(project, state="none").train("count", command=sys.argv[3], instance_count=2)

count()
"""


def written(home):
    """Return the fewest lines that a host of the newest job has sent to the log service."""
    logs = max(home.home.glob("logs/*/count-*"), key=lambda path: path.stat().st_ctime)
    return min((file.read_text().count("\n") for file in logs.glob("*.jsonl")), default=0)


@pytest.mark.sampled(1, group="logs")
def test_attach_after_a_crash_shows_the_whole_log(sm, faulty_home, run_log, tmp_path, isolated_prefect):
    """If a flow is killed while its job writes on, the next run has each line in its own log, once."""
    half, most, out = tmp_path / "half", tmp_path / "most", tmp_path / "out"
    command = counting(half=half, most=most)
    variables = {**os.environ, "PREFECT_API_URL": isolated_prefect, "PREFECT_HOME": str(HOME)}
    arguments = [sys.executable, "-c", FLOW, sm.project.project, str(faulty_home.home), command]
    with out.open("w") as said:
        flow = subprocess.Popen(arguments, env=variables, stdout=said, stderr=said, start_new_session=True)
    try:
        wait_until(lambda: f"algo-2 | {HALF - 1}" in out.read_text(), "the first half")
    finally:
        os.killpg(flow.pid, signal.SIGKILL)
        flow.wait()
    half.touch()
    wait_until(lambda: written(faulty_home) >= MOST, "lines that nobody reads")
    with in_background(lambda: sm.train("count", command=command, instance_count=2)) as running:
        wait_until(lambda: all(len(run_log.lines(host)) == MOST for host in HOSTS), "what was written before")
        most.touch()

    assert running.result().reason == "attached to its running job"
    assert [run_log.lines(host) for host in HOSTS] == [list(range(LINES))] * 2


@pytest.mark.sampled(1, group="logs")
@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ({"kind": "error", "code": "AccessDeniedException", "status": 400}, "AccessDeniedException"),
        ({"kind": "throttle"}, "ThrottlingException"),
        ({"kind": "hold"}, "did not answer"),
    ],
    ids=["refused", "throttled", "hangs"],
)
def test_an_unreadable_log_does_not_fail_the_task(sm, faults, run_log, rule, why):
    """A log that cannot be read never fails the task; one warning says why, and how to read the log later."""
    faults.set({"requests": [{**rule, "service": "logs"}]})
    result = sm.train("count", command="echo 1")
    faults.clear()

    assert result.status == "Completed"
    assert len(run_log.warnings) == 1
    assert why in run_log.warnings[0]
    assert "result.logs()" in run_log.warnings[0]
    assert "1" in [line.text for line in result.logs()]
