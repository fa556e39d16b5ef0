"""What a task returns: names, places and numbers, and how its files are read."""

from __future__ import annotations

import json
import pickle
import warnings

import pandas as pd
import pytest
from journey_tools import Bucket
from prefect import flow
from prefect.settings import PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW, temporary_settings

from tasks_lib import JobResult, best, sagemaker_tasks
from tasks_lib.errors import InvalidInput, JobFailed, MetricMissing, MissingPath, UnsafeArchive

pytestmark = pytest.mark.sampled(6, group="all")

LEAVE = """set -e
mkdir "$SM_MODEL_DIR/deep"
echo weights > "$SM_MODEL_DIR/deep/weights"
echo '{"C": 0.5}' > "$SM_MODEL_DIR/model.json"
printf 'Grüße' > "$SM_OUTPUT_DATA_DIR/notes.txt"
echo '{"auc": 0.75}' > "$SM_OUTPUT_DATA_DIR/report.json"
echo 7 > "$SSM_STATE/epoch"
echo auc=0.75
"""


@pytest.fixture(scope="module")
def home(make_project):
    return make_project()


@pytest.fixture(scope="module")
def fit(home, tmp_path_factory):
    """Return a function that runs a training job which leaves something everywhere."""
    script = tmp_path_factory.mktemp("code") / "leave.sh"
    script.write_text(LEAVE)
    metrics = {"auc": r"auc=([0-9.]+)"}
    return lambda: sagemaker_tasks(home).train("fit", entry_point=str(script), metrics=metrics)


@pytest.fixture(scope="module")
def fitted(fit):
    """The result of that job."""
    return fit()


@pytest.fixture(scope="module")
def processed(home, tmp_path_factory):
    """The result of a processing job that left something everywhere."""
    script = tmp_path_factory.mktemp("code") / "leave.sh"
    script.write_text(LEAVE.replace("$SM_MODEL_DIR", "$SM_OUTPUT_DATA_DIR"))
    return sagemaker_tasks(home).process("clean", code=str(script))


def test_a_result_says_what_ran(fitted, home):
    """A result has the names, kind, numbers and places of the job that ran."""
    assert (home.project, "fit", "training", False) == (fitted.project, fitted.task, fitted.kind, fitted.cached)
    assert fitted.arn.endswith(f":training-job/{fitted.job}")
    assert fitted.metrics == {"auc": 0.75}
    assert fitted.seconds >= fitted.job_seconds > 0
    assert fitted.billable_seconds >= 1
    folder = f"{home.uri}fit/{fitted.job}/output/"
    assert fitted.outputs == {
        "model": f"{folder}model.tar.gz",
        "output": f"{folder}output.tar.gz",
        "state": f"{home.uri}fit/state/",
        "source": fitted.outputs["source"],
    }
    assert fitted.outputs["source"].startswith(f"{home.uri}_bundles/")


def test_a_result_survives_json(fitted, home):
    """A result is unchanged after JSON and pickle; bound to its project, it reads its files again."""
    read = JobResult.model_validate_json(fitted.model_dump_json())

    assert fitted.model_dump() == read.model_dump()
    assert fitted == read
    assert read.model.read_json("model.json") == {"C": 0.5}
    assert read.bound(home).model.read_json("model.json") == {"C": 0.5}
    assert pickle.loads(pickle.dumps(read)).explain().job == fitted.job


def test_a_result_holds_no_bulk_and_no_secret(fitted):
    """A result is small, and is printed without the project's credentials."""
    assert len(fitted.model_dump_json()) < 4000
    assert "credentials" not in repr(fitted)


def test_a_result_comes_back_from_a_flow(fit, fitted):
    """A flow that returns results gives them to its caller, bound to their project."""
    again = flow(fit, name="again")()

    assert (again.job, again.model.read_text("deep/weights")) == (fitted.job, "weights\n")


@pytest.mark.always
def test_files_of_a_tarball_are_read_one_by_one(fitted):
    """Single files of a training job's model and output are read as bytes, text and JSON."""
    assert fitted.model.read_bytes("deep/weights") == b"weights\n"
    assert fitted.model.read_json("model.json") == {"C": 0.5}
    assert (fitted.output.read_text("notes.txt"), fitted.output.read_json("report.json")) == ("Grüße", {"auc": 0.75})


def test_files_of_a_prefix_are_read_one_by_one(processed):
    """Single files of a processing job's output are read as bytes, text and JSON."""
    assert processed.output.read_bytes("deep/weights") == b"weights\n"
    assert (
        processed.output.read_text("notes.txt"),
        processed.output.read_json("report.json"),
    ) == ("Grüße", {"auc": 0.75})


