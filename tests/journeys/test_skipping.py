"""When a task is skipped, what a skip costs, and what makes a task run again."""

from __future__ import annotations

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor

import prefect.settings as prefect_settings
import pytest
from journey_tools import Bucket, Gate, counting, in_background, jobs_of, last_task_runs
from prefect import flow
from prefect.client.orchestration import get_client
from waiting import wait_until

from tasks_lib import output_of, sagemaker_tasks

pytestmark = pytest.mark.sampled(7, group="all")

MODEL = 'echo weights > "$SM_MODEL_DIR/weights"'
KEEP = 'echo kept >> "$SSM_STATE/kept"'


def fit(sm, name="fit", **arguments):
    """Train something small, by default without state."""
    return sm.train(name, **({"command": MODEL, "state": "none"} | arguments))


# -- requests of a skip --------------------------------------------------------------------------------------------


def no_input(bucket, sm, folder):
    return {}, {"s3:GetObject": 1, "s3:ListObjectsV2": 1}


def state_that_was_left(bucket, sm, folder):
    return {"command": KEEP, "state": "task"}, {"s3:GetObject": 1, "s3:ListObjectsV2": 2}


def a_local_input(bucket, sm, folder):
    (folder / "rows.csv").write_text("1\n")
    return {"inputs": {"rows": folder}}, {"s3:GetObject": 1, "s3:ListObjectsV2": 1}


def a_prefix_of_1001_objects(bucket, sm, folder):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: bucket.write(f"many/{number:04}", b""), range(1001)))
    return {"inputs": {"many": bucket.uri("many")}}, {"s3:GetObject": 1, "s3:ListObjectsV2": 3}


def an_output_by_result(bucket, sm, folder):
    return {"inputs": {"model": output_of(fit(sm, "base"))}}, {"s3:GetObject": 1, "s3:ListObjectsV2": 1}


def an_output_by_name(bucket, sm, folder):
    fit(sm, "base")
    return {"inputs": {"model": output_of("base")}}, {"s3:GetObject": 2, "s3:ListObjectsV2": 1}


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    "case",
    [
        no_input,
        state_that_was_left,
        a_local_input,
        a_prefix_of_1001_objects,
        an_output_by_result,
        an_output_by_name,
    ],
    ids=lambda case: case.__name__,
)
def test_a_skip_costs_its_reads_of_s3_and_no_call_of_sagemaker(case, sm, bucket, backend, tmp_path):
    """A skip makes the requests of decision 0006, one GET more for an input by name, and no others."""
    arguments, expected = case(bucket, sm, tmp_path)
    first = fit(sm, **arguments)
    with counting(backend) as made:
        again = fit(sm, **arguments)

    assert expected == made
    assert (again.cached, again.reason, again.job) == (True, "skipped: nothing changed", first.job)


# -- states in Prefect ---------------------------------------------------------------------------------------------


def submitted(task, name):
    future = task.submit(name, command=MODEL, state="none")
    return future.result(), future.state


def mapped(task, name):
    (future,) = task.map([name], command=MODEL, state="none")
    return future.result(), future.state


def called(task, name):
    state = task(name, command=MODEL, state="none", return_state=True)
    return state.result(), state


@pytest.mark.always
@pytest.mark.sampled(2)
@pytest.mark.parametrize("options", [{}, {"retries": 2}], ids=["plain", "with_options"])
@pytest.mark.parametrize("way", [submitted, mapped, called], ids=lambda way: way.__name__)
def test_a_skip_is_cached_in_prefect(way, options, sm):
    """However a task is called, a run has the state Completed, and a skip Cached with the reason as its message."""
    task = sm.train.with_options(**options) if options else sm.train

    @flow
    def twice():
        return way(task, "fit"), way(task, "fit")

    (first, ran), (again, skipped) = twice()

    assert (ran.name, first.cached) == ("Completed", False)
    assert (skipped.name, skipped.message) == ("Cached", "skipped: nothing changed")
    assert (again.cached, again.job, again.outputs) == (True, first.job, first.outputs)


@pytest.mark.parametrize("options", [{}, {"retries": 2}], ids=["plain", "with_options"])
def test_a_direct_call_gives_the_result_of_a_skip(options, sm):
    """A called task returns its `JobResult`, in a flow and without one, whether it ran or not."""
    train = sm.train.with_options(**options) if options else sm.train

    @flow
    def inside():
        return train("fit", command=MODEL, state="none")

    jobs = {result.job for result in (inside(), inside(), train("fit", command=MODEL, state="none"))}

    assert len(jobs) == 1


