"""The watcher of all jobs of a process: few requests, no false ends, and no waiter is forgotten."""

import itertools
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from types import SimpleNamespace

import botocore.exceptions
import pytest
from aws_doubles import FIRST, ProjectDouble, SageMakerDouble, client_error, make_block
from prefect_aws import AwsCredentials

from tasks_lib.aws.watch import MAX_DESCRIBED, Watcher, watcher_of
from tasks_lib.errors import AccessDenied, PrefectSageMakerError, ServiceFault
from tasks_lib.jobs.job import Job
from tasks_lib.jobs.kinds import KINDS, TRAINING

LONG = 60  # seconds; a test waits this long only if it fails


class Leaping:
    """A clock that advances at every call, so that waits are short."""

    def __init__(self, step=0.1):
        self._count, self._step = itertools.count(), step

    def __call__(self):
        return next(self._count) * self._step


class Standing:
    """A clock that only a test advances."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def job(name, *, kind=TRAINING, created=FIRST, status="InProgress"):
    return Job(kind, name, f"arn:{name}", status, created=created)


def account(clock):
    """Return a SageMaker double and a project that uses it."""
    sagemaker = SageMakerDouble(clock=clock)
    return sagemaker, ProjectDouble(SimpleNamespace(is_local=False, events_queue_url=None), sagemaker=sagemaker)


def filled(sagemaker, count, **more):
    """Add running jobs to the account, and return them as Describe would."""
    for number in range(count):
        sagemaker.add(f"job-{number}", **more)
    kind = KINDS[more.get("kind", "Training").lower()]
    return [job(f"job-{number}", kind=kind) for number in range(count)]


def watching(watcher, jobs):
    """Watch many jobs at once; return the stack and the waiters."""
    stack = ExitStack()
    return stack, [stack.enter_context(watcher.watching(one)) for one in jobs]


def test_few_jobs_are_described():
    """Few jobs are described and not listed, because the quota of listings is shared by the whole account."""
    sagemaker, project = account(Leaping())
    jobs = filled(sagemaker, MAX_DESCRIBED)
    stack, watched = watching(Watcher(project, Leaping()), jobs)
    with stack:
        sagemaker.wait_for("describe", 3 * MAX_DESCRIBED)
        for one in jobs:
            sagemaker.end(one.name)
        assert all(one.wait(LONG) for one in watched)

    assert {one.job.status for one in watched} == {"Completed"}
    assert sagemaker.count("list") == 0


def pass_time(watcher, clock, seconds, *, steps):
    """Advance a standing clock in steps, and wake the watcher each time with a short-lived waiter."""
    for _ in range(steps):
        clock.now += seconds / steps
        with watcher.watching(job("job-0")):
            time.sleep(0.01)  # `wait` would not pause after the job's end


def test_many_jobs_are_listed_and_their_end_confirmed():
    """Many jobs are listed; one Describe confirms an end, and running jobs are not described."""
    clock = Standing()
    sagemaker, project = account(clock)
    watcher = Watcher(project, clock)
    stack, watched = watching(watcher, filled(sagemaker, MAX_DESCRIBED + 5))
    with stack:
        sagemaker.wait_for("list", 1)
        sagemaker.end("job-3", "Failed", FailureReason="AlgorithmError")
        while not watched[3].wait(0):
            pass_time(watcher, clock, 0.5, steps=1)
        pass_time(watcher, clock, 10, steps=5)

        assert (watched[3].job.status, watched[3].job.reason) == ("Failed", "AlgorithmError")
        assert not watched[4].wait(0)
        assert sagemaker.count("describe") <= MAX_DESCRIBED + 1  # those of the first few jobs, and the confirmation


@pytest.mark.parametrize("kind", ["Training", "Processing"])
def test_five_hundred_jobs(kind):
    """1. 500 jobs are listed in pages of a hundred, and none is described. 2. All end.

    3. Each waiter learns of it after one Describe.
    """
    sagemaker, project = account(Leaping())
    jobs = filled(sagemaker, 500, kind=kind)
    stack, watched = watching(Watcher(project, Leaping(3)), jobs)
    with stack:
        for _ in range(20):  # until all are listed, and no earlier Describe is in progress
            before = sagemaker.count("describe")
            sagemaker.wait_for("list", sagemaker.count("list") + 10)
        assert sagemaker.count("describe") == before
        for one in jobs:
            sagemaker.end(one.name, kind=kind)
        assert all(one.wait(LONG) for one in watched)

    assert sagemaker.count("describe") - before <= 500


@pytest.mark.parametrize("count", [20, 120, 500])
def test_requests_do_not_grow_with_time(count):
    """1.

    Ten of the jobs are described at first. 2. In a minute there are 30 listings. 3. Each end costs one Describe.
    """
    clock = Standing()
    sagemaker, project = account(clock)
    # Start with the newest job: an old one that is watched alone is on no early page, and would be described.
    fresh = [replace(one, created=0.0) for one in reversed(filled(sagemaker, count))]
    watcher = Watcher(project, clock, wall_clock=lambda: FIRST)
    stack, watched = watching(watcher, fresh)
    with stack:
        sagemaker.wait_for("list", 1)
        pass_time(watcher, clock, 60, steps=120)
        before = sagemaker.count("describe")
        assert before <= MAX_DESCRIBED  # from the time with few jobs
        assert 1 <= sagemaker.count("list") <= 31
        for one in fresh:
            sagemaker.end(one.name)
        while not all(one.wait(0) for one in watched):
            pass_time(watcher, clock, 0.5, steps=1)

    assert sagemaker.count("describe") - before == count
    assert sagemaker.count("list") <= 2 + (clock.now - 100) / 2


@pytest.mark.parametrize("others", [1, 2, MAX_DESCRIBED])
def test_a_describe_that_hangs_delays_no_other_job(others):
    """1. A Describe of one job hangs. 2. Waiters for others come one by one and see their ends. 3. It answers."""
    sagemaker, project = account(Leaping())
    first, *later = filled(sagemaker, 1 + others, status="Completed")
    asked, answers, describe = threading.Event(), threading.Event(), sagemaker.describe_training_job

    def hanging(**request):
        if request["TrainingJobName"] == first.name:
            asked.set()
            answers.wait(LONG)
        return describe(**request)

    sagemaker.describe_training_job = hanging
    watcher = Watcher(project, Leaping())
    with watcher.watching(first) as silent:
        try:
            assert asked.wait(LONG)
            for one in later:
                with watcher.watching(one) as watched:
                    assert watched.wait(LONG / 2)
            assert not silent.wait(0)
        finally:
            answers.set()
        assert silent.wait(LONG)


def test_waiters_for_one_job_cost_one_describe():
    """Twenty waiters for one job cost one Describe."""
    clock = Standing()
    sagemaker, project = account(clock)
    sagemaker.add("job-0", status="Completed")
    stack, watched = watching(Watcher(project, clock), [job("job-0")] * 20)
    with stack:
        assert all(one.wait(LONG) for one in watched)

    assert sagemaker.count("describe") == 1


def test_listings_are_two_seconds_apart():
    """Listings of any page and kind are at least two seconds apart, as the account's quota is two requests a second."""
    clock = Standing()
    sagemaker, project = account(clock)
    jobs = filled(sagemaker, 250) + filled(sagemaker, 20, kind="Processing")
    sagemaker.add("guest")
    watcher = Watcher(project, clock)
    stack, _ = watching(watcher, jobs)
    with stack:
        for number in range(1, 7):
            while sagemaker.count("list") < number:  # a new waiter wakes the watcher
                with watcher.watching(job("guest")) as guest:
                    guest.wait(0.01)
            clock.now += 2.1
    times = sagemaker.times("list")

    assert all(later - earlier >= 2.0 for earlier, later in itertools.pairwise(times))


