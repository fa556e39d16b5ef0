"""A flow is killed before and after its AWS calls and run again: no work is done twice, and no result is lost.

`make test` draws some of the points, `make test-all` takes all. `crash_harness.py` does it, and `crash_picture.py` says
what is compared. `crash_all.py` does the same with a chain of three tasks.
"""

from __future__ import annotations

import pytest
from crash_harness import Harness, told
from crash_scenarios import SCENARIOS

# A crash point waits for other processes most of the time, so there may be more benches than cores.
BENCHES = 3
POINTS = 5  # of about eighty, if not all are tried


@pytest.fixture(scope="module")
def crash_harness(tmp_path_factory, make_backend, prefect_api, sample):
    """A harness with its own local SageMakers: the requests that it holds must not block other tests."""
    directory = tmp_path_factory.mktemp("crash")
    backends = [make_backend(directory / f"home-{number}") for number in range(sample.count(2, BENCHES))]
    for backend in backends:
        backend.up()
    with Harness(backends, prefect_api, directory) as harness:
        yield harness


@pytest.fixture(scope="module")
def killed_everywhere(crash_harness, sample):
    """One training task with state, killed at all or some points: its calls, and the outcome of each kill."""
    return crash_harness.crash_everywhere(SCENARIOS["one"], choose=lambda points: sample.of(points, POINTS))


def test_every_crash_ends_as_an_undisturbed_run(killed_everywhere):
    """Wherever the flow is killed, the next run ends with one job, and with all else as in an undisturbed run."""
    _, outcomes = killed_everywhere

    assert [line for outcome in outcomes for line in told(outcome)] == []


@pytest.mark.exhaustive
def test_every_call_was_a_crash_point(killed_everywhere):
    """Each call of the undisturbed run is reached, before and after it acts; each polling call at least once."""
    trace, outcomes = killed_everywhere
    reached = {(outcome.point.call, outcome.point.when) for outcome in outcomes if outcome.reached}
    polled = {call.operation for call, _ in reached if call.service == "logs"}

    assert [str(outcome.point) for outcome in outcomes if not (outcome.reached or outcome.point.polls)] == []
    assert {(call, when) for call in trace.calls for when in ("before", "after")} <= reached
    assert polled == trace.logs.keys()


@pytest.mark.exhaustive
def test_a_live_job_is_met_running_and_over(killed_everywhere):
    """At some points the next run finds the job live, and at some it finds a job that ended meanwhile."""
    _, outcomes = killed_everywhere
    created = [outcome for outcome in outcomes if outcome.point.call.operation == "CreateTrainingJob"]

    assert {(outcome.point.when, outcome.point.meanwhile) for outcome in created} == {
        ("before", "goes on"),
        ("after", "goes on"),
        ("after", "ends"),
    }


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["one, retried", "forced", "forced at first", "clean state"])
def test_a_retry_of_the_flow_run_goes_on(crash_harness, sample, name):
    """A retry of a flow run that was killed after a write continues it: forced work is forced only once."""

    def behind_a_write(points):
        return sample.of([point for point in points if point.leaves_another_world], 3)

    _, outcomes = crash_harness.crash_everywhere(SCENARIOS[name], choose=behind_a_write)

    assert [str(outcome.point) for outcome in outcomes if not outcome.reached] == []
    assert [line for outcome in outcomes for line in told(outcome)] == []
