"""The result of a task: small, typed and serializable, with access to the job's outputs."""

import copy
import io
import json
import tarfile

import cloudpickle
import pytest
from aws_doubles import client_error

from tasks_lib import JobResult
from tasks_lib.errors import InvalidInput, MissingPath, ServiceFault, UnsafeArchive
from tasks_lib.jobs.s3_layout import Location
from tasks_lib.results.output import Output

FOLDER = "s3://a-bucket/demo/fit/fit-1/output/"


def result(**more):
    given = {
        "project": "demo", "task": "fit", "job": "fit-1", "arn": "arn:x", "kind": "training", "cached": False,
        "reason": "ran: first run", "seconds": 1.5, "metrics": {"auc": 0.5}, "metric_history": {"auc": [(1.0, 0.5)]},
        "outputs": {"model": f"{FOLDER}model.tar.gz", "output": FOLDER}, "fingerprint": "f" * 64,
    }  # fmt: skip
    return JobResult(**(given | more))


def tarball(**files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name.replace("__", "/"))
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def test_a_result_comes_back_from_json():
    """A result is restored from JSON with all fields, and its JSON is small."""
    again = JobResult.model_validate_json(result().model_dump_json())

    assert again.model_dump() == result().model_dump()
    assert len(result().model_dump_json()) < 1000


@pytest.mark.parametrize(
    "travel", [copy.deepcopy, lambda value: cloudpickle.loads(cloudpickle.dumps(value))], ids=["deepcopy", "pickle"]
)
def test_a_result_travels(block, travel):
    """A result can be copied and pickled, as Prefect does with what a persisted flow returns."""
    bound = result().bound(block)

    assert travel(bound).model_dump() == bound.model_dump()


def test_a_result_cannot_be_changed():
    """A result is immutable."""
    with pytest.raises(ValueError, match="frozen"):
        result().job = "other"


def test_outputs_are_read(block, objects):
    """A file of a tarball is read as bytes, text or JSON; `tests/journeys/test_results.py` reads files of a prefix."""
    objects.put(
        Location("a-bucket", "demo/fit/fit-1/output/model.tar.gz"), tarball(sub__x=b"\xc3\xa4", report=b'{"auc": 0.5}')
    )
    bound = result().bound(block)

    assert bound.model.read_json("report") == {"auc": 0.5}
    assert bound.model.read_bytes("report") == json.dumps({"auc": 0.5}).encode()
    assert bound.model.read_text("sub/x") == "ä"
    assert (bound.model.is_tarball, bound.output.is_tarball) == (True, False)


def test_downloads(block, objects, tmp_path):
    """A tarball is downloaded unpacked or unchanged, a prefix with all of its objects."""
    objects.put(Location("a-bucket", "demo/fit/fit-1/output/model.tar.gz"), tarball(a=b"1"))
    model = result().bound(block).model

    assert model.download(tmp_path / "u") == [tmp_path / "u" / "a"]
    assert model.download(tmp_path / "p", unpack=False) == [tmp_path / "p" / "model.tar.gz"]
    assert result().bound(block).output.download(tmp_path / "o") == [tmp_path / "o" / "model.tar.gz"]


def test_a_hostile_model_is_refused(block, objects, tmp_path):
    """A hostile tarball is refused, and nothing is written."""
    objects.put(Location("a-bucket", "demo/fit/fit-1/output/model.tar.gz"), tarball(**{"..__evil": b"1"}))

    with pytest.raises(UnsafeArchive):
        result().bound(block).model.download(tmp_path / "here")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("read", [
    lambda bound, folder: bound.output.read_bytes("gone"),
    lambda bound, folder: bound.model.read_bytes("gone"),
    lambda bound, folder: bound.model.download(folder),
])  # fmt: skip
def test_a_missing_file_is_an_error(block, tmp_path, read):
    """A missing file or output raises an error with a fix."""
    with pytest.raises(MissingPath) as caught:
        read(result().bound(block), tmp_path)

    assert caught.value.fix


def test_an_output_that_the_job_has_not(block):
    """The error for an output that the job does not have lists the existing ones."""
    with pytest.raises(InvalidInput, match="has no 'state'") as caught:
        assert result().bound(block).state

    assert "model, output" in caught.value.fix


def test_a_result_from_json_must_be_bound():
    """A result from JSON needs `bound`, because it does not know the account."""
    with pytest.raises(InvalidInput, match="does not know how to reach S3"):
        assert result().model


def test_an_output_shows_where_it_is(objects):
    """The `repr` of an output is its URI, for notebooks."""
    assert repr(Output(FOLDER, objects)) == f"Output('{FOLDER}')"


def test_a_log_that_cannot_be_read_is_no_empty_log(project, logs):
    """A log that cannot be read raises an error for `logs()`; only a task's run continues without it."""
    project.is_local = True  # a local project does not wait for its log to settle
    logs.faults.append(client_error("AccessDeniedException", "no logs for you"))

    with pytest.raises(ServiceFault, match=r"The log of job fit-1 could not be read: .*no logs for you"):
        result().bound(project).logs()
