"""The Resource Groups Tagging API: unmodified clients find the tagged resources of this server."""

from __future__ import annotations

import pytest
from api_requests import error_of, new_name, processing_request, training_request

from local_sagemaker.tagging import TaggedResource, TaggingOperations
from local_sagemaker.wire.json_service import Caller


@pytest.fixture(scope="module")
def key():
    """Return a tag key for these tests only, because the backend is shared."""
    return new_name("team")


@pytest.fixture(scope="module")
def tagged(backend, key):
    """Create a resource of each type with the key, and some without it; return the ARNs by type."""
    tags = [{"Key": key, "Value": "vision"}, {"Key": "stage", "Value": "test"}]
    simulated = {"TrainingImage": "local/simulated", "TrainingInputMode": "File"}
    sagemaker, s3, name = backend.client("sagemaker"), backend.client("s3"), new_name()
    request = training_request(name, AlgorithmSpecification=simulated, Tags=tags)
    training = sagemaker.create_training_job(**request)["TrainingJobArn"]
    request = processing_request(name, AppSpecification={"ImageUri": "local/simulated"})
    processing = sagemaker.create_processing_job(**request)["ProcessingJobArn"]
    sagemaker.add_tags(ResourceArn=processing, Tags=[{"Key": key, "Value": "speech"}])
    sagemaker.create_training_job(**training_request(new_name(), AlgorithmSpecification=simulated))
    s3.create_bucket(Bucket=name)
    s3.put_bucket_tagging(Bucket=name, Tagging={"TagSet": [{"Key": key, "Value": "vision"}]})
    s3.create_bucket(Bucket=f"{name}-untagged")
    queue = backend.client("sqs").create_queue(QueueName=name, tags={key: "vision"})["QueueUrl"]
    assert queue
    topic = backend.client("sns").create_topic(Name=name, Tags=tags)["TopicArn"]
    secret = backend.client("secretsmanager").create_secret(Name=name, SecretString="x", Tags=tags)["ARN"]
    return {
        "sagemaker:training-job": training,
        "sagemaker:processing-job": processing,
        "s3:bucket": f"arn:aws:s3:::{name}",
        "sqs:queue": f"arn:aws:sqs:us-east-1:123456789012:{name}",
        "sns:topic": topic,
        "secretsmanager:secret": secret,
    }


def found(backend, **filters):
    """Return the ARNs that boto3's paginator finds."""
    pages = backend.client("resourcegroupstaggingapi").get_paginator("get_resources").paginate(**filters)
    return [one["ResourceARN"] for page in pages for one in page["ResourceTagMappingList"]]


def test_a_key_finds_all_that_have_it(backend, tagged, key):
    """A key finds the jobs, the bucket, the queue, the topic and the secret that have it, and no others."""
    assert sorted(found(backend, TagFilters=[{"Key": key}])) == sorted(tagged.values())


def test_values_and_keys_narrow(backend, tagged, key):
    """One of a filter's values is enough, and all filters must match."""
    speech = {"Key": key, "Values": ["speech", "music"]}

    assert found(backend, TagFilters=[speech]) == [tagged["sagemaker:processing-job"]]
    assert found(backend, TagFilters=[speech, {"Key": "stage"}]) == []
    both = found(backend, TagFilters=[{"Key": key, "Values": ["vision"]}, {"Key": "stage", "Values": ["test"]}])
    assert sorted(both) == sorted(
        tagged[kind] for kind in ("sagemaker:training-job", "sns:topic", "secretsmanager:secret")
    )


def test_types_narrow(backend, tagged, key):
    """A resource type filter selects a service, or one of its types."""
    of_key = {"TagFilters": [{"Key": key}]}

    for kind, arn in tagged.items():
        assert found(backend, ResourceTypeFilters=[kind], **of_key) == [arn]
    both = [tagged["sagemaker:processing-job"], tagged["sagemaker:training-job"]]
    assert sorted(found(backend, ResourceTypeFilters=["sagemaker"], **of_key)) == both


