"""What `down` reports as kept exists after the next `up`, and what it reports as lost does not."""

from __future__ import annotations

import json

import pytest
from api_requests import new_name, training_request
from waiting import wait_until

from local_sagemaker.account import REGION
from local_sagemaker.iam.roles import RoleTable
from local_sagemaker.keys import HomeKey
from local_sagemaker.moto_journal import Journal, is_kept
from local_sagemaker.moto_services import MotoServices
from local_sagemaker.wire.call import Call

QUEUE = "arn:aws:sqs:us-east-1:123456789012:ends"
PATTERN = json.dumps({"source": ["aws.sagemaker"], "detail-type": ["SageMaker Training Job State Change"]})
ALARM = {
    "ComparisonOperator": "GreaterThanThreshold", "EvaluationPeriods": 1, "Threshold": 1.0, "MetricName": "loss",
    "Namespace": "n", "Period": 60, "Statistic": "Sum",
}  # fmt: skip
SCHEDULE = {
    "ScheduleExpression": "rate(1 hour)", "FlexibleTimeWindow": {"Mode": "OFF"},
    "Target": {"Arn": QUEUE, "RoleArn": "arn:aws:iam::123456789012:role/r", "Input": "{}"},
}  # fmt: skip


def configure(client):
    """Create a queue, a rule, a subscription, a schedule and an alarm, and delete a second one of most."""
    sqs, events, scheduler, alarms = map(client, ("sqs", "events", "scheduler", "cloudwatch"))
    topic = client("sns").create_topic(Name="t")["TopicArn"]
    for name in ("ends", "gone"):
        url = sqs.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "7"})["QueueUrl"]
        events.put_rule(Name=name, EventPattern=PATTERN)
        events.put_targets(Rule=name, Targets=[{"Id": "1", "Arn": QUEUE}])
        scheduler.create_schedule(Name=name, **SCHEDULE)
        alarms.put_metric_alarm(AlarmName=name, **ALARM)
    client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=QUEUE)
    sqs.delete_queue(QueueUrl=url)
    events.remove_targets(Rule="gone", Ids=["1"])
    events.delete_rule(Name="gone")
    scheduler.delete_schedule(Name="gone")
    alarms.delete_alarms(AlarmNames=["gone"])
    alarms.put_metric_data(Namespace="n", MetricData=[{"MetricName": "loss", "Value": 1.0}])
    sqs.send_message(QueueUrl=sqs.get_queue_url(QueueName="ends")["QueueUrl"], MessageBody="lost")


def configured(client):
    """Return the same resources as the server describes them."""
    sqs, rule = client("sqs"), client("events").describe_rule(Name="ends")
    urls = sqs.list_queues()["QueueUrls"]
    schedule = client("scheduler").get_schedule(Name="ends")
    (subscription,) = client("sns").list_subscriptions()["Subscriptions"]
    return {
        "queues": urls,
        "visibility": sqs.get_queue_attributes(QueueUrl=urls[0], AttributeNames=["All"])["Attributes"][
            "VisibilityTimeout"
        ],
        "rules": [one["Name"] for one in client("events").list_rules()["Rules"]],
        "pattern": rule["EventPattern"],
        "targets": client("events").list_targets_by_rule(Rule="ends")["Targets"],
        "schedules": [one["Name"] for one in client("scheduler").list_schedules()["Schedules"]],
        "schedule": {name: schedule[name] for name in ("ScheduleExpression", "Target")},
        "alarms": [one["AlarmName"] for one in client("cloudwatch").describe_alarms()["MetricAlarms"]],
        "subscription": subscription["SubscriptionArn"],
    }


