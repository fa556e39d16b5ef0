"""`sm.train.sweep`: one task for each point of a grid, as real Prefect tasks."""

from __future__ import annotations

import asyncio

import pytest
from journey_tools import counting, jobs_of, last_task_runs
from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.futures import PrefectFutureList

from tasks_lib import output_of
from tasks_lib.errors import InvalidHyperparameter, InvalidTask, JobFailed

pytestmark = pytest.mark.sampled(5, group="all")

MODEL = 'echo "$SM_HPS" > "$SM_MODEL_DIR/hps"'
GRID = {"learning_rate": [0.1, 1], "size": [[10], [10, 5]]}
NAMES = ["fit-LR01-S10", "fit-LR01-S10-5", "fit-LR1-S10", "fit-LR1-S10-5"]


def swept(sm, over=GRID, stem="fit", **arguments):
    return sm.train.sweep(stem, over=over, **({"command": MODEL, "state": "none"} | arguments))


@pytest.mark.always
def test_every_point_is_a_task_of_its_own(sm, backend, project):
    """1. A grid gives a job for each point, in order, its values over the common ones. 2. The next sweep skips all."""

    @flow
    def sweeping():
        futures = swept(sm, hyperparameters={"epochs": 2, "size": "replaced"})
        assert isinstance(futures, PrefectFutureList)
        return futures.result()

    first, second = sweeping(), sweeping()
    given = [result.model.read_json("hps") for result in first]

    assert [result.task for result in first] == NAMES
    assert given == [
        {"epochs": 2, "learning_rate": rate, "size": size} for rate in GRID["learning_rate"] for size in GRID["size"]
    ]
    assert len(jobs_of(backend, project, "fit")) == len(NAMES)
    assert [(result.cached, result.job) for result in second] == [(True, result.job) for result in first]


def test_a_new_point_runs_alone(sm, backend):
    """If a grid grows, only its new points run, and no other point is renamed."""
    swept(sm, {"C": [1, 2]})
    with counting(backend) as made:
        results = swept(sm, {"C": [3, 2, 1]}).result()

    assert made["sagemaker:CreateTrainingJob"] == 1
    assert [(result.task, result.cached) for result in results] == [
        ("fit-C3", False),
        ("fit-C2", True),
        ("fit-C1", True),
    ]


def test_futures_in_the_arguments_are_resolved_and_drawn(sm):
    """Inputs and hyperparameters may be futures; Prefect's graph leads from their task to every point."""

    @task
    def choose():
        return 7

    @flow
    def sweeping():
        base = sm.train.submit("base", command=MODEL, state="none")
        futures = swept(
            sm, {"C": [1, 2]}, inputs={"model": output_of(base, extract=True)}, hyperparameters={"n": choose.submit()}
        )
        results = futures.result()
        return [future.task_run_id for future in futures], base.task_run_id, results

    points, base, results = sweeping()
    with get_client(sync_client=True) as client:
        drawn = [run.task_inputs for run in last_task_runs(client, ids=points)]

    assert [result.model.read_json("hps") for result in results] == [{"C": 1, "n": 7}, {"C": 2, "n": 7}]
    assert [[each.id for each in inputs["inputs"]] for inputs in drawn] == [[base], [base]]


def test_options_stay_with_the_points(sm):
    """A copy of the task with options can sweep, too, and its points have these options."""

    @flow
    def sweeping():
        return swept_by(sm.train.with_options(retries=1, tags=["grid"]), {"C": [1]})[0].task_run_id

    def swept_by(train, over):
        futures = train.sweep("fit", over=over, command=MODEL, state="none")
        futures.wait()
        return futures

    with get_client(sync_client=True) as client:
        (run,) = last_task_runs(client, ids=[sweeping()])

    assert (run.name, run.tags, run.empirical_policy.retries) == ("fit-C1", ["grid"], 1)


def test_outside_of_a_flow(sm, tmp_path):
    """Outside of a flow, the points run side by side in their own flow run, and are over when the call returns."""
    meet = f'touch {tmp_path}/"$SM_HP_C"; until [ -e {tmp_path}/1 ] && [ -e {tmp_path}/2 ]; do sleep 0.05; done'
    futures = swept(sm, {"C": [1, 2]}, command=meet)

    assert [future.state.is_completed() for future in futures] == [True, True]
    assert [future.result().task for future in futures] == ["fit-C1", "fit-C2"]


def test_a_point_that_fails_is_its_futures_error(sm):
    """If a point fails, only its future fails; the others have their results, in a flow and outside of one."""
    command = '[ "$SM_HP_C" != 2 ]'

    @flow
    def inside():
        futures = swept(sm, {"C": [1, 2]}, command=command)
        futures.wait()
        return futures[0].result().task, futures[1].result(raise_on_failure=False)

    outside = swept(sm, {"C": [1, 2]}, command=command)

    assert outside[0].result().task == "fit-C1"
    with pytest.raises(JobFailed):
        outside[1].result()
    assert isinstance(inside()[1], JobFailed)


def test_in_an_async_flow(sm):
    """An async flow can sweep as well."""

    @flow
    async def sweeping():
        return [future.result().task for future in swept(sm, {"C": [1, 2]})]

    assert asyncio.run(sweeping()) == ["fit-C1", "fit-C2"]


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"over": {"C": []}}, InvalidTask, "no values"),
        ({"over": {"C": [object()]}}, InvalidHyperparameter, "'C' is not valid JSON"),
        ({"over": {"C": [1]}, "name": "mine"}, InvalidTask, "the stem and the points give the names"),
        ({"over": {"C": [1]}, "hyperparameters": [1]}, InvalidTask, "hyperparameters that are not a dict"),
        ({"over": {"C": [1]}, "instance_typ": "ml.m5.large"}, TypeError, "instance_typ"),
        ({"over": {"C": [1]}, "style": "new"}, InvalidTask, "seed, latest"),
    ],
)
def test_an_invalid_sweep(arguments, error, words, sm, backend):
    """An invalid sweep is refused at the call, before any of its points is submitted."""
    with counting(backend) as made, pytest.raises(Exception, match=words) as caught:
        sm.train.sweep("fit", command=MODEL, **arguments)

    assert isinstance(caught.value, (error, Exception if error is TypeError else error))
    assert made == {}