def test_an_async_flow_gets_results_as_well(sm):
    """In an async flow, too, a called task returns its result and a submitted one its future."""

    @flow
    async def both():
        return [sm.train("fit", command=MODEL, state="none") for _ in range(2)], sm.train.submit(
            "fit", command=MODEL, state="none"
        ).result()

    (first, second), third = asyncio.run(both())

    assert [result.cached for result in (first, second, third)] == [False, True, True]
    assert first.job == second.job == third.job


def test_the_server_shows_names_and_the_cached_state(sm):
    """In Prefect's database a task run has its task's name, the state Cached, and the reason."""
    fit(sm)

    @flow
    def skipping():
        future = sm.train.submit("fit", command=MODEL, state="none")
        future.wait()
        return future.task_run_id

    run_id = skipping()
    with get_client(sync_client=True) as client:
        (run,) = last_task_runs(client, ids=[run_id])

    assert (run.name, run.state.name, run.state.message) == ("fit", "Cached", "skipped: nothing changed")


# -- forced runs ---------------------------------------------------------------------------------------------------


@pytest.mark.sampled(1)
@pytest.mark.parametrize("way", ["refresh_cache", "rerun"])
def test_a_forced_run_runs_again(way, sm):
    """`refresh_cache=True` and `rerun="always"` make another attempt, each time."""
    train = sm.train.with_options(refresh_cache=True) if way == "refresh_cache" else sm.train
    wish = {} if way == "refresh_cache" else {"rerun": "always"}
    fit(sm)
    results = [train("fit", command=MODEL, state="none", **wish) for _ in range(2)]

    assert [result.job[-2:] for result in results] == ["-2", "-3"]
    assert {"ran: it was asked to run in any case"} == {result.reason for result in results}
    assert fit(sm).job == results[-1].job


def test_prefects_own_setting_forces_as_its_option_does(sm):
    """`PREFECT_TASKS_REFRESH_CACHE` is Prefect's default of `refresh_cache`; a task that says False is not forced."""
    fit(sm)
    with prefect_settings.temporary_settings({prefect_settings.PREFECT_TASKS_REFRESH_CACHE: True}):
        forced = fit(sm)
        spared = sm.train.with_options(refresh_cache=False)("fit", command=MODEL, state="none")

    assert [(result.job[-2:], result.cached) for result in (forced, spared)] == [("-2", False), ("-2", True)]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("done_before", [True, False], ids=["done before", "first run"])
@pytest.mark.parametrize("wish", [{"rerun": "always"}, {"clean_state": True}], ids=["always", "clean_state"])
def test_a_retry_of_a_flow_run_does_not_force_twice(wish, done_before, sm, backend):
    """If a flow run is retried after its forced step was done, the step is skipped."""
    if done_before:
        fit(sm)
    tries = []

    @flow(retries=1)
    def forced():
        tries.append(fit(sm, **wish))
        assert len(tries) > 1, "the flow's first try fails after the step"
        return tries[-1]

    with counting(backend) as made:
        last = forced()

    assert made["sagemaker:CreateTrainingJob"] == 1
    assert (last.job, last.cached) == (tries[0].job, True)


def test_a_failed_forced_attempt_is_followed_by_one_more(sm, tmp_path):
    """If a forced attempt fails and Prefect retries it, it is closed as failed, and one more attempt is made."""
    fails_once = f"{MODEL}; [ ! -e {tmp_path}/fail ] || {{ rm {tmp_path}/fail; exit 1; }}"
    fit(sm, command=fails_once)
    (tmp_path / "fail").touch()

    @flow
    def forced():
        return sm.train.with_options(retries=1)("fit", command=fails_once, state="none", rerun="always")

    assert ((result := forced()).job[-2:], result.reason) == ("-3", "ran: the previous attempt failed")


@pytest.mark.always
def test_a_forced_run_attaches_to_a_live_job(sm, backend, project, tmp_path):
    """A forced run attaches to a live job of the same work instead of starting another."""
    gate = Gate(tmp_path / "open")
    arguments = {"command": f"{gate.wait}; {MODEL}", "state": "none"}
    with in_background(lambda: sm.train("fit", **arguments)) as first:
        wait_until(lambda: jobs_of(backend, project, "fit"), "the job")
        with in_background(lambda: sm.train("fit", rerun="always", **arguments)) as second:
            wait_until(lambda: len(Bucket(backend, project).names("fit/_ledger/interest/")) > 1, "both to wait")
            gate.open()

    assert first.result().job == second.result().job
    assert second.result().reason == "attached to its running job"
    assert len(jobs_of(backend, project, "fit")) == 1
    assert Bucket(backend, project).names("fit/_ledger/interest/") == []


# -- state ---------------------------------------------------------------------------------------------------------


