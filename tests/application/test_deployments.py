"""The deployments of `prefect.yaml`, with a real Prefect server, a real worker and Prefect's own commands."""

from __future__ import annotations

import json
import uuid

import pytest
from application_programs import CHECKOUT, WAITING_FLOW, ask, flow_runs, recorded_states
from waiting import wait_until

STEPS = ("prepare", "fit-C0.1", "fit-C1.0", "evaluate")


@pytest.fixture(scope="module")
def prefect(start, prefect_api, tmp_path_factory):
    """Return a function that starts a command of Prefect in the checkout, as `prefect.yaml` says."""
    variables = {
        "PREFECT_API_URL": prefect_api,
        "PREFECT_HOME": str(tmp_path_factory.mktemp("deployments")),
        "PREFECT_CLI_PROMPT": "false",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
    }

    def prefect(*arguments: str, **more: str):
        return start("-m", "prefect", *arguments, cwd=CHECKOUT, **variables, **more)

    return prefect


@pytest.fixture(scope="module")
def deployed(prefect):
    """Create all deployments of the checkout, in a work pool for processes of this machine; return `prefect`."""
    for command in (("work-pool", "create", "local", "--type", "process", "--overwrite"), ("deploy", "--all")):
        done = prefect(*command).done()
        assert done.code == 0, done.out + done.err
    return prefect


@pytest.fixture(scope="module")
def on_the_server(deployed, prefect_api):
    """The two scheduled deployments as the server has them. Their schedules are paused afterwards.

    Otherwise the time of day would decide whether a test's run collides with a scheduled one.
    """
    found = {}
    for name in ("quickstart/nightly", "reap-orphans/reap-orphans"):
        found[name] = ask(prefect_api, f"/deployments/name/{name}")
        done = deployed("deployment", "schedule", "pause", name, found[name]["schedules"][0]["id"]).done()
        assert done.code == 0, done.out + done.err
    return found


def test_nightly_as_the_server_has_it(on_the_server):
    """The server has the nightly deployment with its cron, time zone and parameters, and never two runs at once."""
    found = on_the_server["quickstart/nightly"]
    schedules = [(row["schedule"]["cron"], row["schedule"]["timezone"], row["active"]) for row in found["schedules"]]

    assert schedules == [("0 2 * * *", "Europe/Berlin", True)]
    assert found["parameters"] == {"project": "local", "Cs": [0.03, 0.1, 0.3, 1.0], "epochs": 24}
    assert found["entrypoint"] == "flows.quickstart.quickstart"
    assert found["work_pool_name"] == "local"
    assert found["concurrency_options"]["collision_strategy"] == "ENQUEUE"
    assert found["global_concurrency_limit"]["limit"] == 1


def test_a_run_after_one_that_died_waits(on_the_server, prefect_api):
    """1. A run dies with its worker: it stays Running. 2. The next one waits. 3. The first is Crashed. 4. It runs."""
    nightly = on_the_server["quickstart/nightly"]
    # These runs have no work queue, so that the worker of the other tests does not take them.
    of_nightly = {"flow_id": nightly["flow_id"], "deployment_id": nightly["id"], "state": {"type": "SCHEDULED"}}
    died, following = (ask(prefect_api, "/flow_runs/", **of_nightly)["id"] for _ in range(2))

    def told(run: str, state: str) -> str:
        """Propose a state as a worker does; return the type of the state that the server has set."""
        return str(ask(prefect_api, f"/flow_runs/{run}/set_state", state={"type": state})["state"]["type"])

    assert [told(died, state) for state in ("PENDING", "RUNNING")] == ["PENDING", "RUNNING"]
    assert told(following, "PENDING") == "SCHEDULED"
    assert ask(prefect_api, f"/flow_runs/{following}")["state_name"] == "AwaitingConcurrencySlot"
    assert told(died, "CRASHED") == "CRASHED"
    assert told(following, "PENDING") == "PENDING"
    assert told(following, "CANCELLED") == "CANCELLED"


@pytest.fixture(scope="module")
def worked(make_quickstart):
    """A quickstart whose deployments a worker runs. Its local SageMaker is up, since tests query it before any run."""
    quickstart = make_quickstart()
    quickstart.backend.up()
    return quickstart


