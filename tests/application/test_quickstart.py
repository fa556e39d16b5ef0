"""The quickstart as a user types it: what runs, what is skipped, what is shown, and what stays untouched."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from pathlib import Path

import pytest
from application_programs import CHECKOUT, Done
from waiting import wait_until

STEPS = ["prepare", "fit-C0.1", "fit-C1.0", "evaluate"]


def _by_task(done: Done) -> dict[str, dict]:
    return {task["task"]: task for task in done.summary["tasks"]}


def _reports(quickstart, done: Done) -> dict[str, bytes]:
    """Return the files that the step `evaluate` left in S3, by name."""
    bucket, _, prefix = done.summary["tasks"][-1]["outputs"]["output"].removeprefix("s3://").partition("/")
    s3 = quickstart.backend.client("s3")
    found = s3.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]
    return {
        row["Key"].removeprefix(prefix): s3.get_object(Bucket=bucket, Key=row["Key"])["Body"].read() for row in found
    }


def test_first_run_runs_every_step(first_run):
    """The first run creates one job for each step, and leaves the metrics and the reports."""
    quickstart, done = first_run
    tasks = done.summary["tasks"]

    assert done.code == 0, done.out + done.err
    assert [task["task"] for task in tasks] == STEPS
    assert (done.summary["ran"], done.summary["skipped"]) == (4, 0)
    assert [task["reason"] for task in tasks] == 4 * ["ran: first run"]
    assert {task["job"] for task in tasks} <= quickstart.jobs()

    metrics = _by_task(done)["fit-C1.0"]["metrics"]
    reports = _reports(quickstart, done)

    assert metrics.keys() == {"loss", "auc"}
    assert 0.9 < metrics["auc"] <= 1
    assert set(reports) == {"report.json", "roc.png"}
    assert json.loads(reports["report.json"])["models"].keys() == {"C=0.1", "C=1.0"}
    assert reports["roc.png"].startswith(b"\x89PNG\r\n")


def test_line_of_json(first_run):
    """`--json` ends with one line of the documented form, with the job and the outputs in S3 of each step."""
    _, done = first_run
    fields = {"task", "job", "cached", "reason", "seconds", "metrics", "outputs"}
    kinds = {"task": str, "job": str, "cached": bool, "reason": str, "seconds": float, "metrics": dict, "outputs": dict}

    assert set(done.summary) == {"tasks", "ran", "attached", "skipped"}
    assert [set(task) for task in done.summary["tasks"]] == 4 * [fields]
    assert all(isinstance(task[name], kind) for task in done.summary["tasks"] for name, kind in kinds.items())
    assert set(_by_task(done)["prepare"]["outputs"]) == {"output", "source"}
    assert set(_by_task(done)["fit-C0.1"]["outputs"]) == {"model", "state", "source"}


def test_output_into_a_pipe(first_run):
    """Steps, log lines, results and next commands appear in this order, on standard output, without escape codes."""
    _, done = first_run
    words = [
        *(
            "local SageMaker",
            "Prefect server",
            "prepare              ->  fit-C0.1",
            "prepare/algo-2  | ",
            "fit-C1.0/algo-1 | epoch=12",
        ),
        *("evaluate        > Completed", "4 ran, 0 skipped", "make quickstart", "make ui", '{"tasks": '),
    ]
    places = [done.out.find(word) for word in words]

    assert -1 not in places, done.out
    assert places == sorted(places)
    assert "\x1b" not in done.out
    assert done.err == ""


def test_the_readme_shows_lines_that_occur(first_run):
    """The README's sample of the output occurs in a first run, except for decimals, which depend on the library."""
    _, done = first_run
    readme = (CHECKOUT / "README.md").read_text()
    sample = readme[readme.index("training, 1 host\n\n") :].partition("```")[0].splitlines()[2:]
    shown = [line for line in sample if line != "…" and line]

    def rounded(line: str) -> str:
        return re.sub(r"=0\.\d+", "=0.…", line)

    assert len(shown) == 4
    assert {rounded(line) for line in shown} <= {rounded(line) for line in done.out.splitlines()}


@pytest.mark.exhaustive
def test_plan_of_what_the_next_run_does(unserved):
    """`--plan` shows what each step will do, and its job, without a Prefect server or a job; the run does just that."""
    before = unserved.jobs()
    wanted = ("--json", "--Cs", "0.1", "20")
    planned = unserved.run("--plan", *wanted)

    assert planned.code == 0, planned.out + planned.err
    assert planned.err == ""
    assert "2 to run, 2 skipped" in planned.out
    assert "Prefect server" not in planned.out
    assert "nothing was run" in planned.out
    assert 'make quickstart ARGS="--json --Cs 0.1 20"\n' in planned.out
    assert unserved.jobs() == before

    done = unserved.run(*wanted)
    steps = planned.summary["steps"]

    assert [(step["task"], step["action"], step["job"]) for step in steps] == [
        (task["task"], "skip" if task["cached"] else "run", task["job"]) for task in done.summary["tasks"]
    ]