@pytest.mark.always
def test_state_survives_until_it_is_cleaned(sm):
    """1. A job finds what the last one left. 2. `clean_state` empties it and runs again. 3. After that it is kept."""
    command = 'cat "$SSM_STATE"/kept 2>/dev/null > "$SM_MODEL_DIR/found" || true; ' + KEEP
    fit(sm, command=command, state="task")
    second = fit(sm, command=command, state="task", rerun="always")
    cleaned = fit(sm, command=command, state="task", clean_state=True)

    assert second.model.read_text("found") == "kept\n"
    assert cleaned.reason == "ran: its state was cleaned"
    assert cleaned.model.read_text("found") == ""
    assert cleaned.state.read_text("kept") == "kept\n"
    assert fit(sm, command=command, state="task").cached


def test_a_retry_keeps_what_the_cleaned_attempt_left(sm):
    """`clean_state` cleans once in a flow run: its retry continues from what the failed attempt left."""
    fails_first = 'echo x >> "$SSM_STATE/tries"; [ $(wc -l < "$SSM_STATE/tries") -gt 1 ]'

    @flow
    def cleaned():
        return sm.train.with_options(retries=1)("fit", command=fails_first, clean_state=True)

    assert cleaned().state.read_text("tries") == "x\nx\n"


def test_a_processing_job_finds_its_earlier_state(sm):
    """A processing job finds its earlier state, although SageMaker has no checkpoints for processing."""
    command = f'{KEEP}; cp "$SSM_STATE/kept" "$SM_OUTPUT_DATA_DIR/kept"'
    first = sm.process("count", command=command)
    second = sm.process("count", command=command, rerun="always")

    assert (second.output.read_text("kept"), second.state.read_text("kept")) == ("kept\nkept\n", "kept\nkept\n")
    assert first.output.read_text("kept") == "kept\n"


def test_other_work_on_the_same_state_runs_the_first_again(sm):
    """Two kinds of work under one name share a state: going back to the first runs it, and says why."""
    one, other = {"command": f"{KEEP} # one", "state": "task"}, {"command": f"{KEEP} # other", "state": "task"}
    fit(sm, **one)
    fit(sm, **other)
    back = fit(sm, **one)

    assert back.reason == "ran: its state was changed by other work"
    assert back.state.read_text("kept") == "kept\n" * 3


def test_the_state_of_a_never_touches_that_of_ab(sm, bucket):
    """Cleaning, restoring and chaining the state of task `a` leaves `ab` and `a-state` alone."""
    for name in ("a", "ab", "a-state"):
        fit(sm, name, command=f'echo {name} > "$SSM_STATE/name"', state="task")
    left = 'ls -R "$SSM_STATE" > "$SM_MODEL_DIR/listing"'
    cleaned = fit(sm, "a", command=left, state="task", clean_state=True)
    reader = fit(
        sm, "reader", command='ls "$SM_CHANNEL_S" > "$SM_MODEL_DIR/listing"', inputs={"s": output_of("ab", "state")}
    )

    assert "name" not in cleaned.model.read_text("listing")
    assert reader.model.read_text("listing") == "name\n"
    assert bucket.names("ab/state/") + bucket.names("a-state/state/") == ["ab/state/name", "a-state/state/name"]
    assert bucket.names("a/state/") == []
    for name in ("ab", "a-state"):
        assert fit(sm, name, command=f'echo {name} > "$SSM_STATE/name"', state="task").cached


# -- outputs and records -------------------------------------------------------------------------------------------


def lost(bucket, job):
    bucket.delete(f"fit/{job}/output/")


def overwritten(bucket, job):
    bucket.write(f"fit/{job}/output/model.tar.gz", b"something else")


def added(bucket, job):
    bucket.write(f"fit/{job}/output/stray", b"")


@pytest.mark.parametrize("damage", [lost, overwritten, added], ids=lambda damage: damage.__name__)
def test_changed_outputs_run_again(damage, sm, bucket):
    """Outputs that are not as the job left them cause another attempt, with that reason."""
    first = fit(sm)
    damage(bucket, first.job)
    second = fit(sm)

    assert (second.job[-2:], second.reason) == ("-2", "ran: its outputs were changed or deleted")
    assert second.model.read_text("weights") == "weights\n"
    assert fit(sm).cached


def test_a_failed_attempt_is_followed_by_the_next(sm, tmp_path):
    """After a failure the next attempt runs under its own name; then the work is skipped."""
    command = f"[ -e {tmp_path}/healed ]"
    with pytest.raises(Exception, match="failed on algo-1 with exit code 1"):
        fit(sm, command=command)
    (tmp_path / "healed").touch()
    second = fit(sm, command=command)

    assert (second.job[-2:], second.reason) == ("-2", "ran: the previous attempt failed")
    assert fit(sm, command=command).cached


