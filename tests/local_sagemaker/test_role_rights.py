"""Permissions of a role, through the API: each refusal is compared with the same request with the permission."""

from __future__ import annotations

import json
from urllib.parse import urlencode

import boto3
import pytest
import requests
from api_requests import error_of, finished, new_name, processing_request, training_request
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.exceptions import ClientError

from local_sagemaker.iam.roles import Role, RoleTable

TRUST = json.dumps({"Version": "2012-10-17", "Statement": []})
ACCOUNT = "123456789012"


def allow(actions, resources="*", condition=None, effect="Allow"):
    """Return one policy statement."""
    statement = {"Effect": effect, "Action": actions, "Resource": resources}
    return {**statement, "Condition": condition} if condition else statement


def deny(actions, resources="*", condition=None):
    """Return one policy statement that denies."""
    return allow(actions, resources, condition, "Deny")


class RoleOfTest:
    """A role that no other test uses."""

    def __init__(self, backend):
        self.backend, self.name = backend, new_name("role")
        self.iam = backend.client("iam")
        self.arn = self.iam.create_role(RoleName=self.name, AssumeRolePolicyDocument=TRUST)["Role"]["Arn"]
        answer = backend.client("sts").assume_role(RoleArn=self.arn, RoleSessionName="session")
        self._keys = answer["Credentials"]

    def may(self, *statements, policy="inline"):
        """Write an inline policy."""
        document = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
        self.iam.put_role_policy(RoleName=self.name, PolicyName=policy, PolicyDocument=document)

    def client(self, service, **options):
        """Return a client with credentials of the role."""
        return boto3.client(
            service,
            region_name="us-east-1",
            endpoint_url=self.backend.endpoint,
            aws_access_key_id=self._keys["AccessKeyId"],
            aws_secret_access_key=self._keys["SecretAccessKey"],
            aws_session_token=self._keys["SessionToken"],
            config=Config(retries={"total_max_attempts": 1}, **options),
        )

    def refusal(self, action, resource, why=None):
        """Return AWS's message for a refused request."""
        user = f"arn:aws:sts::{ACCOUNT}:assumed-role/{self.name}/session"
        why = why or f"because no identity-based policy allows the {action} action"
        return f'User: {user} is not authorized to perform: {action} on resource: "{resource}" {why}'


@pytest.fixture
def role(backend):
    """Return a role without permissions."""
    return RoleOfTest(backend)


@pytest.fixture(scope="module")
def bucket(backend):
    """Return a bucket with `data/a`, `data/b` and `data2/a`."""
    name = new_name("rights")
    backend.client("s3").create_bucket(Bucket=name)
    for key in ("data/a", "data/b", "data2/a"):
        backend.client("s3").put_object(Bucket=name, Key=key, Body=b"x", Tagging="team=a")
    return name


def outcome(call, **arguments):
    """Return the code of a call's error, or `ok`."""
    try:
        call(**arguments)
    except ClientError as error:
        return error.response["Error"]["Code"]
    return "ok"


# -- S3 ------------------------------------------------------------------------------------------------------------


def s3_calls(bucket):
    """Return each operation with its method, arguments, action and resource."""
    here, at = {"Bucket": bucket}, f"arn:aws:s3:::{bucket}"
    data = {**here, "Key": "data/a"}
    return [
        ("get_object", data, "s3:GetObject", f"{at}/data/a"),
        ("head_object", data, "s3:GetObject", f"{at}/data/a"),
        ("put_object", {**here, "Key": "new"}, "s3:PutObject", f"{at}/new"),
        ("delete_object", {**here, "Key": "new"}, "s3:DeleteObject", f"{at}/new"),
        ("list_objects_v2", {**here, "Prefix": "data/"}, "s3:ListBucket", at),
        ("list_objects", {**here, "Prefix": "data/"}, "s3:ListBucket", at),
        ("head_bucket", here, "s3:ListBucket", at),
        ("create_multipart_upload", {**here, "Key": "new"}, "s3:PutObject", f"{at}/new"),
        ("list_multipart_uploads", here, "s3:ListBucketMultipartUploads", at),
        ("get_object_tagging", data, "s3:GetObjectTagging", f"{at}/data/a"),
        ("get_bucket_location", here, "s3:GetBucketLocation", at),
        ("get_bucket_cors", here, "s3:GetBucketCORS", at),
        ("list_buckets", {}, "s3:ListAllMyBuckets", "arn:aws:s3:::*"),
    ]


def test_each_operation_of_s3_needs_its_action(role, bucket):
    """1. Without permission, each operation is refused with AWS's message. 2. Its own action alone allows it."""
    s3 = role.client("s3")
    for method, arguments, action, resource in s3_calls(bucket):
        role.may(deny("sts:*"))
        refused = error_of(getattr(s3, method), **arguments)
        role.may(allow(action, resource))
        found = outcome(getattr(s3, method), **arguments)

        assert refused[0] in ("AccessDenied", "403"), method
        assert refused[0] == "403" or action in refused[1], method
        assert found in ("ok", "NoSuchCORSConfiguration"), method


