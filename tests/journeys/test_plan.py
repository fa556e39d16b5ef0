"""`plan(flow)`: what a run would do, with the jobs' names, without a Prefect server and without a write."""

from __future__ import annotations

import asyncio
import threading

import prefect.settings as prefect_settings
import prefect.task_engine
import pytest
from journey_tools import Gate, counting, in_background, jobs_of
from prefect import flow, get_run_logger, task, unmapped
from prefect.futures import wait
from waiting import wait_until

from tasks_lib import Channel, output_of, sagemaker_tasks
from tasks_lib.dry_run.plan import plan
from tasks_lib.errors import DuplicateTask, InputNotReady, InvalidRequest, InvalidTask, MissingPath

pytestmark = pytest.mark.sampled(4, group="all")

MODEL = 'echo "loss=0.5"; echo weights > "$SM_MODEL_DIR/weights"'
OUTPUT = 'echo rows > "$SM_OUTPUT_DATA_DIR/rows"'
READING = {"s3:GetObject", "s3:ListObjectsV2", "s3:HeadObject"} | {
    *("sagemaker:DescribeTrainingJob", "sagemaker:DescribeProcessingJob"),
    *("sagemaker:ListTrainingJobs", "sagemaker:ListProcessingJobs"),
    *("logs:DescribeLogStreams", "logs:GetLogEvents"),
}


@pytest.fixture(autouse=True)
def closed_api():
    """Return a function that gives a context in which Prefect's API is a closed port, so that requests to it fail."""

    def closed():
        return prefect_settings.temporary_settings({prefect_settings.PREFECT_API_URL: "http://127.0.0.1:9/api"})

    return closed


@pytest.fixture
def planned(backend, closed_api):
    """Return a function that plans a flow, and checks that it only reads, and only from S3, SageMaker and the logs."""

    def planned(*arguments, **more):
        with closed_api(), counting(backend) as made:
            found = plan(*arguments, **more)
        assert made.keys() <= READING
        return found

    return planned


def rows(found):
    return [(step.task, step.action, step.why) for step in found.steps]


@task
def number_of(rows):
    get_run_logger().info("counted")
    return None if rows is None else 2 * rows


@pytest.fixture
def pipeline(sm):
    """A flow with all ways to call a task: submitted, swept, mapped and called, by futures, results and names."""

    @flow
    def pipeline(epochs=1, command=OUTPUT):
        get_run_logger().info("begin")
        raw = sm.process.submit("raw", command=command, state="none")
        fits = sm.train.sweep(
            "fit",
            over={"C": [0.1, 1.0]},
            command=MODEL,
            metrics={"loss": "loss=(.*)"},
            inputs={"raw": output_of(raw)},
            hyperparameters={"epochs": number_of.submit(epochs)},
        )
        assert number_of(None) is None
        both = sm.process.map(["left", "right"], command=[OUTPUT, "true"], state=unmapped("none"))
        wait([*fits, *both])
        compared = sm.process(
            "compare",
            command=OUTPUT,
            inputs={f"model{n}": output_of(fit, extract=True) for n, fit in enumerate(fits)},
            state="none",
        )
        named = sm.shell("named", "true", inputs={"compared": output_of("compare")}, state="none")
        return [raw.result(), *fits.result(), *both.result(), compared, named]

    return pipeline


TASKS = ["raw", "fit-C01", "fit-C10", "left", "right", "compare", "named"]


