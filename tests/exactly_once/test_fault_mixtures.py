"""Random mixtures of faults, and random stories of crashes, cancels and losses: the flow ends right under all of them.

`FAULT_MIXTURES` and `FAULT_STORIES` say how many, `FAULT_SEED` has the same ones again; a mixture that fails is printed
as the command that has it alone. `make fault-soak` runs many more (`fault_soak.py`).
"""

from __future__ import annotations

import os
import sys

from fault_mixtures import SEED, Lane, drawn, own_prefect, run_mixtures  # before anybody imports Prefect

# ruff: isort: split
import prefect.settings as prefect_settings
import pytest
from fault_stories import Stage, Story
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from prefect.settings import temporary_settings

MIXTURES = int(os.environ.get("FAULT_MIXTURES", "200"))
STORIES = int(os.environ.get("FAULT_STORIES", "6"))
LANES = 3
"""A mixture waits most of its time: more than there are cores is not too many."""

_TOLD = settings(
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
    max_examples=STORIES,
    stateful_step_count=10,
)


@pytest.fixture(scope="module", autouse=True)
def quiet_prefect(prefect_api):
    """A Prefect of the tests' own, which says nothing of flows that end as they should."""
    quiet = {prefect_settings.PREFECT_API_URL: prefect_api, prefect_settings.PREFECT_LOGGING_TO_API_ENABLED: False}
    with temporary_settings({**own_prefect.ISOLATED, **quiet}):
        yield prefect_api


@pytest.fixture(scope="module")
def make_lane(tmp_path_factory, make_backend):
    """A function that makes a lane with a local SageMaker of its own."""

    def make():
        directory = tmp_path_factory.mktemp("lane")
        backend = make_backend(directory / "home")
        backend.up()
        return Lane(backend, directory)

    return make


def test_every_mixture_ends_right(make_lane):
    """Two hundred mixtures of request and job faults: each flow ends right, and leaves what an undisturbed one does."""
    sys.stdout.write(f"FAULT_SEED={SEED}\n")
    wrong, fired = [], set()

    def tell(outcome):
        fired.update(+outcome.fired)
        if outcome.wrong:
            wrong.append(str(outcome))

    run_mixtures([make_lane() for _ in range(LANES)], drawn(MIXTURES, SEED), tell)

    assert wrong == []
    assert MIXTURES < 100 or fired >= {"lose", "drop", "error", "expire", "throttle", "slow", "capacity", "pending"}


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_cancel_at_any_call_leaves_the_state_free(make_lane, quiet_prefect, tmp_path, when):
    """Up to the create: other work on the same state, which would not wait, runs at once."""
    stage = Stage(make_lane(), quiet_prefect, tmp_path)
    try:
        for number in range(1, 16):
            story = Story(stage, lambda text, number=number: sys.stdout.write(f"{number}: {text}\n"))
            story.cancel("a", "", number, when)
            story.run("b", "")
    finally:
        stage.close()


def test_every_story_ends_right(make_lane, quiet_prefect, tmp_path):
    """Runs, crashes, cancels, restarts, lost ledgers, force, clean state, other code: in any order all holds."""
    sys.stdout.write(f"FAULT_SEED={SEED}\n")
    stage = Stage(make_lane(), quiet_prefect, tmp_path)

    @seed(SEED)
    def story():
        return Story(stage, lambda text: sys.stdout.write(f"{text}\n"))

    try:
        run_state_machine_as_test(story, settings=_TOLD)
    finally:
        stage.close()
