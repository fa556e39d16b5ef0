"""Heartbeats: a waiter that leaves a job knows whether others still wait for it."""

import datetime as dt
from contextlib import ExitStack, contextmanager
from itertools import permutations

import pytest
from aws_doubles import BUCKET

from tasks_lib.aws.objects import Objects
from tasks_lib.errors import ServiceFault
from tasks_lib.jobs.s3_layout import Location
from tasks_lib.ledger.heartbeats import Heartbeat


def heartbeat(objects, ledger, waiter, job="fit-a-1"):
    return Heartbeat(objects, ledger.folder, job, waiter)


@contextmanager
def declared(mine):
    """Wait inside the block, as an execution does during its whole call."""
    mine.start()
    try:
        yield mine
    finally:
        mine.end()


def heartbeats(objects):
    return [name for name, _ in objects.listing(Location(BUCKET, "demo/fit/_ledger/interest/"))]


def test_no_other_waiter(objects, ledger):
    """The waiter's own heartbeat does not count, and it is deleted."""
    with declared(heartbeat(objects, ledger, "flow/task")) as mine:
        assert heartbeats(objects) == ["fit-a-1/flow/task"]
        assert mine.leave() == []
        assert heartbeats(objects) == []


def test_others_are_seen(objects, ledger):
    """Waiters of other flow runs and of other task runs count; those of another job do not."""
    with ExitStack() as stack:
        for waiter in ("flow-2/task-1", "flow-1/task-2"):
            stack.enter_context(declared(heartbeat(objects, ledger, waiter)))
        stack.enter_context(declared(heartbeat(objects, ledger, "flow-3/task", job="fit-a-11")))
        mine = stack.enter_context(declared(heartbeat(objects, ledger, "flow-1/task-1")))

        assert mine.leave() == ["flow-1/task-2", "flow-2/task-1"]


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_last_one_to_leave_knows_it(objects, ledger, order):
    """In any order of leaving, each waiter learns how many remain, so exactly one is the last."""
    with ExitStack() as stack:
        waiting = [stack.enter_context(declared(heartbeat(objects, ledger, f"flow/0-{number}"))) for number in range(3)]
        told = [len(waiting[number].leave()) for number in order]

    assert told == [2, 1, 0]


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_a_waiter_that_leaves_has_no_heartbeat(objects, ledger, error):
    """A waiter deletes its heartbeat, also if it ends with an error."""
    try:
        with declared(heartbeat(objects, ledger, "flow/task")):
            if error:
                raise error
    except (ValueError, KeyboardInterrupt):
        pass

    assert heartbeats(objects) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, ServiceFault("lost")])
def test_a_heartbeat_whose_write_was_interrupted_is_deleted(objects, ledger, monkeypatch, error):
    """A heartbeat is deleted also if its write was interrupted, since S3 may have written it."""
    put = objects.put

    def cut_off(*arguments):
        put(*arguments)
        raise error

    monkeypatch.setattr(objects, "put", cut_off)
    mine = heartbeat(objects, ledger, "flow/task")
    with pytest.raises((KeyboardInterrupt, ServiceFault)):
        mine.start()
    mine.end()

    assert heartbeats(objects) == []


def test_a_killed_process_leaves_its_heartbeat(objects, ledger):
    """A killed process leaves its heartbeat, so the job is kept for a later run. The reaper finds expired ones."""
    objects.put(ledger.folder.ledger.below("interest/fit-a-1/flow-1/task"), b"")

    with declared(heartbeat(objects, ledger, "flow-2/task")) as mine:
        assert mine.leave() == ["flow-1/task"]


def test_an_earlier_try_of_the_same_flow_run_waits_no_more(objects, ledger):
    """1.

    A flow run is killed. 2. Its retry is cancelled: the heartbeat of the first try does not keep the job running.
    """
    objects.put(ledger.folder.ledger.below("interest/fit-a-1/flow-1/1-task"), b"")
    objects.put(ledger.folder.ledger.below("interest/fit-a-1/flow-1/2-another"), b"")

    with declared(heartbeat(objects, ledger, "flow-1/2-task")) as mine:
        assert mine.leave() == ["flow-1/2-another"]


def test_a_job_that_was_left_is_kept_until_it_is_taken_over(objects, ledger):
    """With `on_exit="leave"` a later waiter that is cancelled does not stop the job, but one that takes it over may."""
    heartbeat(objects, ledger, "flow-1/1-task").leave_running()
    with declared(heartbeat(objects, ledger, "flow-2/1-task")) as other:
        assert other.leave() == ["left/flow-1"]
    adopter = heartbeat(objects, ledger, "flow-3/1-task")
    adopter.take_over()

    assert adopter.leave() == []


def test_an_announced_stop_is_seen_and_can_be_taken_back(objects, ledger):
    """An announced stop is visible to all, and only the waiter that announced it can withdraw it."""
    one, other = heartbeat(objects, ledger, "flow-1/1-task"), heartbeat(objects, ledger, "reaper/1")
    one.announce_stop()
    other.announce_stop()
    other.withdraw_stop()

    assert other.stop_was_announced()
    one.withdraw_stop()
    assert not other.stop_was_announced()


class LaterObjects(Objects):
    """S3 at a later time than that of the writes."""

    later = dt.timedelta()

    def ages(self, prefix):
        return {name: age + self.later for name, age in super().ages(prefix).items()}


@pytest.mark.parametrize(("minutes", "counts"), [(14, True), (16, False)])
def test_the_heartbeat_of_a_killed_process_expires(block, ledger, minutes, counts):
    """A heartbeat expires after 15 minutes, so that a crash does not keep later cancellations from stopping the job."""
    objects = LaterObjects(block)
    objects.put(ledger.folder.ledger.below("interest/fit-a-1/flow-1/task"), b"")
    objects.later = dt.timedelta(minutes=minutes)

    assert heartbeat(objects, ledger, "flow-2/task").waiting() == (["flow-1/task"] if counts else [])


def test_a_waiter_renews_its_heartbeat(objects, ledger):
    """A waiter renews its heartbeat at most every five minutes, however often `renew` is called."""
    now, writes = [0.0], []

    class Counted(Objects):
        def put(self, place, *rest):
            writes.append(now[0])
            super().put(place, *rest)

    counted = Counted(objects._project)
    with declared(Heartbeat(counted, ledger.folder, "fit-a-1", "flow/task", clock=lambda: now[0])) as mine:
        for now[0] in (0.0, 10.0, 299.0, 300.0, 301.0, 599.0, 600.0, 2000.0):
            mine.renew()

    assert writes == [0.0, 300.0, 600.0, 2000.0]


def test_a_heartbeat_that_cannot_be_written_ends_no_wait(objects, ledger):
    """If S3 fails, the heartbeat is tried again after a minute, and the wait continues."""
    now, tries = [0.0], []

    class Refusing(Objects):
        def put(self, place, *rest):
            tries.append(now[0])
            if 300.0 <= now[0] < 400.0:
                raise ServiceFault("S3 is away.")
            super().put(place, *rest)

    with declared(
        Heartbeat(Refusing(objects._project), ledger.folder, "fit-a-1", "flow/task", clock=lambda: now[0])
    ) as mine:
        for now[0] in (0.0, 300.0, 301.0, 359.0, 360.0, 400.0, 420.0, 500.0):
            mine.renew()

    assert tries == [0.0, 300.0, 360.0, 420.0]
