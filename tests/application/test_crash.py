"""What happens to a job if its waiters, or the servers that run it, are killed, signalled or fail.

Real processes and real signals: a flow in one process, the local SageMaker in another, a Prefect server in a third.
"""

from __future__ import annotations

import os
import shutil
import signal
import uuid
from pathlib import Path

import pytest
from application_programs import WAITING_FLOW, Program, flow_runs, recorded_states
from slow_relay import SlowRelay
from waiting import wait_until

from flows.prefect_server import PrefectServer

BUCKET = "local-sagemaker"
GOING_DOWN = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
BOTH_CALLS = pytest.mark.parametrize("how", [(), ("--direct",)], ids=["submitted", "direct"])


class Work:
    """One piece of work whose job waits for a gate, and the flows that call it.

    Args:
        directory: The directory for the files `started` and `gate`; its name is the task's.
        backend: The local SageMaker.
        prefect_api: The URL of the Prefect server to which the flows report.
        start: Starts a program.
    """

    def __init__(self, directory: Path, backend, prefect_api: str, start) -> None:
        directory.mkdir()
        self.directory, self.task, self.backend = directory, directory.name, backend
        self._start, self._api = start, prefect_api
        backend.client("s3").create_bucket(Bucket=BUCKET)  # as the first flow does; no error if the bucket exists

    def flow(self, *arguments: str, flow: str = "one", **variables: str) -> Program:
        """Start a process with a flow that calls the work."""
        return self._start(
            *(str(WAITING_FLOW), flow, str(self.directory), *arguments),
            cwd=self.directory,
            PREFECT_HOME=str(self.directory / "prefect"),
            LOCAL_SAGEMAKER_HOME=str(self.backend.home),
            **{"PREFECT_API_URL": self._api, **variables},
        )

    def started(self, flow: Program) -> None:
        """Wait until the job is running, and the flow waits for it."""
        flow.wait_for("algo-1 | started")

    def open_gate(self) -> None:
        """Let the job end."""
        (self.directory / "gate").touch()

    def jobs(self) -> dict[str, str]:
        """Return the status of each job of the task by its name."""
        listed = self.backend.client("sagemaker").list_training_jobs(NameContains=f"{self.task}-")
        return {job["TrainingJobName"]: job["TrainingJobStatus"] for job in listed["TrainingJobSummaries"]}

    def waiters(self) -> list[str]:
        """Return the keys of the heartbeats of the task's jobs."""
        listed = self.backend.client("s3").list_objects_v2(Bucket=BUCKET, Prefix=f"local/{self.task}/_ledger/interest/")
        return [row["Key"] for row in listed.get("Contents", [])]


@pytest.fixture(scope="session")
def killed_backend(tmp_path_factory, make_backend):
    """A local SageMaker that these tests may kill."""
    return make_backend(tmp_path_factory.mktemp("crash") / "home")


@pytest.fixture
def work(tmp_path, killed_backend, prefect_api, start):
    """A new piece of work, on a running local SageMaker."""
    killed_backend.up()
    work = Work(tmp_path / f"fit-{uuid.uuid4().hex[:8]}", killed_backend, prefect_api, start)
    yield work
    work.open_gate()


@pytest.fixture
def relay(killed_backend):
    """A relay that holds SageMaker's response to a create."""
    killed_backend.up()
    relay = SlowRelay(killed_backend.endpoint)
    yield relay
    relay.close()


@pytest.mark.sampled(2, group="kills")
def test_flow_killed(work):
    """If the flow is killed during its job, the next run attaches to the job: no second job, the same result."""
    first = work.flow()
    work.started(first)
    first.kill()
    jobs = work.jobs()
    second = work.flow()
    second.wait_for("attached to the job")
    work.open_gate()
    attached = second.done()
    third = work.flow().done()

    assert list(jobs.values()) == ["InProgress"]
    assert attached.code == third.code == 0, attached.err + third.err
    assert work.jobs() == dict.fromkeys(jobs, "Completed")
    assert attached.result["reason"] == "attached to its running job"
    assert attached.result["metrics"] == {"value": 7.0}
    assert third.result["cached"]
    assert {name: third.result[name] for name in ("job", "metrics", "outputs")} == {
        name: attached.result[name] for name in ("job", "metrics", "outputs")
    }


@pytest.mark.sampled(2, group="kills")
def test_backend_killed(work):
    """If the local SageMaker's server is killed during a job, the flow starts it again and gets its result."""
    before = work.backend.status()
    flow = work.flow()
    work.started(flow)
    work.backend.kill()
    work.open_gate()
    done = flow.done()
    after = work.backend.status()

    assert done.code == 0, done.err
    assert done.result["metrics"] == {"value": 7.0}
    assert done.result["reason"] == "ran: first run"
    assert list(work.jobs().values()) == ["Completed"]
    assert after["running"]
    assert after["pid"] != before["pid"]


@pytest.mark.exhaustive
def test_both_killed_while_the_job_runs(work):
    """If flow and server are killed, the job goes on by itself, and the next run attaches to it."""
    first = work.flow()
    work.started(first)
    first.kill()
    work.backend.kill()
    second = work.flow()
    second.wait_for("attached to the job")
    work.open_gate()
    done = second.done()

    assert done.code == 0, done.err
    assert done.result["reason"] == "attached to its running job"
    assert done.result["metrics"] == {"value": 7.0}
    assert list(work.jobs().values()) == ["Completed"]


