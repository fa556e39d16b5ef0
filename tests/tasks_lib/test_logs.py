"""A job's log: each line is read once, in order per host, and a log never fails a task."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import pytest
from aws_doubles import FIRST, client_error
from botocore.exceptions import EndpointConnectionError
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tasks_lib.aws.logs import LogTail
from tasks_lib.aws.rate_limit import LogRateLimit, log_rate_limit_of
from tasks_lib.backend import Backend
from tasks_lib.jobs.job import Job
from tasks_lib.jobs.kinds import TRAINING
from tasks_lib.run.waiter import metrics_from_log

JOB = Job(TRAINING, "fit-1", "arn", "InProgress")
OUTAGE = EndpointConnectionError(endpoint_url="https://logs")


class Clock:
    """A clock that only advances in `sleep`, with events that happen meanwhile."""

    def __init__(self):
        self.now = FIRST
        self.to_come = []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        while self.to_come and self.to_come[0][0] <= self.now:
            self.to_come.pop(0)[1]()

    def later(self, seconds, happens):
        self.to_come.append((self.now + seconds, happens))
        self.to_come.sort(key=lambda each: each[0])


class CloudWatch:
    """CloudWatch Logs by its API reference: partly full and empty pages, tokens that expire, and errors.

    Events of a stream are sorted by time, and by arrival within a millisecond. A token names an event and continues
    behind
    it, so it never finds an event that arrives later with an earlier time.
    """

    def __init__(self, page=3):
        self.page, self.streams, self.faults = page, {}, []
        self.asked = []
        self.empty_pages = self.tokens_from = 0
        self._issued = []

    def write(self, stream, *lines, at=FIRST):
        for line in lines:
            events = self.streams.setdefault(stream, [])
            events.append((int(at * 1000), len(events), line))
            events.sort()

    def expire_tokens(self):
        self.tokens_from = len(self._issued)

    # -- for the code under test -----------------------------------------------------------------------------------

    def get_paginator(self, operation):
        assert operation == "describe_log_streams"
        return self

    def paginate(self, *, logGroupName, logStreamNamePrefix):  # noqa: N803 - AWS's names
        self._enter("describe")
        if not self.streams:
            raise client_error("ResourceNotFoundException", "The specified log group does not exist.")
        for name in sorted(self.streams):
            if name.startswith(logStreamNamePrefix):
                yield {"logStreams": [{"logStreamName": name}]}

    def get_log_events(self, *, logStreamName, startFromHead, startTime=0, nextToken=None, **_):  # noqa: N803 - AWS's
        self._enter("get")
        assert startFromHead
        after, skip = self._read(nextToken)
        found = [event for event in self.streams[logStreamName] if event[0] >= startTime and event > after]
        events = [] if skip else found[: self.page]
        return {
            "events": [{"timestamp": at, "message": line} for at, _, line in events],
            "nextForwardToken": self._token(events[-1] if events else after, max(0, skip - 1), nextToken),
        }

    def _enter(self, operation):
        self.asked.append(operation)
        if self.faults and (fault := self.faults.pop(0)):
            raise fault

    def _read(self, token):
        if token is None:
            return (0, -1, ""), self.empty_pages
        number = int(token.removeprefix("f/"))
        if number < self.tokens_from:
            raise client_error("InvalidParameterException", "The specified nextToken is invalid.")
        return self._issued[number]

    def _token(self, after, skip, given):
        if given is not None and self._issued[int(given.removeprefix("f/"))] == (after, skip):
            return given
        self._issued.append((after, skip))
        return f"f/{len(self._issued) - 1}"


@pytest.fixture
def logs():
    return CloudWatch()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def tail(project, clock):
    return following(project, clock)


def following(project, clock, job=JOB, pace=None):
    pace = pace or LogRateLimit(10_000, 10_000, clock)
    return LogTail(project, job, clock=clock, wall=clock, sleep=clock.sleep, pace=pace)


def polled(tail, clock):
    """Return the new lines as soon as a poll is due."""
    clock.sleep(max(0.0, tail.due - clock.now))
    return texts(tail.poll())


def rest_of(tail, clock, ended=0.0):
    """Return the remaining lines of a job that ended `ended` seconds ago."""
    tail.end(replace(JOB, status="Completed", ended=clock.now - ended))
    return texts(tail.drain())


def texts(lines):
    return [(line.host, line.text) for line in lines]


def test_lines_come_once(tail, logs, clock):
    """1. Two lines. 2. Nothing new. 3. One more line, and another host. 4. The rest at the end."""
    logs.write("fit-1/algo-1-123", "one", "two")
    assert polled(tail, clock) == [("algo-1", "one"), ("algo-1", "two")]
    assert polled(tail, clock) == []
    logs.write("fit-1/algo-1-123", "three")
    logs.write("fit-1/algo-2-124", "other")
    assert polled(tail, clock) == [("algo-1", "three"), ("algo-2", "other")]
    logs.write("fit-1/algo-2-124", "last")
    assert rest_of(tail, clock) == [("algo-2", "last")]


class Story:
    """A sequence of events of a log, with the lines that were written and found.

    Args:
        project: The project whose logs are read.
        logs: The log service.
        page: Number of events per page.
    """

    def __init__(self, project, logs, page):
        logs.__init__(page)
        self.clock, self.logs = Clock(), logs
        self.written, self.late, self.found = defaultdict(list), set(), []
        self.tail = following(project, self.clock)

    def happens(self, what, *more):
        getattr(self, what)(*more)

    def write(self, host, count, back=0.0):
        """Write lines within one millisecond, each text twice."""
        before = len(self.written[f"algo-{host}"])
        for number in range(count):
            line = f"{before} {number // 2}"
            self.logs.write(f"fit-1/algo-{host}-1", line, at=self.clock.now - back)
            self.written[f"algo-{host}"].append(line)

    def write_late(self, host, count):
        """Write lines that arrive twenty seconds late."""
        self.write(host, count, back=20.0)
        self.late.add(f"algo-{host}")

    def look(self):
        self.clock.sleep(max(0.0, self.tail.due - self.clock.now))
        self.found += self.tail.poll()

    def pause(self):
        self.clock.sleep(0.2)

    def expire(self):
        self.logs.expire_tokens()

    def gap(self):
        self.logs.empty_pages = 3

    def fail(self, error):
        """Make the request after the next one fail."""
        self.logs.faults += [None, error]

    def end(self, after_the_end):
        """End the job; CloudWatch receives lines for some seconds more."""
        for seconds in after_the_end:
            self.clock.later(seconds, lambda: self.write(1, 1))
        del self.logs.faults[6:]  # a longer failure would make the tail give up
        self.tail.end(replace(JOB, status="Completed", ended=self.clock.now))
        self.found += self.tail.drain()


HOST, COUNT = st.integers(1, 3), st.integers(1, 7)
ERRORS = [client_error("ThrottlingException"), client_error("ExpiredTokenException"), client_error("500"), OUTAGE]
HAPPENINGS = st.one_of(
    st.tuples(st.just("write"), HOST, COUNT),
    st.tuples(st.just("write_late"), HOST, COUNT),
    st.tuples(st.sampled_from(["look", "look", "pause", "pause", "expire", "gap"])),
    st.tuples(st.just("fail"), st.sampled_from(ERRORS)),
)


@example([("write", 1, 2), ("look",), ("write_late", 1, 2)], 3, [])
@given(st.lists(HAPPENINGS, max_size=25), st.integers(1, 5), st.lists(st.integers(0, 3), max_size=8))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
def test_no_line_is_lost_or_doubled(project, logs, happenings, page, after_the_end):
    """No line is lost or read twice, including equal lines of one millisecond.

    Lines that arrive in time are also in order.
    """
    story = Story(project, logs, page)
    for happening in happenings:
        story.happens(*happening)
    story.end(after_the_end)

    assert story.tail.failure is None
    for host, lines in story.written.items():
        got = [line.text for line in story.found if line.host == host]
        assert sorted(got) == sorted(lines)
        assert host in story.late or got == lines
    assert len(story.found) == sum(map(len, story.written.values()))


def test_another_jobs_log_is_not_read(tail, logs, clock):
    """The log of `fit-11` is not part of the log of `fit-1`."""
    logs.write("fit-11/algo-1-1", "other")

    assert rest_of(tail, clock) == []


def test_after_a_spot_interruption_the_host_has_another_stream(tail, logs, clock):
    """The new stream of a host after a spot interruption is found during the job, and its lines follow the others."""
    logs.write("fit-1/algo-1-100", "epoch 1")
    assert polled(tail, clock) == [("algo-1", "epoch 1")]
    logs.write("fit-1/algo-1-200", "epoch 1 again", "epoch 2", at=FIRST + 60)
    clock.sleep(60)

    assert polled(tail, clock) == [("algo-1", "epoch 1 again"), ("algo-1", "epoch 2")]


@pytest.mark.parametrize("error", [client_error("ThrottlingException"), client_error("ExpiredTokenException"), OUTAGE])
def test_a_log_that_cannot_be_read_fails_no_job(tail, logs, clock, error):
    """A failed poll is recorded, and the next poll continues where it stopped."""
    logs.write("fit-1/algo-1-1", "one")
    logs.faults.append(error)
    assert polled(tail, clock) == []
    assert tail.failure
    assert tail.transient

    assert rest_of(tail, clock) == [("algo-1", "one")]
    assert tail.failure is None


def test_expired_credentials_are_renewed(tail, logs, clock, project):
    """Expired credentials cause new clients, as they do for the job itself."""
    logs.faults.append(client_error("ExpiredTokenException"))
    polled(tail, clock)

    assert project.forgotten == 1


def test_a_log_that_is_never_readable_holds_up_no_end(tail, logs, clock):
    """If throttling lasts, the rest of a log is given up after some seconds, with the reason."""
    logs.faults += [client_error("ThrottlingException", "Rate exceeded")] * 1000
    ended = clock.now

    assert rest_of(tail, clock) == []
    assert "Rate exceeded" in tail.failure
    assert clock.now - ended < 15


def test_a_log_that_may_not_be_read_holds_up_nothing(tail, logs, clock):
    """An error that is not transient is retried rarely during the job, and not at its end."""
    logs.faults += [client_error("AccessDeniedException")] * 1000
    for _ in range(20):
        polled(tail, clock)
    assert clock.now - FIRST > 600
    ended = clock.now

    assert rest_of(tail, clock) == []
    assert clock.now == ended
    assert not tail.transient


def test_before_the_first_line_there_is_no_log(tail, clock):
    """The log group is created with the first line, so its absence is not a failure."""
    assert rest_of(tail, clock) == []
    assert tail.failure is None


def test_an_empty_page_is_not_the_end(tail, logs, clock):
    """An empty page is not the end of a log, as the API reference says."""
    logs.empty_pages = 5
    logs.write("fit-1/algo-1-1", "behind the gap")

    assert rest_of(tail, clock) == [("algo-1", "behind the gap")]


def test_empty_pages_without_end_are(tail, logs, clock):
    """A log past its retention has endless empty pages (boto3 issue 4591).

    The tail gives up, and reports a failure.
    """
    logs.empty_pages = 10**9
    logs.write("fit-1/algo-1-1", "out of reach")

    assert rest_of(tail, clock) == []
    assert "empty pages" in tail.failure
    assert clock.now - FIRST < 60


def test_a_silent_job_outlives_its_token(tail, logs, clock):
    """A token that expired after days of silence is replaced, and no line is lost or read twice."""
    logs.write("fit-1/algo-1-1", "one", "two", "two")
    assert len(polled(tail, clock)) == 3
    clock.sleep(3 * 86_400)
    logs.expire_tokens()
    logs.write("fit-1/algo-1-1", "two", at=FIRST)  # another line of the very same millisecond
    logs.write("fit-1/algo-1-1", "three", at=clock.now)

    assert polled(tail, clock) == [("algo-1", "two"), ("algo-1", "three")]


def test_a_deleted_stream_is_reported_and_hides_no_other(tail, logs, clock):
    """A deleted stream of one host is reported, and the other host's stream is read."""
    logs.write("fit-1/algo-1-1", "one")
    logs.write("fit-1/algo-2-1", "two")
    logs.faults = [None, client_error("ResourceNotFoundException"), None]

    assert rest_of(tail, clock, ended=3600) == [("algo-2", "two")]
    assert tail.failure == "its log stream fit-1/algo-1-1 was deleted"


