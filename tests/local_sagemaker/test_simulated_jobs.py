"""Jobs of the image `local/simulated`: they take time, leave outputs, and use almost no resources."""

from __future__ import annotations

import io
import os
import signal
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone

import pytest
from api_requests import error_of, finished, new_name, processing_request, training_request
from faulty_server import FaultyServer, faulty, faulty_backend
from waiting import wait_until

pytestmark = pytest.mark.sampled(4, group="all")

__all__ = ["faulty", "faulty_backend"]


def simulated(name: str, seconds: float = 0.3, status: str = "Completed", **more) -> dict:
    """Return a CreateTrainingJob request for a simulated job."""
    request = training_request(name, **more)
    request["AlgorithmSpecification"] = {"TrainingImage": "local/simulated:latest", "TrainingInputMode": "File"}
    request["Environment"] = {"SIMULATED_SECONDS": str(seconds), "SIMULATED_STATUS": status}
    return request


@pytest.fixture(scope="session")
def bucket(faulty_backend) -> str:
    """Create a bucket for the outputs of all jobs here; return its name."""
    faulty_backend.client("s3").create_bucket(Bucket="api-tests")
    return "api-tests"


def test_a_simulated_job_looks_like_a_real_one(faulty, bucket):
    """A simulated job takes its time, prints to its log stream, leaves a model, and has no process."""
    sagemaker, name = faulty.client("sagemaker"), new_name()
    sagemaker.create_training_job(**simulated(name, 0.5))
    job = finished(sagemaker, name)
    location = job["ModelArtifacts"]["S3ModelArtifacts"].removeprefix(f"s3://{bucket}/")
    body = faulty.client("s3").get_object(Bucket=bucket, Key=location)["Body"].read()
    events = faulty.client("logs").filter_log_events(
        logGroupName="/aws/sagemaker/TrainingJobs", logStreamNamePrefix=f"{name}/"
    )["events"]

    assert job["TrainingJobStatus"] == "Completed"
    assert [one["Status"] for one in job["SecondaryStatusTransitions"]] == ["Starting", "Training", "Completed"]
    ran = (job["TrainingEndTime"] - job["TrainingStartTime"]).total_seconds()
    assert ran >= 0.5
    assert ran <= job["BillableTimeInSeconds"] < ran + 1.01
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        assert archive.getnames() == ["simulated.txt"]
    assert [one["message"] for one in events] == [f"simulated: {name} started", f"simulated: {name} ended, Completed"]
    assert events[0]["logStreamName"].startswith(f"{name}/algo-1-")
    assert not [line for line in faulty.backend.processes() if name in line]


def test_a_simulated_processing_job(faulty, bucket):
    """A simulated processing job leaves a file in each of its outputs."""
    sagemaker, name = faulty.client("sagemaker"), new_name()
    output = {"S3Uri": f"s3://{bucket}/{name}/out", "LocalPath": "/opt/ml/processing/o", "S3UploadMode": "EndOfJob"}
    request = processing_request(name, ProcessingOutputConfig={"Outputs": [{"OutputName": "o", "S3Output": output}]})
    request["AppSpecification"] = {"ImageUri": "local/simulated"}
    request["Environment"] = {"SIMULATED_SECONDS": "0.1"}
    sagemaker.create_processing_job(**request)
    job = finished(sagemaker, name, "Processing")
    found = faulty.client("s3").list_objects_v2(Bucket=bucket, Prefix=f"{name}/out/")["Contents"]

    assert job["ProcessingJobStatus"] == "Completed"
    assert [one["Key"] for one in found] == [f"{name}/out/simulated.txt"]


def test_how_a_simulated_job_can_end(faulty, bucket):
    """A simulated job can fail on request, be stopped, exceed its time limit, or fail because its bucket is missing."""
    sagemaker = faulty.client("sagemaker")
    failed, stopped, limited, homeless = (new_name() for _ in range(4))
    sagemaker.create_training_job(**simulated(failed, status="Failed"))
    sagemaker.create_training_job(**simulated(stopped, 600))
    sagemaker.create_training_job(**simulated(limited, 600, StoppingCondition={"MaxRuntimeInSeconds": 1}))
    sagemaker.create_training_job(
        **simulated(homeless, OutputDataConfig={"S3OutputPath": "s3://no-such-bucket-at-all"})
    )
    sagemaker.stop_training_job(TrainingJobName=stopped)
    jobs = [finished(sagemaker, name) for name in (failed, stopped, limited, homeless)]

    assert [job["SecondaryStatus"] for job in jobs] == ["Failed", "Stopped", "MaxRuntimeExceeded", "Failed"]
    assert jobs[0]["FailureReason"] == "AlgorithmError: the simulated job was to fail, exit code: 1"
    assert jobs[3]["FailureReason"].startswith("ClientError: Artifact upload failed: NoSuchBucket")


