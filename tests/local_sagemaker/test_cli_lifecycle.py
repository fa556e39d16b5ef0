"""The command line: one server for each home, which is found, restarted, ended and erased by separate processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from api_requests import finished, new_name, training_request
from waiting import wait_until

from local_sagemaker.home import Home
from local_sagemaker.lifecycle import NoAnswer, up

pytestmark = pytest.mark.sampled(5, group="all")


def _put(backend, key: str) -> None:
    s3 = backend.client("s3")
    s3.create_bucket(Bucket="cli-tests")
    s3.put_object(Bucket="cli-tests", Key=key, Body=b"x")


@pytest.mark.sampled(4, group="commands")
def test_up_starts_and_finds(own_backend):
    """The first `up` starts a server and the second finds it; both print the endpoint and the next command."""
    first = own_backend.run("up")
    started = own_backend.status()
    second = own_backend.run("up")

    assert first.returncode == second.returncode == 0
    assert f"Started local SageMaker at {started['endpoint']} (pid {started['pid']}" in first.stdout
    assert f"Already running: local SageMaker at {started['endpoint']} (pid {started['pid']}" in second.stdout
    assert f'Next: eval "$(python -m local_sagemaker env --home {own_backend.home})"' in first.stdout


@pytest.mark.sampled(4, group="commands")
def test_status_as_json(own_backend):
    """`status --json` prints one line with the same fields with and without a server; `up --json` adds the keys."""
    before = own_backend.run("status", "--json")
    up = own_backend.run("up", "--json")
    _put(own_backend, "a")
    running = own_backend.run("status", "--json")
    documents = [json.loads(done.stdout) for done in (before, up, running)]

    assert [done.returncode for done in (before, up, running)] == [3, 0, 0]
    assert all(done.stdout.count("\n") == 1 for done in (before, up, running))
    assert documents[0] == {
        "endpoint": None,
        "pid": None,
        "home": str(own_backend.home),
        "region": "us-east-1",
        "account": "123456789012",
        "requests": {},
        "sequence": 0,
        "running": False,
    }
    assert {*documents[0], "started", "access_key", "secret_key"} == set(documents[1])
    assert set(documents[0]) == set(documents[2])
    assert documents[1]["running"]
    assert documents[2]["requests"] == {"s3:CreateBucket": 1, "s3:PutObject": 1}


@pytest.mark.sampled(4, group="commands")
def test_status_for_people(own_backend):
    """`status` prints the same in words, with the request counts."""
    down = own_backend.run("status")
    own_backend.up()
    _put(own_backend, "a")
    up = own_backend.run("status")

    assert (down.returncode, up.returncode) == (3, 0)
    assert "Not running" in down.stdout
    assert "Next: python -m local_sagemaker up" in down.stdout
    assert ["s3:PutObject", "1"] in [line.split() for line in up.stdout.splitlines()]


@pytest.mark.sampled(4, group="commands")
def test_ten_ups_at_once(own_backend):
    """Ten processes that call `up` at the same time get the same answer from one server."""
    calls = [
        subprocess.Popen(own_backend.command("up", "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(10)
    ]
    results = [(call.communicate(timeout=120), call.returncode) for call in calls]
    answers = {(json.loads(out)["endpoint"], json.loads(out)["pid"]) for (out, _), _ in results}

    assert [code for _, code in results] == 10 * [0], results
    assert len(answers) == 1
    assert len([line for line in own_backend.processes() if " serve " in line]) == 1


def test_killed_server_comes_back(own_backend):
    """After `kill -9`, another `up` serves the same port with all data unchanged."""
    first = own_backend.up()
    _put(own_backend, "kept")
    own_backend.client("sagemaker").create_training_job(**training_request("kept"))
    finished(own_backend.client("sagemaker"), "kept")
    own_backend.kill()
    second = own_backend.up()

    assert second["endpoint"] == first["endpoint"]
    assert second["pid"] != first["pid"]
    assert own_backend.client("s3").get_object(Bucket="cli-tests", Key="kept")["Body"].read() == b"x"
    assert own_backend.client("sagemaker").describe_training_job(TrainingJobName="kept")["TrainingJobName"] == "kept"


@pytest.mark.sampled(4, group="commands")
def test_server_outlives_its_caller(own_backend):
    """The server has its own session, and holds no open file of the process that started it."""
    caller = subprocess.Popen(
        own_backend.command("up", "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    # `communicate` returns only when no process holds the other ends of the pipes.
    out, _ = caller.communicate(timeout=180)
    with pytest.raises(ProcessLookupError):
        os.killpg(caller.pid, signal.SIGKILL)
    pid = json.loads(out)["pid"]

    assert own_backend.status()["pid"] == pid == os.getsid(pid)


def test_down_ends_server_and_jobs(own_backend):
    """`down` stops running jobs as StopTrainingJob does, ends the server, keeps the data, and leaves no process."""
    own_backend.up()
    _put(own_backend, "kept")
    name = new_name()
    own_backend.client("sagemaker").create_training_job(**training_request(name, "sleep 300"))
    done = own_backend.run("down")

    assert done.returncode == 0
    assert "Ended the server" in done.stdout
    assert "stopped 1 job(s)" in done.stdout
    wait_until(lambda: not own_backend.processes(), "the end of what was just ending")
    own_backend.up()
    job = own_backend.client("sagemaker").describe_training_job(TrainingJobName=name)
    assert job["TrainingJobStatus"] == "Stopped"
    assert own_backend.client("s3").head_object(Bucket="cli-tests", Key="kept")["ContentLength"] == 1


@pytest.mark.sampled(4, group="commands")
def test_down_can_leave_jobs(own_backend):
    """With `--keep-jobs` a job ends without a server, and the next server knows its result."""
    own_backend.up()
    own_backend.client("s3").create_bucket(Bucket="api-tests")
    name, gate = new_name(), own_backend.home / "gate"
    script = f"while [ ! -e {gate} ]; do sleep 0.1; done"
    own_backend.client("sagemaker").create_training_job(**training_request(name, script))
    own_backend.run("down", "--keep-jobs")
    alive = own_backend.processes()
    gate.touch()
    wait_until(lambda: not own_backend.processes(), "the job's processes to end")
    own_backend.up()

    assert alive
    job = own_backend.client("sagemaker").describe_training_job(TrainingJobName=name)
    assert job["TrainingJobStatus"] == "Completed"


@pytest.mark.sampled(4, group="commands")
def test_concurrent_checks_see_no_server(tmp_path):
    """Processes that check for a server at the same time do not take each other for one.

    The pid that a killed server left may belong to another program by now, which `down` would end.
    """
    home = Home(tmp_path)
    server = home.claim()
    seen_alive = home.server_pid()
    server.close()  # as the kernel does when it is killed
    with ThreadPoolExecutor(4) as lookers:
        seen_dead = set(lookers.map(lambda _: home.server_pid(), range(4000)))

    assert seen_alive == os.getpid()
    assert seen_dead == {None}


def test_down_when_nothing_runs(own_backend):
    """`down` without a server succeeds and says so, even if the home never existed."""
    done = own_backend.run("down")
    never = subprocess.run(
        [sys.executable, "-m", "local_sagemaker", "down", "--home", str(own_backend.home / "never")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, never.returncode) == (0, 0)
    assert "No server was running" in done.stdout
    assert not (own_backend.home / "never").exists()


def test_reset_needs_yes_and_keeps_other_files(own_backend):
    """`reset` needs `--yes`; it then deletes the data, and no other file of the directory."""
    own_backend.up()
    _put(own_backend, "a")
    (own_backend.home / "notes.txt").write_text("mine")
    asked = own_backend.run("reset")
    still = own_backend.status()["running"]
    done = own_backend.run("reset", "--yes")

    assert (asked.returncode, done.returncode) == (2, 0)
    assert "jobs.sqlite" in asked.stderr
    assert still
    wait_until(lambda: not own_backend.processes(), "the end of what was just ending")
    kept = {path.name for path in own_backend.home.iterdir()}
    stays = {"notes.txt", "settings.json", "endpoint.json", "key.json", "local-sagemaker"}
    assert kept - {"server.lock", "start.lock"} == stays
    own_backend.up()
    assert own_backend.client("s3").list_buckets()["Buckets"] == []


@pytest.mark.sampled(4, group="commands")
def test_env_points_clients_to_the_server(own_backend, tmp_path):
    """In a shell that has evaluated `env`, an unmodified boto3 uses the server, whatever profile was set before."""
    off = own_backend.run("env")
    endpoint = own_backend.up()["endpoint"]
    script = "import boto3; c = boto3.client('sts'); print(c.meta.endpoint_url, c.get_caller_identity()['Account'])"
    shell = f'eval "$({" ".join(own_backend.command("env"))})"; exec {sys.executable} -c "{script}"'
    environment = {**os.environ, "AWS_PROFILE": "no-such-profile", "AWS_SESSION_TOKEN": "old", "HOME": str(tmp_path)}
    done = subprocess.run(["/bin/sh", "-c", shell], env=environment, capture_output=True, text=True, check=False)

    assert off.returncode == 1
    assert "Start it: python -m local_sagemaker up" in off.stderr
    assert done.stdout.split() == [endpoint, "123456789012"], done.stderr


@pytest.mark.sampled(4, group="commands")
def test_home_comes_from_the_environment(own_backend):
    """Without `--home`, `LOCAL_SAGEMAKER_HOME` names the home."""
    done = subprocess.run(
        [sys.executable, "-m", "local_sagemaker", "status", "--json"],
        env={**os.environ, "LOCAL_SAGEMAKER_HOME": str(own_backend.home)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert json.loads(done.stdout)["home"] == str(own_backend.home)


@pytest.mark.sampled(4, group="commands")
def test_port_in_use_is_reported(own_backend):
    """If another program has the server's port, `up` fails with the server's own message, and `--port` helps."""
    endpoint = own_backend.up()["endpoint"]
    own_backend.down()
    with socket.create_server(("127.0.0.1", int(endpoint.rpartition(":")[2]))):
        taken = own_backend.run("up")
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        moved = own_backend.run("up", "--json", "--port", str(port))

    assert taken.returncode == 1
    assert "The server ended with code 1" in taken.stderr
    assert "is in use by another program" in taken.stderr
    assert json.loads(moved.stdout)["endpoint"] == f"http://127.0.0.1:{port}"
    elsewhere = own_backend.run("up", "--port", "1")
    assert elsewhere.returncode == 1
    assert f"runs at http://127.0.0.1:{port}" in elsewhere.stderr


@pytest.mark.sampled(4, group="commands")
def test_a_home_is_served_once(own_backend):
    """A second `serve` of a home is refused, with the pid of the first."""
    pid = own_backend.up()["pid"]
    second = own_backend.run("serve")

    assert second.returncode == 1
    assert f"is served already, by process {pid}" in second.stderr


@pytest.mark.sampled(4, group="commands")
def test_serve_in_the_foreground(own_backend):
    """`serve` serves until Ctrl-C."""
    server = subprocess.Popen(own_backend.command("serve"), stderr=subprocess.PIPE)
    try:
        wait_until(lambda: own_backend.status()["running"], "the server")
        server.send_signal(signal.SIGINT)
        assert server.wait(30) == 130
    finally:
        server.kill()
        server.communicate()


@pytest.mark.sampled(4, group="commands")
def test_down_ends_a_hung_server(own_backend):
    """`down` ends a server that does not answer because SIGSTOP stopped it."""
    pid = own_backend.up()["pid"]
    os.kill(pid, signal.SIGSTOP)
    done = own_backend.run("down")

    assert done.returncode == 0, done.stderr
    assert own_backend.processes() == []


@pytest.mark.sampled(4, group="commands")
def test_up_waits_for_a_server_that_is_slow(own_backend):
    """`up` waits for a server that lives but does not answer, says so, and starts no second one."""
    pid = own_backend.up()["pid"]
    os.kill(pid, signal.SIGSTOP)
    with subprocess.Popen(
        own_backend.command("up", "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as waiting:
        told = waiting.stderr.readline()
        os.kill(pid, signal.SIGCONT)
        found = json.loads(waiting.stdout.read())

    assert f"(pid {pid}) lives but does not answer; waiting" in told
    assert (waiting.returncode, found["pid"]) == (0, pid)


def test_a_server_that_never_answers_is_reported(own_backend):
    """The error says that the server lives, and does not suggest `down`, which would stop the jobs."""
    pid = own_backend.up()["pid"]
    os.kill(pid, signal.SIGSTOP)
    told = []
    with pytest.raises(NoAnswer, match=rf"\(pid {pid}\) has not answered .* It lives, and its jobs go on") as caught:
        up(Home(own_backend.home), say=told.append, patience=0.3)
    os.kill(pid, signal.SIGCONT)

    assert "down" not in str(caught.value)
    assert up(Home(own_backend.home), say=told.append)[0]["pid"] == pid


def test_a_server_that_does_not_listen_yet_is_waited_for(own_backend):
    """`up` waits for a server that has the home's lock but no port yet, and starts no second one."""
    home = Home(own_backend.home)
    home.make()
    with home.claim(), pytest.raises(NoAnswer, match=rf"\(pid {os.getpid()}\)"):
        up(home, say=lambda _: None, patience=0.3)

    assert own_backend.up()["running"]


