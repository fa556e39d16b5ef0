"""Random mixtures of faults, and random stories of crashes, cancels and losses: the flow ends as it must.

`make test` draws a few, `make test-all` 200 mixtures. `FAULT_MIXTURES` and `FAULT_STORIES` set how many, and
`FAULT_SEED` repeats a run. A mixture that fails is printed as the command that runs it alone. `make fault-soak` runs
many more (`fault_soak.py`).
"""

from __future__ import annotations

import os
import sys

from fault_mixtures import Lane, drawn, own_prefect, run_mixtures  # before any import of Prefect

# ruff: isort: split
import prefect.settings as prefect_settings
import pytest
from fault_stories import Stage, Story
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from prefect.settings import temporary_settings

# Threads of Prefect outlive earlier tests and draw from `random` while Hypothesis draws, which Hypothesis notices.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")

LANES = 3
"""The number of lanes. A mixture waits most of the time, so there may be more lanes than cores."""

_TOLD = settings(
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
    stateful_step_count=10,
)


@pytest.fixture(scope="module", autouse=True)
def quiet_prefect(prefect_api):
    """Isolate Prefect from the user's settings, and do not send logs of successful flows to its API."""
    quiet = {prefect_settings.PREFECT_API_URL: prefect_api, prefect_settings.PREFECT_LOGGING_TO_API_ENABLED: False}
    with temporary_settings({**own_prefect.ISOLATED, **quiet}):
        yield prefect_api


@pytest.fixture(scope="module")
def fault_seed(sample):
    """The seed of all draws; printed, so that a failure shows it."""
    seed = int(os.environ.get("FAULT_SEED", sample.seed))
    sys.stdout.write(f"FAULT_SEED={seed}\n")
    return seed


@pytest.fixture(scope="module")
def make_lane(tmp_path_factory, make_backend):
    """Return a function that makes a lane with its own local SageMaker."""

    def make():
        directory = tmp_path_factory.mktemp("lane")
        backend = make_backend(directory / "home")
        backend.up()
        return Lane(backend, directory)

    return make


def test_every_mixture_completes(make_lane, sample, fault_seed):
    """Under each mixture of faults, the flow completes, and leaves what an undisturbed flow leaves."""
    mixtures = int(os.environ.get("FAULT_MIXTURES", sample.count(3, 200)))
    wrong, fired = [], set()

    def tell(outcome):
        fired.update(+outcome.fired)
        if outcome.wrong:
            wrong.append(str(outcome))

    run_mixtures([make_lane() for _ in range(sample.count(2, LANES))], drawn(mixtures, fault_seed), tell)

    assert wrong == []
    assert mixtures < 100 or fired >= {"lose", "drop", "error", "expire", "throttle", "slow", "capacity", "pending"}


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_cancel_at_any_call_leaves_the_state_free(make_lane, quiet_prefect, tmp_path, sample, when):
    """After a cancel at any call up to the create, other work that does not wait gets the state at once."""
    stage = Stage(make_lane(), quiet_prefect, tmp_path)
    try:
        for number in sample.of(range(1, 16), 1, when):
            story = Story(stage, lambda text, number=number: sys.stdout.write(f"{number}: {text}\n"))
            story.cancel("a", "", number, when)
            story.run("b", "")
    finally:
        stage.close()


def test_every_story_holds_its_invariants(make_lane, quiet_prefect, tmp_path, sample, fault_seed):
    """Runs, crashes, cancels, restarts, lost ledgers, forced runs, clean states and code changes work in any order."""
    stage = Stage(make_lane(), quiet_prefect, tmp_path)

    @seed(fault_seed)
    def story():
        return Story(stage, lambda text: sys.stdout.write(f"{text}\n"))

    try:
        stories = int(os.environ.get("FAULT_STORIES", sample.count(1, 6)))
        run_state_machine_as_test(story, settings=settings(_TOLD, max_examples=stories))
    finally:
        stage.close()
