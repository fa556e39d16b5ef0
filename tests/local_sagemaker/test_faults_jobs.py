"""Job faults on a real server: spot interruption, capacity, quota, pending instances; instance preferences."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from api_requests import error_of, finished, new_name, processing_request, training_request
from faulty_server import FaultyServer, faulty, faulty_backend
from waiting import wait_until

pytestmark = pytest.mark.sampled(5, group="all")

__all__ = ["faulty", "faulty_backend"]

NO_CAPACITY = (
    "CapacityError: Unable to provision requested ML compute capacity. Please retry using a different ML instance type."
)
# Records its start in the checkpoint directory, prints what it found there, and completes on its second start.
RESUMING = """
S=$LOCAL_SAGEMAKER_ROOT/opt/ml/checkpoints
echo found: $(ls $S)
[ -e $S/step ] && { echo resumed at $(cat $S/step); echo done > $LOCAL_SAGEMAKER_ROOT/opt/ml/model/m; exit 0; }
trap 'echo told to end; echo 7 > $S/step; exit 1' TERM
touch $S/begun
echo up
while true; do sleep 0.02; done
"""


@pytest.fixture(scope="session")
def bucket(faulty_backend) -> str:
    """Create a bucket for the outputs of all jobs here; return its name."""
    faulty_backend.client("s3").create_bucket(Bucket="api-tests")
    return "api-tests"


def spot_request(name: str, script: str, bucket: str, **more) -> dict:
    """Return a request for a managed spot training job with checkpoints."""
    request = {
        "EnableManagedSpotTraining": True,
        "StoppingCondition": {"MaxRuntimeInSeconds": 300, "MaxWaitTimeInSeconds": 600},
        "CheckpointConfig": {"S3Uri": f"s3://{bucket}/checkpoints/{name}"},
        **more,
    }
    return training_request(name, script, **request)


def begin_resuming(faulty, bucket: str) -> str:
    """Start a spot job that resumes from its checkpoint; return its name once it can save one."""
    sagemaker, name = faulty.client("sagemaker"), new_name("spot")
    request = spot_request(name, 'eval "$SCRIPT"', bucket, Environment={"SCRIPT": RESUMING})
    sagemaker.create_training_job(**request)
    in_secondary(sagemaker, name, "Training")
    wait_until(lambda: "up" in messages(faulty, name), "the job's first line")
    return name


def preferring(*types: str, count: int = 1) -> dict:
    """Return a cluster of the first of these instance types that has capacity."""
    return {
        "InstancePreferences": [{"InstanceType": one} for one in types],
        "InstanceCount": count,
        "VolumeSizeInGB": 1,
    }


def messages(faulty, name: str) -> list[str]:
    """Return everything the job printed, from all its streams, without the runtime's own messages."""
    logs = faulty.client("logs")
    events = logs.filter_log_events(logGroupName="/aws/sagemaker/TrainingJobs", logStreamNamePrefix=f"{name}/")[
        "events"
    ]
    return [one["message"] for one in events if not one["message"].startswith("local_sagemaker: ")]


def secondaries(job: dict) -> list[str]:
    return [one["Status"] for one in job["SecondaryStatusTransitions"]]


def in_secondary(sagemaker, name: str, secondary: str) -> dict:
    """Wait until a training job has a secondary status; return its description."""

    def reached():
        job = sagemaker.describe_training_job(TrainingJobName=name)
        return job if job["SecondaryStatus"] == secondary else None

    return wait_until(reached, f"{name} to be {secondary}")


def test_an_interrupted_spot_job_resumes_from_its_checkpoint(faulty, bucket):
    """An interrupted job saves a checkpoint, restores it after the pause and completes; the pause is not billed."""
    sagemaker, name = faulty.client("sagemaker"), begin_resuming(faulty, bucket)
    with faulty.jobs({"kind": "interrupt", "name": name, "seconds": 2.5, "times": 1}) as faults:
        interrupted = in_secondary(sagemaker, name, "Interrupted")
        job = finished(sagemaker, name)
        fired = faults.show()["jobs"][0]["fired"]

    assert interrupted["TrainingJobStatus"] == "InProgress"
    assert (job["TrainingJobStatus"], fired) == ("Completed", 1)
    assert secondaries(job) == [
        *("Starting", "Downloading", "Training", "Interrupted"),
        *("Starting", "Downloading", "Training", "Uploading", "Completed"),
    ]
    assert messages(faulty, name) == ["found:", "up", "told to end", "found: begun step", "resumed at 7"]
    assert job["TrainingTimeInSeconds"] - job["BillableTimeInSeconds"] >= 2
    streams = faulty.client("logs").describe_log_streams(
        logGroupName="/aws/sagemaker/TrainingJobs", logStreamNamePrefix=f"{name}/"
    )
    assert len(streams["logStreams"]) == 2


