"""Validation errors of the server, with AWS's messages. The clients here do not validate anything themselves."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest
from api_requests import new_name, processing_request, training_request
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials


@pytest.fixture
def refused(backend):
    """Return a function that sends an operation unchecked, and returns the error's code and message."""

    def send(operation: str, request, service: str = "sagemaker", prefix: str = "SageMaker") -> tuple[str, str]:
        body = request if isinstance(request, bytes) else json.dumps(request).encode()
        headers = {"X-Amz-Target": f"{prefix}.{operation}", "Content-Type": "application/x-amz-json-1.1"}
        signed = AWSRequest("POST", f"{backend.endpoint}/", headers, body)
        SigV4Auth(Credentials(backend.keys.access_key, backend.keys.secret_key), service, "us-east-1").add_auth(signed)
        try:
            urllib.request.urlopen(urllib.request.Request(signed.url, body, dict(signed.headers.items()))).close()
        except urllib.error.HTTPError as error:
            with error:
                document = json.loads(error.read())
            return document["__type"], document["message"]
        raise AssertionError("the request was accepted")

    return send


def test_pattern(refused):
    """A value that does not match its pattern is reported with its member and the pattern."""
    code, message = refused("DescribeTrainingJob", {"TrainingJobName": "a_b"})

    assert code == "ValidationException"
    assert message == (
        "1 validation error detected: Value 'a_b' at 'trainingJobName' failed to satisfy constraint: "
        "Member must satisfy regular expression pattern: [a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}"
    )


def test_all_violations_are_told(refused):
    """Several violations are counted and listed in one message."""
    code, message = refused("DescribeTrainingJob", {"TrainingJobName": "_" * 64})

    assert code == "ValidationException"
    assert message.startswith("2 validation errors detected: Value '____")
    assert "Member must have length less than or equal to 63; Value '_" in message


def test_missing_member(refused):
    """A missing required member is reported as null, as by AWS."""
    code, message = refused("CreateTrainingJob", {"TrainingJobName": "a"})

    assert code == "ValidationException"
    assert "Value null at 'roleArn' failed to satisfy constraint: Member must not be null" in message
    assert message.startswith("2 validation errors detected: ")


def test_enum(refused):
    """A value outside an enumeration is answered with all allowed values."""
    code, message = refused("ListTrainingJobs", {"SortBy": "Size"})

    assert code == "ValidationException"
    assert message == (
        "1 validation error detected: Value 'Size' at 'sortBy' failed to satisfy constraint: "
        "Member must satisfy enum value set: [Name, CreationTime, Status]"
    )


def test_number_out_of_range(refused):
    """A page has at most 100 jobs."""
    _, message = refused("ListTrainingJobs", {"MaxResults": 101})

    assert message.endswith(
        "at 'maxResults' failed to satisfy constraint: Member must have value less than or equal to 100"
    )


def test_place_inside_a_list(refused):
    """A member inside a list is named by its position, starting at 1."""
    request = training_request(
        "a", InputDataConfig=[{"ChannelName": "ok", "DataSource": {}}, {"ChannelName": "no/slash", "DataSource": {}}]
    )
    _, message = refused("CreateTrainingJob", request)

    assert "Value 'no/slash' at 'inputDataConfig.2.member.channelName' failed to satisfy constraint" in message


def test_values_of_a_map(refused):
    """A value of a map that is too long is reported with all constraints on the map's values."""
    _, message = refused("CreateTrainingJob", training_request("a", HyperParameters={"k": "v" * 2501}))

    assert "at 'hyperParameters' failed to satisfy constraint: Map value must satisfy constraint: " in message
    assert (
        "[Member must have length less than or equal to 2500, Member must have length greater than or equal to 0"
        in message
    )


def test_members_of_a_list(refused):
    """The same holds for strings in a list: a container argument has at most 256 characters."""
    request = training_request("a")
    request["AlgorithmSpecification"]["ContainerArguments"] = ["x" * 257]
    _, message = refused("CreateTrainingJob", request)

    assert "at 'algorithmSpecification.containerArguments' failed to satisfy constraint: Member must satisfy" in message


