"""Validation of requests by botocore's service model, before anything is sent or written."""

import copy
import re
from contextlib import suppress

import pytest
from aws_doubles import SageMakerDouble
from botocore.model import ServiceModel
from hypothesis import given
from hypothesis import strategies as st

from tasks_lib.aws.request_validation import check_request
from tasks_lib.errors import InvalidRequest

GOOD = {
    "TrainingJobName": "fit-1",
    "AlgorithmSpecification": {"TrainingImage": "image:1", "TrainingInputMode": "File"},
    "RoleArn": "arn:aws:iam::123456789012:role/jobs",
    "OutputDataConfig": {"S3OutputPath": "s3://bucket/demo/"},
    "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 30},
    "StoppingCondition": {"MaxRuntimeInSeconds": 60},
    "HyperParameters": {"C": "0.1"},
    "Environment": {"A": "b"},
    "Tags": [{"Key": "team", "Value": "größe x/y:=+-@_."}],
}


def changed(path, value):
    """Return the valid request with one value changed or, for None, removed."""
    request = copy.deepcopy(GOOD)
    *way, last = path.split(".")
    place = request
    for key in way:
        place = place[key]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return request


@pytest.fixture(scope="module")
def check(sagemaker_model):
    """A function that checks a training request."""
    return lambda request: check_request(sagemaker_model, "CreateTrainingJob", request)


def test_a_good_request_passes(check):
    """A valid request passes, also with all characters that AWS allows in tags, whose pattern has Java's syntax."""
    check(GOOD)


CHANNEL = {"ChannelName": "a", "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://b/c"}}}
VIOLATIONS = {
    "pattern of the name": ("TrainingJobName", "fit_1", r"TrainingJobName: 'fit_1' does not match"),
    "name that ends in a line break": ("TrainingJobName", "fit-1\n", "TrainingJobName: .* does not match"),
    "pattern of the role": ("RoleArn", "a role that is long enough", "RoleArn: .* does not match"),
    "pattern of the output": ("OutputDataConfig.S3OutputPath", "/tmp/x", "OutputDataConfig.S3OutputPath: .*match"),
    "enum": ("ResourceConfig.InstanceType", "ml.m5.huge", "ResourceConfig.InstanceType: 'ml.m5.huge' is not one of"),
    "enum of a mode": ("AlgorithmSpecification.TrainingInputMode", "Files", "is not one of .*File"),
    "name too long": ("TrainingJobName", "a" * 64, "TrainingJobName: 64 characters, at most 63 allowed"),
    "value too long": ("HyperParameters", {"C": "x" * 2501}, "HyperParameters.'C': 2501 characters, at most 2500"),
    "key too long": ("HyperParameters", {"x" * 257: "1"}, "HyperParameters .key .*257 characters, at most 256"),
    "variable too long": ("Environment", {"A": "x" * 513}, "Environment.'A': 513 characters, at most 512"),
    "variable's name": ("Environment", {"A-B": "x"}, "Environment .key 'A-B'.: 'A-B' does not match"),
    "too many hyperparameters": (
        "HyperParameters",
        {f"p{i}": "1" for i in range(101)},
        "HyperParameters: 101 entries, at most 100 allowed",
    ),
    "too many variables": ("Environment", {f"V{i}": "1" for i in range(101)}, "Environment: 101 entries, at most 100"),
    "too many channels": ("InputDataConfig", [CHANNEL] * 21, "InputDataConfig: 21 entries, at most 20"),
    "too many tags": ("Tags", [{"Key": f"k{i}", "Value": ""} for i in range(51)], "Tags: 51 entries, at most 50"),
    "tag": ("Tags", [{"Key": "a?b", "Value": ""}], r"Tags\[0\].Key: 'a\?b' does not match"),
    "tag's value": ("Tags", [{"Key": "a", "Value": "<b>"}], r"Tags\[0\].Value: '<b>' does not match"),
    "hosts": ("ResourceConfig.InstanceCount", -1, "ResourceConfig.InstanceCount"),
    "run time": ("StoppingCondition.MaxRuntimeInSeconds", 0, "MaxRuntimeInSeconds"),
    "unknown member": ("ResourceConfig.Instances", 1, 'Unknown parameter in ResourceConfig: "Instances"'),
    "unknown member at the top": ("Name", "x", 'Unknown parameter in input: "Name"'),
    "missing member": ("RoleArn", None, 'Missing required parameter in input: "RoleArn"'),
    "missing member below": ("OutputDataConfig.S3OutputPath", None, 'Missing required .*"S3OutputPath"'),
    "wrong type": ("ResourceConfig.InstanceCount", "1", "Invalid type for parameter ResourceConfig.InstanceCount"),
    "text for a list": ("Tags", "team=a", "Invalid type for parameter Tags"),
}


