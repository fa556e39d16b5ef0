"""Schedules with a Prefect server and a worker that have their default services and settings, as a user starts them."""

from __future__ import annotations

import shutil
import uuid
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from application_programs import ask
from waiting import wait_until

FLOW = Path(__file__).with_name("scheduled_flow.py")
DEPLOYMENTS = """
name: {name}
deployments:
  - name: interval
    entrypoint: scheduled_flow.retrain
    parameters: {{task: {name}-interval}}
    schedules: [{{interval: 40}}]
    work_pool: {{name: {name}}}
  - name: cron
    entrypoint: scheduled_flow.retrain
    parameters: {{task: {name}-cron}}
    schedules: [{{cron: "{minutes} * * * *", timezone: UTC}}]
    work_pool: {{name: {name}}}
"""


@pytest.fixture
def prefect(start, prefect_api, backend, tmp_path):
    """Return a function that starts a command of Prefect in a user's folder."""
    shutil.copy(FLOW, tmp_path)
    variables = {
        "PREFECT_API_URL": prefect_api,
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "LOCAL_SAGEMAKER_HOME": str(backend.home),
    }
    return lambda *arguments: start("-m", "prefect", *arguments, cwd=tmp_path, **variables)


def test_schedules_make_runs_that_complete(prefect, prefect_api, tmp_path):
    """An interval and a cron of the next minutes: the server schedules runs, a worker runs them, and they complete."""
    name = f"scheduled-{uuid.uuid4().hex[:8]}"
    # The next minutes, and not one: on a busy machine the deployment may be created after the first of them.
    now = datetime.now(timezone.utc)
    minutes = ",".join(str((now + timedelta(minutes=number)).minute) for number in range(1, 6))
    (tmp_path / "prefect.yaml").write_text(DEPLOYMENTS.format(name=name, minutes=minutes))
    for command in (("work-pool", "create", name, "--type", "process"), ("--no-prompt", "deploy", "--all")):
        done = prefect(*command).done()
        assert done.code == 0, done.out + done.err
    worker = prefect("worker", "start", "--pool", name)

    def completed() -> set[str]:
        assert worker.process.poll() is None, worker.said
        runs = ask(
            prefect_api,
            "/flow_runs/filter",
            work_pools={"name": {"any_": [name]}},
            flow_runs={"state": {"type": {"any_": ["COMPLETED"]}}},
        )
        return {run["parameters"]["task"] for run in runs if run["auto_scheduled"]}

    try:
        wait_until(lambda: completed() == {f"{name}-interval", f"{name}-cron"}, "both schedules to make a run")
    finally:
        worker.end()
        for deployment in ("interval", "cron"):  # otherwise its runs would go on as long as the server runs
            done = prefect("deployment", "delete", f"retrain/{deployment}").done()
            assert done.code == 0, done.out + done.err