def test_it_is_asked_no_more_often_than_its_age_allows(tail, logs):
    """A second poll before it is due makes no request."""
    list(tail.poll())
    asked = len(logs.asked)

    assert texts(tail.poll()) == []
    assert len(logs.asked) == asked


def test_a_silent_job_is_asked_about_rarely(tail, logs, clock):
    """After ten minutes of silence a log is polled twice a minute, also for new streams.

    A new line makes polls frequent again.
    """
    logs.write("fit-1/algo-1-1", "one")
    while clock.now < FIRST + 3600:
        polled(tail, clock)
    logs.asked.clear()
    while clock.now < FIRST + 7200:
        polled(tail, clock)
    assert logs.asked.count("get") <= 125
    assert logs.asked.count("describe") <= 125
    logs.write("fit-1/algo-1-1", "two", at=clock.now)
    assert polled(tail, clock) == [("algo-1", "two")]

    assert tail.due - clock.now <= 5.0


@pytest.mark.parametrize("seconds", [1, 4, 6])
def test_late_lines_are_waited_for(tail, logs, clock, seconds):
    """Lines that CloudWatch receives some seconds after the job's end are read. More lines prolong the wait."""
    logs.write("fit-1/algo-1-1", "one")
    clock.later(4, lambda: logs.write("fit-1/algo-1-1", "late"))
    clock.later(seconds, lambda: logs.write("fit-1/algo-1-1", "later"))

    assert sorted(rest_of(tail, clock)) == [("algo-1", "late"), ("algo-1", "later"), ("algo-1", "one")]
    assert clock.now - FIRST <= 10