@pytest.mark.always
def test_a_plan_is_what_the_run_does(pipeline, planned):
    """1. All is to run, under the names that the run will use. 2. All is skipped. 3. A change shows what it reaches."""
    before = planned(pipeline)
    results = pipeline()
    after = planned(pipeline)
    changed = planned(pipeline, epochs=2)
    rerun = pipeline(epochs=2)

    assert rows(before) == [(name, "run", "first run") for name in TASKS]
    assert [step.job for step in before.steps] == [result.job for result in results]
    assert rows(after) == [(name, "skip", "nothing changed") for name in TASKS]
    assert [step.job for step in after.steps] == [result.job for result in results]
    assert [step.action for step in changed.steps] == ["skip", "run", "run", "skip", "skip", "run", "run"]
    assert changed.steps[1].why == 'hyperparameter "epochs" changed (2 -> 4)'
    assert [step.job for step in changed.steps] == [result.job for result in rerun]
    assert [f"ran: {step.why}" for step in changed.steps if step.action == "run"] == [
        result.reason for result in rerun if not result.cached
    ]
    assert not before.ends + after.ends + changed.ends


def test_the_highest_possible_cost(make_project, planned):
    """The highest possible cost is price x hosts x time limit of each new job; the sum needs all prices."""
    sm = sagemaker_tasks(make_project(hourly_prices={"ml.m5.large": 0.12, "ml.m5.xlarge": 0.5}))

    def calls(instance_type="ml.m5.xlarge"):
        sm.train("fit", command="true", max_runtime_minutes=30, instance_count=2)
        sm.process("big", command="true", instance_type=instance_type, max_runtime_minutes=60, instance_count=3)

    found, other = planned(calls), planned(calls, instance_type="ml.c5.xlarge")

    assert [step.at_most for step in found.steps] == pytest.approx([0.12, 1.5])
    assert found.at_most == pytest.approx(1.62)
    assert found.table.rows[1] == ("big", "run", "first run", found.steps[1].job, "3 x ml.m5.xlarge", "1.50")
    assert (other.at_most, other.steps[1].at_most) == (None, None)
    assert str(other).startswith("2 to run, 0 skipped; at most unknown\n")
    assert other.to_dicts()[1]["at_most"] is None
    assert "unknown</td>" in other._repr_html_()


def test_the_highest_possible_cost_of_groups(make_project, planned):
    """Instance groups in `overrides` count: each group has its own hosts and price."""
    sm = sagemaker_tasks(make_project(hourly_prices={"ml.c5.xlarge": 0.2, "ml.g5.xlarge": 1.0}))
    groups = [
        {"InstanceGroupName": "cpu", "InstanceType": "ml.c5.xlarge", "InstanceCount": 2},
        {"InstanceGroupName": "gpu", "InstanceType": "ml.g5.xlarge", "InstanceCount": 1},
    ]

    def calls():
        over = {"ResourceConfig": {"InstanceGroups": groups}}
        sm.train("fit", command="true", max_runtime_minutes=60, overrides=over)

    (step,) = planned(calls).steps

    assert (step.instance_type, step.instance_count) == ("ml.c5.xlarge+ml.g5.xlarge", 3)
    assert step.at_most == pytest.approx(1.4)


# -- values that only a completed job has ----------------------------------------------------------------------------


READERS = {
    "metrics": (lambda result: result.metrics["loss"], "the metrics of fit"),
    "metrics_frame": (lambda result: result.metrics_frame(), "the metrics frame of fit"),
    "log": (lambda result: result.logs(), "the logs of fit"),
    "an output": (lambda result: result.model.read_text("weights"), "the output of fit"),
    "seconds": (lambda result: result.job_seconds, "the job seconds of fit"),
    "table": (lambda result: result.table, "the table of fit"),
    "json": (lambda result: result.model_dump_json(), "the result of fit"),
}


@pytest.mark.sampled(1)
@pytest.mark.parametrize("reader", READERS)
def test_the_plan_ends_where_the_flow_reads_what_is_not_known(reader, sm, planned):
    """If the flow reads what only the job will know, the plan ends with a sentence, even if the flow catches errors."""
    read, words = READERS[reader]

    @flow
    def reading():
        result = sm.train.submit("fit", command=MODEL, metrics={"loss": "loss=(.*)"}).result()
        assert (result.task, result.kind, result.outputs["model"]) == ("fit", "training", result.model.uri)
        assert "fit" in str(result)
        try:
            read(result)
        except Exception:  # noqa: BLE001 - as careless flows do
            sm.train("wrong", command="true")
        sm.train("after", command="true")

    found = planned(reading)

    assert rows(found) == [("fit", "run", "first run")]
    assert found.ends == (f"The flow reads {words}, which has not run: what follows from it is not planned.",)
    assert str(found).endswith(found.ends[0])
    reading()
    assert [step.task for step in planned(reading).steps] == ["fit", "after"]


