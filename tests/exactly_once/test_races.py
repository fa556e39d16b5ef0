"""Races: several processes want the same job, cancel it while another attaches, or write to one state directory.

Real processes run against the real local SageMaker. After each race, the state must be what one call would have left.
Random rounds find unknown races. For known races, requests are held so that the race happens each time. `RACE_ROUNDS`
multiplies the rounds, and `RACE_SEED` repeats them (`race_all.py`).
"""

from __future__ import annotations

import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import pytest
from race_arena import arena, for_seconds, race, rounds, soon, the_arena
from race_invariants import assert_exactly_once, assert_one_writer
from waiting import wait_until

__all__ = ["arena", "the_arena"]

LONG = 600
"""Seconds of a job that does not end by itself during a test."""

MARK = "*/_ledger/interest/*"
LEASE = "*/_ledger/lease.json"


# -- the same work at the same moment ----------------------------------------------------------------------------------


def test_many_processes_at_once(arena, sample):
    """Twenty processes that want the same work at the same moment get one job and all its result, twenty times.

    In `make test`, five processes, five times.
    """
    many = sample.count(5, 20)
    processes = arena.contestants(many)
    for number, seed in enumerate(rounds(many)):
        work, start = arena.work(), soon()
        # In every fifth round also in flows, which start so slowly that the job already runs or is over.
        hows = ["flow", "submitted"] if number % 5 == 4 else []
        orders = [work.order(start, how) for how in [*hows, *["notebook"] * (many - len(hows))]]
        with arena.slow(seed) if number % 2 else nullcontext():
            outcomes = race(processes, orders)
        (job,) = assert_exactly_once(work.seen)

        assert {(outcome.error, outcome.job) for outcome in outcomes} == {("", job.name)}, outcomes
        assert [outcome.reason for outcome in outcomes].count("ran: first run") == 1, outcomes


@pytest.mark.sampled(2, group="races")
def test_threads_of_one_process(arena):
    """Eight calls of the same work, submitted side by side in one flow of each of two processes, share one job."""
    work = arena.work()
    outcomes = race(arena.contestants(2), 2 * [work.order(how="threads")])
    (job,) = assert_exactly_once(work.seen)

    assert [outcome.jobs for outcome in outcomes] == 2 * [8 * (job.name,)], outcomes


@pytest.mark.exhaustive
def test_two_machines(arena):
    """Two machines that share only the bucket share one job: with other homes, Prefect profiles and servers."""
    here, there = arena.contestants(1)[0], arena.stranger()
    try:
        there.until_ready()
        work = arena.work(**for_seconds(2))
        outcomes = race([here, there], 2 * [work.order(soon(), "flow")])
        (job,) = assert_exactly_once(work.seen)
    finally:
        there.close()

    assert [(outcome.error, outcome.job) for outcome in outcomes] == 2 * [("", job.name)], outcomes


# -- one state directory -----------------------------------------------------------------------------------------------


@pytest.mark.sampled(2, group="races")
def test_works_on_one_state_take_turns(arena):
    """Flows with different code on one state directory take turns: all complete, and no two jobs are live at once."""
    processes, hows = arena.contestants(3), ("notebook", "notebook", "flow")
    for seed in rounds(1):
        work, start = arena.work(**for_seconds(1.5)), soon()
        orders = [work.order(start, how, command=f"echo {code}") for code, how in enumerate(hows)]
        with arena.slow(seed):
            outcomes = race(processes, orders)
        jobs = assert_exactly_once(work.seen, works=3)

        assert_one_writer(work.seen)
        assert {outcome.error for outcome in outcomes} == {""}, outcomes
        assert {outcome.job for outcome in outcomes} == {job.name for job in jobs}


@pytest.mark.sampled(2, group="races")
def test_busy_state_fails_at_once(arena):
    """With `on_busy="fail"`, the error names the job that writes the state. That job runs on; no other is created."""
    first, second = arena.contestants(2)
    work = arena.gated_work()
    first.begin(work.order())
    running = work.until_running()
    (refused,) = race([second], [work.other_order(on_busy="fail")])
    meanwhile = work.statuses()
    work.open_gate()

    assert first.outcome().error == ""
    assert (refused.error, meanwhile) == ("StateBusy", ["InProgress"]), refused
    assert running in refused.message
    assert_exactly_once(work.seen)