def test_a_job_that_ended_long_ago_is_not_waited_for(tail, logs, clock):
    """The log of a job that ended long ago is read once, without waiting and without extra requests."""
    logs.write("fit-1/algo-1-1", "one")

    assert rest_of(tail, clock, ended=3600) == [("algo-1", "one")]
    assert clock.now == FIRST
    assert logs.asked == ["describe", "get", "get"]


def test_jobs_share_the_rate_limit_of_their_account(project, logs, clock):
    """Forty ended jobs share 20 requests a second, after a burst of 20."""
    pace = LogRateLimit(8, 20, clock)
    for number in range(40):
        logs.write(f"fit-{number}/algo-1-1", "one")
        job = Job(TRAINING, f"fit-{number}", "arn", "Completed")
        assert texts(following(project, clock, job, pace).drain()) == [("algo-1", "one")]

    assert clock.now - FIRST >= (len(logs.asked) - 20) / 20 - 0.5


def test_running_jobs_leave_some_of_the_rate(project, logs, clock):
    """An ended job is read at once, although running jobs have used up their share."""
    pace = LogRateLimit(8, 20, clock)
    while pace.try_acquire(urgent=False):
        pass
    tail = following(project, clock, pace=pace)
    logs.write("fit-1/algo-1-1", "one")

    assert rest_of(tail, clock, ended=3600) == [("algo-1", "one")]
    assert clock.now == FIRST


