"""A third kind of job works without other changes: on the API, simulated, and as processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import made_up_job
import pytest
from made_up_job import REHEARSAL, request
from runtime_laboratory import REGION, one_laboratory
from waiting import wait_until

from local_sagemaker.events import state_change
from local_sagemaker.faults.table import FaultTable
from local_sagemaker.iam.roles import RoleTable
from local_sagemaker.jobs import Job
from local_sagemaker.kinds import KINDS
from local_sagemaker.runtime.simulator import Simulator
from local_sagemaker.sagemaker.service import sagemaker_service
from local_sagemaker.wire.json_service import Caller

NOUN = REHEARSAL.noun

__all__ = ["one_laboratory"]


@pytest.fixture(autouse=True)
def _third_kind(monkeypatch):
    monkeypatch.setitem(KINDS, REHEARSAL.name, REHEARSAL)


@pytest.fixture
def api(one_laboratory):
    """Return a function that calls the SageMaker API of a home; its jobs are simulated."""
    simulator = Simulator(one_laboratory.home, one_laboratory.table, one_laboratory.store)
    faults, roles = FaultTable(one_laboratory.table.database), RoleTable(one_laboratory.home)
    quotas = {"ml.m5.large for rehearsal job usage": 2}
    service = sagemaker_service(one_laboratory.table, faults, lambda: quotas, roles, simulator.add)

    def ask(operation, **members):
        simulator.tick()  # in place of its thread, which would outlive the test
        status, answer = service.answer(f"SageMaker.{operation}", json.dumps(members).encode(), Caller(REGION))
        return answer if status == 200 else f"{answer['__type']}: {answer['message']}"

    yield ask
    for job in one_laboratory.table.live():
        one_laboratory.table.request_stop(job.kind, job.name)
    simulator.tick()


def named(name):
    return {f"{NOUN}Name": name}


def simulated(name, **variables):
    return request(name, "", "local/simulated", **variables)


def test_the_api(api):
    """The third kind has Create, Describe, List, tags, Stop, a quota and ends, with its own status names."""
    made = api(f"Create{NOUN}", **simulated("play", SIMULATED_SECONDS="600"))
    again = api(f"Create{NOUN}", **simulated("play"))
    arn = made[f"{NOUN}Arn"]
    api(f"Create{NOUN}", **simulated("short", SIMULATED_SECONDS="0"))
    wait_until(lambda: described(api, "short")[f"{NOUN}Status"] == "Performed", "the end of the short one")
    api(f"Create{NOUN}", **simulated("bad", SIMULATED_SECONDS="0", SIMULATED_STATUS="Failed"))
    wait_until(lambda: described(api, "bad")[f"{NOUN}Status"] == "BrokenOff", "the end of the bad one")
    api(f"Create{NOUN}", **simulated("second", SIMULATED_SECONDS="600"))
    refused = api(f"Create{NOUN}", **simulated("third"))
    listed = api(f"List{NOUN}s")[f"{NOUN}Summaries"]
    api(f"Stop{NOUN}", **named("play"))
    wait_until(lambda: described(api, "play")[f"{NOUN}Status"] == "Stopped", "the end of the stopped one")

    assert arn.endswith(":hyper-parameter-tuning-job/play")
    assert again == f"ResourceInUse: This play is rehearsed already ({arn})"
    assert "ml.m5.large for rehearsal job usage' is 2 Instances" in refused
    assert {row[f"{NOUN}Name"]: row[f"{NOUN}Status"] for row in listed} == {
        "second": "Rehearsing",
        "bad": "BrokenOff",
        "short": "Performed",
        "play": "Rehearsing",
    }
    assert [row[f"{NOUN}Name"] for row in api(f"List{NOUN}s", StatusEquals="Stopped")[f"{NOUN}Summaries"]] == ["play"]
    assert api("ListTags", ResourceArn=arn) == {"Tags": [{"Key": "team", "Value": "stage"}]}
    assert described(api, "bad")["FailureReason"].startswith("AlgorithmError: on stage: ")
    assert api("ListTrainingJobs") == {"TrainingJobSummaries": []}
    assert api(f"Stop{NOUN}", **named("short")).endswith("hyper parameter tuning job is in status Performed.")


def described(api, name):
    return api(f"Describe{NOUN}", **named(name))


def test_names_are_as_short_as_awss(api):
    """A name of 33 characters is refused by AWS's model, and one of 32 is accepted."""
    assert "ValidationException" in api(f"Create{NOUN}", **simulated("p" * 33))
    assert api(f"Create{NOUN}", **simulated("p" * 32))[f"{NOUN}Arn"].endswith("p" * 32)


@pytest.fixture
def supervisor(one_laboratory):
    """Return a function that starts a supervisor process that knows the third kind."""
    started = []

    def start(name):
        program = [sys.executable, made_up_job.__file__, str(one_laboratory.home), name]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        started.append(subprocess.Popen(program, env=environment))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_as_processes(one_laboratory, supervisor):
    """1. A host runs. 2. Its supervisor is killed. 3. The successor adopts the host, and stores what it left."""
    script = (
        'R="$LOCAL_SAGEMAKER_ROOT"; cat $R/opt/ml/config/cast.json; echo; echo "$PLAY"; echo x > $R/opt/ml/stage/y;'
    )
    script += " while [ ! -e $R/opt/ml/go ]; do sleep 0.02; done"
    made = request("play", script)
    arn = f"arn:aws:sagemaker:{REGION}:123456789012:{REHEARSAL.name}/play"
    one_laboratory.table.create(REHEARSAL.name, "play", arn, made, {})
    first = supervisor("play")
    host = one_laboratory.directory("play", REHEARSAL.name) / "hosts/algo-1"
    wait_until((host / "files/opt/ml/stage/y").exists, "the host")
    first.send_signal(signal.SIGKILL)
    first.wait()
    second = supervisor("play")
    (host / "files/opt/ml/go").touch()

    assert second.wait(60) == 0
    job = one_laboratory.table.get(REHEARSAL.name, "play")
    lines = one_laboratory.lines(name="play", group="Rehearsals")
    assert job.status == "Completed"
    assert one_laboratory.keys() == ["plays/play/output/best/y"]
    assert (json.loads("".join(lines[:-1])), lines[-1]) == ({"host": "algo-1", "hosts": ["algo-1"]}, "play")
    assert job.fields["CurtainTime"] < job.fields["HyperParameterTuningEndTime"]


def test_its_events():
    """Events of the third kind have its type and status names, and only members that its Describe has."""
    job = Job(REHEARSAL.name, "play", "arn", request("play", ""), 1.0, "Completed", "Completed", {}, 2.0, False, {})
    entry = state_change(REHEARSAL, job)
    detail = json.loads(entry["Detail"])

    assert entry["DetailType"] == REHEARSAL.event_type
    assert (detail[f"{NOUN}Name"], detail[f"{NOUN}Status"]) == ("play", "Performed")
    assert "SecondaryStatus" not in detail