def killed_before_its_create(arena):
    """Return work whose first client was killed with the lease and before the create, and another client."""
    first, second = arena.contestants(2)
    work = arena.work()
    arena.hold("CreateTrainingJob")
    first.begin(work.order())
    arena.until_held()
    first.signal(signal.SIGKILL)
    first.until_dead()
    wait_until(lambda: not arena.faults.show()["held"], "the server to see its death")
    arena.faults.clear()
    return work, second


def test_holder_that_was_killed(arena):
    """If a client is killed with the lease and without a job, other work gets the state after 15 minutes."""
    work, second = killed_before_its_create(arena)
    (early,) = race([second], [work.other_order(on_busy="fail")])
    arena.age(f"{work.project}/fit/_ledger/lease.json", 16 * 60)
    (late,) = race([second], [work.other_order(on_busy="fail")])
    (own,) = race([second], [work.order(on_busy="fail")])

    assert early.error == "StateBusy"
    assert [late.error, own.error] == ["", ""], (late, own)
    assert [job.name for job in work.seen.jobs()] == [late.job, own.job]
    assert_one_writer(work.seen)


@pytest.mark.sampled(2, group="races")
def test_own_work_of_a_killed_holder(arena):
    """If a client is killed with the lease and without a job, the next run of the same work does not wait."""
    work, second = killed_before_its_create(arena)
    (again,) = race([second], [work.order(on_busy="fail")])

    assert again.error == ""
    assert work.statuses() == ["Completed"]


@pytest.mark.sampled(1)
@pytest.mark.parametrize("on_busy", ["wait", "fail"])
def test_lease_lost_while_the_job_is_created(arena, on_busy):
    """A client that slept for 15 minutes before its create, and lost the lease meanwhile, stops its job at once.

    Then it waits for its turn, or fails, as `on_busy` says.
    """
    first, second = arena.contestants(2)
    work = arena.gated_work()
    arena.hold("CreateTrainingJob")
    first.begin(work.order(on_busy=on_busy))
    arena.until_held()
    arena.age(f"{work.project}/fit/_ledger/lease.json", 16 * 60)
    second.begin(work.other_order())
    running = work.until_running()
    wait_until(work.heartbeats, "the second to wait")
    arena.faults.clear()
    wait_until(lambda: sorted(work.statuses()) == ["InProgress", "Stopped"], "the late job to be stopped")
    refused = first.outcome() if on_busy == "fail" else None  # while the other job still runs
    work.open_gate()
    late, kept = refused or first.outcome(), second.outcome()

    assert late.error == ("" if on_busy == "wait" else "StateBusy"), late
    assert (kept.error, kept.job) == ("", running)
    assert sorted(work.statuses()) == sorted(["Stopped", "Completed"] + ["Completed"] * (on_busy == "wait"))


@pytest.mark.sampled(2, group="races")
def test_record_does_not_claim_the_state_of_others(arena):
    """A run that slept while other work took the state after its job does not record that state as its own."""
    first, second = arena.contestants(2)
    work = arena.gated_work()
    first.begin(work.order())
    job = work.until_running()
    wait_until(work.heartbeats, "the first to wait")
    first.signal(signal.SIGSTOP)
    try:
        work.open_gate()
        wait_until(lambda: work.statuses() == ["Completed"], "the job to end")
        (other,) = race([second], [work.other_order()])
        work.seen.write("state/of-the-others")
    finally:
        first.signal(signal.SIGCONT)
    slept = first.outcome()
    (again,) = race([second], [work.order()])

    assert (slept.error, slept.job, other.error) == ("", job, "")
    assert again.reason == "ran: its state was changed by other work", again


# -- a clean state -----------------------------------------------------------------------------------------------------


@pytest.mark.sampled(2, group="races")
def test_state_is_not_emptied_under_other_work(arena):
    """`clean_state` waits for the job that writes the state: that job is over when the first object is deleted."""
    first, second = arena.contestants(2)
    work = arena.gated_work()
    arena.hold("DeleteObjects")
    first.begin(work.order())
    work.until_running()
    work.seen.write("state/checkpoint")
    second.begin(work.other_order(clean_state=True))
    assert not second.has_ended(within=2)
    work.open_gate()
    arena.until_held()
    at_the_delete = work.statuses()
    arena.faults.clear()
    outcomes = [first.outcome(), second.outcome()]

    assert at_the_delete == ["Completed"]
    assert [outcome.error for outcome in outcomes] == ["", ""], outcomes
    assert work.seen.keys("state/") == []
    assert_one_writer(work.seen)


