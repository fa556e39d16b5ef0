"""Buckets and their configuration over HTTP with an unmodified boto3."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Callable


def code_of(refused: pytest.ExceptionInfo[ClientError]) -> tuple[int, str]:
    response = refused.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def test_life_of_a_bucket(s3: Any) -> None:
    """Made, seen, located, refused while full, deleted, gone."""
    name = f"life-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=name)
    s3.create_bucket(Bucket=name)  # us-east-1 lets its owner do so again
    s3.put_object(Bucket=name, Key="k")

    assert name in [one["Name"] for one in s3.list_buckets()["Buckets"]]
    assert s3.list_buckets(Prefix=name)["Buckets"][0]["BucketRegion"] == "us-east-1"
    assert s3.head_bucket(Bucket=name)["BucketRegion"] == "us-east-1"
    assert s3.get_bucket_location(Bucket=name)["LocationConstraint"] is None
    with pytest.raises(ClientError) as refused:
        s3.delete_bucket(Bucket=name)
    assert code_of(refused) == (409, "BucketNotEmpty")
    s3.delete_object(Bucket=name, Key="k")
    s3.delete_bucket(Bucket=name)
    with pytest.raises(ClientError) as refused:
        s3.head_bucket(Bucket=name)
    assert code_of(refused) == (404, "404")


def test_a_bucket_elsewhere(s3: Any) -> None:
    """All buckets are in the region of the home: one that is to be elsewhere is refused, and not made."""
    name, where = f"eu-{uuid.uuid4().hex[:12]}", {"LocationConstraint": "eu-west-1"}
    with pytest.raises(ClientError) as refused:
        s3.create_bucket(Bucket=name, CreateBucketConfiguration=where)

    assert code_of(refused) == (400, "IllegalLocationConstraintException")
    s3.create_bucket(Bucket=name)
    assert s3.get_bucket_location(Bucket=name)["LocationConstraint"] is None
    assert s3.head_bucket(Bucket=name)["BucketRegion"] == "us-east-1"


def test_bad_names(s3: Any) -> None:
    """Names that pass boto3's own check and break S3's rules."""
    for name in ("Upper-Case", "a..b", "192.168.0.1"):
        with pytest.raises(ClientError) as refused:
            s3.create_bucket(Bucket=name)
        assert code_of(refused) == (400, "InvalidBucketName")


def test_buckets_are_listed_in_pages(s3: Any) -> None:
    """The paginator finds each bucket once."""
    names = [f"pages-{uuid.uuid4().hex[:12]}" for _ in range(5)]
    for name in names:
        s3.create_bucket(Bucket=name)

    pages = s3.get_paginator("list_buckets").paginate(Prefix="pages-", PaginationConfig={"PageSize": 2})

    assert sorted(names) == [one["Name"] for page in pages for one in page["Buckets"] if one["Name"] in names]


def test_a_fresh_bucket_has_no_configuration(s3: Any, bucket: str) -> None:
    """Each configuration that was never set has S3's own code; versioning is simply off."""
    unset = {
        s3.get_bucket_policy: "NoSuchBucketPolicy",
        s3.get_public_access_block: "NoSuchPublicAccessBlockConfiguration",
        s3.get_bucket_encryption: "ServerSideEncryptionConfigurationNotFoundError",
        s3.get_bucket_tagging: "NoSuchTagSet",
        s3.get_bucket_lifecycle_configuration: "NoSuchLifecycleConfiguration",
        s3.get_bucket_cors: "NoSuchCORSConfiguration",
        s3.get_bucket_ownership_controls: "OwnershipControlsNotFoundError",
    }
    for call, code in unset.items():
        with pytest.raises(ClientError) as refused:
            call(Bucket=bucket)
        assert code_of(refused) == (404, code)
        with pytest.raises(ClientError) as refused:
            call(Bucket="nowhere-at-all")
        assert code_of(refused) == (404, "NoSuchBucket")
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)


def test_configurations_come_back_as_given(s3: Any, bucket: str) -> None:
    """What a client sets it gets, and after a deletion no more."""
    private = dict.fromkeys(("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True)
    encryption = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}
    tags = [{"Key": "a", "Value": "ü & <b>"}]
    rule = {"ID": "r", "Status": "Enabled", "Filter": {"Prefix": "tmp/"}, "Expiration": {"Days": 1}}
    policy = {"Version": "2012-10-17", "Statement": []}
    steps: list[tuple[Callable[[], Any], Callable[..., Any], str, Any, Callable[..., Any]]] = [
        (
            lambda: s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=private),
            s3.get_public_access_block,
            "PublicAccessBlockConfiguration",
            private,
            s3.delete_public_access_block,
        ),
        (
            lambda: s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration=encryption),
            s3.get_bucket_encryption,
            "ServerSideEncryptionConfiguration",
            encryption,
            s3.delete_bucket_encryption,
        ),
        (
            lambda: s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": tags}),
            s3.get_bucket_tagging,
            "TagSet",
            tags,
            s3.delete_bucket_tagging,
        ),
        (
            lambda: s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [rule]}),
            s3.get_bucket_lifecycle_configuration,
            "Rules",
            [rule],
            s3.delete_bucket_lifecycle,
        ),
        (
            lambda: s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy)),
            s3.get_bucket_policy,
            "Policy",
            json.dumps(policy),
            s3.delete_bucket_policy,
        ),
    ]
    for put, get, name, expected, delete in steps:
        put()
        assert get(Bucket=bucket)[name] == expected
        delete(Bucket=bucket)
        with pytest.raises(ClientError):
            get(Bucket=bucket)


@pytest.mark.parametrize(
    ("operation", "parameters"),
    [
        ("put_bucket_versioning", {"VersioningConfiguration": {"Status": "Enabled"}}),
        ("list_object_versions", {}),
        ("get_bucket_acl", {}),
        ("get_object_acl", {"Key": "k"}),
        ("get_object_attributes", {"Key": "k", "ObjectAttributes": ["ETag"]}),
        (
            "update_object_encryption",
            {"Key": "k", "ObjectEncryption": {"SSEKMS": {"KMSKeyArn": "arn:aws:kms:us-east-1:123456789012:key/x"}}},
        ),
        ("put_object", {"Key": "k", "ObjectLockMode": "GOVERNANCE"}),
    ],
)
def test_what_is_not_built_says_so(s3: Any, bucket: str, operation: str, parameters: dict[str, Any]) -> None:
    """Operations and headers beyond this server end in 501 and do nothing, least of all overwrite an object."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")

    with pytest.raises(ClientError) as refused:
        getattr(s3, operation)(Bucket=bucket, **parameters)

    assert code_of(refused) == (501, "NotImplemented")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"
