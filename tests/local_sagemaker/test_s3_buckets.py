"""Buckets and their configuration over HTTP with an unmodified boto3."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import uuid
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Callable


def code_of(refused: pytest.ExceptionInfo[ClientError]) -> tuple[int, str]:
    response = refused.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def test_life_of_a_bucket(s3: Any) -> None:
    """A bucket is created, listed and located; it cannot be deleted while it has an object, and is gone afterwards."""
    name = f"life-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=name)
    s3.create_bucket(Bucket=name)  # us-east-1 allows this to the owner
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
    """A bucket outside the home's region is refused and not created."""
    name, where = f"eu-{uuid.uuid4().hex[:12]}", {"LocationConstraint": "eu-west-1"}
    with pytest.raises(ClientError) as refused:
        s3.create_bucket(Bucket=name, CreateBucketConfiguration=where)

    assert code_of(refused) == (400, "IllegalLocationConstraintException")
    s3.create_bucket(Bucket=name)
    assert s3.get_bucket_location(Bucket=name)["LocationConstraint"] is None
    assert s3.head_bucket(Bucket=name)["BucketRegion"] == "us-east-1"


def test_a_region_that_cannot_be_named(s3: Any) -> None:
    """us-east-1 is not a valid constraint, because it is the default, and neither is an unknown region."""
    for where in ("us-east-1", "somewhere"):
        with pytest.raises(ClientError) as refused:
            s3.create_bucket(Bucket="nowhere-at-all", CreateBucketConfiguration={"LocationConstraint": where})
        assert code_of(refused) == (400, "InvalidLocationConstraint")


def test_bad_names(s3: Any) -> None:
    """Names that pass boto3's check but break S3's rules are refused."""
    for name in ("Upper-Case", "a..b", "192.168.0.1", "a-.b", "a.-b", "xn--abc", "sthree-abc", "abc-s3alias"):
        with pytest.raises(ClientError) as refused:
            s3.create_bucket(Bucket=name)
        assert code_of(refused) == (400, "InvalidBucketName")


def test_buckets_are_listed_in_pages(s3: Any) -> None:
    """The paginator lists each bucket once."""
    names = [f"pages-{uuid.uuid4().hex[:12]}" for _ in range(5)]
    for name in names:
        s3.create_bucket(Bucket=name)

    pages = s3.get_paginator("list_buckets").paginate(Prefix="pages-", PaginationConfig={"PageSize": 2})

    assert sorted(names) == [one["Name"] for page in pages for one in page["Buckets"] if one["Name"] in names]


