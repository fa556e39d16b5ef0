"""Creating, describing, stopping and deleting jobs with an unmodified boto3."""

from __future__ import annotations

import threading

import pytest
from api_requests import ROLE, error_of, finished, new_name, processing_request, training_request
from waiting import wait_until

pytestmark = pytest.mark.sampled(8, group="all")


@pytest.fixture
def sagemaker(backend):
    """Return a SageMaker client; the bucket that the requests name exists."""
    backend.client("s3").create_bucket(Bucket="api-tests")
    return backend.client("sagemaker")


def test_training_job_runs_to_completion(backend, sagemaker):
    """A training job's script runs, and its model is where Describe announced it at the start."""
    name = new_name()
    created = sagemaker.create_training_job(
        **training_request(name, "echo 42 > $LOCAL_SAGEMAKER_ROOT/opt/ml/model/answer")
    )
    arn = f"arn:aws:sagemaker:us-east-1:123456789012:training-job/{name}"
    promised = sagemaker.describe_training_job(TrainingJobName=name)["ModelArtifacts"]["S3ModelArtifacts"]
    job = finished(sagemaker, name)

    assert created["TrainingJobArn"] == job["TrainingJobArn"] == arn
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Completed", "Completed")
    assert job["ModelArtifacts"]["S3ModelArtifacts"] == promised
    bucket, key = promised.removeprefix("s3://").split("/", 1)
    assert backend.client("s3").head_object(Bucket=bucket, Key=key)["ContentLength"] > 0
    assert job["CreationTime"] <= job["TrainingStartTime"] <= job["TrainingEndTime"] <= job["LastModifiedTime"]
    assert job["BillableTimeInSeconds"] >= 1
    assert [one["Status"] for one in job["SecondaryStatusTransitions"]][-1] == "Completed"


def test_processing_job_runs_to_completion(sagemaker):
    """A processing job's script runs, and what it wrote to /opt/ml/output/message is the exit message."""
    name = new_name()
    script = "mkdir -p $LOCAL_SAGEMAKER_ROOT/opt/ml/output; echo fine > $LOCAL_SAGEMAKER_ROOT/opt/ml/output/message"
    created = sagemaker.create_processing_job(**processing_request(name, script))
    job = finished(sagemaker, name, "Processing")

    assert created["ProcessingJobArn"] == job["ProcessingJobArn"]
    assert job["ProcessingJobArn"].endswith(f":processing-job/{name}")
    assert (job["ProcessingJobStatus"], job["ExitMessage"].strip()) == ("Completed", "fine")
    assert "SecondaryStatus" not in job


def test_failed_job_says_why(sagemaker):
    """A failing script makes the job Failed, with the content of /opt/ml/output/failure as the reason."""
    name = new_name()
    script = "cd $LOCAL_SAGEMAKER_ROOT/opt/ml/output && echo 'no such column' > failure; exit 3"
    sagemaker.create_training_job(**training_request(name, script))
    job = finished(sagemaker, name)

    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Failed", "Failed")
    assert "no such column" in job["FailureReason"]


@pytest.mark.parametrize("kind", ["Training", "Processing"])
def test_stop_ends_a_running_job(sagemaker, kind):
    """Stop makes a job Stopping at once and Stopped in the end; another Stop is then refused with AWS's message."""
    name = new_name()
    request = (training_request if kind == "Training" else processing_request)(name, "sleep 300")
    getattr(sagemaker, f"create_{kind.lower()}_job")(**request)
    stop = getattr(sagemaker, f"stop_{kind.lower()}_job")
    stop(**{f"{kind}JobName": name})
    described = getattr(sagemaker, f"describe_{kind.lower()}_job")(**{f"{kind}JobName": name})

    assert described[f"{kind}JobStatus"] in {"Stopping", "Stopped"}
    assert finished(sagemaker, name, kind)[f"{kind}JobStatus"] == "Stopped"
    assert error_of(stop, **{f"{kind}JobName": name}) == (
        "ValidationException",
        f"The request was rejected because the {kind.lower()} job is in status Stopped.",
    )


def test_describe_returns_the_request(sagemaker):
    """Describe returns every member of the Create request except the tags."""
    name = new_name()
    request = training_request(
        name,
        HyperParameters={"C": "0.5", "text": '"a b"'},
        InputDataConfig=[
            {
                "ChannelName": "train",
                "DataSource": {
                    "S3DataSource": {
                        "S3DataType": "S3Prefix",
                        "S3Uri": "s3://api-tests/none/",
                        "S3DataDistributionType": "ShardedByS3Key",
                    }
                },
                "InputMode": "File",
            }
        ],
        OutputDataConfig={"S3OutputPath": "s3://api-tests/out/", "KmsKeyId": "alias/key", "CompressionType": "NONE"},
        VpcConfig={"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]},
        StoppingCondition={"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 120},
        EnableManagedSpotTraining=True,
        EnableNetworkIsolation=True,
        EnableInterContainerTrafficEncryption=True,
        CheckpointConfig={"S3Uri": "s3://api-tests/state/", "LocalPath": "/state"},
        Environment={"WHO": "me\nand you"},
        RetryStrategy={"MaximumRetryAttempts": 2},
        TensorBoardOutputConfig={"S3OutputPath": "s3://api-tests/tb", "LocalPath": "/opt/tb"},
    )
    sagemaker.create_training_job(**request, Tags=[{"Key": "team", "Value": "blue"}])
    job = sagemaker.describe_training_job(TrainingJobName=name)

    assert {field: job[field] for field in request} == request
    assert "Tags" not in job
    assert job["ModelArtifacts"]["S3ModelArtifacts"] == f"s3://api-tests/out/{name}/output/model/"


def test_processing_describe_returns_the_request(sagemaker):
    """DescribeProcessingJob returns every member of the request, including inputs, outputs and network."""
    name = new_name()
    request = processing_request(
        name,
        ProcessingInputs=[
            {
                "InputName": "raw",
                "S3Input": {
                    "S3Uri": "s3://api-tests/none/",
                    "LocalPath": "/opt/ml/processing/input/raw",
                    "S3DataType": "S3Prefix",
                    "S3InputMode": "File",
                },
            }
        ],
        ProcessingOutputConfig={
            "Outputs": [
                {
                    "OutputName": "output",
                    "S3Output": {
                        "S3Uri": "s3://api-tests/out",
                        "LocalPath": "/opt/ml/processing/output",
                        "S3UploadMode": "EndOfJob",
                    },
                }
            ]
        },
        Environment={"WHO": "me"},
        NetworkConfig={"EnableNetworkIsolation": True},
    )
    sagemaker.create_processing_job(**request)
    job = sagemaker.describe_processing_job(ProcessingJobName=name)

    assert {field: job[field] for field in request} == request


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("Training", "Training job names must be unique within an AWS account and region, and a training job with"),
        ("Processing", "Job name must be unique within an AWS account and region, and a job with"),
    ],
)
def test_a_name_is_taken_once(sagemaker, kind, words):
    """A second Create with the same name is ResourceInUse, with AWS's message and the ARN."""
    name = new_name()
    request = (training_request if kind == "Training" else processing_request)(name)
    create = getattr(sagemaker, f"create_{kind.lower()}_job")
    arn = create(**request)[f"{kind}JobArn"]

    assert error_of(create, **request) == ("ResourceInUse", f"{words} this name already exists ({arn})")


