"""The reader of all jobs' logs: it takes turns, prefers ended jobs, and a slow log delays no other job."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack

import pytest
from aws_doubles import LogsDouble, ProjectDouble, client_error, make_block

from tasks_lib.aws.log_reader import LogReader, reader_of
from tasks_lib.aws.logs import LogTail
from tasks_lib.aws.rate_limit import LogRateLimit
from tasks_lib.jobs.job import Job
from tasks_lib.jobs.kinds import TRAINING

TICK = 0.01


class Gated(LogsDouble):
    """A log service that answers when a test allows it, and records its callers."""

    def __init__(self):
        super().__init__()
        self.open = threading.Event()
        self.open.set()
        self.first = threading.Event()  # lets only the first caller go on
        self.asked = []
        self._asked = threading.Condition()

    def paginate(self, *, logGroupName, logStreamNamePrefix):  # noqa: N803 - AWS's names
        with self._asked:
            self.asked.append(logStreamNamePrefix.rstrip("/"))
            self._asked.notify_all()
            gate = self.first if len(self.asked) == 1 and not self.open.is_set() else self.open
        assert gate.wait(120)  # longer than a caller waits before it gives up
        yield from super().paginate(logGroupName=logGroupName, logStreamNamePrefix=logStreamNamePrefix)

    def wait_for(self, number):
        """Wait until `number` calls were made."""
        with self._asked:
            assert self._asked.wait_for(lambda: len(self.asked) >= number, timeout=60)


class Leaping:
    """A clock that advances one second at each call, so that waits are short."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1.0
        return self.now


@pytest.fixture
def logs():
    gated = Gated()
    yield gated
    gated.first.set()
    gated.open.set()


@pytest.fixture
def project(logs):
    project = ProjectDouble(make_block(), logs=logs)
    project.is_local = True  # no line is late
    return project


@pytest.fixture
def reader():
    return LogReader()


def job(number, status="InProgress"):
    return Job(TRAINING, f"fit-{number}", "arn", status)


def tail(project, number, **more):
    return LogTail(project, job(number), pace=LogRateLimit(10_000, 10_000), **more)


def rest(reader, log, number):
    reader.prioritize(log, job(number, "Completed"))
    return [line.text for lines in log.rest(TICK) for line in lines]


def test_all_jobs_are_read(reader, project, logs):
    """Fifty jobs at once each get their own lines once, and the threads end with the last job."""
    for number in range(50):
        logs.write(f"fit-{number}/algo-1-1", f"one of {number}")
    before = threading.enumerate()
    with ExitStack() as stack:
        followed = [stack.enter_context(reader.following(tail(project, number))) for number in range(50)]
        found = [rest(reader, log, number) for number, log in enumerate(followed)]
    threads = [thread for thread in threading.enumerate() if thread not in before and thread.name == "sagemaker-logs"]
    for thread in threads:
        thread.join(60)

    assert found == [[f"one of {number}"] for number in range(50)]
    assert all(log.failure is None for log in followed)
    assert not any(thread.is_alive() for thread in threads)


def test_an_ended_job_is_first(reader, project, logs):
    """While all threads are busy and thirty jobs wait, an ended job is read next."""
    logs.open.clear()
    with ExitStack() as stack:
        busy = [stack.enter_context(reader.following(tail(project, f"busy-{number}"))) for number in range(4)]
        logs.wait_for(4)
        others = [stack.enter_context(reader.following(tail(project, number))) for number in range(30)]
        last = stack.enter_context(reader.following(tail(project, "last")))
        reader.prioritize(last, job("last", "Completed"))
        logs.first.set()
        logs.wait_for(5)
        logs.open.set()

    assert len(busy + others) == 34
    assert logs.asked[4] == "fit-last"


def test_each_job_has_its_turn(reader, project, logs):
    """With any number of jobs, the one that has waited longest is read next."""
    with ExitStack() as stack:
        for number in range(30):
            stack.enter_context(reader.following(tail(project, number)))
        come = len(logs.asked)  # all 30 have had a turn
        logs.wait_for(come + 150)
    turns = logs.asked[come : come + 150]

    assert len(set(turns)) == 30


def test_a_log_that_hangs_delays_no_job(project, logs):
    """1. Lines can be taken while the log service hangs. 2. The wait for the rest ends after the time limit.

    3. The failure says why.
    """
    logs.open.clear()
    clock = Leaping()
    reader = LogReader(clock)
    with reader.following(tail(project, 1, clock=clock)) as log:
        logs.wait_for(1)
        assert log.take() == []
        assert rest(reader, log, 1) == []

    assert "did not answer" in log.failure


def test_an_abandoned_log_that_hangs_delays_no_job(reader, project, logs):
    """A log that hangs after its follower left does not delay another job."""
    hanging = Gated()
    hanging.open.clear()
    elsewhere = ProjectDouble(make_block(), logs=hanging)
    try:
        with reader.following(tail(elsewhere, 1)):
            hanging.wait_for(1)
        with reader.following(tail(project, 2)) as log:
            logs.write("fit-2/algo-1-1", "a line")
            logs.wait_for(1)
            assert rest(reader, log, 2) == ["a line"]
    finally:
        hanging.first.set()
        hanging.open.set()


def test_running_jobs_pause_after_throttling(project, logs):
    """After throttling, the logs of running jobs pause, and those of ended jobs are still read."""

    def stands():
        return 100.0

    reader = LogReader(stands)
    logs.faults.append(client_error("ThrottlingException"))
    with ExitStack() as stack:
        throttled = stack.enter_context(reader.following(tail(project, "throttled", clock=stands)))
        while not throttled.throttled or throttled.busy:
            time.sleep(TICK)
        stack.enter_context(reader.following(tail(project, "running", clock=stands)))
        ended = stack.enter_context(reader.following(tail(project, "ended", clock=stands)))
        logs.write("fit-ended/algo-1-1", "the end")
        assert rest(reader, ended, "ended") == ["the end"]

    assert logs.asked == ["fit-throttled", "fit-ended"]


def test_an_account_has_one_reader():
    """Projects of one account and region share a reader; another region has its own."""
    one = make_block()

    assert reader_of(one) is reader_of(one.model_copy(update={"project": "other"}))
    assert reader_of(one) is not reader_of(one.model_copy(update={"region": "eu-west-1"}))
