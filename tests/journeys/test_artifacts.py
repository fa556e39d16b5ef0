"""The artifacts that a step leaves in Prefect's UI, read through Prefect's own client."""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from functools import partial

import httpx
import pytest
from journey_tools import Gate, in_background
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.sorting import ArtifactSort
from waiting import wait_until

from tasks_lib import sagemaker_tasks
from tasks_lib.errors import JobFailed

pytestmark = pytest.mark.sampled(4, group="all")

METRICS = {"auc": r"auc=([0-9.]+)"}
PRINT = "for x in 0.5 0.75 0.7; do echo auc=$x; done"


def artifacts(run=None, *keys):
    """Return the artifacts of a flow run, or those with one of some keys, the oldest first."""
    by_key = ArtifactFilter(key=ArtifactFilterKey(any_=list(keys))) if keys else None
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=by_key, sort=ArtifactSort.CREATED_DESC)[::-1]
    # Prefect keeps its own results as artifacts, too; they have no key.
    return [each for each in found if each.key and (run is None or str(each.flow_run_id) == str(run))]


def by_kind(run, task):
    """Return the artifacts of one task in a flow run, by their kind."""
    found = {each.key.partition("--")[2]: each for each in artifacts(run)}
    return {key.removeprefix(f"{task}-"): each for key, each in found.items() if key.startswith(f"{task}-")}


def run_of(work):
    """Run a function as a flow; return the id of the flow run."""

    @flow
    def run():
        work()

    return run(return_state=True).state_details.flow_run_id


@pytest.mark.always
def test_a_step_leaves_summary_metrics_plot_and_progress(sm, project, tmp_path):
    """A step leaves a summary, metrics, a plot and a progress under the task's keys, with the types of Prefect's UI."""
    (tmp_path / "data.csv").write_text("1,2\n")
    results = []

    def work():
        inputs = {"data": str(tmp_path)}
        results.append(sm.train.submit("fit-C0.1", command=PRINT, metrics=METRICS, inputs=inputs).result())

    found = by_kind(run_of(work), "fit-c0-1")

    assert {kind: each.type for kind, each in found.items()} == {
        "summary": "markdown", "metrics": "table", "plot": "image", "progress": "progress",
    }  # fmt: skip
    assert len({each.task_run_id for each in found.values()}) == 1
    page = found["summary"].data
    for words in ("# fit-C0.1: completed", "ran: first run", results[0].job, *results[0].inputs.values(),
                  *results[0].outputs.values(), "| **Cost** | unknown |", results[0].fingerprint[:12]):  # fmt: skip
        assert words in page
    assert json.loads(found["metrics"].data) == [{"metric": "auc", "last": 0.7, "min": 0.5, "max": 0.75, "points": 3}]
    head, _, picture = found["plot"].data.partition(",")
    assert head == "data:image/svg+xml;base64"
    assert b"<!-- auc -->" in base64.b64decode(picture)
    assert (found["progress"].data, found["progress"].description) == (100, f"Completed: {results[0].job}")


def test_a_price_gives_a_cost(make_project):
    """If the project has a price, the summary has a cost."""
    priced = sagemaker_tasks(make_project(hourly_prices={"ml.m5.large": 3600.0}))
    found = by_kind(run_of(lambda: priced.train("priced", command="true")), "priced")

    assert "| **Cost** | unknown |" not in found["summary"].data


def test_two_runs_are_one_history(sm, project):
    """1. A step runs. 2. With another parameter it runs again. 3. Its keys have two versions each, in order."""
    for value in (0.1, 0.2):
        run_of(partial(sm.train, "history", command=f"echo auc={value}", metrics=METRICS))

    metrics, summaries = (artifacts(None, f"{project.project}--history-{what}") for what in ("metrics", "summary"))
    assert [json.loads(each.data)[0]["last"] for each in metrics] == [0.1, 0.2]
    assert ["first run" in each.data for each in summaries] == [True, False]


def test_two_projects_have_histories_of_their_own(make_project):
    """Tasks of one name in two projects leave artifacts under two keys, whatever the names consist of."""
    name = f"two-{uuid.uuid4().hex[:8]}"
    for project, task in ((name, "x-fit"), (f"{name}-x", "fit")):
        run_of(partial(sagemaker_tasks(make_project(project=project)).train, task, command="true"))
    keys = [f"{name}--x-fit-summary", f"{name}-x--fit-summary"]

    assert [[each.key for each in artifacts(None, key)] for key in keys] == [[key] for key in keys]


def test_a_skip_leaves_a_summary_alone(sm):
    """A skipped step leaves only a summary: why it was skipped, what that saved, and the metrics of its job."""
    arguments = {"command": PRINT, "metrics": METRICS}
    run_of(lambda: sm.train("again", **arguments))
    found = by_kind(run_of(lambda: sm.train("again", **arguments)), "again")

    assert found.keys() == {"summary"}
    assert found["summary"].description == "skipped: nothing changed"
    for words in ("# again: skipped", "| **Saved** | a job of ", "| auc | 0.7 | 0.5 | 0.75 | 3 |"):
        assert words in found["summary"].data