@pytest.mark.parametrize("what", VIOLATIONS)
def test_each_violation_is_found(check, what):
    """The error for each violation names the place in the request and AWS's rule."""
    path, value, words = VIOLATIONS[what]

    with pytest.raises(InvalidRequest) as caught:
        check(changed(path, value))

    assert re.search(words, caught.value.message), caught.value.message
    assert caught.value.message.startswith("SageMaker would refuse this CreateTrainingJob:")
    assert caught.value.fix


def test_all_violations_are_reported_at_once(check):
    """The error lists all violations, one per line."""
    request = changed("TrainingJobName", "fit_1") | {"Environment": {"A-B": "x", "C": "y" * 600}}

    with pytest.raises(InvalidRequest) as caught:
        check(request)

    assert len(caught.value.message.splitlines()) == 4


def test_a_long_value_is_not_printed(check):
    """The error does not show long values, which may be secret."""
    with pytest.raises(InvalidRequest) as caught:
        check(changed("HyperParameters", {"C": "x" * 3000}) | {"TrainingJobName": "_" * 500})

    assert len(caught.value.message) < 600


def shapes(shape, seen):
    """Collect every shape of a request in `seen`."""
    if shape.name in seen:
        return
    seen[shape.name] = shape
    below = {"structure": ["members"], "list": ["member"], "map": ["key", "value"]}
    for name in below.get(shape.type_name, ()):
        member = getattr(shape, name)
        for one in member.values() if name == "members" else [member]:
            shapes(one, seen)


def model_of(shape):
    """Return a service model with one operation, whose one member has the given shape's metadata."""
    return ServiceModel(
        {
            "metadata": {"protocol": "json"},
            "operations": {"Do": {"name": "Do", "input": {"shape": "Input"}}},
            "shapes": {
                "Input": {"type": "structure", "members": {"X": {"shape": "Text"}}},
                "Text": {"type": "string", **shape.metadata},
            },
        }
    )


@pytest.mark.parametrize("operation", ["CreateTrainingJob", "CreateProcessingJob"])
def test_no_pattern_of_aws_breaks_the_check(sagemaker_model, operation):
    """Every pattern in the model can be applied: a value is accepted or refused, and `re` never fails."""
    found = {}
    shapes(sagemaker_model.operation_model(operation).input_shape, found)
    texts = [shape for shape in found.values() if shape.metadata.get("pattern")]
    assert texts

    for shape in texts:
        for value in ("a", "arn:aws:x", "\u00e4 b"):
            with suppress(InvalidRequest):
                check_request(model_of(shape), "Do", {"X": value})


@given(
    st.dictionaries(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True), st.text(max_size=600), max_size=5)
)
def test_variables_pass_exactly_up_to_the_limit(variables):
    """A variable's value of exactly 512 characters is accepted, and a longer one is refused."""
    fits = all(len(value) <= 512 for value in variables.values())
    try:
        check_request(SageMakerDouble().meta.service_model, "CreateTrainingJob", GOOD | {"Environment": variables})
    except InvalidRequest:
        assert not fits
    else:
        assert fits