def test_a_short_lived_waiter_causes_no_listing():
    """1. A listing. 2. Twenty waiters come and go while the clock stands. 3. It moves on: one listing, not twenty."""
    clock = Standing()
    sagemaker, project = account(clock)
    watcher = Watcher(project, clock)
    stack, _ = watching(watcher, filled(sagemaker, MAX_DESCRIBED + 2))
    sagemaker.add("guest")
    with stack:
        sagemaker.wait_for("list", 1)
        for _ in range(20):
            with watcher.watching(job("guest")) as guest:
                guest.wait(0.01)
        clock.now += 2.5
        with watcher.watching(job("guest")):
            sagemaker.wait_for("list", 2)

    assert sagemaker.count("list") == 2


def test_a_short_lived_waiter_does_not_end_a_back_off():
    """While AWS throttles, a new waiter does not cause a request before the back-off ends."""
    clock = Standing()
    sagemaker, project = account(clock)
    watcher = Watcher(project, clock)
    sagemaker.add("job-0")
    sagemaker.fail("describe", client_error("ThrottlingException"), client_error("ThrottlingException"))
    with watcher.watching(job("job-0")) as watched:
        sagemaker.wait_for("describe", 1)
        for _ in range(20):
            with watcher.watching(job("job-0")) as guest:
                guest.wait(0.01)
        assert sagemaker.count("describe") == 1
        clock.now += 5
        with watcher.watching(job("job-0")):
            sagemaker.wait_for("describe", 2)
        sagemaker.end("job-0")
        while not watched.wait(0):  # the watcher may handle the error some time after it was raised
            pass_time(watcher, clock, 50, steps=1)