def test_what_does_not_depend_on_it_is_planned(sm, planned):
    """A submitted task that reads such a value, and what waits for it, are left out and named; the rest is planned."""

    @task
    def best(result):
        return result.metrics["loss"]

    @flow
    def choosing():
        fit = sm.train.submit("fit", command=MODEL, metrics={"loss": "loss=(.*)"})
        loss = best.submit(fit)
        sm.train.submit("again", command=MODEL, hyperparameters={"loss": loss})
        sm.train.submit("later", command=MODEL, wait_for=[loss])
        sm.train.submit("other", command=MODEL)

    found = planned(choosing)

    assert [step.task for step in found.steps] == ["fit", "other"]
    assert [end.partition(" reads")[0] for end in found.ends] == ["The task 'best'", "The task 'train'"]


@pytest.mark.sampled(1)
@pytest.mark.parametrize("way", ["state", "uri", "subdirectory"])
def test_content_that_a_fingerprint_would_see(way, sm, planned):
    """A state directory, or a URI below a job that has not run, ends the plan: its content is not known now."""

    def reading():
        first = sm.process("first", command=OUTPUT)
        uri = first.output.uri
        source = {"state": output_of(first, "state"), "uri": uri, "subdirectory": Channel(f"{uri}a")}[way]
        sm.train("second", command="true", inputs={"data": source})

    found = planned(reading)

    assert [step.task for step in found.steps] == ["first"]
    assert len(found.ends) == 1


# -- the same decisions as a run -------------------------------------------------------------------------------------


@pytest.mark.always
def test_reasons_to_run_again(sm, bucket, planned):
    """Deleted outputs, a failed attempt, a forced run and a cleaned state have the reasons that a run gives."""

    def calls(wish=None, train=sm.train):
        return train("fit", command=f'{MODEL}; echo s > "$SSM_STATE/s"', **(wish or {}))

    def failing():
        return sm.process("fails", command="exit 1", state="none")

    calls()
    with pytest.raises(Exception, match="exit code"):
        failing()
    found = [
        planned(calls, {"rerun": "always"}),
        planned(calls, train=sm.train.with_options(refresh_cache=True)),
        planned(calls, {"clean_state": True}),
        planned(calls, {"rerun": "if_incomplete"}),
        planned(failing),
    ]
    bucket.delete("fit/fit-")
    found.append(planned(calls))

    assert [rows(each)[0][1:] for each in found] == [
        ("run", "it was asked to run in any case"),
        ("run", "it was asked to run in any case"),
        ("run", "its state was cleaned"),
        ("skip", "a completed job of that name is there"),
        ("run", "the previous attempt failed"),
        ("run", "its outputs were changed or deleted"),
    ]
    assert [each.steps[0].job[-2:] for each in found] == ["-2", "-2", "-2", "-1", "-2", "-2"]


def test_a_running_job_is_attached_to(sm, backend, project, planned, tmp_path):
    """A running job is in the plan with its task and no further cost, and is still running after the plan."""
    gate = Gate(tmp_path / "open")

    def call():
        return sm.train("fit", command=f"{gate.wait}; {MODEL}", state="none")

    def chain():
        sm.process("next", command="true", inputs={"model": output_of(call())}, state="none")

    with in_background(call) as first:
        (job,) = wait_until(lambda: jobs_of(backend, project, "fit"), "the job")
        found = planned(chain)
        gate.open()

    assert rows(found) == [("fit", "attach", "attached to its running job"), ("next", "run", "first run")]
    assert (found.steps[0].job, found.steps[0].at_most) == (job, 0.0)
    assert first.result().job == job
    assert jobs_of(backend, project, "fit") == [job]