@pytest.mark.sampled(1)
@pytest.mark.parametrize("kind", ["train", "process"])
def test_a_failed_job_leaves_its_diagnosis(kind, sm):
    """A failed job leaves exit code, host, SageMaker's reason, the last lines and the fix; the progress stays put."""
    command = "echo auc=0.5; echo reading; exit 3"
    found = by_kind(run_of(lambda: getattr(sm, kind)("broken", command=command, metrics=METRICS)), "broken")

    assert found.keys() == {"failure", "summary", "metrics", "progress"}
    page = found["failure"].data
    for words in ("# broken failed", "JobFailed", "| **Exit code** | 3 |", "algo-1", "reading", "## SageMaker says",
                  "run again: finished steps are skipped"):  # fmt: skip
        assert words in page
    assert "# broken: failed" in found["summary"].data
    assert found["progress"].data < 100
    assert found["progress"].description.startswith("Failed: broken-")


def test_the_bar_moves_while_the_job_runs(sm, project, tmp_path):
    """1. A job waits, and the progress says that it trains. 2. It goes on, and the same progress is at 100."""
    gate = Gate(tmp_path / "open")

    def bar():
        return next(iter(artifacts(None, f"{project.project}--moving-progress")), None)

    with in_background(lambda: run_of(lambda: sm.train("moving", command=gate.wait))):
        seen = wait_until(lambda: bar() if bar() and bar().data == 50 else None, "the bar at half")
        assert seen.description.startswith("Training: moving-")
        gate.open()

    assert [(each.id, each.data) for each in artifacts(None, f"{project.project}--moving-progress")] == [(seen.id, 100)]


@pytest.mark.exhaustive
def test_all_ways_to_call_a_step_leave_a_summary(sm, project):
    """Every way to call a step leaves a summary: directly, submitted, mapped, from an async flow, without a flow."""

    @flow
    def steps():
        sm.train("direct", command="true")
        sm.train.submit("submitted", command="true").wait()
        sm.train.map(["mapped-1", "mapped-2"], command="true").wait()

    @flow
    async def asynchronous():
        sm.train("within-async", command="true")
        sm.train.submit("submitted-async", command="true").wait()

    steps()
    asyncio.run(asynchronous())
    sm.train("without-flow", command="true")

    for task in ("direct", "submitted", "mapped-1", "mapped-2", "within-async", "submitted-async", "without-flow"):
        (found,) = artifacts(None, f"{project.project}--{task}-summary")
        assert f"# {task}: completed" in found.data
        assert found.task_run_id is not None
        assert (found.flow_run_id is None) == (task == "without-flow")


def test_no_secret_is_in_an_artifact(sm):
    """No artifact has a secret of the environment or of a hyperparameter: in log lines, AWS's reason or the cause."""
    command = 'echo "with $DB_PASSWORD"; echo "no $DB_PASSWORD" > "$LOCAL_SAGEMAKER_ROOT/opt/ml/output/failure"; exit 1'
    environment = {"DB_PASSWORD": "hidden-in-the-environment"}
    arguments = {"command": command, "environment": environment}
    runs = [
        run_of(partial(sm.train, "secretive", **arguments, hyperparameters={"api_key": f"hidden-{number}"}))
        for number in (1, 2)
    ]
    said = [each.model_dump_json() for run in runs for each in artifacts(run)]

    assert len(said) == 6
    assert any("with ****" in each and "no ****" in each for each in said)
    assert not [each for each in said if "hidden-in" in each or "hidden-2" in each]


class Refusing(httpx.BaseTransport):
    """A transport that refuses requests for artifacts and forwards all others."""

    def __init__(self, inner):
        self._inner = inner

    def handle_request(self, request):
        if "/artifacts" in request.url.path:
            return httpx.Response(500, json={"detail": "no room"}, request=request)
        return self._inner.handle_request(request)


def test_an_artifact_that_cannot_be_written_is_one_warning(sm, run_log, monkeypatch):
    """If the API refuses artifacts, the job succeeds, and the run's log says once that they are missing."""
    made = SyncPrefectClient.__init__

    def refusing(client, *arguments, **options):
        made(client, *arguments, **options)
        client._client._transport = Refusing(client._client._transport)

    monkeypatch.setattr(SyncPrefectClient, "__init__", refusing)
    result = sm.train("unheard", command=PRINT, metrics=METRICS)

    assert result.metrics == {"auc": 0.7}
    (warning,) = [text for text in run_log.texts if "artifacts" in text]
    assert "unheard" in warning
    assert "500" in warning
    with pytest.raises(JobFailed):
        sm.train("unheard", command="exit 1")
