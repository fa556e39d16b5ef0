"""Invalid calls are refused before anything is written or paid for, with a typed error that says what to do."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from types import MappingProxyType

import pytest
from journey_tools import counting, jobs_of
from prefect import flow

from blocks import SageMakerProject
from tasks_lib import output_of, sagemaker_tasks
from tasks_lib.error_categories import ErrorCategory
from tasks_lib.errors import (
    BackendNotRunning,
    BlockNotFound,
    BucketMissing,
    DuplicateTask,
    InputNotReady,
    InvalidHyperparameter,
    InvalidInput,
    InvalidName,
    InvalidRequest,
    InvalidTask,
    MissingPath,
    NoCredentials,
    PrefectSageMakerError,
    ProjectError,
    ServiceFault,
)
from tasks_lib.run.retries import CALL_RETRIES, BackOff

pytestmark = pytest.mark.sampled(6, group="all")

READING = {"s3:GetObject", "s3:ListObjectsV2", "sagemaker:ListTrainingJobs", "sagemaker:ListProcessingJobs"} | {
    f"sagemaker:Describe{kind}Job" for kind in ("Training", "Processing")
}


@pytest.fixture
def refused(sm, backend):
    """Return a function that makes a call that must be refused, without a write or a job, and returns the message."""

    def refused(kind, expected, name="fit", **arguments):
        with counting(backend) as made, pytest.raises(PrefectSageMakerError) as caught:
            getattr(sm, kind)(name, **arguments)
        assert isinstance(caught.value, expected)
        assert made.keys() <= READING
        assert re.search(r"\nTo resolve this: \S", str(caught.value))
        return str(caught.value)

    return refused


# -- paths ---------------------------------------------------------------------------------------------------------


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("call", "missing"),
    [
        (("train", {"entry_point": "absent.py"}), "absent.py"),
        (("train", {"entry_point": "absent.py", "source_dir": "code"}), "code/absent.py"),
        (("train", {"entry_point": "there.py", "source_dir": "absent"}), "absent"),
        (("train", {"entry_point": "code/there.py", "dependencies": ["absent"]}), "absent"),
        (("process", {"code": "absent.py"}), "absent.py"),
        (("process", {"code": "code"}), "code"),
        (("process", {"command": "true", "inputs": {"raw": "data/absent.csv"}}), "data/absent.csv"),
        (("process", {"command": "true", "inputs": {"raw": Path("code"), "more": "absent"}}), "absent"),
    ],
)
def test_a_missing_path_is_named_absolutely(call, missing, refused, tmp_path, monkeypatch):
    """The error names the missing path as an absolute path."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "there.py").touch()
    kind, arguments = call

    assert f"{tmp_path / missing} does not exist" in refused(kind, MissingPath, **arguments)


def test_an_ignored_entry_point_is_named(refused, tmp_path):
    """If `.sagemakerignore` leaves out the entry point, the error says so."""
    (tmp_path / "fit.py").touch()
    (tmp_path / ".sagemakerignore").write_text("*.py\n")
    message = refused("train", MissingPath, source_dir=str(tmp_path), entry_point="fit.py")

    assert str(tmp_path / "fit.py") in message
    assert ".sagemakerignore" in message


def test_links_that_lead_nowhere_or_in_circles_do_no_harm(refused, sm, tmp_path):
    """A dangling link in an input is a missing path; a circle of links is followed once."""
    (tmp_path / "x").write_text("1")
    (tmp_path / "circle").symlink_to(tmp_path)
    (tmp_path / "other").symlink_to(tmp_path)
    count = 'ls -R "$SM_CHANNEL_DATA" | grep -c x > "$SM_MODEL_DIR/n"'

    assert sm.train("fit", command=count, inputs={"data": tmp_path}).model.read_text("n") == "1\n"
    (tmp_path / "dangling").symlink_to(tmp_path / "absent")
    assert str(tmp_path / "dangling") in refused("train", MissingPath, command="true", inputs={"data": tmp_path})


# -- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", ["", "a/b", "-fit", "fit_", "_ledger", "größe", "a b", "x" * 129, None, 3])
def test_a_name_that_sagemaker_would_refuse(name, refused):
    """A task name that is invalid as a folder and as the stem of a job's name is refused, and shown."""
    assert repr(name) in refused("train", InvalidName, name, command="true")


def test_a_refused_name_comes_with_a_suggestion(refused):
    """The error suggests a valid name."""
    assert "for example 'fit-C-0-1'" in refused("train", InvalidName, "fit (C=0.1)", command="true")


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", ["a b", "", "ssm_source", "x" * 65, "ä"])
def test_a_channel_name_that_sagemaker_would_refuse(name, refused, tmp_path):
    """An input name that is invalid as a channel's name is refused and shown; so is the package's own channel."""
    (tmp_path / "x").touch()

    assert repr(name) in refused("train", InvalidName, command="true", inputs={name: tmp_path})