ALL_BLOCKED = dict.fromkeys(("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True)
# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html. Setup scripts request these of a new bucket.
UNSET = {
    "get_bucket_policy": "NoSuchBucketPolicy",
    "get_bucket_policy_status": "NoSuchBucketPolicy",
    "get_bucket_tagging": "NoSuchTagSet",
    "get_bucket_lifecycle_configuration": "NoSuchLifecycleConfiguration",
    "get_bucket_cors": "NoSuchCORSConfiguration",
    "get_bucket_replication": "ReplicationConfigurationNotFoundError",
    "get_bucket_website": "NoSuchWebsiteConfiguration",
    "get_object_lock_configuration": "ObjectLockConfigurationNotFoundError",
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "get_bucket_versioning": {},
    "get_bucket_logging": {},
    "get_bucket_notification_configuration": {},
    "get_bucket_accelerate_configuration": {},
    "get_bucket_request_payment": {"Payer": "BucketOwner"},
    "get_public_access_block": {"PublicAccessBlockConfiguration": ALL_BLOCKED},
    "get_bucket_ownership_controls": {"OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}},
    "get_bucket_encryption": {
        "ServerSideEncryptionConfiguration": {
            "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}, "BucketKeyEnabled": False}]
        }
    },
    "list_bucket_analytics_configurations": {"IsTruncated": False},
    "list_bucket_inventory_configurations": {"IsTruncated": False},
    "list_bucket_metrics_configurations": {"IsTruncated": False},
    "list_bucket_intelligent_tiering_configurations": {"IsTruncated": False},
}


@pytest.mark.parametrize("operation", sorted(UNSET))
def test_what_a_fresh_bucket_lacks(s3: Any, bucket: str, operation: str) -> None:
    """A configuration without a default has S3's own error code, and a missing bucket has NoSuchBucket."""
    for name, code in ((bucket, UNSET[operation]), ("nowhere-at-all", "NoSuchBucket")):
        with pytest.raises(ClientError) as refused:
            getattr(s3, operation)(Bucket=name)
        assert code_of(refused) == (404, code)


@pytest.mark.parametrize("operation", sorted(DEFAULTS))
def test_what_a_fresh_bucket_has(s3: Any, bucket: str, operation: str) -> None:
    """A configuration that has a default on AWS returns this default."""
    answer = getattr(s3, operation)(Bucket=bucket)

    answer.pop("ResponseMetadata")
    assert answer == DEFAULTS[operation]
    with pytest.raises(ClientError) as refused:
        getattr(s3, operation)(Bucket="nowhere-at-all")
    assert code_of(refused) == (404, "NoSuchBucket")


def test_defaults_can_be_set_again(s3: Any, bucket: str) -> None:
    """The requests that Terraform sends to remove a configuration are accepted."""
    s3.put_bucket_logging(Bucket=bucket, BucketLoggingStatus={})
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={})
    s3.put_bucket_request_payment(Bucket=bucket, RequestPaymentConfiguration={"Payer": "BucketOwner"})
    s3.delete_bucket_website(Bucket=bucket)
    s3.delete_bucket_replication(Bucket=bucket)


def test_after_a_deletion_there_is_no_default_but_of_encryption(s3: Any, bucket: str) -> None:
    """As on AWS, deleted public access blocks and ownership have no default; encryption is SSE-S3 again."""
    s3.delete_public_access_block(Bucket=bucket)
    s3.delete_bucket_ownership_controls(Bucket=bucket)
    s3.delete_bucket_encryption(Bucket=bucket)

    for call, code in (
        (s3.get_public_access_block, "NoSuchPublicAccessBlockConfiguration"),
        (s3.get_bucket_ownership_controls, "OwnershipControlsNotFoundError"),
    ):
        with pytest.raises(ClientError) as refused:
            call(Bucket=bucket)
        assert code_of(refused) == (404, code)
    assert "ServerSideEncryptionConfiguration" in s3.get_bucket_encryption(Bucket=bucket)


def test_lists_of_access(s3: Any, bucket: str) -> None:
    """The owner has full control; other ACLs are refused, unless the bucket's ownership allows ACLs of the owner."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ACL="bucket-owner-full-control")
    lists = [s3.get_bucket_acl(Bucket=bucket), s3.get_object_acl(Bucket=bucket, Key="k")]

    for one in lists:
        assert [(grant["Permission"], grant["Grantee"]) for grant in one["Grants"]] == [
            ("FULL_CONTROL", {**one["Owner"], "Type": "CanonicalUser"})
        ]
    for call, extra in ((s3.put_object, {"Key": "k"}), (s3.put_object_acl, {"Key": "k"}), (s3.put_bucket_acl, {})):
        with pytest.raises(ClientError) as refused:
            call(Bucket=bucket, ACL="private", **extra)
        assert code_of(refused) == (400, "AccessControlListNotSupported")
    s3.put_object_acl(Bucket=bucket, Key="k", ACL="bucket-owner-full-control")
    with pytest.raises(ClientError) as refused:
        s3.create_bucket(Bucket=f"{bucket}-public", ACL="public-read")
    assert code_of(refused) == (400, "InvalidBucketAclWithObjectOwnership")

    s3.put_bucket_ownership_controls(
        Bucket=bucket, OwnershipControls={"Rules": [{"ObjectOwnership": "BucketOwnerPreferred"}]}
    )
    s3.put_object(Bucket=bucket, Key="k", Body=b"y", ACL="private")
    s3.put_bucket_acl(Bucket=bucket, ACL="private")
    same = {name: lists[0][name] for name in ("Owner", "Grants")}
    s3.put_bucket_acl(Bucket=bucket, AccessControlPolicy=same)
    for call, extra in ((s3.put_object, {"Key": "k"}), (s3.put_bucket_acl, {})):
        with pytest.raises(ClientError) as refused:
            call(Bucket=bucket, ACL="public-read", **extra)
        assert code_of(refused) == (501, "NotImplemented")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"y"


def test_encryption_of_objects(s3: Any, bucket: str) -> None:
    """Encryption is SSE-S3, or what the bucket sets, or what the request sets, and each response reports it."""
    key = "arn:aws:kms:us-east-1:123456789012:key/11111111-2222-3333-4444-555555555555"
    target = {"Bucket": bucket, "Key": "k"}
    assert s3.put_object(**target, Body=b"x")["ServerSideEncryption"] == "AES256"
    assert s3.head_object(**target)["ServerSideEncryption"] == "AES256"
    assert s3.copy_object(Bucket=bucket, Key="c", CopySource=target)["ServerSideEncryption"] == "AES256"
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}}
    s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": [rule]})

    s3.put_object(**target, Body=b"x")
    s3.copy_object(Bucket=bucket, Key="c", CopySource=target)

    for name in ("k", "c"):
        head = s3.head_object(Bucket=bucket, Key=name)
        assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", key)
    assert s3.put_object(**target, Body=b"x", ServerSideEncryption="AES256")["ServerSideEncryption"] == "AES256"
    assert "SSEKMSKeyId" not in s3.head_object(**target)
    with pytest.raises(ClientError) as refused:
        s3.put_object(**target, Body=b"x", SSEKMSKeyId=key)
    assert code_of(refused) == (400, "InvalidArgument")


ACCOUNT = {"AWS": "arn:aws:iam::123456789012:root"}


def statement(bucket: str, **changes: Any) -> dict[str, Any]:
    allow = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{bucket}/*"}
    return {name: value for name, value in {**allow, **changes}.items() if value is not None}


@pytest.mark.parametrize(
    "changes",
    [
        {"Effect": "Maybe"},
        {"Effect": None},
        {"Principal": None},
        {"Action": "ec2:RunInstances"},
        {"Action": None},
        {"Resource": "arn:aws:s3:::another-bucket/*"},
        {"Resource": None},
        {"NotAction": "s3:GetObject"},
        {"Foo": "bar"},
        {"Condition": "x"},
    ],
)
def test_a_policy_that_s3_does_not_take(s3: Any, bucket: str, changes: dict[str, Any]) -> None:
    """An invalid statement is MalformedPolicy and changes nothing; a corrected policy is accepted."""
    policy: dict[str, Any] = {"Version": "2012-10-17", "Statement": [statement(bucket, **changes)]}
    with pytest.raises(ClientError) as refused:
        s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
    assert code_of(refused) == (400, "MalformedPolicy")
    with pytest.raises(ClientError):
        s3.get_bucket_policy(Bucket=bucket)

    policy["Statement"] = statement(bucket, Principal=ACCOUNT)
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
    assert s3.get_bucket_policy_status(Bucket=bucket)["PolicyStatus"]["IsPublic"] is False


def test_a_public_policy(s3: Any, bucket: str) -> None:
    """A bucket that blocks public policies, as a new one does, refuses one with 403 and keeps its own."""
    public = json.dumps({"Version": "2012-10-17", "Statement": [statement(bucket)]})
    private = json.dumps({"Version": "2012-10-17", "Statement": [statement(bucket, Principal=ACCOUNT)]})
    s3.put_bucket_policy(Bucket=bucket, Policy=private)
    with pytest.raises(ClientError) as refused:
        s3.put_bucket_policy(Bucket=bucket, Policy=public)
    assert code_of(refused) == (403, "AccessDenied")
    assert s3.get_bucket_policy(Bucket=bucket)["Policy"] == private

    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration={"BlockPublicPolicy": False})
    s3.put_bucket_policy(Bucket=bucket, Policy=public)
    assert s3.get_bucket_policy_status(Bucket=bucket)["PolicyStatus"]["IsPublic"] is True
    s3.delete_public_access_block(Bucket=bucket)
    s3.put_bucket_policy(Bucket=bucket, Policy=public)


@pytest.mark.parametrize("policy", ["no json", "[]", "{}", '{"Version": "2020-01-01", "Statement": []}', '"x"'])
def test_what_is_no_policy_at_all(s3: Any, bucket: str, policy: str) -> None:
    """Text, lists and objects without a statement are MalformedPolicy."""
    with pytest.raises(ClientError) as refused:
        s3.put_bucket_policy(Bucket=bucket, Policy=policy)
    assert code_of(refused) == (400, "MalformedPolicy")


RULE: dict[str, Any] = {"ID": "r", "Status": "Enabled", "Filter": {"Prefix": "tmp/"}, "Expiration": {"Days": 1}}


@pytest.mark.parametrize(
    ("rules", "code"),
    [
        ([{**RULE, "Status": "enabled"}], "MalformedXML"),
        ([{**RULE, "Expiration": {"Days": 0}}], "InvalidArgument"),
        ([{**RULE, "Expiration": {"Date": datetime(2030, 1, 1, 1, tzinfo=timezone.utc)}}], "InvalidArgument"),
        ([{**RULE, "ID": "x" * 256}], "InvalidArgument"),
        ([RULE, RULE], "InvalidArgument"),
        ([{name: RULE[name] for name in ("ID", "Status", "Filter")}], "InvalidRequest"),
        ([{name: RULE[name] for name in ("ID", "Status", "Expiration")}], "MalformedXML"),
    ],
)
def test_a_lifecycle_that_s3_does_not_take(s3: Any, bucket: str, rules: list[dict[str, Any]], code: str) -> None:
    """An invalid lifecycle rule changes nothing; a valid one is accepted, and gets an ID if it has none."""
    with pytest.raises(ClientError) as refused:
        s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": rules})
    assert code_of(refused) == (400, code)

    unnamed = {name: RULE[name] for name in ("Status", "Filter", "Expiration")}
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [RULE, unnamed]})
    first, second = s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert (first, second | {"ID": ""}) == (RULE, unnamed | {"ID": ""})
    assert second["ID"]


@pytest.mark.parametrize(
    "actions",
    [
        {"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 2}},
        {"NoncurrentVersionExpiration": {"NoncurrentDays": 2}},
        {"Expiration": {"ExpiredObjectDeleteMarker": True}},
        {"Expiration": {"Date": datetime(2030, 1, 1, tzinfo=timezone.utc)}},
        {"Transitions": [{"Days": 30, "StorageClass": "GLACIER"}]},
    ],
)
@pytest.mark.parametrize(
    "which",
    [
        {"Filter": {}},
        {"Filter": {"Tag": {"Key": "a", "Value": "1"}}},
        {"Filter": {"And": {"Prefix": "a", "Tags": [{"Key": "a", "Value": "1"}]}}},
        {"Prefix": ""},
    ],
)
def test_a_lifecycle_of_any_kind(s3: Any, bucket: str, actions: dict[str, Any], which: dict[str, Any]) -> None:
    """Each lifecycle action and filter of S3 is accepted and returned unchanged."""
    rules = [{"ID": "r", "Status": "Enabled", **actions, **which}]

    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": rules})

    assert s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"] == rules


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "?cors", b"<CORSConfiguration><CORSRule><Foo/></CORSRule></CORSConfiguration>"),
        ("PUT", "?encryption", b"<ServerSideEncryptionConfiguration/>"),
        ("PUT", "?ownershipControls", b"<OwnershipControls><Rule/></OwnershipControls>"),
        ("PUT", "?publicAccessBlock", b"<PublicAccessBlockConfiguration><BlockPublicAcls>maybe</BlockPublicAcls></P>"),
        ("PUT", "?tagging", b"<Tagging><TagSet><Tag><Key>a</Key></Tag></TagSet></Tagging>"),
        ("PUT", "?lifecycle", b"no xml"),
    ],
)
def test_documents_against_the_schema(s3_server: Any, bucket: str, method: str, path: str, body: bytes) -> None:
    """Unknown elements, missing elements and values of a wrong type are MalformedXML."""
    connection = http.client.HTTPConnection("127.0.0.1", s3_server.port, timeout=30)
    digest = base64.b64encode(hashlib.md5(body).digest()).decode()
    connection.request(method, f"/{bucket}{path}", body, {"content-md5": digest})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()

    assert (answer.status, b"<Code>MalformedXML</Code>" in content) == (400, True)


def test_buckets_of_a_region(s3: Any) -> None:
    """`BucketRegion` lists the buckets of one region, which is the home's for all; CreateBucket may set tags."""
    name = f"tagged-{uuid.uuid4().hex[:12]}"
    tags = [{"Key": "a", "Value": "1"}]
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"Tags": tags}, ACL="private")

    assert name in [one["Name"] for one in s3.list_buckets(BucketRegion="us-east-1")["Buckets"]]
    assert s3.list_buckets(BucketRegion="eu-central-1")["Buckets"] == []
    assert s3.get_bucket_tagging(Bucket=name)["TagSet"] == tags


