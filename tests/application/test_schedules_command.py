"""`ssm schedules` against real Prefect servers: one whose scheduler works, and one whose scheduler does not."""

from __future__ import annotations

import re
import uuid
from datetime import datetime, timedelta, timezone

import pytest
from application_programs import ask
from waiting import wait_until

from flows.prefect_server import answers, free_port

NIGHTLY = {"cron": "0 2 * * *", "timezone": "Europe/Berlin"}
ENDED = {"rrule": "DTSTART:20200101T000000\nRRULE:FREQ=DAILY;COUNT=3"}


@pytest.fixture
def ssm(start, tmp_path):
    """Return a function that runs a command of `ssm` against a Prefect server, to its end."""

    def ssm(api: str, *arguments: str):
        return start("-m", "tasks_lib", *arguments, PREFECT_API_URL=api, PREFECT_HOME=str(tmp_path)).done()

    return ssm


@pytest.fixture(scope="module")
def api_without_scheduler(start, tmp_path_factory):
    """A server without a scheduler, as with SQLAlchemy 2.1; its pages have two rows."""
    port = str(free_port())
    server = start(
        *("-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", port, "--no-ui"),
        cwd=tmp_path_factory.mktemp("prefect"),
        PREFECT_HOME=str(tmp_path_factory.mktemp("prefect_home")),
        PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED="false",
        PREFECT_SERVER_API_DEFAULT_LIMIT="2",
    )
    api = f"http://127.0.0.1:{port}/api"

    def is_up() -> bool:
        assert server.process.poll() is None, server.said
        return answers(api)

    wait_until(is_up, f"a Prefect server at {api}")
    yield api
    server.end()


def deploy(api: str, name: str, schedule: dict[str, str], **more) -> str:
    """Deploy a flow with one schedule, as `prefect deploy` does; return the deployment's id."""
    made = ask(
        api,
        "/deployments/",
        name="nightly",
        flow_id=ask(api, "/flows/", name=name)["id"],
        entrypoint="flow.py:flow",
        schedules=[{"schedule": schedule, "active": True}],
        **more,
    )
    return made["id"]


def next_runs(said: str) -> dict[str, str]:
    """Return the last column of each line about a deployment, by the deployment's name."""
    lines = [re.split(r" {2,}", line) for line in said.splitlines() if "/nightly" in line]
    return {line[0].removesuffix("/nightly"): line[-1] for line in lines}


@pytest.mark.exhaustive
def test_a_scheduler_that_works(ssm, prefect_api):
    """A new deployment gets its run within the wait: it is shown, with the worker to start; exit code 0."""
    name = f"works-{uuid.uuid4().hex[:8]}"
    ask(prefect_api, "/work_pools/", name=name, type="process")
    deployment = deploy(prefect_api, name, NIGHTLY, work_pool_name=name)
    done = ssm(prefect_api, "schedules")
    ask(prefect_api, f"/deployments/{deployment}/pause_deployment", paused=True)

    assert done.code == 0, done.out + done.err
    assert re.fullmatch(r"20\d\d-\d\d-\d\d 02:00 CES?T", next_runs(done.out)[name])
    assert f"{name}/nightly  cron 0 2 * * * (Europe/Berlin)" in done.out
    assert f"Next: prefect worker start --pool {name}\n" in done.out


@pytest.mark.exhaustive
def test_a_scheduler_that_does_not(ssm, api_without_scheduler):
    """1. Each of five deployments without a run is reported, with cause and fix. 2. With runs, none is reported."""
    api = api_without_scheduler
    dead = [deploy(api, f"dead-{number}", NIGHTLY) for number in range(5)]
    deploy(api, "ended", ENDED)
    deploy(api, "paused", NIGHTLY, paused=True)
    in_an_hour = (datetime.now(timezone.utc) + timedelta(hours=1)).isoformat()
    by_hand = {"type": "SCHEDULED", "state_details": {"scheduled_time": in_an_hour}}
    ask(api, f"/deployments/{dead[0]}/create_flow_run", state=by_hand)

    told = ssm(api, "schedules", "--wait", "1")
    for deployment in dead:
        ask(api, f"/deployments/{deployment}/schedule", min_runs=1, max_runs=1)
    done = ssm(api, "schedules", "--wait", "1")

    names = [f"dead-{number}" for number in range(5)]
    assert told.code == 1
    assert next_runs(told.out) == {**dict.fromkeys(names, "none"), "ended": "not in the next 100 days"}
    assert told.err == (
        f"The Prefect server at {api} has scheduled no run of 'dead-0/nightly', 'dead-1/nightly', 'dead-2/nightly' and "
        "2 more: its scheduler is off, or fails because Prefect before 3.9.1 does not work with SQLAlchemy 2.1.\n"
        "To resolve this: where the server runs, `pip install 'sqlalchemy<2.1'`, unset "
        "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED, and restart it.\n"
    )
    assert done.code == 0, done.out + done.err
    assert next_runs(done.out).keys() == {*names, "ended"}
    assert "none" not in next_runs(done.out).values()


def test_a_server_that_does_not_answer(ssm):
    """A server that does not answer is reported with its address, and with how to name another."""
    api = f"http://127.0.0.1:{free_port()}/api"
    done = ssm(api, "schedules")

    assert done.code == 1
    assert done.err.startswith(f"The Prefect server at {api} does not answer")
    assert "To resolve this: start it, or name another: prefect config set PREFECT_API_URL=…" in done.err


@pytest.mark.parametrize("module", ["flows.ui", "flows.quickstart"])
def test_failing_versions_are_reported_at_start(module, make_quickstart, tmp_path):
    """A command that starts a server with versions whose scheduler fails says so once, on standard error."""
    for name, version in {"sqlalchemy": "2.1.9", "prefect": "3.9.0"}.items():
        metadata = tmp_path / f"{name}-{version}.dist-info" / "METADATA"
        metadata.parent.mkdir()
        metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    quickstart = make_quickstart()
    program = quickstart.start(module, PYTHONPATH=str(tmp_path))
    program.wait_for("run `pip install 'sqlalchemy<2.1'` and restart the server.\n")
    program.kill()
    done = program.done()
    wait_until(lambda: quickstart.servers() == [], "its server to end")

    assert done.err.count("fails with SQLAlchemy 2.1.9") == 1
    assert "SQLAlchemy" not in done.out