def test_accounts_do_not_share_a_rate_limit(project, block):
    """Projects of one account and region share a rate limit; another region has its own."""
    elsewhere = block.model_copy(update={"region": "eu-west-1"})
    beside = block.model_copy(update={"project": "other"})

    assert log_rate_limit_of(project) is log_rate_limit_of(beside)
    assert log_rate_limit_of(project) is not log_rate_limit_of(elsewhere)


def test_all_lines_in_the_order_of_their_time(project, logs, clock):
    """`whole` returns the lines of all hosts sorted by time, for metrics of a finished job."""
    logs.write("fit-1/algo-1-1", "a")
    logs.write("fit-1/algo-1-1", "c", at=FIRST + 1)
    logs.write("fit-1/algo-2-1", "b", at=FIRST + 0.5)

    assert [line.text for line in following(project, clock).all_lines()] == ["a", "b", "c"]


def test_metrics_of_a_log_that_cannot_be_read_are_not_none(project, logs):
    """If the log cannot be read, the reason is given beside the empty metrics."""
    logs.write("fit-1/algo-1-1", "auc=0.5")
    patterns = {"auc": "auc=(.*)"}
    logs.faults.append(client_error("AccessDeniedException"))
    unread = metrics_from_log(Backend(project), replace(JOB, status="Completed"), patterns)
    read = metrics_from_log(Backend(project), replace(JOB, status="Completed"), patterns)

    assert (unread.last, bool(unread.unread)) == ({}, True)
    assert (read.last, read.unread) == ({"auc": 0.5}, None)
