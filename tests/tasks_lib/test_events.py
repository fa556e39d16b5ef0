"""SageMaker's events from a queue: they are received at once, other jobs' events are kept, and polling still works."""

import json
import logging
import threading
import time
import uuid
from contextlib import ExitStack

import botocore.exceptions
import pytest
from aws_doubles import FIRST, ProjectDouble, client_error, make_block

from blocks import SageMakerProject
from tasks_lib.aws.events import EventListener, StateChange, read_event
from tasks_lib.aws.jobs import Jobs
from tasks_lib.aws.watch import MAX_DESCRIBED, Watcher
from tasks_lib.jobs.job import Job
from tasks_lib.jobs.kinds import KINDS, TRAINING

LONG = 60  # seconds; a test waits this long only if it fails
URL = "https://sqs.us-east-1.amazonaws.com/123456789012/jobs"
WORDS = {"training": "Training", "processing": "Processing"}


def event(name, status="Completed", kind="training"):
    """Return a message as EventBridge writes it (SageMaker's developer guide).

    Its detail is like Describe's response.
    """
    word = WORDS[kind]
    return json.dumps(
        {
            "version": "0",
            "id": "844e2571-85d4-695f-b930-0153b71dcb42",
            "detail-type": f"SageMaker {word} Job State Change",
            "source": "aws.sagemaker",
            "account": "123456789012",
            "time": "2026-10-06T12:26:13Z",
            "region": "us-east-1",
            "resources": [f"arn:aws:sagemaker:us-east-1:123456789012:{kind}-job/{name}"],
            "detail": {f"{word}JobName": name, f"{word}JobStatus": status, "CreationTime": "1583831889050"},
        }
    )


class QueueDouble:
    """SQS with one queue: a received message is hidden until a test shows it again."""

    def __init__(self):
        self.visible, self.hidden, self.faults = [], [], []
        self.received = 0
        self._news = threading.Condition()

    def send(self, *bodies):
        with self._news:
            self.visible.extend({"Body": body, "count": 0} for body in bodies)
            self._news.notify_all()

    def show_again(self):
        with self._news:
            self.visible, self.hidden = self.visible + self.hidden, []
            self._news.notify_all()

    def left(self):
        with self._news:
            return [read_event(message["Body"]) for message in self.visible + self.hidden]

    def wait_until(self, condition):
        with self._news:
            assert self._news.wait_for(condition, timeout=LONG)

    def receive_message(self, *, QueueUrl, MaxNumberOfMessages, **_):  # noqa: N803 - AWS's names
        assert QueueUrl.startswith(URL)
        with self._news:
            self.received += 1
            self._news.notify_all()
            if self.faults:
                raise self.faults.pop(0)
            self._news.wait_for(lambda: self.visible, timeout=0.05)  # SQS would wait for 20 s
            given, self.visible = self.visible[:MaxNumberOfMessages], self.visible[MaxNumberOfMessages:]
            for message in given:
                message["count"] += 1
            self.hidden.extend(given)
            return {
                "Messages": [
                    {
                        "Body": message["Body"],
                        "ReceiptHandle": str(id(message)),
                        "Attributes": {"ApproximateReceiveCount": str(message["count"])},
                    }
                    for message in given
                ]
            }

    def delete_message_batch(self, *, QueueUrl, Entries):  # noqa: N803 - AWS's names
        assert QueueUrl.startswith(URL)
        gone = {entry["ReceiptHandle"] for entry in Entries}
        with self._news:
            self.hidden = [message for message in self.hidden if str(id(message)) not in gone]
            self._news.notify_all()