@pytest.mark.parametrize(
    ("seconds", "status"), [("soon", "Completed"), ("-1", "Completed"), ("nan", "Completed"), ("1", "Lost")]
)
def test_what_cannot_be_simulated_is_refused(faulty, seconds, status):
    """An invalid variable is a validation error of Create that names it."""
    code, message = error_of(faulty.client("sagemaker").create_training_job, **simulated(new_name(), seconds, status))

    assert code == "ValidationException"
    assert "SIMULATED_" in message


def test_faults_of_jobs_meet_simulated_ones(faulty, bucket):
    """Job faults apply to simulated jobs: pending instances, insufficient capacity, the next preferred type."""
    sagemaker = faulty.client("sagemaker")
    late, refused, second = new_name("late"), new_name("refused"), new_name("second")
    preferences = {"InstancePreferences": [{"InstanceType": "ml.p3.2xlarge"}, {"InstanceType": "ml.m5.large"}]}
    rules = (
        {"kind": "pending", "name": "late-*", "seconds": 1},
        {"kind": "capacity", "name": "refused-*"},
        {"kind": "capacity", "instance_type": "ml.p3.*"},
    )
    with faulty.jobs(*rules):
        sagemaker.create_training_job(**simulated(late))
        sagemaker.create_training_job(**simulated(refused))
        cluster = {**preferences, "InstanceCount": 1, "VolumeSizeInGB": 1}
        sagemaker.create_training_job(**simulated(second, ResourceConfig=cluster))
        jobs = [finished(sagemaker, name) for name in (late, refused, second)]

    assert [job["TrainingJobStatus"] for job in jobs] == ["Completed", "Failed", "Completed"]
    assert [one["Status"] for one in jobs[0]["SecondaryStatusTransitions"]][1] == "Pending"
    assert jobs[1]["FailureReason"].startswith("CapacityError: ")
    assert jobs[2]["ResourceConfig"]["SelectedInstanceType"] == "ml.m5.large"


def training(sagemaker, name: str) -> dict | None:
    """Return the description of a job if its secondary status is Training, otherwise None."""
    job = sagemaker.describe_training_job(TrainingJobName=name)
    return job if job["SecondaryStatus"] == "Training" else None


@pytest.mark.sampled(1, group="many")
def test_simulated_jobs_outlive_a_killed_server(own_backend):
    """After `kill -9`, the next server brings all simulated jobs to their end, even overdue ones, each once."""
    pid = own_backend.up()["pid"]
    server = FaultyServer(own_backend)
    server.client("s3").create_bucket(Bucket="api-tests")
    sagemaker, names = server.client("sagemaker"), [new_name() for _ in range(3)]
    server.faults.set({"jobs": [{"kind": "pending", "name": names[2], "seconds": 3}]})
    for name, seconds in zip(names, (2, 6, 0.5), strict=True):
        sagemaker.create_training_job(**simulated(name, seconds))
    for name in names[:2]:  # no step of these is due soon, so the kill interrupts none
        job = wait_until(lambda name=name: training(sagemaker, name), f"{name} to train")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: time.time() > job["TrainingStartTime"].timestamp() + 3, "the first to be overdue")
    own_backend.up()
    jobs = [finished(sagemaker, name) for name in names]
    events = server.client("logs").filter_log_events(logGroupName="/aws/sagemaker/TrainingJobs")["events"]

    assert [job["TrainingJobStatus"] for job in jobs] == ["Completed"] * 3
    assert (jobs[1]["TrainingEndTime"] - jobs[1]["TrainingStartTime"]).total_seconds() >= 6
    assert len(events) == 6


@pytest.mark.sampled(1, group="many")
def test_down_ends_simulated_jobs(own_backend):
    """`down` stops simulated jobs as it does real ones, even without a server."""
    own_backend.up()
    server = FaultyServer(own_backend)
    sagemaker, name = server.client("sagemaker"), new_name()
    sagemaker.create_training_job(**simulated(name, 600))
    own_backend.kill()
    own_backend.down()
    own_backend.up()

    assert finished(sagemaker, name)["TrainingJobStatus"] == "Stopped"


@pytest.mark.sampled(1, group="many")
def test_hundreds_at_once(faulty, bucket):
    """300 simulated jobs end in time, in listings and in descriptions, and no process is started for them."""
    sagemaker, stem = faulty.client("sagemaker", max_pool_connections=8), new_name("many")
    names = [f"{stem}-{number:03}" for number in range(300)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: sagemaker.create_training_job(**simulated(name, 2)), names))
        jobs = list(pool.map(lambda name: finished(sagemaker, name), names))
    pages = sagemaker.get_paginator("list_training_jobs").paginate(
        NameContains=stem, PaginationConfig={"PageSize": 100}
    )
    listed = [one["TrainingJobName"] for page in pages for one in page["TrainingJobSummaries"]]

    assert {job["TrainingJobStatus"] for job in jobs} == {"Completed"}
    assert sorted(listed) == names
    assert all(job["TrainingEndTime"] < datetime.now(timezone.utc) for job in jobs)
    assert not [line for line in faulty.backend.processes() if stem in line]