def test_the_state_is_read_as_it_is_now(fitted, processed):
    """The state directory of both kinds of jobs can be read."""
    assert [result.state.read_text("epoch") for result in (fitted, processed)] == ["7\n", "7\n"]


def test_downloads_give_the_files_written(fitted, processed, tmp_path):
    """A download makes its directory and returns the paths: the content of a tarball, or all objects of a prefix."""
    model = fitted.model.download(tmp_path / "new" / "model")
    output = processed.output.download(tmp_path / "output")
    packed = fitted.model.download(tmp_path / "packed", unpack=False)

    assert [path.relative_to(tmp_path / "new/model").as_posix() for path in model] == ["deep/weights", "model.json"]
    assert (tmp_path / "new/model/deep/weights").read_text() == "weights\n"
    names = [path.relative_to(tmp_path / "output").as_posix() for path in output]
    assert names == ["deep/weights", "model.json", "notes.txt", "report.json"]
    assert [tmp_path / "packed" / "model.tar.gz"] == packed


def test_the_code_that_ran_can_be_fetched(home, tmp_path):
    """`source` is the author's code as it was when the job ran."""
    script = tmp_path / "fit.py"
    script.write_text("print(1)\n")
    result = sagemaker_tasks(home).train("sourced", entry_point=str(script))
    script.write_text("print(2)\n")

    assert result.source.read_text("fit.py") == "print(1)\n"


@pytest.mark.parametrize("artifact", ["model", "output"])
def test_a_file_that_is_not_there_is_named(artifact, fitted, processed):
    """Reading a file that the job did not leave is an error that names the file and the place."""
    result = fitted if artifact == "model" else processed
    with pytest.raises(MissingPath, match=r"There is no 'absent\.txt' in s3://"):
        getattr(result, artifact).read_text("absent.txt")


def test_an_output_that_the_kind_does_not_have_is_named(processed):
    """A processing job has no model; the error says what it has."""
    with pytest.raises(InvalidInput, match=r"has no 'model'.\s.*output"):
        _ = processed.model


def test_a_stateless_task_has_no_state_to_read(sm):
    """With `state="none"` the result has no state to read."""
    result = sm.train("fit", command="true", state="none")
    with pytest.raises(InvalidInput, match="has no 'state'"):
        _ = result.state


def test_an_object_name_that_climbs_is_not_written(home, processed, backend, tmp_path):
    """A key with `..` below a prefix is refused, and nothing is downloaded: S3 allows such keys, a disk must not."""
    bucket = Bucket(backend, home)
    place = f"clean/{processed.job}/output/"
    bucket.write(f"{place}../../climbed", "x")
    try:
        with pytest.raises(UnsafeArchive, match="outside"):
            processed.output.download(tmp_path / "a" / "b")
    finally:
        bucket.delete(f"{place}..")

    assert list(tmp_path.iterdir()) == []


def test_a_file_is_opened_as_bytes(fitted, processed):
    """Files of a tarball and of a prefix can be opened as bytes; the caller closes them."""
    with fitted.model.open("deep/weights") as packed, processed.output.open("deep/weights") as plain:
        assert packed.read() == plain.read() == b"weights\n"
    assert packed.closed


def test_an_output_is_a_path_for_pandas_and_fsspec(processed, monkeypatch):
    """Whatever AWS profile and proxy the user has: a file that can seek, a listing, and a frame."""
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    output = processed.output

    with output.open("deep/weights") as file:
        file.seek(2)
        assert file.read(3) == b"igh"
    assert [path.rpartition("/")[2] for path in output.filesystem.glob(f"{output.path}/deep/*")] == ["weights"]
    frame = pd.read_csv(f"{output.path}/deep/weights", storage_options=output.storage_options, header=None)
    assert frame.to_numpy().tolist() == [["weights"]]


def test_the_history_of_the_metrics_is_a_frame(fitted):
    """A row for each value that was seen, with its time."""
    frame = fitted.metrics_frame()

    assert list(frame.columns) == ["metric", "time", "seconds", "value"]
    assert frame[["metric", "seconds", "value"]].to_numpy().tolist() == [["auc", 0.0, 0.75]]
    assert fitted.created <= frame["time"][0].timestamp() <= fitted.created + fitted.job_seconds + 1


def test_the_log_can_be_read_at_any_time(fitted, home):
    """The log can be read at any time, also through a result that came from JSON."""
    read = JobResult.model_validate_json(fitted.model_dump_json()).bound(home)

    assert "auc=0.75" in [line.text for line in read.logs()]