def test_a_refusal_says_what_is_missing(role, bucket):
    """A refusal names the user, the action, the resource, and whether a statement denies it or none allows it."""
    s3, at = role.client("s3"), f"arn:aws:s3:::{bucket}/data/a"

    missing = error_of(s3.get_object, Bucket=bucket, Key="data/a")
    role.may(allow("s3:*"), deny("s3:GetObject", at))
    denied = error_of(s3.get_object, Bucket=bucket, Key="data/a")

    assert missing == ("AccessDenied", role.refusal("s3:GetObject", at))
    assert denied == (
        "AccessDenied",
        role.refusal("s3:GetObject", at, "with an explicit deny in an identity-based policy"),
    )
    assert outcome(s3.get_object, Bucket=bucket, Key="data/b") == "ok"


def test_conditions_on_a_listing(role, bucket):
    """A role that may list one prefix can list neither a neighbouring prefix nor the whole bucket."""
    prefix = {"StringLike": {"s3:prefix": ["data/*"]}}
    role.may(allow("s3:ListBucket", f"arn:aws:s3:::{bucket}", prefix))
    listing = role.client("s3").list_objects_v2

    assert outcome(listing, Bucket=bucket, Prefix="data/") == "ok"
    assert outcome(listing, Bucket=bucket, Prefix="data2/") == "AccessDenied"
    assert outcome(listing, Bucket=bucket) == "AccessDenied"


