"""A home has one region: its ARNs contain it, its clients are served, and clients of another region are refused."""

from __future__ import annotations

import pytest
from api_requests import error_of, finished, new_name, training_request
from waiting import wait_until

HERE, THERE = "us-east-1", "eu-west-1"
# An operation of each protocol of the services that belong to a region.
REGIONAL = {
    "sagemaker": "list_training_jobs",
    "logs": "describe_log_groups",
    "sqs": "list_queues",
    "sns": "list_topics",
    "scheduler": "list_schedules",
    "resourcegroupstaggingapi": "get_resources",
    "s3": "list_buckets",
}


@pytest.fixture(scope="module")
def irish(make_backend, tmp_path_factory):
    """Return a home in eu-west-1."""
    backend = make_backend(tmp_path_factory.mktemp("irish") / "home")
    done = backend.run("up", "--json", "--region", THERE)
    assert done.returncode == 0, done.stderr
    return backend


@pytest.mark.sampled(3)
@pytest.mark.parametrize("service", REGIONAL)
def test_a_client_of_another_region_is_refused(backend, irish, service):
    """The error names both regions and the command for another home; each home serves clients of its own region."""
    for home, own, other in ((backend, HERE, THERE), (irish, THERE, HERE)):
        assert getattr(home.client(service, own), REGIONAL[service])()["ResponseMetadata"]["HTTPStatusCode"] == 200
        code, message = error_of(getattr(home.client(service, other), REGIONAL[service]))
        assert code in ("InvalidSignatureException", "SignatureDoesNotMatch", "AuthorizationHeaderMalformed")
        assert f"is in {own}, and the request is for {other}" in message
        assert f"up --home DIRECTORY --region {other}" in message


def test_a_job_belongs_to_its_region(irish):
    """A job's ARN, environment and event have the home's region."""
    sagemaker, sqs, name = irish.client("sagemaker", THERE), irish.client("sqs", THERE), new_name()
    irish.client("s3", THERE).create_bucket(Bucket="api-tests")
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    events = irish.client("events", THERE)
    events.put_rule(Name=name, EventPattern='{"source": ["aws.sagemaker"]}')
    events.put_targets(Rule=name, Targets=[{"Id": "1", "Arn": f"arn:aws:sqs:{THERE}:123456789012:{name}"}])
    arn = sagemaker.create_training_job(**training_request(name, "echo in $AWS_REGION"))["TrainingJobArn"]

    assert arn == f"arn:aws:sagemaker:{THERE}:123456789012:training-job/{name}"
    assert finished(sagemaker, name)["TrainingJobArn"] == arn
    told = irish.client("logs", THERE).filter_log_events(logGroupName="/aws/sagemaker/TrainingJobs")["events"]
    assert f"in {THERE}" in [event["message"] for event in told]
    event = wait_until(lambda: sqs.receive_message(QueueUrl=url).get("Messages"), "an event")[0]["Body"]
    assert f'"region": "{THERE}"' in event


@pytest.mark.parametrize("service", ["iam", "sts"])
def test_global_services_are_everywhere(backend, irish, service):
    """IAM and STS accept clients of every region."""
    operation = {"iam": "list_roles", "sts": "get_caller_identity"}[service]
    for home in (backend, irish):
        for region in (HERE, THERE):
            assert getattr(home.client(service, region), operation)()


def test_buckets_are_in_the_region(irish):
    """Buckets are in the home's region; a constraint for another is refused, and clients of another find them."""
    s3, names = irish.client("s3", THERE), [new_name(), new_name()]
    s3.create_bucket(Bucket=names[0])
    s3.create_bucket(Bucket=names[1], CreateBucketConfiguration={"LocationConstraint": THERE})
    refused = error_of(
        s3.create_bucket, Bucket=new_name(), CreateBucketConfiguration={"LocationConstraint": "eu-west-3"}
    )

    assert refused[0] == "IllegalLocationConstraintException"
    assert f"of local_sagemaker are in {THERE}" in refused[1]
    for name in names:
        assert s3.get_bucket_location(Bucket=name)["LocationConstraint"] == THERE
    assert irish.client("s3", HERE).head_bucket(Bucket=names[0])["BucketRegion"] == THERE
    assert irish.client("s3", HERE).put_object(Bucket=names[0], Key="k", Body=b"v")


def test_a_home_stays_in_its_region(own_backend):
    """1. A home is made in a region. 2. Another region is refused, running or not. 3. After a reset, it may move."""
    for words, code, said in [
        (("up", "--region", "Ireland"), 1, "'Ireland' is not the name of an AWS region"),
        (("up", "--region", THERE), 0, "Started"),
        (("up",), 0, "Already running"),
        (("up", "--region", HERE), 1, f"runs in {THERE}, and {HERE} was asked for"),
        (("env",), 0, f"export AWS_DEFAULT_REGION={THERE};"),
        (("down",), 0, "Ended"),
        (("up", "--region", HERE), 1, f"is in {THERE}, and {HERE} was asked for"),
        (("reset", "--yes"), 0, "Deleted"),
        (("up", "--region", HERE), 0, "Started"),
    ]:
        done = own_backend.run(*words)
        assert (done.returncode, said in done.stdout + done.stderr) == (code, True), (words, done)
    assert own_backend.status()["region"] == HERE
