"""The metrics that SageMaker reads from a training job's log: in Describe, in Search and in CloudWatch."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest
from api_requests import finished, new_name, training_request
from runtime_laboratory import REGION, laboratory, one_laboratory
from waiting import wait_until

pytestmark = pytest.mark.sampled(4, group="all")

__all__ = ["laboratory", "one_laboratory"]

NAMESPACE = "/aws/sagemaker/TrainingJobs"
LOSS = {"Name": "train:loss", "Regex": r"loss=(\S+?);"}


@pytest.fixture
def sagemaker(backend):
    """Return a SageMaker client; the bucket that the requests name exists."""
    backend.client("s3").create_bucket(Bucket="api-tests")
    return backend.client("sagemaker")


def measured_request(script: str, *definitions: dict, hosts: int = 1) -> dict:
    """Return a request for a training job that prints metrics."""
    request = training_request(new_name("measured"), script)
    request["AlgorithmSpecification"]["MetricDefinitions"] = list(definitions)
    request["ResourceConfig"]["InstanceCount"] = hosts
    return request


def statistics(cloudwatch, name: str, job: str, *, hours: int = 1) -> dict:
    """Return a metric's data point over the last hours, as `TrainingJobAnalytics` of the SageMaker SDK requests it."""
    now = datetime.now(timezone.utc)
    answer = cloudwatch.get_metric_statistics(
        Namespace=NAMESPACE,
        MetricName=name,
        Dimensions=[{"Name": "TrainingJobName", "Value": job}],
        StartTime=now - timedelta(hours=hours),
        EndTime=now + timedelta(minutes=1),
        Period=3600 * (hours + 1),
        Statistics=["Average", "Minimum", "SampleCount"],
    )
    return answer["Datapoints"][0] if answer["Datapoints"] else {}


@pytest.mark.always
def test_describe_and_search_have_the_last_value_of_each_metric(sagemaker):
    """Describe and Search have the last number of each expression; NaN, infinities and words do not count."""
    script = (
        "echo 'loss=0.5; acc=1;'; sleep 0.3; echo 'loss=2.5e-1; loss=nan; loss=-inf; loss=1e400; loss=soon;'; sleep 1"
    )
    # As the developer guide writes an expression.
    accuracy = {"Name": "acc", "Regex": "acc=(.*?);"}
    missing = {"Name": "missing", "Regex": "f1=(.*?);"}
    request = measured_request(script, LOSS, accuracy, missing)
    sagemaker.create_training_job(**request)
    job = finished(sagemaker, request["TrainingJobName"])
    found = {one["MetricName"]: one for one in job["FinalMetricDataList"]}

    def names(bound: str) -> list[str]:
        filters = [
            {"Name": "TrainingJobName", "Value": request["TrainingJobName"]},
            {"Name": "Metrics.train:loss", "Operator": "LessThan", "Value": bound},
        ]
        answer = sagemaker.search(Resource="TrainingJob", SearchExpression={"Filters": filters})
        return [one["TrainingJob"]["TrainingJobName"] for one in answer["Results"]]

    assert {name: one["Value"] for name, one in found.items()} == {"train:loss": 0.25, "acc": 1.0}
    assert job["TrainingStartTime"] <= found["acc"]["Timestamp"] < found["train:loss"]["Timestamp"]
    assert found["train:loss"]["Timestamp"] <= job["TrainingEndTime"]
    assert (names("0.3"), names("0.2")) == ([job["TrainingJobName"]], [])


@pytest.mark.always
def test_cloudwatch_has_the_points_of_all_hosts_while_the_job_runs(backend, sagemaker):
    """GetMetricStatistics and ListMetrics have each point of all hosts once, from the running job's log."""
    cloudwatch = backend.client("cloudwatch")
    request = measured_request("echo 'loss=1;'; echo 'loss=3;'; exec sleep 300", LOSS, hosts=2)
    name = request["TrainingJobName"]
    sagemaker.create_training_job(**request)
    dimensions = [{"Name": "TrainingJobName", "Value": name}]

    wait_until(lambda: statistics(cloudwatch, "train:loss", name).get("SampleCount") == 4, "the points of both hosts")
    found = statistics(cloudwatch, "train:loss", name)
    listed = cloudwatch.list_metrics(Namespace=NAMESPACE, Dimensions=dimensions)["Metrics"]
    running = sagemaker.describe_training_job(TrainingJobName=name)
    sagemaker.stop_training_job(TrainingJobName=name)

    assert (found["Average"], found["Minimum"], found["SampleCount"]) == (2.0, 1.0, 4.0)
    assert listed == [{"Namespace": NAMESPACE, "MetricName": "train:loss", "Dimensions": dimensions}]
    # "When a training job has completed, you can also get a list" (Developer Guide).
    assert (running["TrainingJobStatus"], "FinalMetricDataList" in running) == ("InProgress", False)
    assert [one["Value"] for one in finished(sagemaker, name)["FinalMetricDataList"]] == [3.0]