def test_conditions_on_tags_and_keys(role, bucket):
    """Reading depends on the object's tags and needs `kms:Decrypt`; an encrypted write needs `kms:GenerateDataKey`."""
    key, at = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/1", f"arn:aws:s3:::{bucket}/*"
    s3 = role.client("s3")
    encrypted = {"Bucket": bucket, "Key": new_name(), "ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key}
    role.may(allow("s3:GetObject", at, {"StringEquals": {"s3:ExistingObjectTag/team": "b"}}), allow("s3:PutObject", at))

    assert outcome(s3.get_object, Bucket=bucket, Key="data/a") == "AccessDenied"
    assert outcome(s3.put_object, **encrypted) == "AccessDenied"

    role.may(allow("s3:GetObject", at, {"StringEquals": {"s3:ExistingObjectTag/team": "a"}}), allow("s3:PutObject", at))
    role.may(allow("kms:GenerateDataKey", key), policy="key")
    assert outcome(s3.get_object, Bucket=bucket, Key="data/a") == "ok"
    assert outcome(s3.put_object, **encrypted) == "ok"

    role.may(allow("s3:GetObject", at))
    assert outcome(s3.get_object, Bucket=bucket, Key=encrypted["Key"]) == "AccessDenied"
    role.may(allow(["kms:GenerateDataKey", "kms:Decrypt"], key), policy="key")
    assert outcome(s3.get_object, Bucket=bucket, Key=encrypted["Key"]) == "ok"


def test_a_missing_object(role, bucket):
    """Only a caller that may list the bucket learns that an object is missing; every caller learns that a bucket is."""
    s3, role_may = role.client("s3"), role.may
    role_may(allow("s3:GetObject"))
    assert outcome(s3.get_object, Bucket=bucket, Key="none") == "AccessDenied"
    assert outcome(s3.head_object, Bucket=bucket, Key="none") == "403"
    assert outcome(s3.get_object, Bucket=new_name("none"), Key="none") == "NoSuchBucket"

    role_may(allow(["s3:GetObject", "s3:ListBucket"]))
    assert outcome(s3.get_object, Bucket=bucket, Key="none") == "NoSuchKey"
    assert outcome(s3.head_object, Bucket=bucket, Key="none") == "404"


def test_a_presigned_form_has_the_rights_of_its_role(role, bucket):
    """A presigned form needs the same permission as a PutObject of its object."""
    form = role.client("s3").generate_presigned_post(bucket, "form/${filename}")
    role.may(allow("s3:PutObject", f"arn:aws:s3:::{bucket}/other/*"))

    def post():
        return requests.post(form["url"], form["fields"], files={"file": ("f.txt", b"x")}, timeout=60)

    refused = post()
    assert refused.status_code == 403
    assert "s3:PutObject on resource:" in refused.text
    assert f"arn:aws:s3:::{bucket}/form/f.txt" in refused.text

    role.may(allow("s3:PutObject", f"arn:aws:s3:::{bucket}/form/*"))
    assert post().status_code == 204


def test_copies_and_deletions_of_many(role, bucket):
    """A copy also needs permission on its source; DeleteObjects decides each key separately."""
    s3, at = role.client("s3"), f"arn:aws:s3:::{bucket}"
    copy = {"Bucket": bucket, "Key": "copy/a", "CopySource": {"Bucket": bucket, "Key": "data/a"}}
    copy["TaggingDirective"] = "REPLACE"
    role.may(allow(["s3:PutObject", "s3:DeleteObject"], f"{at}/copy/*"))
    assert outcome(s3.copy_object, **copy) == "AccessDenied"

    role.may(allow("s3:GetObject", f"{at}/data/*"), policy="source")
    assert outcome(s3.copy_object, **copy) == "ok"

    both = {"Objects": [{"Key": "data/a"}, {"Key": "copy/a"}]}
    found = s3.delete_objects(Bucket=bucket, Delete=both)
    assert [one["Key"] for one in found["Deleted"]] == ["copy/a"]
    assert [(one["Key"], one["Code"]) for one in found["Errors"]] == [("data/a", "AccessDenied")]


def test_a_copy_of_tags_needs_rights_on_tags(role, bucket):
    """A copy of tags needs permission to read and to write tags; one that replaces the tags reads none."""
    s3, at = role.client("s3"), f"arn:aws:s3:::{bucket}"
    copy = {"Bucket": bucket, "Key": new_name("copy"), "CopySource": {"Bucket": bucket, "Key": "data/a"}}
    plain = allow(["s3:PutObject", "s3:GetObject"], f"{at}/*")
    reads, writes = allow("s3:GetObjectTagging", f"{at}/data/*"), allow("s3:PutObjectTagging", f"{at}/copy*")
    replacing = {"TaggingDirective": "REPLACE", "Tagging": "team=b"}

    for statements in ([plain], [plain, reads], [plain, writes]):
        role.may(*statements)
        assert outcome(s3.copy_object, **copy) == "AccessDenied"
    role.may(plain)
    assert outcome(s3.copy_object, **copy, **replacing) == "AccessDenied"
    role.may(plain, writes)
    assert outcome(s3.copy_object, **copy, **replacing) == "ok"
    role.may(plain, reads, writes)
    assert outcome(s3.copy_object, **copy) == "ok"

    # Tags that a copy does not write do not belong to the request.
    only_b = {"StringEquals": {"s3:RequestObjectTag/team": "b"}}
    role.may(allow("s3:Get*"), allow("s3:Put*", condition=only_b))
    assert outcome(s3.copy_object, **copy, Tagging="team=b") == "AccessDenied"
    assert outcome(s3.copy_object, **copy, **replacing) == "ok"


@pytest.mark.parametrize("method", ["put_object", "put_object_tagging"])
def test_conditions_on_the_tags_of_a_request(role, bucket, method):
    """Conditions on request tags apply to the written tags: the body of PutObjectTagging, the header of PutObject."""
    s3, key = role.client("s3"), new_name()
    role.backend.client("s3").put_object(Bucket=bucket, Key=key, Body=b"")
    actions = ["s3:PutObject", "s3:PutObjectTagging"]

    def put(**tags):
        pairs = [{"Key": name, "Value": value} for name, value in tags.items()]
        how = {"Tagging": urlencode(tags)} if method == "put_object" else {"Tagging": {"TagSet": pairs}}
        return outcome(getattr(s3, method), Bucket=bucket, Key=key, **how)

    role.may(allow(actions, condition={"StringEquals": {"s3:RequestObjectTag/Team": "a"}}))
    assert (put(team="a"), put(team="b"), put(other="a")) == ("ok", "AccessDenied", "AccessDenied")
    if method == "put_object_tagging":  # a header that this operation does not have
        forged = "before-sign.s3.PutObjectTagging"
        s3.meta.events.register(forged, lambda request, **_: request.headers.add_header("x-amz-tagging", "team=a"))
        assert put(team="b") == "AccessDenied"

    role.may(allow(actions, condition={"ForAllValues:StringEquals": {"s3:RequestObjectTagKeys": ["team", "cost"]}}))
    assert (put(team="x", cost="y"), put(team="x", other="y")) == ("ok", "AccessDenied")
    role.may(allow(actions), deny(actions, condition={"ForAnyValue:StringEquals": {"s3:RequestObjectTagKeys": "x"}}))
    assert (put(team="x"), put(team="x", x="y")) == ("ok", "AccessDenied")


@pytest.mark.parametrize(
    ("method", "action", "more"),
    [
        ("get_object", "GetObject", {}),
        ("get_object_acl", "GetObjectAcl", {}),
        ("get_object_attributes", "GetObject*", {"ObjectAttributes": ["ETag"]}),
        ("get_object_tagging", "GetObjectTagging", {}),
        ("put_object_acl", "PutObjectAcl", {"ACL": "bucket-owner-full-control"}),
        ("put_object_tagging", "PutObjectTagging", {"Tagging": {"TagSet": [{"Key": "team", "Value": "a"}]}}),
        ("delete_object_tagging", "DeleteObjectTagging", {}),
    ],
)
def test_conditions_on_the_tags_of_an_object(role, bucket, method, action, more):
    """Conditions on an object's tags apply to actions with this key; they never allow DeleteObject, which lacks it."""
    s3, key = role.client("s3"), new_name()
    role.backend.client("s3").put_object(Bucket=bucket, Key=key, Body=b"", Tagging="team=a")
    call = {"Bucket": bucket, "Key": key, **more}

    def of(team):
        return {"StringEquals": {"s3:ExistingObjectTag/team": team}}

    role.may(allow([f"s3:{action}", "s3:DeleteObject"], condition=of("b")))
    assert outcome(getattr(s3, method), **call) == "AccessDenied"
    role.may(allow(f"s3:{action}"), deny(f"s3:{action}", condition=of("a")))
    assert outcome(getattr(s3, method), **call) == "AccessDenied"
    role.may(allow([f"s3:{action}", "s3:DeleteObject"], condition=of("a")))
    assert outcome(s3.delete_object, Bucket=bucket, Key=key) == "AccessDenied"
    assert outcome(getattr(s3, method), **call) == "ok"


@pytest.mark.parametrize(
    ("method", "action", "more"),
    [
        ("get_object", "GetObject{}", {}),
        ("head_object", "GetObject{}", {}),
        ("get_object_acl", "GetObject{}Acl", {}),
        ("get_object_attributes", "GetObject{}*", {"ObjectAttributes": ["ETag"]}),
        ("get_object_tagging", "GetObject{}Tagging", {}),
        ("put_object_acl", "PutObject{}Acl", {"ACL": "bucket-owner-full-control"}),
        ("put_object_tagging", "PutObject{}Tagging", {"Tagging": {"TagSet": []}}),
        ("delete_object_tagging", "DeleteObject{}Tagging", {}),
        ("copy_object", "GetObject{}", {}),
        ("delete_object", "DeleteObject{}", {}),
        ("delete_objects", "DeleteObject{}", {}),
    ],
)
def test_a_version_has_actions_of_its_own(role, bucket, method, action, more):
    """A request that names a version needs the `…Version…` action, and one without needs the plain action."""
    s3, key = role.client("s3"), new_name()
    role.backend.client("s3").put_object(Bucket=bucket, Key=key, Body=b"")

    def asked(version):
        if method == "delete_objects":
            found = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key, **version}]})
            return "AccessDenied" if found.get("Errors") else "ok"
        if method == "copy_object":
            return outcome(
                s3.copy_object, Bucket=bucket, Key=f"{key}-copy", CopySource={"Bucket": bucket, "Key": key, **version}
            )
        return outcome(getattr(s3, method), Bucket=bucket, Key=key, **more, **version).replace("403", "AccessDenied")

    version = {"VersionId": "null"}
    role.may(allow([f"s3:{action.format('Version')}", "s3:PutObject"]), deny(["s3:GetObject", "s3:DeleteObject"]))
    assert asked({}) == "AccessDenied"
    role.may(allow([f"s3:{action.format('')}", "s3:PutObject"]), deny(["s3:*ObjectVersion*"]))
    assert asked(version) == "AccessDenied"
    role.may(
        allow([f"s3:{action.format('Version')}"], condition={"StringEquals": {"s3:VersionId": "null"}}),
        allow("s3:PutObject"),
    )
    assert asked(version) == "ok"


def test_access_control_lists_need_rights_of_their_own(role, backend, bucket):
    """An ACL of a new object, and an ACL or an ownership of a new bucket, need their own permissions."""
    s3, at = role.client("s3"), f"arn:aws:s3:::{bucket}/*"
    acl = {"ACL": "bucket-owner-full-control"}
    here = {"Bucket": bucket, "Key": new_name()}
    calls = [
        (s3.put_object, here),
        (s3.create_multipart_upload, here),
        (s3.copy_object, {**here, "CopySource": f"{bucket}/untagged"}),
    ]
    backend.client("s3").put_object(Bucket=bucket, Key="untagged", Body=b"x")
    for call, arguments in calls:
        role.may(allow(["s3:PutObject", "s3:GetObject"], at))
        assert (outcome(call, **arguments), outcome(call, **arguments, **acl)) == ("ok", "AccessDenied")
        role.may(allow(["s3:PutObject", "s3:GetObject", "s3:PutObjectAcl"], at))
        assert outcome(call, **arguments, **acl) == "ok"

    for more, action in (
        ({"ACL": "private"}, "PutBucketAcl"),
        ({"ObjectOwnership": "ObjectWriter"}, "PutBucketOwnershipControls"),
    ):
        made = {"Bucket": new_name("made"), **more}
        role.may(allow("s3:CreateBucket"))
        assert outcome(s3.create_bucket, **made) == "AccessDenied"
        role.may(allow(["s3:CreateBucket", f"s3:{action}"]))
        assert outcome(s3.create_bucket, **made) == "ok"


# -- S3: KMS keys --------------------------------------------------------------------------------------------------


KEY_ID = "1234abcd-12ab-34cd-56ef-1234567890ab"
KEY = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/{KEY_ID}"


@pytest.fixture(scope="module")
def encrypted_bucket(backend):
    """Return a bucket whose objects are encrypted with `KEY` unless a request says otherwise."""
    name = new_name("encrypted")
    default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KEY_ID}
    backend.client("s3").create_bucket(Bucket=name)
    backend.client("s3").put_bucket_encryption(
        Bucket=name,
        ServerSideEncryptionConfiguration={"Rules": [{"ApplyServerSideEncryptionByDefault": default}]},
    )
    return name


@pytest.mark.parametrize(
    ("how", "resource"),
    [
        ({"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": KEY}, KEY),
        ({"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": KEY_ID}, KEY),
        ({"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "alias/mine"}, f"{KEY}0"),  # only moto knows its key
        ({}, KEY),
    ],
    ids=["arn", "id", "alias", "default"],
)
def test_an_encrypted_object_needs_its_key(role, bucket, encrypted_bucket, how, resource):
    """Putting, reading and copying an encrypted object need permission on its KMS key, however the key is named."""
    s3, at = role.client("s3"), {"Bucket": bucket if how else encrypted_bucket, "Key": new_name()}
    copy = {**at, "CopySource": f"{at['Bucket']}/{at['Key']}", "Key": new_name("copy")}
    role.may(allow("s3:*"))
    role.may(allow("kms:Encrypt"), policy="key")

    assert outcome(s3.put_object, **at, **how) == "AccessDenied"
    role.may(allow("kms:GenerateDataKey", resource), policy="key")
    assert outcome(s3.put_object, **at, **how) == "ok"
    assert (outcome(s3.get_object, **at), outcome(s3.copy_object, **copy)) == ("AccessDenied", "AccessDenied")
    role.may(allow("kms:Decrypt", resource), policy="key")
    assert outcome(s3.get_object, **at) == "ok"
    role.may(allow("kms:*", f"arn:aws:kms:us-east-1:{ACCOUNT}:key/another"), policy="key")
    if how.get("SSEKMSKeyId") != "alias/mine":
        assert (outcome(s3.get_object, **at), outcome(s3.put_object, **at, **how)) == ("AccessDenied", "AccessDenied")
        assert role.backend.client("s3").head_object(**at)["SSEKMSKeyId"] == KEY


def test_the_key_of_s3_needs_no_right(role, bucket):
    """The AWS managed key of S3 needs no permission: its key policy allows the whole account."""
    s3, at = role.client("s3"), {"Bucket": bucket, "Key": new_name()}
    role.may(allow("s3:*"))

    for how in ({}, {"SSEKMSKeyId": "alias/aws/s3"}, {"SSEKMSKeyId": f"{KEY[:-40]}alias/aws/s3"}):
        assert outcome(s3.put_object, **at, ServerSideEncryption="aws:kms", **how) == "ok"
        assert outcome(s3.get_object, **at) == "ok"


def test_an_encrypted_upload_in_parts_needs_two_rights(role, encrypted_bucket):
    """An encrypted multipart upload needs `GenerateDataKey` to start, and `Decrypt` for parts and completion."""
    s3, at = role.client("s3"), {"Bucket": encrypted_bucket, "Key": new_name()}
    role.may(allow("s3:*"))
    role.may(allow("kms:Decrypt", KEY), policy="key")
    assert outcome(s3.create_multipart_upload, **at) == "AccessDenied"

    role.may(allow("kms:GenerateDataKey", KEY), policy="key")
    part = {**at, "UploadId": s3.create_multipart_upload(**at)["UploadId"], "PartNumber": 1}
    copy = {**part, "CopySource": f"{encrypted_bucket}/none"}
    assert (outcome(s3.upload_part, **part), outcome(s3.upload_part_copy, **copy)) == ("AccessDenied", "AccessDenied")
    role.may(allow("kms:Decrypt", KEY), policy="key")
    whole = {"Parts": [{"PartNumber": 1, "ETag": s3.upload_part(**part, Body=b"x")["ETag"]}]}
    role.may(allow("kms:GenerateDataKey", KEY), policy="key")
    end = {**at, "UploadId": part["UploadId"], "MultipartUpload": whole}
    assert outcome(s3.complete_multipart_upload, **end) == "AccessDenied"
    role.may(allow("kms:Decrypt", KEY), policy="key")
    assert outcome(s3.complete_multipart_upload, **end) == "ok"


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("kms:ViaService", "s3.us-east-1.amazonaws.com", "ec2.us-east-1.amazonaws.com"),
        ("kms:CallerAccount", ACCOUNT, "210987654321"),
        ("kms:EncryptionContext:aws:s3:arn", "arn:aws:s3:::encrypted*", "arn:aws:s3:::other*"),
        ("aws:ViaAWSService", "true", "false"),
    ],
)
def test_conditions_on_the_use_of_a_key(role, encrypted_bucket, name, right, wrong):
    """Conditions on a KMS key can require or deny its use by S3 for the caller."""
    s3, at = role.client("s3"), {"Bucket": encrypted_bucket, "Key": new_name()}
    for statement, expected in (
        (allow("kms:*", condition={"StringLike": {name: right}}), "ok"),
        (allow("kms:*", condition={"StringLike": {name: wrong}}), "AccessDenied"),
        (deny("kms:*", condition={"StringLike": {name: right}}), "AccessDenied"),
        (deny("kms:*", condition={"StringLike": {name: wrong}}), "ok"),
    ):
        role.may(allow("s3:*"), statement, *([allow("kms:*")] if statement["Effect"] == "Deny" else []))
        assert outcome(s3.put_object, **at) == expected


# -- S3: context keys of every request -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operator", "name", "values"),
    [
        ("DateGreaterThan", "aws:CurrentTime", ("2020-01-01T00:00:00Z", "2220-01-01T00:00:00Z")),
        ("NumericGreaterThan", "aws:EpochTime", ("1577836800", "7977836800")),
        ("IpAddress", "aws:SourceIp", (["127.0.0.0/8", "::1/128"], "203.0.113.0/24")),
        ("StringLike", "aws:UserAgent", ("Boto3/*", "Mozilla/*")),
        ("StringEquals", "aws:ResourceAccount", (ACCOUNT, "210987654321")),
        ("StringEquals", "s3:ResourceAccount", (ACCOUNT, "210987654321")),
        ("StringEquals", "s3:authType", ("REST-HEADER", "REST-QUERY-STRING")),
        ("StringEquals", "s3:signatureversion", ("AWS4-HMAC-SHA256", "AWS")),
    ],
)
def test_conditions_on_what_every_request_says(role, bucket, operator, name, values):
    """Conditions on context keys that every request has allow or deny operations on objects and buckets."""
    s3, (right, wrong) = role.client("s3"), values
    for method, arguments in (("get_object", {"Key": "data/a"}), ("list_objects_v2", {})):
        for statements, expected in (
            ([allow("s3:*", condition={operator: {name: right}})], "ok"),
            ([allow("s3:*", condition={operator: {name: wrong}})], "AccessDenied"),
            ([allow("s3:*"), deny("s3:*", condition={operator: {name: right}})], "AccessDenied"),
            ([allow("s3:*"), deny("s3:*", condition={operator: {name: wrong}})], "ok"),
        ):
            role.may(*statements)
            assert outcome(getattr(s3, method), Bucket=bucket, **arguments) == expected


@pytest.mark.parametrize(("version", "told"), [("s3v4", "AWS4-HMAC-SHA256"), ("s3", "AWS")])
def test_conditions_on_the_signature(role, bucket, version, told):
    """A presigned URL and a presigned form have their own `s3:authType`, and the version of their signatures."""
    s3 = role.client("s3", signature_version=version)
    url = s3.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "data/a"})
    form = s3.generate_presigned_post(bucket, "signed")

    def get():
        return requests.get(url, timeout=60).status_code

    def post():
        return requests.post(form["url"], form["fields"], files={"file": b"x"}, timeout=60).status_code

    for send, kind, done in ((get, "REST-QUERY-STRING", 200), (post, "POST", 204)):
        both = {"s3:authType": kind, "s3:signatureversion": told}
        role.may(allow("s3:*", condition={"StringEquals": both}))
        assert send() == done
        role.may(allow("s3:*", condition={"StringNotEquals": {"s3:signatureversion": told}}))
        assert send() == 403
        role.may(allow("s3:*"), deny("s3:*", condition={"StringNotEquals": {"s3:authType": "REST-HEADER"}}))
        assert send() == 403


def test_a_signature_that_is_not_looked_at_is_not_told(role, bucket):
    """A signature parameter that is added to a request signed by header does not change `s3:authType`."""
    s3 = role.client("s3")
    s3.meta.events.register(
        "before-send.s3.ListObjectsV2", lambda request, **_: setattr(request, "url", f"{request.url}&X-Amz-Signature=x")
    )
    role.may(allow("s3:*", condition={"StringEquals": {"s3:authType": "REST-QUERY-STRING"}}))
    assert outcome(s3.list_objects_v2, Bucket=bucket) == "AccessDenied"
    role.may(allow("s3:*", condition={"StringEquals": {"s3:authType": "REST-HEADER"}}))
    assert outcome(s3.list_objects_v2, Bucket=bucket) == "ok"


def test_conditions_on_the_length_of_a_page(role, bucket):
    """An empty `max-keys` means S3's default of 1,000, and does not evade a condition."""
    s3 = role.client("s3")
    role.may(allow("s3:*"), deny("s3:ListBucket", condition={"NumericGreaterThan": {"s3:max-keys": "10"}}))
    assert outcome(s3.list_objects_v2, Bucket=bucket, MaxKeys=10) == "ok"
    assert outcome(s3.list_objects_v2, Bucket=bucket, MaxKeys=11) == "AccessDenied"

    s3.meta.events.register(
        "before-sign.s3.ListObjectsV2", lambda request, **_: setattr(request, "url", f"{request.url}&max-keys=")
    )
    assert outcome(s3.list_objects_v2, Bucket=bucket) == "AccessDenied"


def test_attached_policies_and_boundaries(backend, bucket):
    """Attached policies apply like inline ones, in their default version; a permissions boundary limits both."""
    iam, role = backend.client("iam"), RoleOfTest(backend)
    documents = [{"Version": "2012-10-17", "Statement": [allow(action)]} for action in ("s3:Get*", "s3:List*")]
    policy = iam.create_policy(PolicyName=new_name(), PolicyDocument=json.dumps(documents[0]))["Policy"]["Arn"]
    s3, read, listing = role.client("s3"), {"Bucket": bucket, "Key": "data/a"}, {"Bucket": bucket}

    iam.attach_role_policy(RoleName=role.name, PolicyArn=policy)
    assert (outcome(s3.get_object, **read), outcome(s3.list_objects_v2, **listing)) == ("ok", "AccessDenied")
    iam.create_policy_version(PolicyArn=policy, PolicyDocument=json.dumps(documents[1]), SetAsDefault=True)
    assert (outcome(s3.get_object, **read), outcome(s3.list_objects_v2, **listing)) == ("AccessDenied", "ok")

    role.may(allow("s3:*"))
    assert outcome(s3.get_object, **read) == "ok"
    iam.put_role_permissions_boundary(RoleName=role.name, PermissionsBoundary=policy)
    assert (outcome(s3.get_object, **read), outcome(s3.list_objects_v2, **listing)) == ("AccessDenied", "ok")
    iam.delete_role_permissions_boundary(RoleName=role.name)
    assert outcome(s3.get_object, **read) == "ok"


# -- other services ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def others(backend):
    """Return by service: method, arguments, a sufficient resource, and a resource of another."""
    name, region = new_name("x"), f"us-east-1:{ACCOUNT}"
    secret = backend.client("secretsmanager").create_secret(Name=f"{name}/db", SecretString="s")["ARN"]
    backend.client("ssm").put_parameter(Name=f"/{name}/db", Value="s", Type="String")
    key = backend.client("kms").create_key()["KeyMetadata"]["Arn"]
    backend.client("ecr").create_repository(repositoryName=name)
    group = f"/aws/sagemaker/{name}"
    logs = f"arn:aws:logs:{region}:log-group"
    return {
        "secretsmanager": [
            ("get_secret_value", {"SecretId": f"{name}/db"}, f"{secret[:-6]}??????", f"{secret[:-9]}"),
            ("get_secret_value", {"SecretId": secret}, f"{secret[:-6]}??????", "arn:aws:secretsmanager:*:*:secret:y*"),
        ],
        "ssm": [
            ("get_parameter", {"Name": f"/{name}/db"}, f"arn:aws:ssm:{region}:parameter/{name}/db", "arn:aws:ssm:::x")
        ],
        "kms": [("encrypt", {"KeyId": key, "Plaintext": b"x"}, key, f"{key[:-4]}0000")],
        "ecr": [
            ("describe_images", {"repositoryName": name}, f"arn:aws:ecr:{region}:repository/{name}", "arn:aws:ecr:::y"),
            ("get_authorization_token", {}, "*", f"arn:aws:ecr:{region}:repository/{name}"),
        ],
        "logs": [("create_log_group", {"logGroupName": group}, f"{logs}:/aws/sagemaker/*", f"{logs}:/aws/lambda/*")],
        "cloudwatch": [
            (
                "put_metric_data",
                {"Namespace": "aws/sagemaker/x", "MetricData": [{"MetricName": "a", "Value": 1.0}]},
                "*",
                "",
            )
        ],
    }


@pytest.mark.parametrize("service", ["secretsmanager", "ssm", "kms", "ecr", "logs", "cloudwatch"])
def test_other_services(role, others, service):
    """An operation of another service is refused without permission or with one on another resource, else allowed."""
    for method, arguments, resource, other in others[service]:
        client = role.client(service)
        action = f"{service}:{client.meta.method_to_api_mapping[method]}"
        call = getattr(client, method)
        role.may(deny("sts:*"))
        refused = error_of(call, **arguments)
        role.may(allow(action, other or "arn:aws:cloudwatch:*:*:alarm:x"))
        elsewhere = outcome(call, **arguments)
        role.may(allow(action, resource))

        assert refused[0] in ("AccessDeniedException", "AccessDenied")
        assert f"is not authorized to perform: {action}" in refused[1]
        assert elsewhere == refused[0]
        # moto may answer that the operation is not implemented; what counts is that the request reached it.
        assert outcome(call, **arguments) in ("ok", "UnknownOperationException")


def test_the_namespace_of_metrics(role):
    """`cloudwatch:namespace` limits PutMetricData; the policy that this project prints depends on it."""
    role.may(allow("cloudwatch:PutMetricData", "*", {"StringLike": {"cloudwatch:namespace": ["aws/sagemaker/*"]}}))
    put, data = role.client("cloudwatch").put_metric_data, [{"MetricName": "a", "Value": 1.0}]

    assert outcome(put, Namespace="aws/sagemaker/x", MetricData=data) == "ok"
    assert outcome(put, Namespace="mine", MetricData=data) in ("AccessDenied", "AccessDeniedException")


def test_jobs_by_their_tags(role, backend):
    """With `aws:ResourceTag`, a role can stop only the jobs that have its tag."""
    sagemaker, names = backend.client("sagemaker"), {tag: new_name() for tag in ("a", "b")}
    for tag, name in names.items():
        tags = [{"Key": "team", "Value": tag}]
        sagemaker.create_training_job(**training_request(name, "sleep 100", Tags=tags))
    role.may(allow("sagemaker:StopTrainingJob", "*", {"StringEquals": {"aws:ResourceTag/team": "a"}}))
    stop = role.client("sagemaker").stop_training_job

    assert outcome(stop, TrainingJobName=names["b"]) == "AccessDeniedException"
    assert outcome(stop, TrainingJobName=names["a"]) == "ok"
    sagemaker.stop_training_job(TrainingJobName=names["b"])
    for name in names.values():
        finished(sagemaker, name)


@pytest.mark.parametrize("way", ["query string", "body without a type"])
def test_a_call_in_another_form_has_the_rights_of_its_role(role, way):
    """A query protocol call that is not in botocore's form is refused without the permission, and executed with it."""
    name = new_name("user")
    action = f"Action=CreateUser&UserName={name}&Version=2010-05-08"
    url = f"{role.backend.endpoint}/?{action}" if way == "query string" else f"{role.backend.endpoint}/"
    asked = AWSRequest("GET", url) if way == "query string" else AWSRequest("POST", url, data=action)

    def status():
        credentials = role.client("iam")._request_signer._credentials
        SigV4Auth(credentials, "iam", "us-east-1").add_auth(asked)
        sent = asked.prepare()
        return requests.request(
            sent.method, sent.url, headers=dict(sent.headers), data=sent.body, timeout=60
        ).status_code

    assert status() == 403
    role.may(allow("iam:CreateUser"))
    assert status() == 200


def test_get_caller_identity_needs_no_permission(role):
    """GetCallerIdentity needs no permission."""
    assert role.client("sts").get_caller_identity()["Arn"]


# -- jobs ----------------------------------------------------------------------------------------------------------


def channel(bucket, prefix):
    """Return the member of a training request that has one input."""
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{bucket}/{prefix}", "S3DataDistributionType": "FullyReplicated"}
    return {"InputDataConfig": [{"ChannelName": "data", "DataSource": {"S3DataSource": source}}]}


def test_a_training_job_has_the_rights_of_its_role(role, backend, bucket):
    """1. The job may not list. 2. It may not read. 3. It may not write. 4. It has all permissions that it needs."""
    sagemaker, at = backend.client("sagemaker"), f"arn:aws:s3:::{bucket}"

    def run():
        name = new_name()
        request = training_request(name, "echo x > /opt/ml/model/a", RoleArn=role.arn, **channel(bucket, "data/"))
        request["OutputDataConfig"] = {"S3OutputPath": f"s3://{bucket}/out"}
        sagemaker.create_training_job(**request)
        return finished(sagemaker, name).get("FailureReason", "")

    unlisted = run()
    role.may(allow("s3:ListBucket", at))
    unread = run()
    role.may(allow("s3:ListBucket", at), allow("s3:GetObject", f"{at}/data/*"))
    unwritten = run()
    role.may(allow("s3:ListBucket", at), allow("s3:GetObject", f"{at}/data/*"), allow("s3:PutObject", f"{at}/out/*"))

    assert "No S3 objects found under S3 URL" in unlisted
    assert "not authorized to perform: s3:ListBucket" in unlisted
    assert unread.startswith("ClientError: Data download failed:Unable to download object s3://")
    assert f'not authorized to perform: s3:GetObject on resource: "{at}/data/a"' in unread
    assert unwritten.startswith("ClientError: Artifact upload failed:")
    assert f'not authorized to perform: s3:PutObject on resource: "{at}/out/' in unwritten
    assert run() == ""


def test_the_outputs_of_a_job_are_encrypted(role, backend, encrypted_bucket):
    """A job's outputs are encrypted with the key of the request or the bucket, and the role needs permission on it."""
    sagemaker, name = backend.client("sagemaker"), new_name()
    conditioned = {"DateGreaterThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}}
    conditioned |= {"StringEquals": {"aws:ResourceAccount": ACCOUNT, "s3:ResourceAccount": ACCOUNT}}
    writes = allow("s3:PutObject", f"arn:aws:s3:::{encrypted_bucket}/*", conditioned)

    def run(job, **output):
        request = training_request(job, "echo x > /opt/ml/model/a", RoleArn=role.arn)
        request["OutputDataConfig"] = {"S3OutputPath": f"s3://{encrypted_bucket}/out", **output}
        sagemaker.create_training_job(**request)
        return finished(sagemaker, job).get("FailureReason", "")

    def key_of(job):
        at = {"Bucket": encrypted_bucket, "Key": f"out/{job}/output/model.tar.gz"}
        return backend.client("s3").head_object(**at)["SSEKMSKeyId"]

    role.may(writes)
    for output in ({}, {"KmsKeyId": KEY_ID}, {"KmsKeyId": "alias/mine"}):
        assert "not authorized to perform: kms:GenerateDataKey" in run(new_name(), **output)
    role.may(writes, allow("kms:GenerateDataKey", KEY))
    by_bucket, by_id = name, new_name()
    assert (run(by_bucket), run(by_id, KmsKeyId=KEY_ID)) == ("", "")
    assert (key_of(by_bucket), key_of(by_id)) == (KEY, KEY)


def test_the_code_of_a_job_has_the_rights_of_its_role(role, backend, bucket):
    """Requests of a job's script are decided by the policies of the job's role."""
    sagemaker, at = backend.client("sagemaker"), f"arn:aws:s3:::{bucket}"
    code = f"import boto3; boto3.client('s3').get_object(Bucket='{bucket}', Key='data/a')"

    def run():
        name = new_name()
        request = processing_request(name, RoleArn=role.arn)
        request["AppSpecification"]["ContainerEntrypoint"] = ["python", "-c", code]
        sagemaker.create_processing_job(**request)
        return finished(sagemaker, name, "Processing")["ProcessingJobStatus"]

    assert run() == "Failed"
    role.may(allow("s3:GetObject", f"{at}/data/a"))
    assert run() == "Completed"


def test_a_role_that_this_iam_does_not_have(backend, bucket):
    """A role that the local IAM lacks may do everything: its policies are elsewhere, such as on AWS."""
    sagemaker, name = backend.client("sagemaker"), new_name()
    request = training_request(name, "true", RoleArn="arn:aws:iam::210987654321:role/mine", **channel(bucket, "data/"))
    request["OutputDataConfig"] = {"S3OutputPath": f"s3://{bucket}/out"}
    sagemaker.create_training_job(**request)

    assert finished(sagemaker, name)["TrainingJobStatus"] == "Completed"


# -- the file of the role table ------------------------------------------------------------------------------------


def test_a_reader_sees_what_was_written_last(tmp_path):
    """A table that has read once sees the next change, and no longer has a deleted role."""
    writer, reader = RoleTable(tmp_path), RoleTable(tmp_path)
    role = Role(f"arn:aws:iam::{ACCOUNT}:role/path/name", "AROA", ["{}"], tags={"a": "b"})

    assert reader.get(role.arn) is None
    writer.write([role], 7)
    assert (reader.get(role.arn), reader.named("name"), reader.position) == (role, role, 7)
    writer.write([], 8)
    assert (reader.get(role.arn), reader.named("name"), reader.position) == (None, None, 8)