PASSING = {
    "throttling": client_error("ThrottlingException", "Rate exceeded"),
    "fault": client_error("InternalFailure"),
    "by number": client_error("503"),
    "no connection": botocore.exceptions.EndpointConnectionError(endpoint_url="https://x"),
    "time out": botocore.exceptions.ReadTimeoutError(endpoint_url="https://x"),
    "closed": botocore.exceptions.ConnectionClosedError(endpoint_url="https://x"),
    "expired": client_error("ExpiredTokenException", "The security token is expired"),
}


@pytest.mark.parametrize("count", [1, MAX_DESCRIBED + 1])
def test_a_transient_error_fails_no_waiter(count):
    """Throttling, faults, lost responses and expired credentials are retried, and the job's end is seen."""
    with ExitStack() as stack:
        waiting = []
        for error in PASSING.values():
            sagemaker, project = account(Leaping())
            jobs = filled(sagemaker, count)
            for one in jobs:
                sagemaker.end(one.name)
            sagemaker.fail("describe", error, error)
            sagemaker.fail("list", error)
            more, watched = watching(Watcher(project, Leaping(3)), jobs)
            stack.enter_context(more)
            waiting.append((watched, project))
        for watched, _ in waiting:
            assert all(one.wait(LONG) for one in watched)
            assert {one.job.status for one in watched} == {"Completed"}
        renewed = [project.forgotten for _, project in waiting]

    assert renewed[:-1] == [0] * (len(PASSING) - 1)
    assert renewed[-1] >= 1


@pytest.mark.parametrize("count", [2, MAX_DESCRIBED + 5])
def test_a_refusal_reaches_all(count):
    """If requests are denied, every waiter gets the error at once."""
    sagemaker, project = account(Standing())
    refusal = [client_error("AccessDeniedException", "not authorized to perform")] * 1000
    sagemaker.fail("describe", *refusal)
    sagemaker.fail("list", *refusal)
    stack, watched = watching(Watcher(project, Leaping(3)), filled(sagemaker, count))
    with stack:
        for one in watched:
            with pytest.raises(AccessDenied, match="not authorized"):
                one.wait(LONG)


def test_a_refusal_of_one_job_is_its_waiters_alone():
    """1. Describing one job is denied. 2. Its waiter gets the error, and a waiter for another job sees its end."""
    sagemaker, project = account(Leaping())
    jobs, describe = filled(sagemaker, 2), sagemaker.describe_training_job

    def refusing(**request):
        if request["TrainingJobName"] == "job-0":
            raise client_error("AccessDeniedException", "not authorized to perform")
        return describe(**request)

    sagemaker.describe_training_job = refusing
    stack, (refused, other) = watching(Watcher(project, Leaping()), jobs)
    with stack:
        with pytest.raises(AccessDenied):
            refused.wait(LONG)
        sagemaker.end(jobs[1].name)
        assert other.wait(LONG)


def test_jobs_are_described_if_listing_is_denied():
    """If listing is denied, the jobs are described, which costs more requests."""
    sagemaker, project = account(Leaping())
    jobs = filled(sagemaker, MAX_DESCRIBED + 5)
    sagemaker.fail("list", *[client_error("AccessDeniedException", "not authorized to perform")] * 1000)
    stack, watched = watching(Watcher(project, Leaping(3)), jobs)
    with stack:
        sagemaker.wait_for("list", 1)
        for one in jobs:
            sagemaker.end(one.name)
        assert all(one.wait(LONG) for one in watched)

    assert sagemaker.count("list") == 1


def test_a_deleted_job_is_an_error():
    """A deleted job is an error with its name for its waiter, and other waiters continue."""
    sagemaker, project = account(Leaping())
    sagemaker.add("here")
    watcher = Watcher(project, Leaping())
    with watcher.watching(job("gone")) as gone, watcher.watching(job("here")) as here:
        with pytest.raises(ServiceFault, match="no longer knows the job gone") as caught:
            gone.wait(LONG)
        assert caught.value.fix
        sagemaker.end("here")
        assert here.wait(LONG)


def test_a_bug_reaches_the_waiters():
    """An unexpected exception in the watcher is raised in the waiters, which would otherwise wait forever."""
    sagemaker, project = account(Leaping())
    sagemaker.add("job")
    sagemaker.fail("describe", ZeroDivisionError("a bug"))
    with Watcher(project, Leaping()).watching(job("job")) as watched, pytest.raises(PrefectSageMakerError) as caught:
        watched.wait(LONG)

    assert "ZeroDivisionError: a bug" in caught.value.message
    assert caught.value.fix


def watchers():
    return {thread for thread in threading.enumerate() if thread.name == "sagemaker-watcher"}