@pytest.mark.sampled(3, group="jobs")
def test_an_interruption_waits_its_time_and_repeats(faulty, bucket):
    """An interruption comes after `after` seconds of each start; with `times` 2, the third start runs to its end."""
    sagemaker, name = faulty.client("sagemaker"), new_name("spot")
    request = spot_request(name, "echo life; sleep 4", bucket)
    del request["CheckpointConfig"]
    with faulty.jobs({"kind": "interrupt", "name": name, "after": 0.3, "times": 2}):
        sagemaker.create_training_job(**request)
        job = finished(sagemaker, name)

    assert job["TrainingJobStatus"] == "Completed"
    assert messages(faulty, name)[-1] == "life"  # an earlier start may have had no time to print anything
    assert (secondaries(job).count("Training"), secondaries(job).count("Interrupted")) == (3, 2)


@pytest.mark.sampled(3, group="jobs")
def test_only_spot_jobs_are_interrupted(faulty, bucket):
    """A job on on-demand instances is never interrupted, whatever the rule."""
    sagemaker, name = faulty.client("sagemaker"), new_name()
    with faulty.jobs({"kind": "interrupt"}):
        sagemaker.create_training_job(**training_request(name, "sleep 0.5; echo end"))
        job = finished(sagemaker, name)

    assert "Interrupted" not in secondaries(job)
    assert messages(faulty, name) == ["end"]


@pytest.mark.sampled(3, group="jobs")
def test_an_interrupted_job_can_be_stopped(faulty, bucket):
    """A stop while an interrupted job waits for instances ends it at once, without another start."""
    sagemaker, name = faulty.client("sagemaker"), new_name("spot")
    with faulty.jobs({"kind": "interrupt", "name": name, "seconds": 600}):
        sagemaker.create_training_job(**spot_request(name, "echo up; exec sleep 600", bucket))
        in_secondary(sagemaker, name, "Interrupted")
        sagemaker.stop_training_job(TrainingJobName=name)
        job = finished(sagemaker, name)

    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "Stopped")
    assert secondaries(job).count("Training") == 1


@pytest.mark.sampled(3, group="jobs")
def test_an_interruption_outlives_the_supervisor(faulty, bucket):
    """If the supervisor of an interrupted job is killed, its successor starts the job again from the checkpoint."""
    sagemaker, name = faulty.client("sagemaker"), begin_resuming(faulty, bucket)
    # Long enough for the kill to come while the job still waits, even on a busy machine.
    with faulty.jobs({"kind": "interrupt", "name": name, "seconds": 15, "times": 1}):
        in_secondary(sagemaker, name, "Interrupted")
        wait_until(lambda: "told to end" in messages(faulty, name), "the job's own last word")
        supervisor = wait_until(lambda: supervisors(faulty, name), "the supervisor")[0]
        os.kill(supervisor, signal.SIGKILL)
        job = finished(sagemaker, name)

    assert job["TrainingJobStatus"] == "Completed"
    assert messages(faulty, name) == ["found:", "up", "told to end", "found: begun step", "resumed at 7"]


def supervisors(faulty, name: str) -> list[int]:
    """Return the pids of a job's supervisors."""
    listed = subprocess.run(["ps", "-ww", "-eo", "pid=,args="], capture_output=True, text=True, check=True).stdout
    lines = [line.split() for line in listed.splitlines()]
    wanted = {"local_sagemaker.runtime.supervisor", str(faulty.backend.home), name}
    return [int(line[0]) for line in lines if wanted <= set(line)]


@pytest.mark.sampled(3, group="jobs")
def test_max_wait_ends_a_job_that_waits_for_instances(faulty, bucket):
    """`MaxWaitTimeInSeconds` counts from the job's creation, including the wait for instances."""
    sagemaker, name = faulty.client("sagemaker"), new_name("spot")
    limits = {"MaxRuntimeInSeconds": 1, "MaxWaitTimeInSeconds": 1}
    with faulty.jobs({"kind": "pending", "name": name, "seconds": 600}):
        sagemaker.create_training_job(**spot_request(name, "true", bucket, StoppingCondition=limits))
        job = finished(sagemaker, name)

    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "MaxWaitTimeExceeded")
    assert "TrainingStartTime" not in job
    assert "BillableTimeInSeconds" not in job