def test_one_name_for_two_kinds_of_work_is_refused(sm, backend):
    """Two calls of one name with different work in a flow run are an error that names both runs and the difference."""

    @flow
    def confused():
        first = sm.train.submit("fit", command="true", hyperparameters={"C": 1})
        first.wait()
        second = sm.train.submit("fit", command="true", hyperparameters={"C": 2})
        second.wait()
        return [str(future.task_run_id) for future in (first, second)], second.state

    with counting(backend) as made:
        runs, second = confused()
        with pytest.raises(DuplicateTask) as caught:
            second.result()

    assert all(run in str(caught.value) for run in runs)
    assert 'hyperparameter "C" changed (1 -> 2)' in str(caught.value)
    assert "To resolve this: give each piece of work a name of its own" in str(caught.value)
    assert made["sagemaker:CreateTrainingJob"] == 1


def test_the_same_work_twice_is_one_job(sm, backend, project):
    """Several calls of one name with the same work in a flow run share one job, without an error."""

    @flow
    def twice():
        futures = [sm.train.submit("fit", command="sleep 0.2") for _ in range(3)]
        return [future.result().job for future in futures]

    jobs = set(twice())

    assert jobs == set(jobs_of(backend, project, "fit"))
    assert len(jobs) == 1


# -- inputs --------------------------------------------------------------------------------------------------------


def test_an_input_task_that_is_not_completed(refused):
    """An input task that never ran is an error that says so, and what to do."""
    message = refused("train", InputNotReady, command="true", inputs={"data": output_of("prepare")})

    assert "'prepare'" in message
    assert "it never ran" in message


def test_an_unknown_output_type(refused):
    """An unknown output is an error that lists the known ones."""
    with pytest.raises(InvalidInput, match=r"no output 'modle'.\n.*model, output, state, source"):
        output_of("prepare", "modle")