def test_second_run_skips_every_step(first_run):
    """A second run skips every step with its first job and metrics, and creates no job."""
    quickstart, first = first_run
    before = quickstart.jobs()
    again = quickstart.run("--json")

    assert again.code == 0, again.out + again.err
    assert (again.summary["ran"], again.summary["skipped"]) == (0, 4)
    assert [task["reason"] for task in again.summary["tasks"]] == 4 * ["skipped: nothing changed"]
    assert quickstart.jobs() == before
    for field in ("job", "metrics", "outputs"):
        assert [task[field] for task in again.summary["tasks"]] == [task[field] for task in first.summary["tasks"]]


@pytest.mark.exhaustive
def test_another_parameter_runs_what_depends_on_it(quickstart):
    """`--Cs 0.1 10` fits the new model and compares again; what both runs share is skipped."""
    done = quickstart.run("--json", "--Cs", "0.1", "10")

    assert done.code == 0, done.out + done.err
    assert {name: task["cached"] for name, task in _by_task(done).items()} == {
        "prepare": True,
        "fit-C0.1": True,
        "fit-C10.0": False,
        "evaluate": False,
    }
    assert _by_task(done)["fit-C10.0"]["reason"] == "ran: first run"
    assert 'input "model_1"' in _by_task(done)["evaluate"]["reason"]
    assert json.loads(_reports(quickstart, done)["report.json"])["models"].keys() == {"C=0.1", "C=10.0"}


@pytest.mark.exhaustive
def test_backend_killed_between_runs(quickstart):
    """If the local SageMaker is killed, the next run starts it at the same address, and skips every step."""
    before = quickstart.backend.status()
    quickstart.backend.kill()
    done = quickstart.run("--json")
    after = quickstart.backend.status()

    assert done.code == 0, done.out + done.err
    assert (done.summary["ran"], done.summary["skipped"]) == (0, 4)
    assert after["endpoint"] == before["endpoint"]
    assert after["pid"] != before["pid"]


@pytest.mark.exhaustive
def test_killed_in_mid_job(unserved):
    """If the quickstart is killed during its jobs, the next run continues with them, and creates no second ones.

    The Prefect server that the first run started ends with it.
    """
    before = unserved.jobs()
    wanted = ("--Cs", "0.2", "2", "--epochs", "1000")  # their own names, since the state goes with the name
    first = unserved.start("flows.quickstart", *wanted)
    first.wait_for("fit-C0.2/algo-1 | epoch=")
    first.wait_for("fit-C2.0/algo-1 | epoch=")
    made = unserved.jobs() - before
    first.kill()
    wait_until(lambda: unserved.servers() == [], "the Prefect server of a killed quickstart to end")
    second = unserved.run("--json", *wanted)
    fits = [_by_task(second)[name] for name in ("fit-C0.2", "fit-C2.0")]

    assert second.code == 0, second.out + second.err
    assert {fit["job"] for fit in fits} == made
    assert {fit["reason"] for fit in fits} <= {
        "attached to its running job",
        "its job had completed without a record",
    }
    assert unserved.jobs() - before - made == {_by_task(second)["evaluate"]["job"]}


@pytest.mark.exhaustive
def test_interrupted(unserved):
    """Ctrl-C, which a terminal sends to the whole group, stops the jobs and ends the command with 130 and few lines."""
    before = unserved.jobs()
    program = unserved.start("flows.quickstart", "--Cs", "0.3", "3", "--epochs", "50000")
    program.wait_for("fit-C0.3/algo-1 | epoch=")
    program.wait_for("fit-C3.0/algo-1 | epoch=")
    os.killpg(program.process.pid, signal.SIGINT)
    done = program.done()
    made = unserved.jobs() - before
    sagemaker = unserved.backend.client("sagemaker")
    wait_until(
        lambda: (
            {sagemaker.describe_training_job(TrainingJobName=name)["TrainingJobStatus"] for name in made} == {"Stopped"}
        ),
        "both jobs to have stopped",
    )
    end = [line for line in done.out.splitlines() if "| epoch=" not in line]

    assert done.code == 130
    assert len(made) == 2
    assert end[-1].startswith("Interrupted, and the running jobs stopped.")
    assert sum("> stopped job" in line for line in end) == 2
    assert len(end) < 40
    assert done.err == ""
    wait_until(lambda: unserved.servers() == [], "the Prefect server of the quickstart to end")


def test_failing_step(quickstart, tmp_path):
    """A failing step ends the command with exit code 1, the job's error and what to do, without a traceback."""
    (tmp_path / "broken.csv").write_text("radius,malignant\nnot a number,1\n")
    done = quickstart.run("--json", "--data", str(tmp_path))
    last = done.out.splitlines()[-1]

    assert done.code == 1
    assert "of task 'prepare' failed" in done.out
    assert "could not convert string to float: 'not a number'" in done.out
    assert last.startswith("To resolve this: ")
    assert done.err == ""
    assert "site-packages/prefect/" not in done.out