@pytest.mark.sampled(2, group="races")
def test_state_is_not_emptied_under_the_same_work(arena):
    """`clean_state` of work whose job runs attaches to the job, and keeps its checkpoints."""
    first, second = arena.contestants(2)
    work = arena.gated_work()
    first.begin(work.order())
    job = work.until_running()
    work.seen.write("state/checkpoint")
    second.begin(work.order(clean_state=True))
    wait_until(lambda: len(work.heartbeats()) == 2, "both to wait")
    work.open_gate()
    outcomes = [first.outcome(), second.outcome()]
    assert_exactly_once(work.seen)

    assert [outcome.job for outcome in outcomes] == [job, job], outcomes
    assert work.seen.keys("state/") == ["state/checkpoint"]


@pytest.mark.sampled(2, group="races")
@pytest.mark.parametrize("clean", [True, False], ids=["clean", "plain"])
def test_clean_state_that_comes_late(arena, clean):
    """1. A run sees no job, and is slow. 2. Another creates it. 3. The first does not empty the state of that job."""
    late, other = arena.contestants(2)
    work = arena.gated_work()
    arena.hold("GetObject", LEASE)
    late.begin(work.order(clean_state=True))
    arena.until_held()
    other.begin(work.order(clean_state=clean))
    job = work.until_running()
    work.seen.write("state/checkpoint")
    arena.faults.clear()
    wait_until(lambda: len(work.heartbeats()) == 2, "both to wait")
    work.open_gate()
    outcomes = [late.outcome(), other.outcome()]
    assert_exactly_once(work.seen)

    assert [outcome.job for outcome in outcomes] == [job, job], outcomes
    assert work.seen.keys("state/") == ["state/checkpoint"]


# -- a cancel while another run attaches -------------------------------------------------------------------------------


@pytest.mark.sampled(2, group="races")
def test_cancelled_while_another_comes(arena):
    """Whenever a run is cancelled while another attaches, the other gets a result, and no job is live afterwards."""
    leaving, coming = arena.contestants(2)
    for seed in rounds(12):
        draw = random.Random(seed)
        comes, goes = draw.uniform(0, 0.15), draw.uniform(0, 0.15)
        work = arena.work(**for_seconds(1))
        leaving.begin(work.order())
        work.until_running()
        with arena.slow(seed):
            coming.begin(work.order(time.monotonic() + comes))
            leaving.has_ended(within=goes)
            leaving.signal(signal.SIGINT)
            left, came = leaving.outcome(), coming.outcome()
        assert_exactly_once(work.seen)

        assert came.error == "", came
        assert left.error in ("KeyboardInterrupt", ""), left  # no error if the job was quicker


@pytest.mark.sampled(2, group="races")
def test_cancelled_before_the_heartbeat_of_another(arena):
    """1. A run sees the job. 2. Another cancels it, as it sees no waiter. 3. The first makes the next attempt."""
    leaving, coming = arena.contestants(2)
    work = arena.gated_work()
    leaving.begin(work.order())
    job = work.until_running()
    wait_until(work.heartbeats, "the first to wait")
    arena.hold("PutObject", MARK)
    coming.begin(work.order())
    arena.until_held()
    leaving.signal(signal.SIGINT)
    left = leaving.outcome()
    arena.faults.clear()
    work.open_gate()
    came = coming.outcome()
    first, second = assert_exactly_once(work.seen)

    assert left.error == "KeyboardInterrupt"
    assert (first.name, first.status) == (job, "Stopped")
    assert (came.error, came.job) == ("", second.name), came


@pytest.mark.sampled(2, group="races")
def test_cancelled_before_the_create_of_another(arena):
    """1. A run sees no job. 2. Another makes it and is cancelled. 3. The first finds the name taken, and goes on."""
    coming, leaving = arena.contestants(2)
    work = arena.gated_work()
    arena.hold("PutObject", MARK)
    coming.begin(work.order())
    arena.until_held()
    leaving.begin(work.order())
    job = work.until_running()
    leaving.signal(signal.SIGINT)
    left = leaving.outcome()
    wait_until(lambda: work.statuses() == ["Stopped"], "the job to have stopped")
    arena.faults.clear()
    work.open_gate()
    came = coming.outcome()
    first, second = assert_exactly_once(work.seen)

    assert left.error == "KeyboardInterrupt"
    assert (first.name, first.status) == (job, "Stopped")
    assert (came.error, came.job) == ("", second.name), came