def test_a_failure_with_other_code_does_not_hide_an_earlier_success(sm):
    """Completed work stays completed after a failure with other code, and `output_of` by name still finds it."""
    good = fit(sm)
    with pytest.raises(Exception, match="failed on algo-1"):
        fit(sm, command="exit 1")
    reader = fit(
        sm, "reader", command='cp "$SM_CHANNEL_M/weights" "$SM_MODEL_DIR"', inputs={"m": output_of("fit", extract=True)}
    )

    assert (good.job, True) == ((again := fit(sm)).job, again.cached)
    assert reader.model.read_text("weights") == "weights\n"


@pytest.mark.always
def test_a_lost_ledger_is_built_again_from_the_completed_job(sm, bucket, backend):
    """Without its records, the next run finds the job by its name, records it, and starts none; then it skips."""
    first = fit(sm, metrics={"auc": "auc=([0-9.]+)"}, command=f"{MODEL}; echo auc=0.5")
    bucket.delete("fit/_ledger/")
    with counting(backend) as made:
        adopted = fit(sm, metrics={"auc": "auc=([0-9.]+)"}, command=f"{MODEL}; echo auc=0.5")

    assert first.job == adopted.job
    assert "sagemaker:CreateTrainingJob" not in made
    assert (first.metrics, first.outputs) == (adopted.metrics, adopted.outputs)
    assert fit(sm, metrics={"auc": "auc=([0-9.]+)"}, command=f"{MODEL}; echo auc=0.5").cached


def test_if_incomplete_looks_at_the_name_alone(sm):
    """`rerun="if_incomplete"` accepts any completed job of that name, also with other code and arguments."""
    first = fit(sm)
    other = {"command": "exit 1", "arguments": ["x"], "hyperparameters": {"C": 1}}
    by_name = fit(sm, rerun="if_incomplete", **other)

    assert (first.job, "skipped: a completed job of that name is there") == (by_name.job, by_name.reason)
    assert not fit(sm, "never-ran", rerun="if_incomplete").cached
    assert fit(sm, rerun="if_incomplete", clean_state=True).job != first.job


def test_if_incomplete_runs_what_has_lost_its_outputs(sm, bucket):
    """`rerun="if_incomplete"` runs again if the completed job's outputs were deleted: the next step would read them."""
    first = fit(sm)
    bucket.delete(f"fit/{first.job}/output/model.tar.gz")
    again = fit(sm, rerun="if_incomplete")

    assert not again.cached
    assert again.job != first.job


# -- names and projects --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["train", "process"])
def test_a_job_says_whose_work_it_is(kind, sm, project, backend):
    """Name, environment and tags of a job contain project, task, fingerprint, and the run that started it."""

    @flow
    def naming():
        from prefect.runtime import flow_run

        return getattr(sm, kind)("fit-C1.0", command="true"), flow_run.id

    result, flow_run = naming()
    word = {"train": "training", "process": "processing"}[kind]
    client = backend.client("sagemaker")
    said = getattr(client, f"describe_{word}_job")(**{f"{word.title()}JobName": result.job})
    tags = {row["Key"]: row["Value"] for row in client.list_tags(ResourceArn=result.arn)["Tags"]}

    assert re.fullmatch(r"fit-C1-0-[0-9a-f]{16}-1", result.job)
    assert (said[f"{word.title()}JobArn"], word) == (result.arn, result.kind)
    variables = {"SSM_FINGERPRINT": result.fingerprint, "SSM_PROJECT": project.project, "SSM_TASK": "fit-C1.0"}
    started_by = said["Environment"].pop("SSM_STARTED_BY")
    assert variables == said["Environment"]
    assert started_by.startswith(f"{flow_run}/1-")
    assert (
        tags.items()
        >= {
            "prefect-sagemaker:project": project.project,
            "prefect-sagemaker:task": "fit-C1.0",
            "prefect-sagemaker:fingerprint": result.fingerprint,
            "prefect-sagemaker:flow-run": flow_run,
        }.items()
    )


def test_projects_and_prefixes_never_skip_each_other(make_project):
    """The same work under the same name has its own job in each project and under each prefix."""
    first = make_project()
    projects = [first, make_project(), first.model_copy(update={"prefix": "team"})]
    results = [fit(sagemaker_tasks(project)) for project in projects]

    assert len({result.job for result in results}) == 3
    assert len({result.fingerprint for result in results}) == 1
    assert [result.cached for result in results] == [False] * 3
    assert [fit(sagemaker_tasks(project)).cached for project in projects] == [True] * 3