class Standing:
    """A clock that only a test advances."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def queue():
    """The queue of a project."""
    return QueueDouble()


@pytest.fixture
def project(sagemaker, queue):
    """A project with this queue."""
    return ProjectDouble(make_block(events_queue_url=URL), sagemaker=sagemaker, sqs=queue)


def listeners():
    """Return the threads that listen to a queue."""
    return {thread for thread in threading.enumerate() if thread.name == "sagemaker-events"}


def watched_jobs(stack, watcher, sagemaker, count, kind="training"):
    """Add running jobs and return a waiter for each."""
    jobs = []
    for number in range(count):
        sagemaker.add(f"job-{number}", kind=WORDS[kind])
        jobs.append(Job(KINDS[kind], f"job-{number}", f"arn:{number}", "InProgress", created=FIRST))
    return [stack.enter_context(watcher.watching(job)) for job in jobs]


def all_end(watched, clock):
    """Return whether all jobs are seen to end within 20 s of the clock, which is before the next poll."""
    for _ in range(200):
        if all(one.wait(0.05) for one in watched):
            return True
        clock.now += 0.1
    return False


def test_an_end_during_a_describe_is_seen(sagemaker, queue, project):
    """1. A job is described. 2. It ends before the response arrives, and its event comes. 3. It is described again."""
    asked, answer = threading.Event(), threading.Event()
    describe = sagemaker.describe_training_job

    def slow(**request):
        said = describe(**request)
        asked.set()
        assert answer.wait(LONG)
        return said

    sagemaker.describe_training_job = slow
    with ExitStack() as stack:
        (watched,) = watched_jobs(stack, Watcher(project, Standing()), sagemaker, 1)
        assert asked.wait(LONG)
        sagemaker.end("job-0")
        queue.send(event("job-0"))
        queue.wait_until(lambda: not queue.visible and not queue.hidden)
        answer.set()

        assert watched.wait(LONG)


@pytest.mark.parametrize("kind", ["training", "processing"])
@pytest.mark.parametrize("count", [MAX_DESCRIBED, 20])
def test_an_end_is_seen_without_polling(sagemaker, queue, project, count, kind):
    """1. All jobs have been polled once. 2. No poll is due. 3. Each event causes one Describe."""
    clock = Standing()
    watcher = Watcher(project, clock)
    with ExitStack() as stack:
        watched = watched_jobs(stack, watcher, sagemaker, count, kind)
        sagemaker.wait_for(
            "describe" if count == MAX_DESCRIBED else "list", MAX_DESCRIBED if count == MAX_DESCRIBED else 1
        )
        clock.now += 30  # half of the minute between two polls
        queue.send(event("job-0", "InProgress", kind))
        queue.wait_until(lambda: not queue.visible and not queue.hidden)
        before = sagemaker.count("list"), sagemaker.count("describe")
        for number in range(count):
            sagemaker.end(f"job-{number}", kind=WORDS[kind])
        queue.send(*(event(f"job-{number}", kind=kind) for number in range(count)))
        assert all_end(watched, clock)
        queue.wait_until(lambda: not queue.visible and not queue.hidden)

    # All jobs are polled once more when the queue first answers, which may be before or after that.
    assert sagemaker.count("list") <= before[0] + 1
    assert count <= sagemaker.count("describe") - before[1] <= 2 * count


def test_a_lost_event_costs_a_minute(sagemaker, project):
    """Without an event the watcher still sees the end, by polling once a minute."""
    clock = Standing()
    watcher = Watcher(project, clock)
    with ExitStack() as stack:
        (watched,) = watched_jobs(stack, watcher, sagemaker, 1)
        sagemaker.wait_for("describe", 1)
        sagemaker.end("job-0")
        while not watched.wait(0):
            clock.now += 5
            with watcher.watching(Job(TRAINING, "job-0", "", "InProgress", created=FIRST)) as guest:
                guest.wait(0.05)

    assert sagemaker.count("describe") == 2
    assert clock.now >= 160


def test_the_events_of_others_are_left_to_them(sagemaker, queue, project):
    """1. An event of another job is hidden, and seen again. 2. After about two minutes of that it is deleted."""
    with ExitStack() as stack:
        watched_jobs(stack, Watcher(project, Standing()), sagemaker, 1)
        queue.send(event("another"), "no event")
        for _ in range(23):
            queue.wait_until(lambda: len(queue.hidden) == 2)
            assert queue.left() == [StateChange(TRAINING, "another", "Completed"), None]
            queue.show_again()
        queue.wait_until(lambda: not queue.visible and not queue.hidden)


TROUBLES = {
    "gone": client_error("AWS.SimpleQueueService.NonExistentQueue", "The specified queue does not exist."),
    "forbidden": client_error("AccessDenied"),
    "throttled": client_error("ThrottlingException"),
    "unreachable": botocore.exceptions.EndpointConnectionError(endpoint_url="https://x"),
    "a bug": ZeroDivisionError("a bug"),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_queue_that_fails_is_reported_once(sagemaker, queue, caplog, trouble):
    """1. The queue fails three times, and the watcher polls SageMaker. 2. It answers again, and its events are used.

    3. There is one warning.
    """
    seen, slept, ended, url = [], [], threading.Event(), f"{URL}-{trouble.replace(' ', '-')}"
    queue.faults = [TROUBLES[trouble]] * 3
    events = EventListener(
        ProjectDouble(make_block(), sqs=queue),
        url,
        hear=lambda change: bool(seen.append(change)) or True,
        is_wanted=lambda: not seen or ended.set(),
        changed=lambda: slept.append("changed"),
        sleep=slept.append,
    )
    with caplog.at_level(logging.WARNING, "prefect.sagemaker"):
        logging.getLogger("prefect.sagemaker").addHandler(caplog.handler)
        events.listen()
        queue.wait_until(lambda: queue.received >= 4)
        queue.send(event("job"))
        assert ended.wait(LONG)
        logging.getLogger("prefect.sagemaker").removeHandler(caplog.handler)

    assert seen == [StateChange(TRAINING, "job", "Completed")]
    assert slept == ["changed", 1.0, 2.0, 4.0, "changed"]
    assert events.answers
    assert len({said for record in caplog.records if url in (said := record.getMessage())}) == 1


def test_a_queue_that_is_gone_fails_no_job(sagemaker, queue, project):
    """If the queue does not exist, the end of a job is seen by polling."""
    clock = Standing()
    queue.faults = [TROUBLES["gone"]] * 1000
    watcher = Watcher(project, clock)
    with ExitStack() as stack:
        (watched,) = watched_jobs(stack, watcher, sagemaker, 1)
        queue.wait_until(lambda: queue.received)
        sagemaker.end("job-0")
        for _ in range(160):
            clock.now += 0.5
            with watcher.watching(Job(TRAINING, "job-0", "", "InProgress", created=FIRST)) as guest:
                guest.wait(0.02)
        assert watched.wait(LONG)


def test_no_thread_listens_without_a_waiter(sagemaker, queue, project):
    """The listening thread ends with the last waiter, and a new one starts with the next waiter."""
    before, watcher = listeners(), Watcher(project, Standing())
    for _ in range(2):
        with ExitStack() as stack:
            watched_jobs(stack, watcher, sagemaker, 1)
            asked = queue.received
            queue.wait_until(lambda asked=asked: queue.received > asked)
            (mine,) = listeners() - before
        mine.join(LONG)
        assert not mine.is_alive()


@pytest.mark.parametrize("body", ["", "[]", "{}", "null", '{"detail-type": 1}', '{"detail-type": []}', event("x")[:-1]])
def test_what_is_no_event_is_none(body):
    """A message that is not an event of a job is read as None."""
    assert read_event(body) is None


def test_an_event_of_aws(block):
    """With moto's SQS a wanted message is received and deleted, and another is left in the queue."""
    api = block.client("sqs")
    url = api.create_queue(QueueName="jobs")["QueueUrl"]
    api.send_message(QueueUrl=url, MessageBody=event("ours", "Failed", "processing"))
    api.send_message(QueueUrl=url, MessageBody=event("theirs"))
    heard, both = [], threading.Event()

    def hear(change):
        heard.append(change)
        if len(heard) == 2:
            both.set()
        return change.name == "ours"

    before = set(threading.enumerate())
    EventListener(block, url, hear=hear, is_wanted=lambda: not both.is_set(), changed=lambda: None).listen()
    assert both.wait(LONG)
    for thread in listeners() - before:
        thread.join(LONG)
    counts = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    left = api.get_queue_attributes(QueueUrl=url, AttributeNames=counts)["Attributes"]

    assert sorted(change.name for change in heard) == ["ours", "theirs"]
    assert sum(int(count) for count in left.values()) == 1


