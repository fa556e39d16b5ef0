"""A job's log: every line once, in order per host, and never the reason why a task fails."""

import pytest
from aws_doubles import FIRST, client_error
from botocore.exceptions import EndpointConnectionError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks_lib.aws.jobs import Job
from tasks_lib.aws.logs import LogTail, read_all

JOB = Job("training", "fit-1", "arn", "InProgress")


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def tail(project, clock):
    return LogTail(project, JOB, clock, clock.sleep)


def texts(lines):
    return [(line.host, line.text) for line in lines]


def test_lines_come_once(tail, logs, clock):
    """1. Two lines. 2. Nothing new. 3. One more, and a host more. 4. The rest at the end."""
    logs.write("fit-1/algo-1-123", "one", "two")
    assert texts(tail.poll()) == [("algo-1", "one"), ("algo-1", "two")]
    clock.now += 1
    assert texts(tail.poll()) == []
    logs.write("fit-1/algo-1-123", "three")
    logs.write("fit-1/algo-2-124", "other")
    clock.now += 1
    assert sorted(texts(tail.poll())) == [("algo-1", "three"), ("algo-2", "other")]
    logs.write("fit-1/algo-2-124", "last")
    assert texts(tail.drain()) == [("algo-2", "last")]


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 8)), max_size=8))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_no_line_is_lost_or_doubled(project, logs, steps):
    """However many come between two looks, over pages of three events."""
    logs.streams.clear()
    clock, expected, found = Clock(), {}, []
    tail = LogTail(project, JOB, clock, clock.sleep)
    for host, count in steps:
        lines = [f"{host}:{len(expected.get(host, [])) + number}" for number in range(count)]
        if lines:
            logs.write(f"fit-1/algo-{host}-1", *lines)
            expected.setdefault(host, []).extend(lines)
        found += tail.drain()

    for host, lines in expected.items():
        assert [line.text for line in found if line.host == f"algo-{host}"] == lines
    assert len(found) == sum(map(len, expected.values()))


def test_another_jobs_log_is_not_ours(tail, logs):
    """`fit-1` is the beginning of `fit-11`."""
    logs.write("fit-11/algo-1-1", "other")

    assert texts(tail.drain()) == []


@pytest.mark.parametrize(
    "error", [client_error("ThrottlingException"), EndpointConnectionError(endpoint_url="https://x")]
)
def test_a_log_that_cannot_be_read_fails_nobody(tail, logs, error):
    """It is noted, and the next look begins where this one stopped."""
    logs.write("fit-1/algo-1-1", "one")
    logs.faults.append(error)
    assert texts(tail.poll()) == []
    assert tail.failure

    assert texts(tail.drain()) == [("algo-1", "one")]
    assert tail.failure is None


def test_before_the_first_line_there_is_no_log(tail):
    """The group is made with it; that is no failure."""
    assert texts(tail.drain()) == []
    assert tail.failure is None


def test_it_is_asked_no_more_often_than_its_age_allows(tail, logs):
    """A second look at the same moment asks nobody."""
    list(tail.poll())
    logs.write("fit-1/algo-1-1", "one")

    assert texts(tail.poll()) == []
    assert texts(tail.drain()) == [("algo-1", "one")]


def test_late_lines_are_waited_for(tail, logs, clock):
    """CloudWatch takes a job's last lines in a moment after its end."""
    sleep = clock.sleep

    def late(seconds):
        sleep(seconds)
        if clock.now < 3:
            logs.write("fit-1/algo-1-1", "late")

    tail.sleep = late
    logs.write("fit-1/algo-1-1", "one")

    assert texts(tail.drain()) == [("algo-1", "one"), ("algo-1", "late")]
    assert 0 < clock.now <= 10


def test_all_lines_in_the_order_of_their_time(project, logs):
    """For reading metrics off the log of a finished job."""
    project.is_local = True
    logs.write("fit-1/algo-1-1", "a", "c", at=FIRST)
    logs.write("fit-1/algo-2-1", "b", at=FIRST + 0.5)

    assert [line.text for line in read_all(project, JOB)] == ["a", "b", "c"]
