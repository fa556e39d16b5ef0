"""From a spec to the request: it is complete and valid by botocore's service model."""

import json
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from whole_specs import COMMON, OPERATION, PLACE, PROCESSING, SPECS, TRAINING, outputs_at

from blocks import SageMakerProject
from tasks_lib.aws.request_validation import check_request
from tasks_lib.errors import InvalidHyperparameter, InvalidName
from tasks_lib.jobs.channels import as_channels
from tasks_lib.jobs.kinds import KINDS
from tasks_lib.jobs.request import to_request
from tasks_lib.jobs.s3_layout import TaskFolder
from tasks_lib.jobs.spec import JobPlace, JobSpec, encode_hyperparameters


def s3_input(uri, distribution="FullyReplicated"):
    return {"S3DataType": "S3Prefix", "S3Uri": uri, "S3DataDistributionType": distribution}


def test_training_request_in_full():
    """The request of a training job that uses every feature has exactly these fields."""
    starter = 'exec sh "$LOCAL_SAGEMAKER_ROOT/opt/ml/input/data/ssm_source/start.sh" "$@"'
    expected = {
        "TrainingJobName": "fit-0123456789abcdef-1",
        "AlgorithmSpecification": {
            "TrainingImage": COMMON["image"],
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["/bin/sh", "-c", starter, "ssm"],
            "ContainerArguments": [
                *("--entry-point", "fit.py", "--extract", "model=best", "--extract", "other"),
                *("--", "--verbose", "-x"),
            ],
            "MetricDefinitions": [{"Name": "auc", "Regex": "auc=([0-9.]+)"}],
            "EnableSageMakerMetricsTimeSeries": True,
        },
        "RoleArn": "arn:aws:iam::123456789012:role/jobs",
        "InputDataConfig": [
            {"ChannelName": name, "DataSource": {"S3DataSource": source}, "InputMode": "File"}
            for name, source in [
                ("model", s3_input("s3://bucket/m/model.tar.gz")),
                ("other", s3_input("s3://bucket/o/model.tar.gz")),
                ("train", s3_input("s3://bucket/data/", "ShardedByS3Key")),
                ("ssm_source", s3_input("s3://bucket/demo/_bundles/ab/")),
            ]
        ],
        "OutputDataConfig": {"S3OutputPath": "s3://bucket/demo/fit/", "KmsKeyId": "alias/outputs"},
        "ResourceConfig": {
            "InstanceType": "ml.m5.large",
            "InstanceCount": 2,
            "VolumeSizeInGB": 31,
            "VolumeKmsKeyId": "1234abcd-12ab-34cd-56ef-1234567890ab",
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": 3600, "MaxWaitTimeInSeconds": 7200},
        "HyperParameters": {"C": "0.1", "name": "svm", "layers": "[1, 2]"},
        "Environment": {"MODE": "fast", "SSM_FINGERPRINT": "f" * 64},
        "CheckpointConfig": {"S3Uri": "s3://bucket/demo/fit/state/", "LocalPath": "/state"},
        "EnableManagedSpotTraining": True,
        "EnableNetworkIsolation": True,
        "EnableInterContainerTrafficEncryption": True,
        "VpcConfig": {"Subnets": ["subnet-0a", "subnet-0b"], "SecurityGroupIds": ["sg-0a"]},
        "Tags": [{"Key": "team", "Value": "a"}, {"Key": "prefect-sagemaker:task", "Value": "fit"}],
    }

    assert expected == to_request(TRAINING, PLACE)


def test_processing_request_in_full():
    """The request of a processing job that uses every feature has exactly these fields, with the state as an input."""
    starter = 'exec sh "$LOCAL_SAGEMAKER_ROOT/opt/ml/processing/input/ssm_source/start.sh" "$@"'
    here = "/opt/ml/processing"

    def read(name, path, uri, distribution="FullyReplicated"):
        more = {"LocalPath": path, "S3InputMode": "File", "S3CompressionType": "None"}
        return {"InputName": name, "S3Input": s3_input(uri, distribution) | more}

    def written(name, uri, mode):
        return {"OutputName": name, "S3Output": {"S3Uri": uri, "LocalPath": f"{here}/{name}", "S3UploadMode": mode}}

    expected = {
        "ProcessingJobName": "fit-0123456789abcdef-1",
        "AppSpecification": {
            "ImageUri": COMMON["image"],
            "ContainerEntrypoint": ["/bin/sh", "-c", starter, "ssm"],
            "ContainerArguments": [
                *("--command", "echo $HOME | cat", "--extract", "model=best", "--extract", "other"),
                *("--", "--verbose", "-x"),
            ],
        },
        "RoleArn": "arn:aws:iam::123456789012:role/jobs",
        "ProcessingInputs": [
            read("model", f"{here}/input/data/model", "s3://bucket/m/model.tar.gz"),
            read("other", f"{here}/input/data/other", "s3://bucket/o/model.tar.gz"),
            read("train", f"{here}/input/data/train", "s3://bucket/data/", "ShardedByS3Key"),
            read("ssm_source", f"{here}/input/ssm_source", "s3://bucket/demo/_bundles/ab/"),
            read("ssm_state", f"{here}/state_prev", "s3://bucket/demo/fit/state/"),
        ],
        "ProcessingOutputConfig": {
            "Outputs": [
                written("output", "s3://bucket/demo/fit/fit-0123456789abcdef-1/output/", "EndOfJob"),
                written("state", "s3://bucket/demo/fit/state/", "Continuous"),
            ],
            "KmsKeyId": "alias/outputs",
        },
        "ProcessingResources": {
            "ClusterConfig": {
                "InstanceType": "ml.m5.large",
                "InstanceCount": 2,
                "VolumeSizeInGB": 31,
                "VolumeKmsKeyId": "1234abcd-12ab-34cd-56ef-1234567890ab",
            }
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
        "Environment": {"MODE": "fast", "SSM_FINGERPRINT": "f" * 64},
        "NetworkConfig": {
            "EnableNetworkIsolation": True,
            "EnableInterContainerTrafficEncryption": True,
            "VpcConfig": {"Subnets": ["subnet-0a", "subnet-0b"], "SecurityGroupIds": ["sg-0a"]},
        },
        "Tags": [{"Key": "team", "Value": "a"}, {"Key": "prefect-sagemaker:task", "Value": "fit"}],
    }

    assert expected == to_request(PROCESSING, PLACE)


NOT_IN_A_REQUEST = {"overrides", "secrets", "state", "on_demand_after_spot"}
"""Fields of `JobSpec` that set no field of a request on their own; tests of their own cover them."""


def default_of(name):
    """Return the default of a field of `JobSpec`."""
    return JobSpec.model_fields[name].get_default(call_default_factory=True)


def test_the_whole_specs_are_whole():
    """Each kind has a spec there, and each field of `JobSpec` is set in one, so that the tests of requests see it."""
    optional = [name for name, field in JobSpec.model_fields.items() if not field.is_required()]
    unset = {name for name in optional if all(getattr(spec, name) == default_of(name) for spec in SPECS.values())}

    assert SPECS.keys() == KINDS.keys(), "Add a spec of the new kind to whole_specs.py."
    assert unset == NOT_IN_A_REQUEST, "Set the new field in whole_specs.py."


@pytest.mark.parametrize("kind", SPECS)
def test_full_requests_are_what_aws_takes(kind, sagemaker_model):
    """The full requests are valid by botocore's service model."""
    check_request(sagemaker_model, OPERATION[kind], to_request(SPECS[kind], PLACE))


@pytest.mark.parametrize("kind", SPECS)
def test_the_smallest_request_is_what_aws_takes(kind, sagemaker_model):
    """The request of a minimal task has no optional fields, empty lists or nulls."""
    spec = JobSpec(
        kind=KINDS[kind], task="t", image="i", entry_point="a.py", instance_types=("ml.m5.large",), instance_count=1,
        volume_size_gb=30, max_runtime_seconds=60, state="none",
    )  # fmt: skip
    place = JobPlace("t-1", TaskFolder("b", "p/t/"), PLACE.role, (), "s3://b/p/_bundles/0/", False, {}, {})

    request = to_request(spec, place)

    check_request(sagemaker_model, OPERATION[kind], request)
    assert not {"CheckpointConfig", "VpcConfig", "Tags", "HyperParameters", "NetworkConfig"} & request.keys()
    assert "null" not in json.dumps(request)


# The production fields (X18), each with its value and its path for each kind.
PRODUCTION = {
    "subnets": (["subnet-0a", "subnet-0b"], ("VpcConfig", "Subnets"), ("NetworkConfig", "VpcConfig", "Subnets")),
    "security_group_ids": (
        ["sg-0a"],
        ("VpcConfig", "SecurityGroupIds"),
        ("NetworkConfig", "VpcConfig", "SecurityGroupIds"),
    ),
    "volume_kms_key": (
        "1234abcd-12ab-34cd-56ef-1234567890ab",
        ("ResourceConfig", "VolumeKmsKeyId"),
        ("ProcessingResources", "ClusterConfig", "VolumeKmsKeyId"),
    ),
    "output_kms_key": ("alias/outputs", ("OutputDataConfig", "KmsKeyId"), ("ProcessingOutputConfig", "KmsKeyId")),
    "network_isolation": (True, ("EnableNetworkIsolation",), ("NetworkConfig", "EnableNetworkIsolation")),
    "encrypt_between_containers": (
        True,
        ("EnableInterContainerTrafficEncryption",),
        ("NetworkConfig", "EnableInterContainerTrafficEncryption"),
    ),
}


@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize("field", PRODUCTION)
def test_production_fields_are_in_the_request(kind, field):
    """Each field that keeps jobs in a company's network and under its keys is in the request."""
    value, *paths = PRODUCTION[field]
    found = to_request(SPECS[kind], PLACE)
    for key in paths[kind == "processing"]:
        found = found[key]

    assert value == found
    assert field in SageMakerProject.model_fields
    assert field in JobSpec.model_fields


def test_spot_is_for_training_alone():
    """A request has spot fields only if the task asks for spot, which SageMaker has only for training jobs."""
    without = TRAINING.model_copy(update={"spot": False})

    assert "MaxWaitTimeInSeconds" not in to_request(without, PLACE)["StoppingCondition"]
    assert "EnableManagedSpotTraining" not in to_request(without, PLACE)


@pytest.mark.parametrize(("wait", "expected"), [(None, 3600), (60, 3600), (7200, 7200)])
def test_the_wait_contains_the_run(wait, expected):
    """`MaxWaitTimeInSeconds` is at least `MaxRuntimeInSeconds`, as SageMaker requires."""
    spec = TRAINING.model_copy(update={"max_wait_seconds": wait})

    assert to_request(spec, PLACE)["StoppingCondition"]["MaxWaitTimeInSeconds"] == expected


def test_an_empty_state_is_no_input():
    """An empty state is not an input, because a processing job fails on a prefix without objects."""
    place = JobPlace(**{**vars(PLACE), "has_state": False})

    names = [item["InputName"] for item in to_request(PROCESSING, place)["ProcessingInputs"]]

    assert names == ["model", "other", "train", "ssm_source"]


@pytest.mark.parametrize("kind", SPECS)
def test_without_state_nothing_touches_it(kind):
    """With `state="none"` the state is not a checkpoint, an input or an output."""
    spec = SPECS[kind].model_copy(update={"state": "none"})

    assert "/state" not in json.dumps(to_request(spec, PLACE))


def test_injected_variables_override_those_of_the_task():
    """Variables that the package sets, such as `SSM_FINGERPRINT`, override those of the task."""
    spec = TRAINING.model_copy(update={"environment": {"SSM_FINGERPRINT": "mine", "A": "b"}})

    assert to_request(spec, PLACE)["Environment"] == {"SSM_FINGERPRINT": "f" * 64, "A": "b"}


@pytest.mark.parametrize("kind", SPECS)
def test_an_image_that_is_complete_starts_as_it_is(kind):
    """A complete image has neither the bootstrap's entry point nor the code's channel, only its own arguments."""
    spec = SPECS[kind].model_copy(update={"entry_point": None, "command": None})
    place = JobPlace(**{**vars(PLACE), "bundle_uri": None})

    request = to_request(spec, place)
    started = request["AlgorithmSpecification" if kind == "training" else "AppSpecification"]

    assert "ContainerEntrypoint" not in started
    assert started["ContainerArguments"] == ["--verbose", "-x"]
    assert "ssm_source" not in json.dumps(request)


@given(st.text(min_size=1, max_size=2000), st.sampled_from(["training", "processing"]))
def test_a_command_travels_in_arguments_that_aws_takes(command, kind):
    """Each argument of any command fits AWS's length and pattern, and together they restore the command.

    In the pattern, which is Java's, `.` matches no line terminator.
    """
    spec = SPECS[kind].model_copy(update={"entry_point": None, "command": command, "arguments": ()})
    place = JobPlace(**{**vars(PLACE), "channels": ()})
    request = to_request(spec, place)
    given = request["AlgorithmSpecification" if kind == "training" else "AppSpecification"]["ContainerArguments"]
    (option,), text = set(given[::2]), "".join(given[1::2])

    assert all(len(argument) <= 256 and not re.search("[\n\r\x85\u2028\u2029]", argument) for argument in given)
    assert command == (json.loads(text) if option == "--command-json" else text)


LEFT = ["model.tar.gz", "output.tar.gz"]


def test_outputs_of_a_training_job():
    """The outputs of a training job are where SageMaker puts them below the output path."""
    folder = "s3://bucket/demo/fit/fit-0123456789abcdef-1/output/"

    assert outputs_at(TRAINING, PLACE, LEFT, has_state=True) == {
        "model": f"{folder}model.tar.gz",
        "output": f"{folder}output.tar.gz",
        "state": "s3://bucket/demo/fit/state/",
        "source": "s3://bucket/demo/_bundles/ab/source.tar.gz",
    }


def test_outputs_of_a_processing_job():
    """The outputs of a processing job are those of the request."""
    request = to_request(PROCESSING, PLACE)
    named = {row["OutputName"]: row["S3Output"]["S3Uri"] for row in request["ProcessingOutputConfig"]["Outputs"]}

    assert outputs_at(PROCESSING, PLACE, ["report.json"], has_state=True) == named | {
        "source": "s3://bucket/demo/_bundles/ab/source.tar.gz"
    }


@pytest.mark.parametrize(
    ("kind", "left", "has_state", "expected"),
    [
        ("training", ["model.tar.gz"], False, ["model", "source"]),
        ("training", ["output.tar.gz"], True, ["output", "state", "source"]),
        ("training", [], False, ["source"]),
        ("processing", [], True, ["state", "source"]),
        ("processing", ["model.tar.gz"], False, ["output", "source"]),
    ],
)
def test_only_what_a_job_left_is_an_output(kind, left, has_state, expected):
    """Only outputs that exist are listed, because SageMaker makes no tarball of an empty directory."""
    assert expected == list(outputs_at(SPECS[kind], PLACE, left, has_state=has_state))


def test_outputs_without_compression_are_prefixes():
    """With `CompressionType` `NONE` the outputs are the prefixes `model/` and `data/`."""
    folder = "s3://bucket/demo/fit/fit-0123456789abcdef-1/output/"
    found = outputs_at(TRAINING, PLACE, ["data/a.csv", "model/step-1/w", "model/w"], has_state=False)

    assert (found["model"], found["output"]) == (f"{folder}model/", f"{folder}data/")
    assert "output" not in outputs_at(TRAINING, PLACE, ["model/w"], has_state=False)


def test_an_image_that_is_complete_has_no_source():
    """A complete image has no bundle, so it has no source among its outputs."""
    place = JobPlace(**{**vars(PLACE), "bundle_uri": None})

    assert list(outputs_at(TRAINING, place, LEFT, has_state=False)) == ["model", "output"]


# -- hyperparameters -----------------------------------------------------------------------------------------------


def decode(text):
    """Decode a value by the toolkit's rule: as JSON if it parses, else as text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=5), below, max_size=3),
    max_leaves=8,
)
LOOKS_LIKE_JSON = st.one_of(
    JSON_VALUES.map(json.dumps), st.sampled_from(["1", " 1 ", "NaN", "-Infinity", "null", '"', "1e5", "[", ""])
)


@given(JSON_VALUES | LOOKS_LIKE_JSON)
def test_hyperparameters_come_back_as_typed(value):
    """A decoded hyperparameter has the given value and type: `"1"` stays text and `1` a number."""
    text = encode_hyperparameters({"x": value})["x"]

    assert isinstance(text, str)
    assert decode(text) == value
    assert type(decode(text)) is type(value)


@pytest.mark.parametrize("text", ["one\ntwo", "a\r\nb", "end\n", "\u2028", "{\n}"])
def test_text_of_several_lines_travels_as_json(text):
    """A multi-line text is sent as JSON, because SageMaker's pattern allows no line break."""
    (sent,) = encode_hyperparameters({"prompt": text}).values()

    assert len(sent.splitlines()) == 1
    assert json.loads(sent) == text


@pytest.mark.parametrize(("names", "meet"), [(["lr", "LR"], True), (["a", "b", "A"], True), (["lr", "lr2"], False)])
def test_names_that_collide_in_the_job_are_refused(names, meet):
    """Names that would share a variable in the job are refused: `lr` and `LR`, or the inputs `train` and `Train`."""
    if not meet:
        encode_hyperparameters(dict.fromkeys(names, 1))
        as_channels(dict.fromkeys(names, "data"))
        return
    with pytest.raises(InvalidName, match="would share the variable SM_HP_"):
        encode_hyperparameters(dict.fromkeys(names, 1))
    with pytest.raises(InvalidName, match=r"inputs '\w+' and '\w+' would share the variable SM_CHANNEL_"):
        as_channels(dict.fromkeys(names, "data"))


@given(st.text())
def test_plain_text_travels_as_it_is(text):
    """Only a text that would be read as JSON is quoted, so `svm` is `svm` in SageMaker's console."""
    encoded = encode_hyperparameters({"x": text})["x"]

    assert encoded == text or decode(text) != text or encoded == json.dumps(text)
    assert encode_hyperparameters({"x": "svm"}) == {"x": "svm"}


def test_deep_text_travels():
    """A text that looks like very deep JSON is restored as text."""
    text = "[" * 2400

    assert decode(encode_hyperparameters({"x": text})["x"]) == text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float64(0.5), "0.5"),
        (np.float32(0.5), "0.5"),
        (np.int64(3), "3"),
        (np.bool_(True), "true"),
        (np.str_("svm"), "svm"),
        (np.str_("1"), '"1"'),
        (np.array(7), "7"),
    ],
)
def test_scalars_of_numpy_are_numbers(value, expected):
    """NumPy scalars are encoded like the Python values."""
    assert encode_hyperparameters({"x": value}) == {"x": expected}