# -- values --------------------------------------------------------------------------------------------------------


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("value", "words"),
    [
        (object(), "is not valid JSON: object"),
        ({1, 2}, "is not valid JSON: set"),
        (float("nan"), "is not a finite number"),
        (float("inf"), "is not a finite number"),
        ([1, float("nan")], "is not valid JSON: list"),
        (Path("x"), "is not valid JSON: "),
        (b"x", "is not valid JSON: bytes"),
    ],
    ids=["object", "set", "nan", "inf", "nan in a list", "path", "bytes"],
)
def test_a_hyperparameter_that_does_not_serialise(value, words, refused):
    """A hyperparameter that cannot be written as JSON is refused, and named with its type."""
    message = refused("train", InvalidHyperparameter, command="true", hyperparameters={"C": value})

    assert "'C'" in message
    assert words in message


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("kind", "arguments", "words"),
    [
        ("train", {"hyperparameters": {"C": "x" * 2501}}, "HyperParameters.'C': 2501 characters, at most 2500"),
        ("train", {"hyperparameters": {f"h{n}": n for n in range(101)}}, "HyperParameters: 101 entries, at most 100"),
        ("train", {"environment": {"A": "x" * 513}}, "Environment.'A': 513 characters, at most 512"),
        ("process", {"environment": {"A": "x" * 257}}, "Environment.'A': 257 characters, at most 256"),
        ("train", {"environment": {f"A{n}": "" for n in range(97)}}, "Environment: 101 entries, at most 100"),
        ("train", {"environment": {"1A": ""}}, "'1A' does not match"),
        ("train", {"arguments": ["x" * 257]}, "257 characters, at most 256 allowed (ContainerArguments)"),
        ("process", {"arguments": ["x"] * 98}, "ContainerArguments: 101 entries, at most 100"),
        ("train", {"metrics": {f"m{n}": "(.)" for n in range(41)}}, "MetricDefinitions: 41 entries, at most 40"),
        ("train", {"instance_type": "ml.m5.gigantic"}, "'ml.m5.gigantic' is not one of"),
        ("process", {"max_runtime_minutes": 10**6}, "MaxRuntimeInSeconds: 60000000, at most"),
        ("train", {"tags": {"a" * 129: ""}}, "129 characters, at most 128"),
    ],
)
def test_a_request_that_is_too_big_or_misspelt(kind, arguments, words, refused):
    """What AWS's own model forbids is refused here, with the member's name and the limit."""
    assert words in refused(kind, InvalidRequest, command="true", **arguments)


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("kind", "arguments", "words"),
    [
        ("train", {"command": "true", "arguments": "--C 1"}, "give a list: ['--C', '1']"),
        ("train", {"command": "true", "environment": {"A": ["x"]}}, "environment variable 'A' is a list"),
        ("train", {"command": "true", "metrics": {"auc": "("}}, "metric 'auc' does not compile"),
        ("process", {"command": "true", "metrics": {"auc": "auc=.*"}}, "metric 'auc' has no group"),
        ("train", {"command": "true", "entry_point": "fit.py"}, "both a file and a command"),
        ("train", {"source_dir": "."}, "code and nothing of it to run"),
        ("train", {"command": "true", "image": ""}, "names no image"),
        ("train", {"command": "true", "rerun": "sometimes"}, "'sometimes'"),
        ("train", {"command": "true", "on_busy": "panic"}, "'panic'"),
        ("train", {"command": "true", "state": "nothing"}, "'nothing'"),
        ("train", {"command": "true", "instance_count": "two"}, "instance_count='two'"),
        ("train", {"command": "true", "instance_count": 0}, "instance_count=0"),
        ("train", {"command": "true", "inputs": ["data"]}, "inputs"),
        ("process", {"command": "true", "max_runtime_minutes": "10"}, "'10'"),
        ("train", {"command": "true", "max_runtime_minutes": float("nan")}, "nan, not a finite number"),
        ("train", {"command": "true", "arguments": {"--C": 1}}, "arguments is of type dict, not a list"),
        ("process", {"command": "true", "arguments": 1}, "arguments is of type int, not a list"),
        ("process", {"command": "true", "arguments": ["--C", None]}, "arguments has a None"),
        ("train", {"command": "true", "metrics": ["auc"]}, "give a dict: {'auc': 'auc='}"),
        ("process", {"command": "true", "metrics": {"auc": 1}}, "metric 'auc' is of type int"),
        ("train", {"command": "true", "hyperparameters": "C=1"}, "give a dict: {'C': 0.1}"),
        ("process", {"command": "true", "environment": ["A=1"]}, "environment is of type list, not values by name"),
        ("train", {"command": "true", "secrets": ["A"]}, "secrets is of type list, not values by name"),
        ("process", {"command": "true", "tags": [{"Key": "a", "Value": "b"}]}, "give a dict: {'team': 'churn'}"),
        ("train", {"command": "true", "inputs": {1: "data"}}, "An input is named 1"),
        ("train", {"entry_point": "fit.py", "source_dir": 5}, "source_dir has 5, not a path"),
        ("train", {"entry_point": "fit.py", "dependencies": "lib"}, "give a list: ['lib']"),
    ],
)
def test_contradictory_arguments(kind, arguments, words, refused, sm):
    """Arguments that contradict each other or have a wrong type are refused, with the terms of the call."""
    if arguments.get("image") == "":
        sm.project.image = None

    assert words in refused(kind, InvalidTask, **arguments)


def test_forms_that_are_not_those_of_the_examples(sm):
    """Values with only one meaning are accepted: any mapping, a tuple of arguments, numbers."""
    given = {"environment": MappingProxyType({"A": 1}), "tags": MappingProxyType({"team": "churn"})}
    done = sm.process("words", command='test "$*$A" = "--C 0.11"', arguments=("--C", 0.1), **given)

    assert done.status == "Completed"


def test_an_unknown_default(project):
    """A misspelt default of all tasks is refused by `sagemaker_tasks`."""
    with pytest.raises(InvalidTask, match=r"no default for instance_typ\.\n.*instance_type"):
        sagemaker_tasks(project, instance_typ="ml.m5.large")


def test_the_defaults_are_those_of_the_documentation(project):
    """The docstring of `sagemaker_tasks` names the defaults that it takes."""
    with pytest.raises(InvalidTask) as caught:
        sagemaker_tasks(project, nonsense=1)
    taken = re.search(r"use any of (.*)\.", caught.value.fix)[1].split(", ")
    text = sagemaker_tasks.__doc__.partition("**defaults:")[2].partition("Raises:")[0]

    assert sorted(re.findall(r"`(\w+)`", text)) == sorted(taken)


