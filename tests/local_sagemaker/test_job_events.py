"""Events of jobs: a change of state reaches the queue of each rule that matches it, for unmodified clients."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from api_requests import finished, new_name, processing_request, training_request
from waiting import wait_until


def simulated(name: str, status: str = "Completed") -> dict:
    """Return a CreateTrainingJob request for a simulated job."""
    request = training_request(name)
    request["AlgorithmSpecification"] = {"TrainingImage": "local/simulated", "TrainingInputMode": "File"}
    request["Environment"] = {"SIMULATED_SECONDS": "0.1", "SIMULATED_STATUS": status}
    return request


@pytest.fixture
def queue(backend):
    """Return a function that makes a queue and a rule that sends it matching events; both are deleted afterwards."""
    sqs, bridge, made = backend.client("sqs"), backend.client("events"), []
    backend.client("s3").create_bucket(Bucket="api-tests")

    def make(**pattern) -> str:
        name = new_name("events")
        url = sqs.create_queue(QueueName=name)["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        bridge.put_rule(Name=name, EventPattern=json.dumps({"source": ["aws.sagemaker"], **pattern}))
        bridge.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": arn}])
        made.append((name, url))
        return url

    yield make
    for name, url in made:
        bridge.remove_targets(Rule=name, Ids=["queue"])
        bridge.delete_rule(Name=name)
        sqs.delete_queue(QueueUrl=url)


def until(sqs, url: str, is_last) -> list[dict]:
    """Receive events until one is the last; return all of them."""
    seen = []

    def received():
        for message in sqs.receive_message(QueueUrl=url, WaitTimeSeconds=5).get("Messages", ()):
            seen.append(json.loads(message["Body"]))
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return any(is_last(event["detail"]) for event in seen)

    wait_until(received, "the last event")
    return seen


def test_a_training_job_tells_its_states(backend, queue):
    """The last event of a training job has what Describe returns, in the format and units of AWS's events."""
    sqs, sagemaker, name = backend.client("sqs"), backend.client("sagemaker"), new_name()
    url = queue(**{"detail-type": ["SageMaker Training Job State Change"], "detail": {"TrainingJobName": [name]}})
    sagemaker.create_training_job(**simulated(name, "Failed"), Tags=[{"Key": "team", "Value": "vision"}])
    events = until(sqs, url, lambda detail: detail["TrainingJobStatus"] == "Failed")
    job = finished(sagemaker, name)
    last = events[-1]

    assert (last["source"], last["detail-type"]) == ("aws.sagemaker", "SageMaker Training Job State Change")
    assert last["resources"] == [job["TrainingJobArn"]]
    assert last["time"].endswith("Z")
    assert last["detail"]["FailureReason"] == job["FailureReason"]
    assert last["detail"]["TrainingEndTime"] == pytest.approx(job["TrainingEndTime"].timestamp() * 1000, abs=1)
    assert last["detail"]["Tags"] == {"team": "vision"}
    assert "Environment" not in last["detail"]


def test_a_job_with_a_process_of_its_own(backend, queue):
    """The supervisor of a job with processes writes the change, and the server sends the event."""
    sqs, sagemaker, name = backend.client("sqs"), backend.client("sagemaker"), new_name()
    url = queue(detail={"ProcessingJobName": [name]})
    sagemaker.create_processing_job(**processing_request(name))
    events = until(sqs, url, lambda detail: detail["ProcessingJobStatus"] == "Completed")

    assert {event["detail-type"] for event in events} == {"SageMaker Processing Job State Change"}


def test_a_rule_gets_what_it_asks_for(backend, queue):
    """Of two jobs that end, only the failed one reaches a rule for failed jobs."""
    sqs, sagemaker, names = backend.client("sqs"), backend.client("sagemaker"), [new_name(), new_name()]
    url = queue(detail={"TrainingJobStatus": ["Failed"], "TrainingJobName": names})
    for name, status in zip(names, ["Completed", "Failed"], strict=True):
        sagemaker.create_training_job(**simulated(name, status))
        finished(sagemaker, name)
    events = until(sqs, url, lambda detail: detail["TrainingJobStatus"] == "Failed")

    assert {event["detail"]["TrainingJobName"] for event in events} == {names[1]}


def test_a_target_that_is_not_there_stops_no_other(backend, queue):
    """Targets that do not exist or are not supported do not stop the events of other rules."""
    sqs, sagemaker, bridge = (backend.client(service) for service in ("sqs", "sagemaker", "events"))
    name, arn = new_name(), "arn:aws:{}:us-east-1:123456789012:{}"
    pattern = json.dumps({"detail": {"TrainingJobName": [name]}})
    rules = {
        f"{name}-queue": ({"EventPattern": pattern}, arn.format("sqs", "gone")),
        f"{name}-function": ({"EventPattern": pattern}, arn.format("lambda", "function:f")),
        f"{name}-schedule": ({"ScheduleExpression": "rate(1 day)"}, arn.format("sqs", "gone")),
    }
    for rule, (when, target) in rules.items():
        bridge.put_rule(Name=rule, **when)
        bridge.put_targets(Rule=rule, Targets=[{"Id": "1", "Arn": target}])
    url = queue(detail={"TrainingJobName": [name]})
    try:
        sagemaker.create_training_job(**simulated(name, "Completed"))
        events = until(sqs, url, lambda detail: detail["TrainingJobStatus"] == "Completed")
    finally:
        for rule in rules:
            bridge.remove_targets(Rule=rule, Ids=["1"])
            bridge.delete_rule(Name=rule)

    assert {event["detail"]["TrainingJobName"] for event in events} == {name}


def test_long_poll_does_not_block_others(backend, queue):
    """1. A client polls an empty queue for 20 s. 2. Other clients use SQS and IAM. 3. A message ends the poll."""
    sqs, url = backend.client("sqs"), queue(detail={"TrainingJobName": [new_name()]})
    with ThreadPoolExecutor(1) as pool:
        poll = pool.submit(sqs.receive_message, QueueUrl=url, WaitTimeSeconds=20)
        began = time.monotonic()
        backend.client("iam").list_roles()
        sqs.send_message(QueueUrl=url, MessageBody="here")
        assert [message["Body"] for message in poll.result()["Messages"]] == ["here"]
        assert time.monotonic() - began < 20


def test_a_long_poll_ends(backend, queue):
    """A long poll of an empty queue ends after its wait time, and one of a queue that does not exist is an error."""
    sqs, url = backend.client("sqs"), queue(detail={"TrainingJobName": [new_name()]})

    assert not sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1).get("Messages")
    with pytest.raises(sqs.exceptions.QueueDoesNotExist):
        sqs.receive_message(QueueUrl=f"{url}-not", WaitTimeSeconds=20)
