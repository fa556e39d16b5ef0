"""The lease on a state directory: whose job is over lets go, and nobody has to renew anything."""

import datetime as dt

import pytest

from tasks_lib.aws.objects import Objects
from tasks_lib.jobs.kinds import PROCESSING, TRAINING
from tasks_lib.ledger.state_directory import TAKE_OVER_AFTER, Holder, Lease

MINE, THEIRS = Holder("fit-a-1", "a" * 64, TRAINING), Holder("fit-b-1", "b" * 64, PROCESSING)


class LaterObjects(Objects):
    """S3 whose clock is ahead of the stamps on its objects."""

    later = dt.timedelta()

    def ages(self, prefix):
        return {name: age + self.later for name, age in super().ages(prefix).items()}


def nobody():
    """No job of the task is live."""


@pytest.fixture
def objects(block):
    return LaterObjects(block)


@pytest.fixture
def jobs():
    """What SageMaker says of each job: over (True), live (False), or unknown."""
    return {}


@pytest.fixture
def lease(objects, ledger, jobs):
    return Lease(objects, ledger.folder, lambda holder: jobs.get(holder.job), nobody)


def test_the_first_one_takes_it(lease):
    """And is read back as its holder."""
    assert lease.holder() is None
    assert lease.take(MINE) == MINE == lease.holder()


def test_taking_ones_own_lease_again_is_fine(lease, jobs):
    """Another process with the same work has the same job: both hold it."""
    lease.take(MINE)
    jobs[MINE.job] = False

    assert lease.take(MINE) == MINE


def test_a_live_job_keeps_its_state(lease, jobs, objects):
    """However long it runs."""
    lease.take(THEIRS)
    jobs[THEIRS.job] = False
    objects.later = dt.timedelta(days=28)

    assert lease.take(MINE) == THEIRS == lease.holder()


def test_a_job_that_is_over_holds_nothing(lease, jobs):
    """At once."""
    lease.take(THEIRS)
    jobs[THEIRS.job] = True

    assert lease.take(MINE) == MINE == lease.holder()


@pytest.mark.parametrize(("seconds", "taken"), [(0, False), (-600, False), (14 * 60, False), (16 * 60, True)])
def test_a_holder_that_sagemaker_does_not_know(lease, objects, seconds, taken):
    """It may be about to be created; after 15 minutes it may be taken over."""
    lease.take(THEIRS)
    objects.later = dt.timedelta(seconds=seconds)

    assert lease.take(MINE) == (MINE if taken else THEIRS)
    assert dt.timedelta(minutes=15) == TAKE_OVER_AFTER


def test_of_two_that_see_it_free_one_gets_it(objects, ledger, jobs):
    """1. Both see a holder that is over. 2. While one looks, the other takes it. 3. The first is told who has it."""
    Lease(objects, ledger.folder, jobs.get, nobody).take(THEIRS)
    third = Holder("fit-c-1", "c" * 64, TRAINING)

    def over_but_taken_meanwhile(holder):
        if holder == THEIRS:
            Lease(objects, ledger.folder, lambda _: True, nobody).take(third)
            return True
        return None  # SageMaker does not know the third's job yet

    assert Lease(objects, ledger.folder, over_but_taken_meanwhile, nobody).take(MINE) == third
    assert Lease(objects, ledger.folder, jobs.get, nobody).holder() == third


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[]", b"{}", b'{"job": "fit-1"}'),
        b'{"job": 3, "fingerprint": "a", "kind": "training"}',
        b'{"job": "fit-1", "fingerprint": "a", "kind": "baking"}',
    ],
)
def test_a_damaged_lease_is_held_by_the_live_job(objects, ledger, body):
    """Never taken for a free one: SageMaker is asked which job of the task is live, and if none is, it is taken."""
    objects.put(ledger.folder.lease, body)
    live = [THEIRS]
    lease = Lease(objects, ledger.folder, lambda holder: False, lambda: live[0] if live else None)

    assert lease.take(MINE) == THEIRS == lease.holder()
    live.clear()
    assert lease.take(MINE) == MINE == lease.holder()


def test_a_lease_that_was_not_written_is_not_held(objects, ledger):
    """1. A holder is over. 2. While we look, somebody deletes the lease. 3. Either it is written anew, or not ours."""
    place = ledger.folder.lease
    Lease(objects, ledger.folder, lambda _: True, nobody).take(THEIRS)

    def over_and_deleted(_):
        objects.delete(place)
        return True

    lease = Lease(objects, ledger.folder, over_and_deleted, nobody)

    assert lease.take(MINE) == lease.holder()


def test_a_lease_that_is_given_back_is_free(lease, objects, ledger):
    """At once, although SageMaker does not know the job; it is nobody's until then."""
    lease.take(THEIRS)
    lease.give_back(THEIRS)

    assert lease.holder() is None
    assert lease.take(MINE) == MINE == lease.holder()


def test_only_ones_own_lease_is_given_back(lease, jobs):
    """Somebody may have taken it over meanwhile."""
    lease.take(THEIRS)
    lease.give_back(MINE)

    assert lease.holder() == THEIRS


def test_a_lost_lease_is_held_by_the_live_job(objects, ledger):
    """1. A job writes the state. 2. The lease is deleted. 3. Other work waits for that job; a new task asks nobody."""
    asked = []
    lease = Lease(objects, ledger.folder, lambda holder: False, lambda: asked.append(1) or THEIRS)
    assert lease.holder() is None
    assert not asked

    objects.put(ledger.folder.entry("b" * 64), b"{}")

    assert lease.take(MINE) == THEIRS