# -- overrides -----------------------------------------------------------------------------------------------------


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("kind", "overrides", "expected", "words"),
    [
        ("train", {"TrainingJobNam": "x"}, InvalidRequest, 'Unknown parameter in input: "TrainingJobNam"'),
        ("train", {"RetryStrategy": {"MaximumRetryAttempts": "2"}}, InvalidRequest, "MaximumRetryAttempts"),
        ("train", {"RoleArn": None}, InvalidTask, "RoleArn: give a value, not None"),
        ("train", {"ResourceConfig": None}, InvalidTask, "cannot set ResourceConfig"),
        ("train", {"ResourceConfig": {"VolumeSizeInGB": 30}}, InvalidTask, "use `volume_size_gb`"),
        ("train", [("RetryStrategy", {})], InvalidTask, "overrides is of type list"),
        ("train", {"RetryStrategy": {"MaximumRetryAttempts": 99}}, InvalidRequest, "99, at most 30"),
        ("process", {"NetworkConfig": {"VpcConfig": {"Subnets": []}}}, InvalidRequest, "SecurityGroupIds"),
        ("train", {"TrainingJobName": "mine"}, InvalidTask, "cannot set TrainingJobName"),
        ("process", {"ProcessingJobName": "mine"}, InvalidTask, "cannot set ProcessingJobName"),
        ("train", {"OutputDataConfig": {"S3OutputPath": "s3://x"}}, InvalidTask, "OutputDataConfig.S3OutputPath"),
        ("train", {"Environment": {"SSM_FINGERPRINT": "x"}}, InvalidTask, "Environment: use `environment`"),
    ],
)
def test_overrides_that_break_the_request(kind, overrides, expected, words, refused):
    """Overrides are checked by botocore's model, and may not change what identifies a job."""
    assert words in refused(kind, expected, command="true", overrides=overrides)


# -- project and backend -------------------------------------------------------------------------------------------


def test_no_credentials(make_aws_project, backend):
    """Without credentials no request is sent, and the error says where to put them."""
    sm = sagemaker_tasks(make_aws_project(backend.endpoint, keys=False))
    with counting(backend) as made, pytest.raises(NoCredentials, match="To resolve this: run `aws configure`"):
        sm.train("fit", command="true")

    assert made == {}


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("fields", "words"),
    [({"parameters": {"profile_name": "no-such-profile"}}, "no-such-profile"), ({"region": None}, "a region")],
    ids=["profile", "region"],
)
def test_a_configuration_that_cannot_be_used(fields, words, make_aws_project, backend):
    """An unknown profile, or no region, is an error of the project that names it."""
    sm = sagemaker_tasks(make_aws_project(backend.endpoint, keys="region" in fields, **fields))
    with counting(backend) as made, pytest.raises(ProjectError, match=words):
        sm.train("fit", command="true")

    assert made.keys() <= READING


def test_no_bucket(make_aws_project, backend):
    """A bucket that does not exist is named, and is not created."""
    sm = sagemaker_tasks(make_aws_project(backend.endpoint, bucket="no-such-bucket-anywhere"))
    with counting(backend) as made, pytest.raises(BucketMissing, match=r"no-such-bucket-anywhere.*\n.*create it"):
        sm.train("fit", command="true")

    assert {"s3:GetObject"} == made.keys()


@pytest.mark.exhaustive
def test_a_closed_port(make_aws_project, monkeypatch):
    """A closed port is an error with the address, and not a failed job."""
    # Two attempts instead of nine.
    monkeypatch.setitem(CALL_RETRIES, ErrorCategory.SERVICE_FAULT, BackOff(0.1, 0.1, tries=1))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
        sm = sagemaker_tasks(make_aws_project(endpoint))
        with pytest.raises(ServiceFault, match=rf"{endpoint}.*\n.*check the network and the endpoint"):
            sm.train("fit", command="true")


def test_a_local_sagemaker_that_cannot_start(tmp_path):
    """An invalid home is a `BackendNotRunning` with the path and the command to find out more."""
    (tmp_path / "file").touch()
    sm = sagemaker_tasks(SageMakerProject.local("demo", home=tmp_path / "file"))
    with pytest.raises(BackendNotRunning, match=rf"{tmp_path}/file.*\n.*python -m local_sagemaker up"):
        sm.train("fit", command="true")


def test_a_local_sagemaker_that_went_away_is_started_again(own_backend):
    """If the server of a local project was killed, the next call of the same process starts it again."""
    own_backend.up()
    sm = sagemaker_tasks(SageMakerProject.local("demo", home=own_backend.home))
    sm.train("fit", command="true")
    own_backend.kill()

    assert sm.train("fit", command="true").cached


def test_an_unknown_block():
    """A project by a name without a saved block is an error that says how to save one."""
    with pytest.raises(BlockNotFound, match=r"'no-such-block'.*\n.*\.save\('no-such-block'\)"):
        sagemaker_tasks("no-such-block")


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("arguments", "tries"), [({"entry_point": "fti.py"}, 1), ({"command": "exit 3"}, 2)])
def test_what_can_only_fail_again_is_not_retried(sm, caplog, arguments, tries):
    """`retries` are for transient errors: a missing path is raised at once, and a failing command is retried."""
    patient = sm.train.with_options(retries=1)

    flow(lambda: patient("fit", return_state=True, **arguments), name="hopeless")(return_state=True)

    assert 1 + sum("Retry 1/1 will start" in record.message for record in caplog.records) == tries