@pytest.mark.exhaustive
def test_a_server_that_does_not_answer_has_an_exit_code_of_its_own(own_backend):
    """`status` exits with 4 if the server does not answer, not with the code for no server."""
    os.kill(own_backend.up()["pid"], signal.SIGSTOP)
    done = own_backend.run("status")

    assert (done.returncode, done.stdout) == (4, "")
    assert "has not answered for 10 s" in done.stderr


def test_server_has_no_caller_credentials(own_backend):
    """The server's process has none of the caller's AWS variables."""
    environment = {**os.environ, "AWS_SECRET_ACCESS_KEY": "real", "AWS_PROFILE": "work"}
    subprocess.run(own_backend.command("up"), env=environment, check=True, capture_output=True)
    variables = Path(f"/proc/{own_backend.status()['pid']}/environ").read_bytes().split(b"\0")

    assert not [one for one in variables if one.startswith(b"AWS_")]


def test_commands_are_light():
    """The command line imports neither botocore, nor moto, nor a web server."""
    script = "import local_sagemaker.cli, sys; print(*{'botocore', 'uvicorn', 'starlette', 'moto'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.split() == []


def test_wrong_usage(own_backend):
    """Wrong usage exits with 2; the help lists the commands and the exit codes."""
    usage = own_backend.run("up", "--port", "70000")
    shown = subprocess.run([sys.executable, "-m", "local_sagemaker", "-h"], capture_output=True, text=True, check=False)

    assert usage.returncode == 2
    assert "70000 is not a port" in usage.stderr
    assert shown.returncode == 0
    assert all(word in shown.stdout for word in ("up", "status", "env", "down", "reset", "serve", "exit codes"))