def test_pages_have_everything_once(backend, tagged, key):
    """Pages of any size list each resource once; the last token is empty, and a token is for its own request only."""
    client, of_key = backend.client("resourcegroupstaggingapi"), {"TagFilters": [{"Key": key}]}
    for size in (1, 4, 100):
        assert sorted(found(backend, ResourcesPerPage=size, **of_key)) == sorted(tagged.values())
    first = client.get_resources(ResourcesPerPage=4, **of_key)

    assert len(first["ResourceTagMappingList"]) == 4
    rest = client.get_resources(ResourcesPerPage=4, PaginationToken=first["PaginationToken"], **of_key)
    assert (len(rest["ResourceTagMappingList"]), rest["PaginationToken"]) == (2, "")
    for wrong in ({"PaginationToken": "x"}, {"PaginationToken": first["PaginationToken"], "ResourcesPerPage": 3}):
        assert error_of(client.get_resources, **of_key, **wrong)[0] == "InvalidParameterException"


def test_an_arn_tells_its_tags(backend, tagged, key):
    """An ARN has the tags that ListTags returns; an unknown ARN is left out."""
    arn = tagged["sagemaker:training-job"]
    answer = backend.client("resourcegroupstaggingapi").get_resources(ResourceARNList=[arn, f"{arn}-not"])
    listed = backend.client("sagemaker").list_tags(ResourceArn=arn)["Tags"]

    assert answer["ResourceTagMappingList"] == [{"ResourceARN": arn, "Tags": listed}]


def test_keys_and_values(backend, tagged, key):
    """Each tag key, and each value of a key, is listed once."""
    client = backend.client("resourcegroupstaggingapi")
    keys = [one for page in client.get_paginator("get_tag_keys").paginate() for one in page["TagKeys"]]
    pages = client.get_paginator("get_tag_values").paginate(Key=key)

    assert (keys.count(key), keys.count("stage")) == (1, 1)
    assert [one for page in pages for one in page["TagValues"]] == ["speech", "vision"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"ResourceTypeFilters": ["ecr:repository"]}, "finds no ecr:repository by tags. It finds: cloudwatch:alarm"),
        ({"ResourceARNList": ["arn:aws:s3:::bucket"], "TagFilters": [{"Key": "a"}]}, "cannot be given together"),
        ({"ResourcesPerPage": 101}, "from 1 to 100"),
        ({"TagsPerPage": 99}, "from 100 to 500"),
        ({"IncludeComplianceDetails": True}, "no tag policies"),
    ],
)
def test_what_cannot_be_answered_is_refused(backend, arguments, said):
    """A request that cannot be answered has AWS's error code, and a message with what is supported."""
    code, message = error_of(backend.client("resourcegroupstaggingapi").get_resources, **arguments)

    assert (code, said in message) == ("InvalidParameterException", True), message


def test_tags_are_not_written_here(backend):
    """The API does not write tags, which AddTags of SageMaker does; the message lists its operations."""
    call = backend.client("resourcegroupstaggingapi").tag_resources
    code, message = error_of(call, ResourceARNList=["arn:aws:s3:::bucket"], Tags={"a": "b"})

    assert code == "UnknownOperationException"
    assert "GetResources, GetTagKeys, GetTagValues" in message


def test_pages_by_tags_split_no_resource():
    """TagsPerPage splits no resource. AWS's example: 22 resources with 10 tags, 100 tags a page, are 10, 10 and 2."""
    tags = {f"key-{number}": "value" for number in range(10)}
    resources = [TaggedResource(f"arn:{number:02}", "sagemaker:training-job", tags) for number in range(22)]
    operations, token, sizes = TaggingOperations([lambda _: resources]), "", []
    while token or not sizes:
        answer = operations.resources({"TagsPerPage": 100, "PaginationToken": token}, Caller("us-east-1"))
        token = answer["PaginationToken"]
        sizes.append(len(answer["ResourceTagMappingList"]))

    assert sizes == [10, 10, 2]