def test_configurations_come_back_as_given(s3: Any, bucket: str) -> None:
    """A configuration is returned as it was set, and no longer after its deletion."""
    private = dict.fromkeys(("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True)
    encryption = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}
    tags = [{"Key": "a", "Value": "ü +-=._:/@"}]
    rule = {"ID": "r", "Status": "Enabled", "Filter": {"Prefix": "tmp/"}, "Expiration": {"Days": 1}}
    policy = {"Version": "2012-10-17", "Statement": [statement(bucket)]}
    steps: list[tuple[Callable[[], Any], Callable[..., Any], str, Any, Callable[..., Any] | None]] = [
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
            None,
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
        if delete is None:  # a bucket always has an encryption
            continue
        delete(Bucket=bucket)
        with pytest.raises(ClientError):
            get(Bucket=bucket)


@pytest.mark.parametrize(
    ("operation", "parameters"),
    [
        ("put_bucket_versioning", {"VersioningConfiguration": {"Status": "Enabled"}}),
        ("put_bucket_accelerate_configuration", {"AccelerateConfiguration": {"Status": "Enabled"}}),
        ("put_bucket_request_payment", {"RequestPaymentConfiguration": {"Payer": "Requester"}}),
        (
            "put_bucket_logging",
            {"BucketLoggingStatus": {"LoggingEnabled": {"TargetBucket": "b", "TargetPrefix": "p"}}},
        ),
        ("restore_object", {"Key": "k", "RestoreRequest": {"Days": 1}}),
        (
            "update_object_encryption",
            {"Key": "k", "ObjectEncryption": {"SSEKMS": {"KMSKeyArn": "arn:aws:kms:us-east-1:123456789012:key/x"}}},
        ),
        ("put_object", {"Key": "k", "ObjectLockMode": "GOVERNANCE"}),
    ],
)
def test_what_is_not_built_says_so(s3: Any, bucket: str, operation: str, parameters: dict[str, Any]) -> None:
    """An operation or header that is not implemented is a 501 and changes nothing, least of all an object."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")

    with pytest.raises(ClientError) as refused:
        getattr(s3, operation)(Bucket=bucket, **parameters)

    assert code_of(refused) == (501, "NotImplemented")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"