def test_a_result_shows_itself(fitted):
    """In a terminal and in a notebook, a result shows the job, its status, why it ran, and its outputs."""
    for shown in (str(fitted), fitted._repr_html_()):
        for word in (fitted.job, "Completed", "ran: first run", "0.75", *fitted.outputs.values(), "unknown"):
            assert word in shown


def test_time_and_cost(fitted, make_project, tmp_path):
    """A result has the seconds of each phase in order, and the cost by the project's own prices, or none."""
    priced = make_project(hourly_prices={"ml.m5.large": 3600.0})
    train, process = sagemaker_tasks(priced).train, sagemaker_tasks(priced).process
    known = [train("fit", command="true", instance_count=2), process("clean", command="true")]

    assert list(fitted.phases) == ["starting", "downloading", "training", "uploading"]
    assert fitted.cost is None
    assert known[0].cost == 2 * known[0].billable_seconds
    assert known[1].phases["processing"] > 0
    assert known[1].cost == pytest.approx(known[1].phases["processing"])
    assert train("fit", command="true", instance_count=2).cost == known[0].cost


def test_a_result_explains_itself(sm):
    """A result explains what its work consists of, what changed, and for a skip why the job had run."""
    sm.train("fit", command="true", hyperparameters={"C": 1})
    changed = sm.train("fit", command="true", hyperparameters={"C": 2})
    skipped = sm.train("fit", command="true", hyperparameters={"C": 2})

    assert ("hyperparameter C", "2", "1") in changed.explain().table.rows
    assert ("hyperparameter C", "2", "1") in skipped.explain().table.rows
    assert 'had run because: hyperparameter "C" changed (1 -> 2)' in str(skipped.explain())


def test_a_failed_job_has_a_result(sm, home):
    """The error of a failed job has a result: status, log, reason, what it left, and why it ran."""
    command = 'echo 3 > "$SSM_STATE/epoch"; echo auc=0.5; echo oops >&2; exit 7'
    with pytest.raises(JobFailed) as caught:
        sm.train("fit", command=command, metrics={"auc": "auc=([0-9.]+)"})
    result = caught.value.result

    assert (result.status, result.cached, result.reason) == ("Failed", False, "ran: first run")
    assert "exit code 7" in result.failure
    assert result.metrics == {"auc": 0.5}
    assert result.metrics_frame()["value"].tolist() == [0.5]
    assert "oops" in [line.text for line in result.logs()]
    assert result.state.read_text("epoch") == "3\n"
    assert ("command", command, None) in result.explain().table.rows
    assert "Failed" in str(result)


DIVERGED = "for loss in 0.5 0.4 nan inf nan; do echo epoch loss=$loss; done"


@pytest.mark.always
def test_a_training_that_diverged_does_not_look_good(sm):
    """If the last value is `nan`, the other training is the best, also after a skip, whose record is strict JSON."""
    good = sm.train("good", command="echo loss=0.7", metrics={"loss": "loss="})
    diverged = sm.train("diverged", command=DIVERGED, metrics={"loss": "loss="})
    again = sm.train("diverged", command=DIVERGED, metrics={"loss": "loss="})

    assert str(diverged.metrics) == str(again.metrics) == "{'loss': nan}"
    assert [str(value) for _, value in again.metric_history["loss"]] == ["0.5", "0.4", "nan", "inf", "nan"]
    assert best([diverged, again, good], minimize="loss") is good
    assert (again.cached, JobResult.model_validate_json(again.model_dump_json())) == (True, again)


@pytest.mark.parametrize(
    ("settings", "warned"), [({}, False), ({PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW: "warn"}, True)]
)
def test_a_call_outside_of_a_flow_is_quiet(sm, settings, warned):
    """Outside of a flow run Prefect does not warn at each line, unless the settings ask for it."""
    with temporary_settings(settings), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sm.train("fit", command="echo a; echo b")

    assert any("attempted to send logs to the API" in str(each.message) for each in caught) is warned


def test_a_metric_without_a_value_is_reported(sm, caplog):
    """A metric without a value is reported at the job's end, with the nearest line, and raises when it is read."""
    result = sm.train("fit", command="echo AUC: 0.9; echo lr=1e-05", metrics={"auc": "auc=", "lr": r"lr=([0-9.]+)"})

    assert "The metric 'auc' has no value" in caplog.text
    assert "'AUC: 0.9'" in caplog.text
    assert "The metric 'lr' may be wrong" in caplog.text
    with pytest.raises(MetricMissing, match=r"it had 'lr'"):
        result.metrics["auc"]


def test_invalid_json_raises(home, processed):
    """Reading a text as JSON raises `JSONDecodeError`."""
    with pytest.raises(json.JSONDecodeError):
        processed.output.read_json("notes.txt")