@pytest.mark.sampled(2, group="races")
def test_stopped_from_outside(arena):
    """A job that was stopped from outside is reported as stopped to all waiters; none of them retries it."""
    processes = arena.contestants(2)
    work = arena.gated_work()
    for each in processes:
        each.begin(work.order())
    wait_until(lambda: len(work.heartbeats()) == 2, "both to wait")
    arena.backend.client("sagemaker").stop_training_job(TrainingJobName=work.until_running())
    outcomes = [each.outcome() for each in processes]

    assert [outcome.error for outcome in outcomes] == 2 * ["JobStopped"], outcomes
    assert work.statuses() == ["Stopped"]
    assert work.heartbeats() == []


def test_cancelled_while_another_waits(arena):
    """A job that another process waits for survives the cancel of the first, and the other gets its result."""
    leaving, staying = arena.contestants(2)
    work = arena.gated_work()
    leaving.begin(work.order())
    staying.begin(work.order())
    wait_until(lambda: len(work.heartbeats()) == 2, "both to wait")
    job = work.until_running()
    leaving.signal(signal.SIGINT)
    left = leaving.outcome()
    work.open_gate()
    stayed = staying.outcome()
    assert_exactly_once(work.seen)

    assert left.error == "KeyboardInterrupt"
    assert (stayed.error, stayed.job) == ("", job), stayed


@pytest.mark.sampled(2, group="races")
@pytest.mark.parametrize("how", ["flow", "submitted"])
def test_terminated_while_another_comes(arena, how):
    """If a flow gets SIGTERM while another run attaches, the other has a result."""
    leaving, coming = arena.contestants(2)
    work = arena.work(**for_seconds(3))
    leaving.begin(work.order(how=how))
    work.until_running()
    coming.begin(work.order())
    leaving.signal(signal.SIGTERM)
    came = coming.outcome()
    leaving.until_dead()
    assert_exactly_once(work.seen)

    assert came.error == "", came


@pytest.mark.sampled(2, group="races")
def test_all_are_cancelled_at_once(arena):
    """However many runs are cancelled at the same moment, the last one stops the job."""
    processes = arena.contestants(4)
    for seed in rounds(4):
        work = arena.work(**for_seconds(LONG))
        for each in processes:
            each.begin(work.order())
        wait_until(lambda w=work: len(w.heartbeats()) == len(processes), "all to wait")
        work.until_running()
        with arena.slow(seed):
            for each in processes:
                each.signal(signal.SIGINT)
            left = [each.outcome() for each in processes]
        wait_until(lambda w=work: w.statuses() == ["Stopped"], "the job to be stopped")

        assert {each.error for each in left} == {"KeyboardInterrupt"}, left
        assert work.heartbeats() == []


@pytest.mark.sampled(2, group="races")
def test_cancelled_while_its_heartbeat_is_written(arena):
    """1. A run attaches. 2. The other leaves it the job. 3. It is cancelled during its PUT: no heartbeat stays."""
    leaving, coming = arena.contestants(2)
    work = arena.gated_work()
    leaving.begin(work.order())
    work.until_running()
    wait_until(work.heartbeats, "the first to wait")
    arena.hold("PutObject", MARK, when="after")
    coming.begin(work.order())
    arena.until_held()
    leaving.signal(signal.SIGINT)
    leaving.outcome()
    between = work.statuses()
    coming.signal(signal.SIGINT)
    came = coming.outcome()
    arena.faults.clear()
    asked_to_end = work.statuses()
    work.open_gate()

    assert between == ["InProgress"]
    assert came.error == "KeyboardInterrupt"
    assert asked_to_end in (["Stopping"], ["Stopped"])
    assert work.heartbeats() == []


# -- forced runs -------------------------------------------------------------------------------------------------------


@pytest.mark.sampled(2, group="races")
def test_forced_while_others_come(arena):
    """Beside plain runs, a forced run gets one more job, which ends after the run began. All runs have a result."""
    forced, *others = arena.contestants(5)
    for seed in rounds(4):
        draw, work = random.Random(seed), arena.work()
        race([forced], [work.order()])
        start = soon()
        orders = [work.order(start, "flow" if seed % 2 else "notebook", rerun="always")]
        orders += [work.order(start + draw.uniform(0, 0.3)) for _ in others]
        with arena.slow(seed):
            first, *rest = race([forced, *others], orders)
        jobs = assert_exactly_once(work.seen, completed=2)

        assert [each.error for each in (first, *rest)] == [""] * 5, (first, rest)
        assert [job.status for job in jobs] == ["Completed"] * 2
        assert first.job == jobs[1].name
        assert jobs[1].ended >= first.began