def test_the_same_work_twice_is_one_job(sm, planned):
    """A second call of the same work shares the job of the first, and costs nothing more."""

    @flow
    def twice():
        return [sm.train("fit", command=MODEL) for _ in range(2)]

    found = planned(twice)

    assert [(step.action, step.job) for step in found.steps] == [
        ("run", found.steps[0].job),
        ("attach", found.steps[0].job),
    ]


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"command": "true", "rerun": "sometimes"}, InvalidTask),
        ({"entry_point": "absent.py"}, MissingPath),
        ({"command": "true", "inputs": {"data": output_of("nobody")}}, InputNotReady),
        ({"command": "true", "instance_type": "ml.m5.gigantic"}, InvalidRequest),
    ],
)
@pytest.mark.parametrize("submitted", [True, False], ids=["submitted", "called"])
def test_what_the_run_would_refuse_is_refused(arguments, error, submitted, sm, planned):
    """A plan refuses what the run would refuse, with the same errors; so it does one name for two kinds of work."""

    @flow
    def wrong():
        (sm.train.submit if submitted else sm.train)("fit", **arguments)

    with pytest.raises(error, match=r"To resolve this: "):
        planned(wrong)

    @flow
    def two():
        sm.train("fit", command="true")
        sm.train("fit", command="false")

    with pytest.raises(DuplicateTask):
        planned(two)


# -- other kinds of flows --------------------------------------------------------------------------------------------


def test_async_flows_and_flows_of_flows(sm, planned):
    """Async flows and tasks, and flows called by flows, are planned as well, with a loop running or not."""

    @task
    async def twice(number):
        return 2 * number

    @flow
    async def inner(name):
        return sm.train(name, command=MODEL, hyperparameters={"n": await twice(1), "m": twice.submit(2).result()})

    @flow(validate_parameters=True)
    async def outer(number: int):
        assert isinstance(number, int)
        result = await inner(f"fit{number}")
        return sm.process("next", command="true", inputs={"model": output_of(result)})

    @flow
    def plain():
        return inner_sync()

    @flow
    def inner_sync():
        return sm.train("fit", command=MODEL)

    async def within():
        return planned(outer, "3")

    assert [step.task for step in planned(outer, "3").steps] == ["fit3", "next"]
    assert [step.task for step in asyncio.run(within()).steps] == ["fit3", "next"]
    assert [step.task for step in planned(plain).steps] == ["fit"]


def test_a_thread_that_does_not_know_of_the_plan_makes_no_job(sm, prefect_api, backend, project):
    """If a flow starts a bare thread, whose calls would be real ones, its calls are refused; no job is made."""
    errors = []

    def call():
        try:
            # A bare thread does not have this folder's settings either, and Prefect would start a server for it.
            with prefect_settings.temporary_settings({prefect_settings.PREFECT_API_URL: prefect_api}):
                sm.train("fit", command="true")
        except InvalidTask as error:
            errors.append(error)

    @flow
    def threaded():
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()

    threaded_plan = plan(threaded)

    assert threaded_plan.steps == ()
    assert "copy_context" in errors[0].fix
    assert jobs_of(backend, project, "fit") == []


def test_prefect_is_left_as_it_was(sm, planned):
    """After a plan, also after a failed one, Prefect's engines are unchanged, and a run is a real run."""
    engine = prefect.task_engine.run_task

    def broken():
        sm.train("fit", command=MODEL)
        raise RuntimeError("in the flow")

    with pytest.raises(RuntimeError, match="in the flow"):
        planned(broken)

    assert prefect.task_engine.run_task is engine
    assert not sm.train("fit", command=MODEL).cached