def test_the_thread_ends_with_the_last_waiter():
    """The thread ends with the last waiter, and a new one starts with the next."""
    sagemaker, project = account(Leaping())
    sagemaker.add("job")
    before, watcher = watchers(), Watcher(project, Leaping())
    for _ in range(2):
        with watcher.watching(job("job")) as watched:
            (thread,) = watchers() - before
            assert not watched.wait(0)
        thread.join(LONG)
        assert not thread.is_alive()


def test_waiters_that_come_while_the_thread_goes_are_not_forgotten():
    """A waiter that comes while the thread ends sees its job's end, two hundred times in a row."""
    sagemaker, project = account(Leaping())
    sagemaker.add("job", status="Completed")
    watcher = Watcher(project, Leaping())
    for _ in range(200):
        with watcher.watching(job("job")) as watched:
            assert watched.wait(LONG)


def test_a_terminal_status_of_the_past_is_confirmed():
    """A terminal status that a waiter brings along is not trusted: only SageMaker's current answer ends the wait."""
    sagemaker, project = account(Leaping())
    sagemaker.add("job", status="Failed", FailureReason="now")
    with Watcher(project, Leaping()).watching(job("job", status="Completed")) as watched:
        assert watched.wait(LONG)

    assert (watched.job.status, watched.job.reason) == ("Failed", "now")


def test_a_crowded_account():
    """With thousands of newer jobs, at most as many pages as watched jobs are read, and then the jobs are described."""
    sagemaker, project = account(Leaping())
    jobs = filled(sagemaker, MAX_DESCRIBED + 1, status="Completed")
    for number in range(3000):
        sagemaker.add(
            f"other-{number}", CreationTime=sagemaker.jobs["Training", "job-0"]["CreationTime"].replace(year=2030)
        )
    stack, watched = watching(Watcher(project, Leaping(3)), jobs)
    with stack:
        assert all(one.wait(LONG) for one in watched)

    assert sagemaker.count("list") <= MAX_DESCRIBED + 1


def test_a_crowded_account_delays_no_waiter():
    """With thousands of newer jobs the ends are seen within ten seconds, as describing eleven jobs takes one second."""
    clock = Standing()
    sagemaker, project = account(clock)
    jobs = filled(sagemaker, MAX_DESCRIBED + 1)
    newer = sagemaker.jobs["Training", "job-0"]["CreationTime"].replace(year=2030)
    for number in range(3000):
        sagemaker.add(f"other-{number}", CreationTime=newer)
    watcher = Watcher(project, clock)
    stack, watched = watching(watcher, jobs)
    with stack:
        sagemaker.wait_for("list", 1)
        for one in jobs:
            sagemaker.end(one.name)
        pass_time(watcher, clock, 10, steps=20)
        assert all(one.wait(LONG) for one in watched)  # although the clock stands from now on


@pytest.mark.parametrize("others", [0, MAX_DESCRIBED + 1])
def test_two_waiters_for_one_job_both_see_its_end(others):
    """Two waiters for one job both see its end, whether it is described or listed."""
    sagemaker, project = account(Leaping())
    jobs = filled(sagemaker, others + 1)
    stack, watched = watching(Watcher(project, Leaping(3)), [jobs[0], *jobs])
    with stack:
        sagemaker.wait_for("list" if others else "describe", 2)
        sagemaker.end("job-0")
        assert [one.wait(LONG) for one in watched[:2]] == [True, True]


def test_a_wait_ends_in_time():
    """A wait with a timeout returns False, and the job is still watched."""
    sagemaker, project = account(Leaping())
    sagemaker.add("job")
    with Watcher(project, Leaping()).watching(job("job")) as watched:
        assert watched.wait(0.01) is False
        sagemaker.end("job")
        assert watched.wait(LONG) is True


def test_one_watcher_for_one_account():
    """Projects with the same account, region, credentials and queue share a watcher; others have their own."""
    queue = "https://sqs.us-east-1.amazonaws.com/123456789012/jobs"
    other = AwsCredentials(aws_access_key_id="other", aws_secret_access_key="secret")

    assert watcher_of(make_block()) is watcher_of(make_block(project="another"))
    assert watcher_of(make_block()) is not watcher_of(make_block(region="eu-west-1"))
    assert watcher_of(make_block()) is not watcher_of(make_block(events_queue_url=queue))
    assert watcher_of(make_block()) is not watcher_of(make_block(credentials=other))


def test_a_local_sagemaker_is_started_again():
    """If the local SageMaker was killed, the project is woken and starts it again, so that the wait ends."""
    sagemaker, project = account(Leaping())
    project.is_local = True
    sagemaker.add("job", status="Completed")
    sagemaker.fail("describe", botocore.exceptions.EndpointConnectionError(endpoint_url="http://127.0.0.1:1"))
    with Watcher(project, Leaping(3)).watching(job("job")) as watched:
        assert watched.wait(LONG)

    assert project.woken == 1