def test_what_was_configured_is_kept(own_backend):
    """1. `down` says what is lost. 2. After `up` all else is unchanged. 3. The end of a job reaches the queue again."""
    own_backend.up()
    configure(own_backend.client)
    before = configured(own_backend.client)
    done = own_backend.run("down")
    own_backend.up()

    lost = "messages of SQS queues, metric data of CloudWatch and what KMS has encrypted"
    assert done.stdout.endswith(f"(all is kept but {lost})\n")
    assert configured(own_backend.client) == before
    assert own_backend.client("cloudwatch").list_metrics(Namespace="n")["Metrics"] == []
    sqs, url, name = own_backend.client("sqs"), before["queues"][0], new_name()
    simulated = {"TrainingImage": "local/simulated", "TrainingInputMode": "File"}
    own_backend.client("s3").create_bucket(Bucket="api-tests")
    request = training_request(name, AlgorithmSpecification=simulated, Environment={"SIMULATED_SECONDS": "0"})
    own_backend.client("sagemaker").create_training_job(**request)
    bodies = []

    def ended():
        bodies.extend(one["Body"] for one in sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1).get("Messages", []))
        return any('"TrainingJobStatus": "Completed"' in body for body in bodies)

    wait_until(ended, "the event of the job's end")
    assert "lost" not in bodies


CALL = {"region": "us-east-1", "method": "POST", "path": "/", "body": ""}


@pytest.mark.parametrize(
    ("service", "target", "kept"),
    [
        ("ecr", "AmazonEC2ContainerRegistry_V20150921.BatchDeleteImage", True),
        ("ecr", "AmazonEC2ContainerRegistry_V20150921.BatchGetImage", False),
        ("sqs", "AmazonSQS.SetQueueAttributes", True),
        ("sqs", "AmazonSQS.SendMessageBatch", False),
        ("sqs", "AmazonSQS.PurgeQueue", False),
        ("events", "AWSEvents.PutRule", True),
        ("events", "AWSEvents.PutEvents", False),
        ("monitoring", "GraniteServiceVersion20100801.PutDashboard", True),
        ("monitoring", "GraniteServiceVersion20100801.PutMetricData", False),
        ("kms", "TrentService.CreateKey", True),
        ("kms", "TrentService.Decrypt", False),
        ("kms", "TrentService.GenerateDataKey", False),
        ("glue", "AWSGlue.CreateJob", False),
    ],
)
def test_changes_are_kept_and_what_passes_is_not(service, target, kept):
    """Changes are kept, and messages, data and reads are not: by service and operation, in protocols with a target."""
    assert is_kept(Call(service=service, headers={"x-amz-target": target}, **CALL)) is kept


@pytest.mark.parametrize(
    ("more", "operation", "kept"),
    [
        ({"service": "scheduler", "method": "GET", "path": "/schedules?MaxResults=1"}, "ListSchedules", False),
        ({"service": "scheduler", "method": "DELETE", "path": "/schedules/a"}, "DeleteSchedule", True),
        ({"service": "monitoring", "path": "/service/Granite/operation/PutMetricAlarm"}, "PutMetricAlarm", True),
        ({"service": "monitoring", "path": "/service/Granite/operation/GetMetricData"}, "GetMetricData", False),
        ({"service": "iam", "body": "Action=CreateUser&UserName=a"}, "CreateUser", True),
        ({"service": "iam", "body": "UserName=a&Action=GetUser"}, "GetUser", False),
    ],
)
def test_changes_of_other_protocols(more, operation, kept):
    """The operation is found by method and path in REST, by path in CBOR, and by a field in query."""
    headers = {"smithy-protocol": "rpc-v2-cbor"} if more["service"] == "monitoring" else {}
    call = Call(headers=headers, **{**CALL, **more})

    assert (call.operation, is_kept(call)) == (operation, kept)


def test_a_rule_of_an_earlier_server_gets_events_at_once(tmp_path):
    """A server whose home has rules sends events before a client uses moto; one without rules does not load moto."""
    journal = Journal(tmp_path / "moto.jsonl")
    key, roles = HomeKey.of(tmp_path), RoleTable(tmp_path)
    journal.append(Call(service="iam", headers={}, **CALL), 1)
    assert not MotoServices(journal, key, roles, REGION).awake
    journal.append(Call(service="events", headers={}, **CALL), 1)

    assert MotoServices(journal, key, roles, REGION).awake
