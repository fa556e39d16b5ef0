"""The deployments of `prefect.yaml`, by a real Prefect server, a real worker and Prefect's own commands."""

from __future__ import annotations

import pytest
from application_programs import CHECKOUT, ask, flow_runs, recorded_states, wait_until

STEPS = ("prepare", "fit-C0.1", "fit-C1.0", "evaluate")


@pytest.fixture(scope="module")
def prefect(start, prefect_api, tmp_path_factory):
    """A function that starts a command of Prefect's in the checkout, as one does who follows `prefect.yaml`."""
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
    """All deployments of the checkout, in a work pool for processes of this machine."""
    for command in (("work-pool", "create", "local", "--type", "process", "--overwrite"), ("deploy", "--all")):
        done = prefect(*command).done()
        assert done.code == 0, done.out + done.err
    return prefect


def test_nightly_as_the_server_has_it(deployed, prefect_api):
    """The server has the nightly deployment with its cron, time zone and parameters, and never two runs at once."""
    found = ask(prefect_api, "/deployments/name/quickstart/nightly")
    schedules = [(row["schedule"]["cron"], row["schedule"]["timezone"], row["active"]) for row in found["schedules"]]

    assert schedules == [("0 2 * * *", "Europe/Berlin", True)]
    assert found["parameters"] == {"project": "local", "Cs": [0.03, 0.1, 0.3, 1.0], "epochs": 24}
    assert found["entrypoint"] == "flows.quickstart.quickstart"
    assert found["work_pool_name"] == "local"
    assert found["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
    assert found["global_concurrency_limit"]["limit"] == 1


def test_quickstart_by_a_worker(deployed, prefect_api, make_quickstart):
    """`prefect deployment run` makes a worker run the flow: Completed; and again: Completed with all steps Cached."""
    quickstart = make_quickstart()
    worker = deployed(
        *("worker", "start", "--pool", "local", "--name", "tests"),
        LOCAL_SAGEMAKER_HOME=str(quickstart.backend.home),
        QUICKSTART_HOME=str(quickstart.directory),
    )
    wait_until(lambda: "started!" in worker.said, "the worker to start")
    states, jobs = [], []
    for _ in range(2):
        done = deployed("deployment", "run", "quickstart/quickstart", "--watch").done()
        assert done.code == 0, done.out + done.err + worker.said
        run = next(run for run in flow_runs(prefect_api) if run["deployment_id"] and run["start_time"])
        assert run["state_name"] == "Completed"
        expected = dict.fromkeys(STEPS, "Cached" if jobs else "Completed")
        states.append(recorded_states(prefect_api, run["id"], expected))
        jobs.append(quickstart.jobs())
    worker.end()

    assert states == [dict.fromkeys(STEPS, "Completed"), dict.fromkeys(STEPS, "Cached")]
    assert len(jobs[0]) == 4
    assert jobs[1] == jobs[0]