def test_a_job_without_capacity_fails(faulty, bucket):
    """A job without capacity fails with AWS's message, never starts and is not billed; a job on another type runs."""
    sagemaker, name, other = faulty.client("sagemaker"), new_name(), new_name()
    large = {"InstanceType": "ml.p3.2xlarge", "InstanceCount": 1, "VolumeSizeInGB": 1}
    with faulty.jobs({"kind": "capacity", "instance_type": "ml.p3.*"}) as faults:
        sagemaker.create_training_job(**training_request(name, ResourceConfig=large))
        sagemaker.create_training_job(**training_request(other))
        job, neighbour = finished(sagemaker, name), finished(sagemaker, other)
        fired = faults.show()["jobs"][0]["fired"]

    assert (job["TrainingJobStatus"], job["FailureReason"], fired) == ("Failed", NO_CAPACITY, 1)
    assert secondaries(job) == ["Starting", "Failed"]
    assert "BillableTimeInSeconds" not in job
    assert neighbour["TrainingJobStatus"] == "Completed"


def test_the_next_preference_is_taken(faulty, bucket):
    """The first preferred type with capacity, without faults the first of all, is selected and shown to the job."""
    sagemaker, first, second = faulty.client("sagemaker"), new_name(), new_name()
    script = "cat $LOCAL_SAGEMAKER_ROOT/opt/ml/input/config/resourceconfig.json | tr -d '\\n'"
    cluster = preferring("ml.p3.2xlarge", "ml.g5.xlarge", "ml.m5.large", count=2)
    sagemaker.create_training_job(**training_request(first, script, ResourceConfig=cluster))
    assert finished(sagemaker, first)["ResourceConfig"]["SelectedInstanceType"] == "ml.p3.2xlarge"
    with faulty.jobs({"kind": "capacity", "instance_type": "ml.p3.*"}):
        sagemaker.create_training_job(**training_request(second, script, ResourceConfig=cluster))
        job = finished(sagemaker, second)

    assert job["TrainingJobStatus"] == "Completed"
    assert job["ResourceConfig"] == {**cluster, "SelectedInstanceType": "ml.g5.xlarge", "SelectedInstanceCount": 2}
    told = [json.loads(one) for one in messages(faulty, second)]
    assert [one["current_instance_type"] for one in told] == ["ml.g5.xlarge"] * 2
    assert {one["current_host"] for one in told} == {"algo-1", "algo-2"}


@pytest.mark.sampled(3, group="jobs")
def test_no_preference_can_be_had(faulty, bucket):
    """If no preferred type has capacity, the job fails as with a single type, and no type is selected."""
    sagemaker, name = faulty.client("sagemaker"), new_name()
    with faulty.jobs({"kind": "capacity"}):
        cluster = preferring("ml.p3.2xlarge", "ml.g5.xlarge")
        sagemaker.create_training_job(**training_request(name, ResourceConfig=cluster))
        job = finished(sagemaker, name)

    assert job["FailureReason"] == NO_CAPACITY
    assert "SelectedInstanceType" not in job["ResourceConfig"]


def test_preferences_of_a_processing_job(faulty, bucket):
    """Preferences of a processing job may have their own counts; the count of the selected type applies."""
    sagemaker, name = faulty.client("sagemaker"), new_name()
    preferences = [
        {"InstanceType": "ml.p3.2xlarge", "InstanceCount": 1},
        {"InstanceType": "ml.m5.large", "InstanceCount": 2},
    ]
    request = processing_request(name)
    request["ProcessingResources"]["ClusterConfig"] = {"InstancePreferences": preferences, "VolumeSizeInGB": 1}
    with faulty.jobs({"kind": "capacity", "instance_type": "ml.p3.*"}):
        sagemaker.create_processing_job(**request)
        job = finished(sagemaker, name, "Processing")
    cluster = job["ProcessingResources"]["ClusterConfig"]

    assert job["ProcessingJobStatus"] == "Completed"
    assert (cluster["SelectedInstanceType"], cluster["SelectedInstanceCount"]) == ("ml.m5.large", 2)