def test_a_project_without_a_queue_needs_none(sagemaker):
    """Without a queue there is neither a thread nor an SQS client."""
    before = listeners()
    with ExitStack() as stack:
        watched_jobs(stack, Watcher(ProjectDouble(make_block(), sagemaker=sagemaker), Standing()), sagemaker, 1)
        assert listeners() <= before


@pytest.fixture
def with_events(backend):
    """A local project whose queue an EventBridge rule fills."""
    sqs, bridge = backend.client("sqs"), backend.client("events")
    url = sqs.create_queue(QueueName="watcher")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    bridge.put_rule(Name="watcher", EventPattern=json.dumps({"source": ["aws.sagemaker"]}))
    bridge.put_targets(Rule="watcher", Targets=[{"Id": "queue", "Arn": arn}])
    yield SageMakerProject.local("events", home=backend.home, events_queue_url=url)
    bridge.remove_targets(Rule="watcher", Ids=["queue"])
    bridge.delete_rule(Name="watcher")
    sqs.delete_queue(QueueUrl=url)


def test_twenty_jobs_of_a_local_sagemaker(backend, with_events):
    """Each job costs one Describe at its end, apart from the first poll and one when the queue first answers."""
    with_events.client("s3")
    watcher, jobs, asked = Watcher(with_events), Jobs(with_events), backend.status()["requests"]
    began = time.monotonic()
    with ExitStack() as stack:
        watched = [stack.enter_context(watcher.watching(jobs.create(TRAINING, simulated()))) for _ in range(20)]
        assert all(one.wait(LONG * 3) for one in watched)
    now = backend.status()["requests"]
    describes, lists = (
        now.get(name, 0) - asked.get(name, 0)
        for name in ("sagemaker:DescribeTrainingJob", "sagemaker:ListTrainingJobs")
    )

    minutes = int(time.monotonic() - began) // 60  # on a busy machine all jobs are polled once a minute
    assert {one.job.status for one in watched} == {"Completed"}
    assert 20 <= describes <= 20 + (2 + minutes) * MAX_DESCRIBED
    assert lists <= 1 + minutes


def simulated():
    """Return a request for a job that takes three seconds."""
    return {
        "TrainingJobName": f"events-{uuid.uuid4().hex[:12]}",
        "RoleArn": "arn:aws:iam::123456789012:role/jobs",
        "AlgorithmSpecification": {"TrainingImage": "local/simulated", "TrainingInputMode": "File"},
        "OutputDataConfig": {"S3OutputPath": "s3://local-sagemaker/events"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        "StoppingCondition": {"MaxRuntimeInSeconds": 300},
        "Environment": {"SIMULATED_SECONDS": "3"},
    }