@pytest.mark.sampled(2, group="races")
def test_two_forced_runs_at_once(arena):
    """Runs that are forced at the same moment make at most one job each, one after the other."""
    processes = arena.contestants(3)
    for seed in rounds(4):
        work = arena.work()
        race(processes[:1], [work.order()])
        start = soon()
        orders = [work.order(start, how, rerun="always") for how in ("flow", "notebook", "notebook")]
        with arena.slow(seed):
            outcomes = race(processes, orders)
        jobs = assert_exactly_once(work.seen, completed=1 + len(processes))
        ended = {job.name: job.ended for job in jobs}

        assert [outcome.error for outcome in outcomes] == [""] * 3, outcomes
        assert all(ended[outcome.job] >= outcome.began for outcome in outcomes), (outcomes, jobs)


@pytest.mark.sampled(2, group="races")
def test_forced_run_joins_a_live_job(arena):
    """A forced run attaches to a live job of the same work, and creates no second one."""
    first, forced = arena.contestants(2)
    work = arena.gated_work()
    first.begin(work.order())
    work.until_running()
    forced.begin(work.order(rerun="always"))
    wait_until(lambda: len(work.heartbeats()) == 2, "both to wait")
    work.open_gate()
    outcomes = [first.outcome(), forced.outcome()]
    (job,) = assert_exactly_once(work.seen)

    assert [outcome.job for outcome in outcomes] == 2 * [job.name], outcomes


# -- the reaper --------------------------------------------------------------------------------------------------------


@pytest.fixture
def orphan(arena):
    """Work whose job runs, and whose only waiter was killed more than 15 minutes ago."""
    killed = arena.contestants(1)[0]
    work = arena.gated_work()
    killed.begin(work.order())
    work.until_running()
    (mark,) = wait_until(work.heartbeats, "the first to wait")
    killed.signal(signal.SIGKILL)
    killed.until_dead()
    arena.age(f"{work.project}/fit/{mark}", 16 * 60)
    return work


def test_adopted_before_the_reaper_looks(arena, orphan):
    """The reaper keeps a job that a run has attached to, although its creator is dead."""
    (adopting,) = arena.contestants(1)
    adopting.begin(orphan.order())
    wait_until(lambda: len(orphan.heartbeats()) == 2, "the run to attach")
    harvest = arena.reap(orphan)
    orphan.open_gate()
    adopted = adopting.outcome()

    assert [row.action for row in harvest.rows] == ["kept"]
    assert (adopted.error, orphan.statuses()) == ("", ["Completed"])


@pytest.mark.sampled(1)
@pytest.mark.parametrize(("operation", "path"), [("PutObject", MARK), ("StopTrainingJob", "*")])
def test_adopted_while_the_reaper_stops(arena, orphan, operation, path):
    """If the reaper stops a job while a run attaches to it, the run makes the next attempt.

    Either the run is held before its heartbeat until the job was stopped, or the reaper before its stop until the run
    waits.
    """
    (adopting,) = arena.contestants(1)
    arena.hold(operation, path)
    with ThreadPoolExecutor(1) as pool:
        steps = [lambda: adopting.begin(orphan.order()), lambda: pool.submit(arena.reap, orphan)]
        first, second = steps if operation == "PutObject" else reversed(steps)
        begun = [first()]
        arena.until_held()
        begun.append(second())
        if operation == "PutObject":
            wait_until(lambda: orphan.statuses() != ["InProgress"], "the job to be stopped")
        else:
            wait_until(lambda: len(orphan.heartbeats()) == 2, "the run to attach")
        arena.faults.clear()
        (harvest,) = [each.result() for each in begun if each]
    orphan.open_gate()
    adopted = adopting.outcome()
    stopped, completed = orphan.seen.jobs()

    assert [row.action for row in harvest.rows] == ["stopped"]
    assert (adopted.error, adopted.job) == ("", completed.name), adopted
    assert (stopped.status, completed.status) == ("Stopped", "Completed")
    assert stopped.ended <= completed.created