def test_a_full_quota_refuses_the_next_job(faulty, bucket):
    """A full quota refuses the next job with AWS's message; other types are free, as is this one once its jobs end."""
    sagemaker, names = faulty.client("sagemaker"), [new_name() for _ in range(3)]
    with faulty.jobs({"kind": "quota", "instance_type": "ml.m5.large", "limit": 2}):
        for name in names[:2]:
            sagemaker.create_training_job(**training_request(name, "exec sleep 600"))
        code, message = error_of(sagemaker.create_training_job, **training_request(names[2]))
        again, _ = error_of(sagemaker.create_training_job, **training_request(names[0]))
        preferred = training_request(new_name(), ResourceConfig=preferring("ml.c5.xlarge", "ml.m5.large"))
        of_preference, _ = error_of(sagemaker.create_training_job, **preferred)
        other = training_request(new_name())
        other["ResourceConfig"]["InstanceType"] = "ml.c5.xlarge"
        sagemaker.create_training_job(**other)
        sagemaker.create_processing_job(**processing_request(new_name()))
        for name in names[:2]:
            sagemaker.stop_training_job(TrainingJobName=name)
            finished(sagemaker, name)
        sagemaker.create_training_job(**training_request(names[2]))
        finished(sagemaker, other["TrainingJobName"])

    assert (code, again, of_preference) == ("ResourceLimitExceeded",) * 3
    assert message == (
        "The account-level service limit 'ml.m5.large for training job usage' is 2 Instances, with current utilization"
        " of 2 Instances and a request delta of 1 Instances. Please use AWS Service Quotas to request an increase for"
        " this quota. If AWS Service Quotas is not available, contact AWS support to request an increase for this"
        " quota."
    )
    assert finished(sagemaker, names[2])["TrainingJobStatus"] == "Completed"


def test_a_quota_holds_for_requests_at_the_same_moment(faulty, bucket):
    """Of ten concurrent requests for five instances, five succeed."""
    program = """
import sys; sys.path[:0] = sys.argv[4:]
from concurrent.futures import ThreadPoolExecutor
from api_requests import new_name, training_request
from faulty_server import FaultyServer, outcome_of
import types
keys = types.SimpleNamespace(access_key=sys.argv[2], secret_key=sys.argv[3])
server = FaultyServer(types.SimpleNamespace(endpoint=sys.argv[1], keys=keys, faults=None))
client = server.client("sagemaker", max_pool_connections=10)
ask = lambda _: outcome_of(client.create_training_job, **training_request(
    new_name(), AlgorithmSpecification={"TrainingImage": "local/simulated", "TrainingInputMode": "File"},
    Environment={"SIMULATED_SECONDS": "600"}))
with ThreadPoolExecutor(10) as pool:
    print(sorted(pool.map(ask, range(10))).count("ok"))
"""
    with faulty.jobs({"kind": "quota", "limit": 5}):
        done = subprocess.run(
            [
                *(sys.executable, "-c", program, faulty.backend.endpoint),
                *(faulty.backend.keys.access_key, faulty.backend.keys.secret_key),
                *map(str, Path(__file__).parents[:2]),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        sagemaker = faulty.client("sagemaker")
        live = sagemaker.list_training_jobs(StatusEquals="InProgress", MaxResults=100)["TrainingJobSummaries"]
        for one in live:
            sagemaker.stop_training_job(TrainingJobName=one["TrainingJobName"])
            finished(sagemaker, one["TrainingJobName"])

    assert (done.stdout, len(live)) == ("5\n", 5), done.stderr


@pytest.mark.sampled(3, group="jobs")
def test_instances_that_come_late(faulty, bucket):
    """A job is Pending until its instances come, which is not billed; a stop meanwhile ends it."""
    sagemaker, name, stopped = faulty.client("sagemaker"), new_name("late"), new_name("late")
    with faulty.jobs(
        {"kind": "pending", "name": "late-*", "seconds": 4, "times": 1}, {"kind": "pending", "seconds": 600}
    ):
        sagemaker.create_training_job(**training_request(name))
        in_secondary(sagemaker, name, "Pending")
        sagemaker.create_training_job(**training_request(stopped))
        in_secondary(sagemaker, stopped, "Pending")
        sagemaker.stop_training_job(TrainingJobName=stopped)
        job, other = finished(sagemaker, name), finished(sagemaker, stopped)

    assert job["TrainingJobStatus"] == "Completed"
    assert secondaries(job)[:3] == ["Starting", "Pending", "Downloading"]
    assert (job["TrainingStartTime"] - job["CreationTime"]).total_seconds() >= 4
    assert (other["TrainingJobStatus"], "TrainingStartTime" in other) == ("Stopped", False)


def test_rules_of_jobs_outlive_a_killed_server(own_backend):
    """Job rules are kept in the home: capacity that is refused is still refused after `kill -9` and `up`."""
    own_backend.up()
    server = FaultyServer(own_backend)
    server.client("s3").create_bucket(Bucket="api-tests")
    server.faults.set({"jobs": [{"kind": "capacity"}]})
    own_backend.kill()
    own_backend.up()
    sagemaker, name = server.client("sagemaker"), new_name()
    sagemaker.create_training_job(**training_request(name))

    assert finished(sagemaker, name)["FailureReason"] == NO_CAPACITY
    assert server.faults.show()["jobs"] == [{"kind": "capacity", "matched": 1, "fired": 1}]