def test_creates_of_one_name_have_one_winner(sagemaker):
    """Of ten concurrent Creates with one name, one succeeds."""
    name = new_name()
    outcomes = []

    def create():
        try:
            sagemaker.create_training_job(**training_request(name))
            outcomes.append("created")
        except sagemaker.exceptions.ResourceInUse:
            outcomes.append("in use")

    threads = [threading.Thread(target=create) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(outcomes) == ["created"] + 9 * ["in use"]


def test_both_kinds_may_have_one_name(sagemaker):
    """Names are unique within a kind of job, not across kinds."""
    name = new_name()
    sagemaker.create_training_job(**training_request(name))
    sagemaker.create_processing_job(**processing_request(name))

    assert finished(sagemaker, name)["TrainingJobName"] == name
    assert finished(sagemaker, name, "Processing")["ProcessingJobName"] == name


@pytest.mark.parametrize("operation", ["describe", "stop"])
@pytest.mark.parametrize("kind", ["Training", "Processing"])
def test_unknown_job(sagemaker, operation, kind):
    """Describe and Stop of a job that does not exist are ValidationExceptions, as observed on AWS."""
    call = getattr(sagemaker, f"{operation}_{kind.lower()}_job")

    assert error_of(call, **{f"{kind}JobName": new_name()}) == ("ValidationException", "Requested resource not found.")


@pytest.mark.parametrize("kind", ["Training", "Processing"])
def test_delete_frees_the_name(sagemaker, kind):
    """A finished job can be deleted; it is then unknown, and its name can be used again."""
    name = new_name()
    request = (training_request if kind == "Training" else processing_request)(name)
    create, describe, delete = (
        getattr(sagemaker, f"{verb}_{kind.lower()}_job") for verb in ("create", "describe", "delete")
    )
    create(**request)
    finished(sagemaker, name, kind)
    delete(**{f"{kind}JobName": name})

    assert error_of(describe, **{f"{kind}JobName": name})[1] == "Requested resource not found."
    create(**request)
    assert finished(sagemaker, name, kind)[f"{kind}JobStatus"] == "Completed"


def test_delete_of_a_running_job_is_refused(sagemaker):
    """Deleting a running job is ResourceInUse, and deleting an unknown one is ResourceNotFound."""
    name = new_name()
    sagemaker.create_training_job(**training_request(name, "sleep 300"))
    running = error_of(sagemaker.delete_training_job, TrainingJobName=name)
    sagemaker.stop_training_job(TrainingJobName=name)

    assert running[0] == "ResourceInUse"
    assert error_of(sagemaker.delete_training_job, TrainingJobName=new_name())[0] == "ResourceNotFound"


def test_kill_of_the_server_does_not_harm_a_job(own_backend):
    """A job that runs while the server is killed completes; the next server has the job and its logs."""
    own_backend.up()
    own_backend.client("s3").create_bucket(Bucket="api-tests")
    name = new_name()
    gate = own_backend.home / "gate"
    script = f"echo begun; while [ ! -e {gate} ]; do sleep 0.1; done; echo ended"
    own_backend.client("sagemaker").create_training_job(**training_request(name, script))
    logs, group = own_backend.client("logs"), "/aws/sagemaker/TrainingJobs"

    def messages():
        events = logs.filter_log_events(logGroupName=group, logStreamNamePrefix=f"{name}/")["events"]
        return [event["message"].strip() for event in events]

    def begun():
        groups = logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]
        return groups and messages() == ["begun"]

    wait_until(begun, "the job's first line")
    endpoint = own_backend.endpoint
    own_backend.kill()
    gate.touch()
    again = own_backend.up()
    job = finished(own_backend.client("sagemaker"), name)

    assert again["endpoint"] == endpoint
    assert job["TrainingJobStatus"] == "Completed"
    assert messages() == ["begun", "ended"]


def test_role_is_kept(sagemaker):
    """Describe returns the job's role, which need not exist in the local IAM."""
    name = new_name()
    sagemaker.create_training_job(**training_request(name))

    assert sagemaker.describe_training_job(TrainingJobName=name)["RoleArn"] == ROLE