@pytest.mark.exhaustive
def test_prefect_server_killed(work, prefect_database, tmp_path, monkeypatch):
    """If Prefect's server is killed, the flow says so and ends, and the next run attaches to its job."""
    shutil.copy(prefect_database, tmp_path)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    server = PrefectServer(tmp_path)
    try:
        server.wait_until_up()
        first = work.flow(PREFECT_API_URL=server.api)
        work.started(first)
        os.killpg(server.pid, signal.SIGKILL)
        done = first.done()
    finally:
        server.stop()
    jobs = work.jobs()
    second = work.flow()
    second.wait_for("algo-1 | started")
    work.open_gate()
    after = second.done()

    assert (done.code, list(jobs.values())) == (1, ["InProgress"])
    assert done.err.count("The flow ends, and its jobs go on: the next run attaches to them.") == 1
    assert after.code == 0, after.err
    assert work.jobs().keys() == jobs.keys()
    assert after.result["metrics"] == {"value": 7.0}


@pytest.mark.sampled(2, group="kills")
def test_both_killed_and_the_job_ends(work):
    """A job that ends while flow and server are killed is recorded by the next run, with its metrics."""
    first = work.flow()
    work.started(first)
    first.kill()
    work.backend.kill()
    work.open_gate()
    wait_until(lambda: not work.backend.processes(), "the job to end without a server")
    done = work.flow().done()

    assert done.code == 0, done.err
    assert done.result["reason"] == "its job had completed without a record"
    assert done.result["metrics"] == {"value": 7.0}
    assert list(work.jobs().values()) == ["Completed"]


@pytest.mark.sampled(1)
@GOING_DOWN
@BOTH_CALLS
@pytest.mark.sampled(2, group="kills")
def test_signal_stops_the_job(work, number, how):
    """SIGTERM and SIGINT stop a flow's job and end the flow, and no heartbeat is left."""
    flow = work.flow(*how)
    work.started(flow)
    flow.signal(number)
    wait_until(lambda: list(work.jobs().values()) in (["Stopping"], ["Stopped"]), "the job to be stopped")
    done = flow.done()
    wait_until(lambda: list(work.jobs().values()) == ["Stopped"], "the job to have stopped")

    assert done.code != 0
    assert "stopped job" in done.err
    assert work.waiters() == []
    assert flow.group() == []


@pytest.mark.sampled(2, group="kills")
def test_signal_while_a_job_is_created(work, relay, killed_backend):
    """A flow that gets SIGINT between the create and its response stops the job, of which it was not told."""
    of_home = killed_backend.keys
    keys = {"AWS_ACCESS_KEY_ID": of_home.access_key, "AWS_SECRET_ACCESS_KEY": of_home.secret_key}
    flow = work.flow("--aws", "--direct", AWS_ENDPOINT_URL=relay.endpoint, **keys)
    wait_until(relay.held.is_set, "the job to be created")
    flow.signal(signal.SIGINT)
    done = flow.done()
    wait_until(lambda: list(work.jobs().values()) == ["Stopped"], "the job to have stopped")

    assert done.code != 0
    assert "stopped job" in done.err


@pytest.mark.exhaustive
def test_two_processes_at_once(work, tmp_path):
    """Two processes that call the same work at the same moment share one job, and both get its result."""
    barriers = [tmp_path / "ready-1", tmp_path / "ready-2"]
    flows = [work.flow("--barrier", str(barrier)) for barrier in barriers]
    wait_until(lambda: all(barrier.exists() for barrier in barriers), "two processes at the barrier")
    (tmp_path / "go").touch()
    wait_until(lambda: len(work.waiters()) == 2, "both processes to wait for the job")
    work.open_gate()
    done = [flow.done() for flow in flows]

    assert [one.code for one in done] == [0, 0], done[0].err + done[1].err
    assert len(work.jobs()) == 1
    assert {one.result["job"] for one in done} == set(work.jobs())
    assert [one.result["metrics"] for one in done] == 2 * [{"value": 7.0}]
    assert [one.result["cached"] for one in done] == [False, False]


@pytest.mark.exhaustive
@BOTH_CALLS
def test_one_of_two_is_cancelled(work, how):
    """A job that another process waits for survives the cancel of the first, and completes for the other."""
    cancelled, other = work.flow(*how), work.flow()
    work.started(cancelled)
    work.started(other)
    cancelled.signal(signal.SIGTERM)
    left = cancelled.done()
    running = work.jobs()
    work.open_gate()
    done = other.done()

    assert left.code != 0
    assert "leaving job" in left.err
    assert list(running.values()) == ["InProgress"]
    assert done.code == 0, done.err
    assert done.result["metrics"] == {"value": 7.0}
    assert work.jobs() == dict.fromkeys(running, "Completed")


@pytest.mark.sampled(2, group="kills")
def test_failure_beside_a_running_job(work, prefect_api):
    """A flow that fails in one task leaves the job of another running; that task completes, and its result is kept.

    In this case Prefect sets the same event as for a cancellation, so the waiter must distinguish the two.
    """
    flow = work.flow(flow="fail_beside")
    flow.wait_for("-wrong' failed on algo-1 with exit code 3")
    # The waiter checks the event before each request for the log, so it has seen the event by then, more than once.
    seen = _log_requests(work)
    wait_until(lambda: _log_requests(work) > seen + 6, "the waiter to look again")
    running = {name: status for name, status in work.jobs().items() if "-wrong-" not in name}
    work.open_gate()
    done = flow.done()
    run = next(run for run in flow_runs(prefect_api) if run["parameters"].get("work") == str(work.directory))
    again = work.flow().done()

    assert list(running.values()) == ["InProgress"]
    assert done.code != 0
    assert run["state_name"] == "Failed"
    assert recorded_states(prefect_api, run["id"], {work.task: "Completed", f"{work.task}-wrong": "Failed"})
    assert again.result["cached"]
    assert again.result["job"] in running


def _log_requests(work: Work) -> int:
    requests = work.backend.status()["requests"]
    return sum(count for operation, count in requests.items() if operation.startswith("logs:"))
