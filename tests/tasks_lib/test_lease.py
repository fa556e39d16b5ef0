"""The lease on a state directory: it ends with its holder's job and needs no renewal."""

import datetime as dt

import pytest

from tasks_lib.aws.objects import Objects
from tasks_lib.jobs.kinds import PROCESSING, TRAINING
from tasks_lib.ledger.state_directory import TAKE_OVER_AFTER, Holder, Lease

MINE, THEIRS = Holder("fit-a-1", "a" * 64, TRAINING), Holder("fit-b-1", "b" * 64, PROCESSING)


class LaterObjects(Objects):
    """S3 whose clock is ahead of its objects' time stamps."""

    later = dt.timedelta()

    def ages(self, prefix):
        return {name: age + self.later for name, age in super().ages(prefix).items()}


def nobody():
    """Return None: no job of the task is running."""


@pytest.fixture
def objects(block):
    return LaterObjects(block)


@pytest.fixture
def jobs():
    """Whether each job is over (True) or running (False), as SageMaker says; missing jobs are unknown."""
    return {}


@pytest.fixture
def lease(objects, ledger, jobs):
    return Lease(objects, ledger.folder, lambda holder: jobs.get(holder.job), nobody)


def test_the_first_one_takes_it(lease):
    """A free lease is taken, and read back with its holder."""
    assert lease.holder() is None
    assert lease.acquire(MINE) == MINE == lease.holder()


def test_the_holder_can_take_its_lease_again(lease, jobs):
    """Another process with the same work has the same job, so both hold the lease."""
    lease.acquire(MINE)
    jobs[MINE.job] = False

    assert lease.acquire(MINE) == MINE


def test_a_running_job_keeps_its_state(lease, jobs, objects):
    """The lease of a running job is kept, however long it runs."""
    lease.acquire(THEIRS)
    jobs[THEIRS.job] = False
    objects.later = dt.timedelta(days=28)

    assert lease.acquire(MINE) == THEIRS == lease.holder()


def test_a_job_that_is_over_holds_nothing(lease, jobs):
    """The lease of a job that is over can be taken at once."""
    lease.acquire(THEIRS)
    jobs[THEIRS.job] = True

    assert lease.acquire(MINE) == MINE == lease.holder()


@pytest.mark.parametrize(("seconds", "taken"), [(0, False), (-600, False), (14 * 60, False), (16 * 60, True)])
def test_a_holder_that_sagemaker_does_not_know(lease, objects, seconds, taken):
    """The job of the holder may not have been created yet; after 15 minutes the lease can be taken over."""
    lease.acquire(THEIRS)
    objects.later = dt.timedelta(seconds=seconds)

    assert lease.acquire(MINE) == (MINE if taken else THEIRS)
    assert dt.timedelta(minutes=15) == TAKE_OVER_AFTER


def test_of_two_that_see_it_free_one_gets_it(objects, ledger, jobs):
    """1. Two callers see a holder that is over. 2. One takes the lease first. 3. The other is told the new holder."""
    Lease(objects, ledger.folder, jobs.get, nobody).acquire(THEIRS)
    third = Holder("fit-c-1", "c" * 64, TRAINING)

    def over_but_taken_meanwhile(holder):
        if holder == THEIRS:
            Lease(objects, ledger.folder, lambda _: True, nobody).acquire(third)
            return True
        return None  # the third job is not yet in SageMaker

    assert Lease(objects, ledger.folder, over_but_taken_meanwhile, nobody).acquire(MINE) == third
    assert Lease(objects, ledger.folder, jobs.get, nobody).holder() == third


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[]", b"{}", b'{"job": "fit-1"}'),
        b'{"job": 3, "fingerprint": "a", "kind": "training"}',
        b'{"job": "fit-1", "fingerprint": "a", "kind": "baking"}',
    ],
)
def test_a_damaged_lease_is_held_by_the_running_job(objects, ledger, body):
    """A damaged lease does not count as free: the running job of the task holds it.

    If no job is running, it can be taken.
    """
    objects.put(ledger.folder.lease, body)
    live = [THEIRS]
    lease = Lease(objects, ledger.folder, lambda holder: False, lambda: live[0] if live else None)

    assert lease.acquire(MINE) == THEIRS == lease.holder()
    live.clear()
    assert lease.acquire(MINE) == MINE == lease.holder()


def test_a_lease_that_was_not_written_is_not_held(objects, ledger):
    """1. A holder is over. 2. Its lease is deleted meanwhile. 3. The caller writes it again, or does not hold it."""
    place = ledger.folder.lease
    Lease(objects, ledger.folder, lambda _: True, nobody).acquire(THEIRS)

    def over_and_deleted(_):
        objects.delete(place)
        return True

    lease = Lease(objects, ledger.folder, over_and_deleted, nobody)

    assert lease.acquire(MINE) == lease.holder()


def test_a_lease_that_is_given_back_is_free(lease, objects, ledger):
    """A lease that is given back is free at once, although SageMaker does not know the job."""
    lease.acquire(THEIRS)
    lease.release(THEIRS)

    assert lease.holder() is None
    assert lease.acquire(MINE) == MINE == lease.holder()


def test_only_the_holder_gives_back_its_lease(lease, jobs):
    """Only the holder can give back a lease: other work may have taken it over."""
    lease.acquire(THEIRS)
    lease.release(MINE)

    assert lease.holder() == THEIRS


def test_a_lost_lease_is_held_by_the_running_job(objects, ledger):
    """1. A job writes the state. 2. Its lease is deleted. 3. Other work waits for that job.

    A new task does not ask SageMaker.
    """
    asked = []
    lease = Lease(objects, ledger.folder, lambda holder: False, lambda: asked.append(1) or THEIRS)
    assert lease.holder() is None
    assert not asked

    objects.put(ledger.folder.entry("b" * 64), b"{}")

    assert lease.acquire(MINE) == THEIRS