@pytest.mark.exhaustive
def test_cloudwatch_has_the_points_after_a_crash_of_the_server(own_backend):
    """The points are in the home, so a new server has each of them once."""
    own_backend.up()
    own_backend.client("s3").create_bucket(Bucket="api-tests")
    sagemaker, cloudwatch = own_backend.client("sagemaker"), own_backend.client("cloudwatch")
    request = measured_request("echo 'loss=1;'; echo 'loss=2;'", LOSS)
    sagemaker.create_training_job(**request)
    finished(sagemaker, request["TrainingJobName"])
    before = statistics(cloudwatch, "train:loss", request["TrainingJobName"])
    own_backend.kill()
    own_backend.up()
    after = statistics(cloudwatch, "train:loss", request["TrainingJobName"])

    assert before["SampleCount"] == after["SampleCount"] == 2.0


def test_a_killed_supervisor_leaves_each_point_once(laboratory):
    """The successor of a killed supervisor reads the stream again, and adds only the missing points."""
    job = {"TrainingImage": "image", "TrainingInputMode": "File", "MetricDefinitions": [LOSS]}
    script = 'echo "loss=1;"; while [ ! -e $LOCAL_SAGEMAKER_ROOT/opt/ml/go ]; do sleep 0.02; done; echo "loss=2;"'
    laboratory.train("", wait=False, AlgorithmSpecification=job | {"ContainerEntrypoint": ["/bin/sh", "-c", script]})
    directory = laboratory.home / "metrics" / REGION / "job"

    def values() -> list[float]:
        return [json.loads(line)["value"] for file in directory.glob("*") for line in file.read_text().splitlines()]

    wait_until(lambda: values() == [1.0], "the first point")
    laboratory.kill_supervisor()
    (laboratory.directory() / "hosts/algo-1/files/opt/ml/go").touch()
    laboratory.recover()
    final = laboratory.end_of().fields["FinalMetricDataList"]

    assert values() == [1.0, 2.0]
    assert [one["Value"] for one in final] == [2.0]


def test_a_name_that_is_used_again_has_no_metrics_of_the_deleted_job(sagemaker):
    """A job has no metrics of a deleted job with the same name."""
    request = measured_request("echo 'loss=1;'", LOSS)
    sagemaker.create_training_job(**request)
    assert "FinalMetricDataList" in finished(sagemaker, request["TrainingJobName"])
    sagemaker.delete_training_job(TrainingJobName=request["TrainingJobName"])
    request["AlgorithmSpecification"]["ContainerEntrypoint"] = ["/bin/true"]
    sagemaker.create_training_job(**request)

    assert "FinalMetricDataList" not in finished(sagemaker, request["TrainingJobName"])


def test_an_expression_that_python_cannot_read_is_told_in_the_log(backend, sagemaker):
    """An expression that SageMaker accepts and Python does not is reported in the log; other metrics are unaffected."""
    request = measured_request("echo 'loss=1;'", LOSS, {"Name": "odd", "Regex": "(?<odd>x"})
    sagemaker.create_training_job(**request)
    job = finished(sagemaker, request["TrainingJobName"])
    group = {"logGroupName": NAMESPACE, "logStreamNamePrefix": f"{request['TrainingJobName']}/"}
    events = backend.client("logs").filter_log_events(**group)["events"]

    assert (job["TrainingJobStatus"], job["FinalMetricDataList"][0]["Value"]) == ("Completed", 1.0)
    assert any("Regex of the metric odd is passed over" in one["message"] for one in events)


def test_describe_shows_where_outputs_go_as_aws_does(sagemaker):
    """Without a KMS key, Describe has an empty one, which the SDK v2 needs to attach; a given key is kept."""
    plain, keyed = measured_request("true", LOSS), measured_request("true", LOSS)
    keyed["OutputDataConfig"] |= {"KmsKeyId": "alias/mine", "CompressionType": "NONE"}
    shown = []
    for request in (plain, keyed):
        sagemaker.create_training_job(**request)
        described = sagemaker.describe_training_job(TrainingJobName=request["TrainingJobName"])
        shown.append(described["OutputDataConfig"])
        finished(sagemaker, request["TrainingJobName"])

    assert shown == [
        {"KmsKeyId": "", "S3OutputPath": "s3://api-tests/out", "CompressionType": "GZIP"},
        {"KmsKeyId": "alias/mine", "S3OutputPath": "s3://api-tests/out", "CompressionType": "NONE"},
    ]