def deep():
    value = []
    for _ in range(100_000):  # too deep for any Python
        value = [value]
    return value


def circle():
    value = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "value",
    [
        {1, 2}, b"x", object(), np.array([1, 2]), 1j, print, {"a": {1}}, {("a",): 1}, {1: 1, "1": 2}, deep(), circle(),
        math.nan, math.inf, -math.inf, [math.nan], np.float64("nan"), 10**5000,
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_is_no_json_is_refused_by_name(value):
    """A value that JSON cannot represent is refused by the hyperparameter's name, before a job is created."""
    with pytest.raises(InvalidHyperparameter, match="Hyperparameter 'depth'") as caught:
        encode_hyperparameters({"depth": value})

    assert caught.value.fix


@pytest.mark.parametrize("value", [math.nan, math.inf, np.float32("nan")])
def test_infinite_numbers_are_called_so(value):
    """The error for NaN and infinity says so; JSON has neither, and as text they would fail late in the job."""
    with pytest.raises(InvalidHyperparameter, match="is not a finite number"):
        encode_hyperparameters({"lr": value})


def test_specs_are_frozen_and_know_their_fields():
    """A spec is immutable, so it keeps its fingerprint, and unknown fields are refused."""
    with pytest.raises(ValueError, match="frozen"):
        TRAINING.task = "other"
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        JobSpec(**{**TRAINING.model_dump(), "instance_typ": "ml.m5.large"})