def test_missing_input(quickstart, tmp_path):
    """A missing input is an error with its absolute path before any job is created."""
    before = quickstart.jobs()
    done = quickstart.run("--data", "no/such/directory")

    assert done.code == 1
    assert f"{CHECKOUT}/no/such/directory does not exist" in done.out
    assert "To resolve this: " in done.out
    assert done.err == ""
    assert quickstart.jobs() == before


RECORDER = """
import os, sys

def record(event, arguments):
    if event in ("socket.connect", "socket.sendto"):
        address = arguments[1]
    elif event == "socket.getaddrinfo":
        address = arguments[:2]
    elif event in ("socket.gethostbyname", "socket.gethostbyaddr"):
        address = arguments[:1]
    else:
        return
    host = address[0] if isinstance(address, tuple) else "unix"
    host = host.decode() if isinstance(host, bytes) else host
    with open(os.environ["RECORDED_HOSTS"], "a") as file:
        file.write(f"{event} {host} {os.path.basename(sys.argv[0] if sys.argv else '?')}\\n")

sys.addaudithook(record)
"""


@pytest.fixture
def recorder(tmp_path) -> dict[str, str]:
    """Variables that make every Python process record the hosts that it looks up or calls, in `RECORDED_HOSTS`."""
    folder = tmp_path / "recorder"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(RECORDER)
    return {"PYTHONPATH": str(folder), "RECORDED_HOSTS": str(tmp_path / "hosts")}


@pytest.fixture
def elsewhere():
    """A port of this machine that stands for the user's other servers; fail if a program calls it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.fixture
def user(tmp_path, elsewhere) -> dict[str, str]:
    """Settings that a user may have: an AWS profile and endpoints, a cloud profile of Prefect, a proxy."""
    home = tmp_path / "user"
    (home / ".prefect").mkdir(parents=True)
    cloud = 'active = "cloud"\n[profiles.cloud]\nPREFECT_API_URL = "https://cloud.invalid/api"\nPREFECT_API_KEY = "k"\n'
    (home / ".prefect" / "profiles.toml").write_text(cloud)
    url = f"http://127.0.0.1:{elsewhere.getsockname()[1]}"
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"), url)
    return {
        "HOME": str(home),
        "AWS_PROFILE": "no-such-profile",
        "AWS_ENDPOINT_URL": url,
        "AWS_ENDPOINT_URL_SAGEMAKER": "https://sagemaker.invalid",
        "PREFECT_API_URL": f"{url}/api",
        "PREFECT_API_KEY": "key",
        "PREFECT_PROFILE": "cloud",
        "PREFECT_PROFILES_PATH": str(home / ".prefect" / "profiles.toml"),
        **proxies,
    }


@pytest.fixture
def project_directory(tmp_path, elsewhere) -> Path:
    """A working directory whose files name another server for Prefect, and another database for its server."""
    url = f"http://127.0.0.1:{elsewhere.getsockname()[1]}/api"
    directory = tmp_path / "project"
    directory.mkdir()
    database = "PREFECT_SERVER_DATABASE_CONNECTION_URL=sqlite+aiosqlite:////no/such/directory/prefect.db"
    (directory / ".env").write_text(f"PREFECT_API_URL={url}\n{database}\n")
    (directory / "prefect.toml").write_text(f'[api]\nurl = "{url}"\n')
    return directory


@pytest.mark.exhaustive
def test_user_settings_have_no_effect(make_quickstart, user, project_directory, recorder):
    """With another AWS profile, endpoint, Prefect Cloud and proxy set, the quickstart works, and calls only this host.

    It looks up no foreign name, and never calls the port that stands for the user's servers.
    """
    quickstart = make_quickstart()
    path = {"PYTHONPATH": f"{recorder['PYTHONPATH']}:{CHECKOUT}"}
    done = quickstart.run("--json", cwd=project_directory, **{**user, **recorder, **path})
    recorded = Path(recorder["RECORDED_HOSTS"]).read_text().splitlines()
    foreign = [line for line in recorded if line.split()[1] not in {"127.0.0.1", "::1", "localhost", "unix"}]

    assert done.code == 0, done.out + done.err
    assert (done.summary["ran"], done.summary["skipped"]) == (4, 0)
    assert foreign == []
    assert {"quickstart.py", "__main__.py"} <= {line.split()[2] for line in recorded}
    assert list((Path(user["HOME"]) / ".prefect").iterdir()) == [Path(user["PREFECT_PROFILES_PATH"])]


def test_recorder_sees_foreign_calls(start, recorder):
    """The recorder of the test above works: it records a lookup by an unmodified client in a subprocess."""
    code = "import boto3; boto3.client('s3', 'eu-west-1', endpoint_url='https://s3.invalid').list_buckets()"
    done = start("-c", code, **recorder, AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x", AWS_MAX_ATTEMPTS="1").done()

    assert done.code == 1
    assert "socket.getaddrinfo s3.invalid" in Path(recorder["RECORDED_HOSTS"]).read_text()