@pytest.fixture(scope="module")
def run_deployment(deployed, on_the_server, worked, prefect_api):
    """Return a function that runs a deployment with `prefect deployment run`, by a worker, and returns its flow run."""
    worker = deployed(
        *("worker", "start", "--pool", "local", "--name", "tests"),
        LOCAL_SAGEMAKER_HOME=str(worked.backend.home),
        QUICKSTART_HOME=str(worked.directory),
    )
    wait_until(lambda: "started!" in worker.said, "the worker to start")

    def run(name: str, *arguments: str):
        mine = f"run-{uuid.uuid4().hex[:8]}"
        done = deployed("deployment", "run", name, "--watch", "--flow-run-name", mine, *arguments).done()
        assert done.code == 0, done.out + done.err + worker.said
        return next(run for run in flow_runs(prefect_api) if run["name"] == mine)

    yield run
    worker.end()


def test_quickstart_by_a_worker(run_deployment, prefect_api, worked):
    """`prefect deployment run` makes a worker run the flow: Completed; and again: Completed with all steps Cached."""
    others = worked.jobs()
    states, jobs = [], []
    for _ in range(2):
        run = run_deployment("quickstart/quickstart")
        assert run["state_name"] == "Completed"
        expected = dict.fromkeys(STEPS, "Cached" if jobs else "Completed")
        states.append(recorded_states(prefect_api, run["id"], expected))
        jobs.append(worked.jobs() - others)

    assert states == [dict.fromkeys(STEPS, "Completed"), dict.fromkeys(STEPS, "Cached")]
    assert len(jobs[0]) == 4
    assert jobs[1] == jobs[0]


def test_reap_orphans_as_the_server_has_it(on_the_server):
    """The server has the reaper's deployment: every hour, as a dry run, and with at most one run at a time."""
    found = on_the_server["reap-orphans/reap-orphans"]

    assert [(row["schedule"]["cron"], row["active"]) for row in found["schedules"]] == [("17 * * * *", True)]
    expected = {"project": "local", "dry_run": True, "grace_minutes": 15, "include_left": False}
    assert found["parameters"] == expected
    assert found["concurrency_options"]["collision_strategy"] == "ENQUEUE"
    assert found["global_concurrency_limit"]["limit"] == 1


@pytest.mark.exhaustive
def test_reap_orphans_by_a_worker(run_deployment, start, worked, prefect_api, tmp_path):
    """1. A flow is killed. 2. Its run is over, its heartbeat expired. 3. A dry run shows its job. 4. It is stopped."""
    work = tmp_path / f"fit-{uuid.uuid4().hex[:8]}"
    work.mkdir()
    variables = {"PREFECT_HOME": str(tmp_path / "prefect"), "LOCAL_SAGEMAKER_HOME": str(worked.backend.home)}
    killed = start(str(WAITING_FLOW), "one", str(work), PREFECT_API_URL=prefect_api, **variables)
    killed.wait_for("algo-1 | started")
    killed.kill()
    run = next(run for run in flow_runs(prefect_api) if run["parameters"].get("work") == str(work))
    ask(prefect_api, f"/flow_runs/{run['id']}/set_state", state={"type": "CRASHED"}, force=True)
    _delete_marks(worked.backend.client("s3"), f"local/{work.name}/_ledger/interest/")
    seen = []
    for arguments in ((), ("-p", "dry_run=false")):
        reaper = run_deployment("reap-orphans/reap-orphans", "-p", "grace_minutes=0", *arguments)
        seen.append(_verdicts(prefect_api, reaper["id"]))
    (work / "gate").touch()
    listed = worked.backend.client("sagemaker").list_training_jobs(NameContains=f"{work.name}-")["TrainingJobSummaries"]

    assert seen == [["would stop"], ["stopped"]]
    assert [job["TrainingJobStatus"] for job in listed] in (["Stopping"], ["Stopped"])


def _delete_marks(s3, prefix):
    """Delete heartbeats, as if they had expired after 15 minutes."""
    marks = s3.list_objects_v2(Bucket="local-sagemaker", Prefix=prefix).get("Contents", [])
    for mark in marks:
        s3.delete_object(Bucket="local-sagemaker", Key=mark["Key"])


def _verdicts(api, flow_run):
    """Return the verdict on each job in the table of a reaper's run."""
    [artifact] = ask(api, "/artifacts/filter", artifacts={"flow_run_id": {"any_": [flow_run]}})
    return [row["verdict"] for row in json.loads(artifact["data"])]