def test_java_classes_in_patterns(refused, backend):
    """The tag patterns have Java's character classes: letters of any script are allowed, other signs are not."""
    _, message = refused("CreateTrainingJob", training_request("a", Tags=[{"Key": "a!b", "Value": ""}]))
    name = new_name()
    backend.client("sagemaker").create_training_job(
        **training_request(name, Tags=[{"Key": "größe 漢字", "Value": "x/y@z"}])
    )

    assert "Value 'a!b' at 'tags.1.member.key'" in message


def test_wrong_type(refused):
    """A value of a wrong type, and a body that is not valid JSON, are a SerializationException."""
    assert refused("ListTrainingJobs", {"MaxResults": "many"})[0] == "SerializationException"
    assert refused("ListTrainingJobs", {"CreationTimeAfter": "soon"})[0] == "SerializationException"
    assert refused("ListTrainingJobs", b"{")[0] == "SerializationException"
    assert refused("ListTrainingJobs", b"[]")[0] == "SerializationException"


def test_unknown_members_are_ignored(backend, refused):
    """An unknown member is ignored, as by AWS, so that a newer client can use the server."""
    assert (
        refused("DescribeTrainingJob", {"TrainingJobName": new_name(), "New": 1})[1] == "Requested resource not found."
    )


def test_what_is_not_built_says_so(refused):
    """A SageMaker operation that is not implemented, and one that does not exist, have different errors."""
    code, message = refused("CreateEndpoint", {})
    assert code == "UnknownOperationException"
    assert message.startswith(
        "CreateEndpoint is not built in local_sagemaker. What it has of sagemaker: AddTags, Create"
    )

    assert "has no operation" in refused("CreateCastle", {})[1]
    assert "has no operation" in refused("DescribeTrainingJob", {}, prefix="Logs_20140328")[1]


GROUP = {"InstanceGroupName": "cpu", "InstanceType": "ml.c5.xlarge", "InstanceCount": 2}
IN_S3 = {"S3DataType": "S3Prefix", "S3Uri": "s3://data/a/"}
ON_EFS = {
    "FileSystemId": "fs-0123456789abcdef0",
    "FileSystemAccessMode": "ro",
    "FileSystemType": "EFS",
    "DirectoryPath": "/data",
}


def channel(**source):
    return {"ChannelName": "data", "DataSource": source}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"StoppingCondition": {"MaxRuntimeInSeconds": 10, "MaxWaitTimeInSeconds": 20}},
            "only supported when EnableManaged",
        ),
        ({"EnableManagedSpotTraining": True}, "Invalid MaxWaitTimeInSeconds. It must be present"),
        (
            {
                "EnableManagedSpotTraining": True,
                "StoppingCondition": {"MaxRuntimeInSeconds": 20, "MaxWaitTimeInSeconds": 10},
            },
            "greater than or equal to MaxRuntimeInSeconds",
        ),
        ({"StoppingCondition": {"MaxRuntimeInSeconds": 2_419_201}}, "28 days"),
        ({"AlgorithmSpecification": {"TrainingInputMode": "File"}}, "TrainingImage or AlgorithmSpecification.Alg"),
        (
            {"AlgorithmSpecification": {"TrainingInputMode": "File", "TrainingImage": "i", "AlgorithmName": "a"}},
            "mutually exclusive",
        ),
        ({"AlgorithmSpecification": {"TrainingInputMode": "File", "AlgorithmName": "a"}}, "Cannot find algorithm 'a'"),
        (
            {"OutputDataConfig": {"S3OutputPath": "https://bucket/out"}},
            "OutputDataConfig.S3OutputPath 'https://bucket/out'",
        ),
        ({"OutputDataConfig": {"S3OutputPath": "s3://Bucket/out"}}, "is not an S3 URI"),
        ({"CheckpointConfig": {"S3Uri": "https://b/c"}}, "CheckpointConfig.S3Uri"),
        ({"ResourceConfig": {"InstanceType": "ml.m5.large", "VolumeSizeInGB": 1}}, "InstanceCount must be at least 1"),
        ({"ResourceConfig": {"InstanceCount": 1}}, "must have exactly one of InstanceType, InstanceGroups, InstanceP"),
        (
            {"ResourceConfig": {"InstancePreferences": [{"InstanceType": "ml.m5.large"}]}},
            "Set InstanceCount on every one of ResourceConfig.InstancePreferences",
        ),
        (
            {
                "EnableManagedSpotTraining": True,
                "StoppingCondition": {"MaxRuntimeInSeconds": 1, "MaxWaitTimeInSeconds": 1},
                "ResourceConfig": {"InstanceCount": 1, "InstancePreferences": [{"InstanceType": "ml.m5.large"}]},
            },
            "InstancePreferences is mutually exclusive",
        ),
        (
            {"ResourceConfig": {"InstanceGroups": [GROUP, GROUP], "VolumeSizeInGB": 1}},
            "InstanceGroupName must be unique within a job; given more than once: cpu",
        ),
        (
            {
                "ResourceConfig": {"InstanceGroups": [GROUP], "VolumeSizeInGB": 1},
                "InputDataConfig": [channel(S3DataSource={**IN_S3, "InstanceGroupNames": ["gpu"]})],
            },
            "InstanceGroupNames of channel data has 'gpu', which is not among the InstanceGroups of the",
        ),
        (
            {"InputDataConfig": [channel(FileSystemDataSource=ON_EFS)]},
            "FileSystemDataSource of channel data is not built in local_sagemaker",
        ),
        ({"Tags": [{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}]}, "Duplicate tag keys found: a"),
        ({"Tags": [{"Key": "aws:x", "Value": "1"}]}, "reserved"),
        ({"Tags": [{"Key": f"k{n}", "Value": ""} for n in range(51)]}, "length less than or equal to 50"),
        ({"RoleArn": "arn:aws:iam::12:role/execution"}, "at 'roleArn' failed to satisfy constraint"),
    ],
)
def test_training_rules(refused, changes, words):
    """Members that are valid alone but not together are refused, with the member to fix."""
    code, message = refused("CreateTrainingJob", {**training_request(new_name()), **changes})

    assert code == "ValidationException"
    assert words in message


def _channel(name: str, uri: str = "s3://bucket/data/") -> dict:
    return {"ChannelName": name, "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": uri}}}


@pytest.mark.parametrize(
    ("channels", "words"),
    [
        ([_channel("a"), _channel("a")], "ChannelName must be unique within a job; given more than once: a."),
        ([_channel("a", "https://bucket/data")], "S3DataSource.S3Uri 'https://bucket/data' is not an S3 URI"),
        ([{"ChannelName": "a", "DataSource": {}}], "DataSource of channel a must have exactly one"),
    ],
)
def test_channel_rules(refused, channels, words):
    """Channels have different names and one source each."""
    assert words in refused("CreateTrainingJob", training_request(new_name(), InputDataConfig=channels))[1]


def _input(name: str, path: str | None = "/opt/ml/processing/input/x") -> dict:
    place = {"S3Uri": "s3://bucket/x", "S3DataType": "S3Prefix", **({"LocalPath": path} if path else {})}
    return {"InputName": name, "S3Input": place}


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([_input("a"), _input("a")], "InputName must be unique"),
        ([_input("a", None)], "Input a: LocalPath is required"),
        ([_input("a", "/data")], "must begin with /opt/ml/processing/"),
        ([{"InputName": "a"}], "Input a must have exactly one of S3Input, DatasetDefinition; it has 0"),
    ],
)
def test_processing_rules(refused, inputs, words):
    """Inputs of processing jobs have different names, one source, and a path below /opt/ml/processing/."""
    code, message = refused("CreateProcessingJob", processing_request(new_name(), ProcessingInputs=inputs))

    assert code == "ValidationException"
    assert words in message


def test_refused_requests_leave_no_job(refused, backend):
    """A refused Create does not take the name."""
    name = new_name()
    refused("CreateTrainingJob", training_request(name, EnableManagedSpotTraining=True))

    assert refused("DescribeTrainingJob", {"TrainingJobName": name})[1] == "Requested resource not found."


def test_logs_have_their_own_code(refused):
    """CloudWatch Logs answers InvalidParameterException where SageMaker answers ValidationException."""
    code, message = refused("GetLogEvents", {"logGroupName": "a"}, "logs", "Logs_20140328")

    assert code == "InvalidParameterException"
    assert "Value null at 'logStreamName'" in message


def test_a_document_without_bottom_is_refused(refused):
    """A document of 100,000 nested lists is a client error, not a server error."""
    deep = b'{"NameContains": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"

    assert refused("ListTrainingJobs", deep)[0] == "SerializationException"
