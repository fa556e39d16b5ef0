"""IAM, STS and other services that moto answers behind the same endpoint, and their state after a killed server."""

from __future__ import annotations

import json

import boto3
from api_requests import error_of, new_name

from local_sagemaker.iam.sessions import Session
from local_sagemaker.keys import HomeKey

TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }
)
ALLOW_S3 = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]})


def caller(backend, access_key: str, secret_key: str, token: str | None = None) -> str:
    """Return the ARN that STS reports for these credentials."""
    keys = {"aws_access_key_id": access_key, "aws_secret_access_key": secret_key, "aws_session_token": token}
    client = boto3.client("sts", region_name="us-east-1", endpoint_url=backend.endpoint, **keys)
    return client.get_caller_identity()["Arn"]


def test_identity(backend):
    """The home's key belongs to the account of the jobs' ARNs, and to a role that exists."""
    found = backend.client("sts").get_caller_identity()
    role = backend.client("iam").get_role(RoleName="local-sagemaker")["Role"]

    assert (found["Account"], found["Arn"]) == (
        "123456789012",
        "arn:aws:sts::123456789012:assumed-role/local-sagemaker/user",
    )
    assert found["UserId"].endswith(":user")
    assert role["Arn"] == "arn:aws:iam::123456789012:role/local-sagemaker"


def test_each_key_has_its_own_identity(backend):
    """The credentials of an assumed role, a session, an IAM user and a job each have their own identity."""
    iam, sts, name = backend.client("iam"), backend.client("sts"), new_name("known")
    arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=TRUST)["Role"]["Arn"]
    assumed = sts.assume_role(RoleArn=arn, RoleSessionName="session")["Credentials"]
    session = sts.get_session_token()["Credentials"]
    iam.create_user(UserName=name)
    user = iam.create_access_key(UserName=name)["AccessKey"]
    job = HomeKey.of(backend.home).temporary(Session("arn:aws:iam::123456789012:role/worker", "SageMaker"), 60)
    fields = ("AccessKeyId", "SecretAccessKey", "SessionToken")

    assert caller(backend, *(assumed[field] for field in fields)).endswith(f":assumed-role/{name}/session")
    assert caller(backend, *(session[field] for field in fields)).endswith(":assumed-role/local-sagemaker/user")
    assert caller(backend, *(user[field] for field in fields[:2])) == f"arn:aws:iam::123456789012:user/{name}"
    assert caller(backend, job.access_key, job.secret_key, job.token).endswith(":assumed-role/worker/SageMaker")


def test_roles(backend):
    """A role can be created with inline and managed policies, read and assumed; a second one of its name is refused."""
    iam, sts, name = backend.client("iam"), backend.client("sts"), new_name("role")
    arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=TRUST)["Role"]["Arn"]
    iam.put_role_policy(RoleName=name, PolicyName="s3", PolicyDocument=ALLOW_S3)
    iam.attach_role_policy(RoleName=name, PolicyArn="arn:aws:iam::aws:policy/AmazonSageMakerFullAccess")
    attached = iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]
    assumed = sts.assume_role(RoleArn=arn, RoleSessionName="session")

    assert arn == f"arn:aws:iam::123456789012:role/{name}"
    assert iam.get_role(RoleName=name)["Role"]["Arn"] == arn
    assert iam.get_role_policy(RoleName=name, PolicyName="s3")["PolicyDocument"] == json.loads(ALLOW_S3)
    assert [policy["PolicyName"] for policy in attached] == ["AmazonSageMakerFullAccess"]
    assert assumed["AssumedRoleUser"]["Arn"].endswith(f":assumed-role/{name}/session")
    assert assumed["Credentials"]["SecretAccessKey"]
    assert error_of(iam.create_role, RoleName=name, AssumeRolePolicyDocument=TRUST)[0] == "EntityAlreadyExists"


def test_policy_simulation(backend):
    """SimulatePrincipalPolicy, which the SageMaker SDK calls, reports this server's decisions on a role's requests."""
    iam, name = backend.client("iam"), new_name("role")
    arn = iam.create_role(RoleName=name, Path="/service-role/", AssumeRolePolicyDocument=TRUST)["Role"]["Arn"]
    statements = [
        {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"},
        {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "*", "Condition": {"Bool": {"test:key": "true"}}},
        {"Effect": "Deny", "Action": "s3:Delete*", "Resource": "arn:aws:s3:::b/*"},
    ]
    document = json.dumps({"Version": "2012-10-17", "Statement": statements})
    iam.put_role_policy(RoleName=name, PolicyName="s3", PolicyDocument=document)
    results = iam.simulate_principal_policy(
        PolicySourceArn=arn,
        ActionNames=["s3:PutObject", "s3:GetObject", "s3:DeleteObject", "s3:ListBucket"],
        ResourceArns=["arn:aws:s3:::b/*"],
        ContextEntries=[{"ContextKeyName": "test:key", "ContextKeyValues": ["true"], "ContextKeyType": "boolean"}],
    )["EvaluationResults"]
    decisions = {one["EvalActionName"]: one["EvalDecision"] for one in results}

    assert decisions == {
        "s3:PutObject": "implicitDeny",
        "s3:GetObject": "allowed",
        "s3:DeleteObject": "explicitDeny",
        "s3:ListBucket": "allowed",
    }
    assert {one["EvalResourceName"] for one in results} == {"arn:aws:s3:::b/*"}
    missing = f"arn:aws:iam::123456789012:role/{new_name('none')}"
    for other in (missing, arn.replace("/service-role/", "/")):
        assert error_of(iam.simulate_principal_policy, PolicySourceArn=other, ActionNames=["s3:*"])[0] == "NoSuchEntity"


def test_roles_survive_a_killed_server(own_backend):
    """After `kill -9` and `up`, roles, IDs, policies, deletions, topics and parameters are unchanged.

    So are a session's permissions, even if the server was killed before it could write them to their file.
    """
    own_backend.up()
    iam, sns, ssm = (own_backend.client(service) for service in ("iam", "sns", "ssm"))
    role = iam.create_role(RoleName="kept", AssumeRolePolicyDocument=TRUST)["Role"]
    iam.put_role_policy(RoleName="kept", PolicyName="s3", PolicyDocument=ALLOW_S3)
    iam.create_role(RoleName="gone", AssumeRolePolicyDocument=TRUST)
    iam.delete_role(RoleName="gone")
    own = {"RoleName": "local-sagemaker"}
    iam.detach_role_policy(**own, PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess")
    key = iam.create_access_key(UserName=iam.create_user(UserName="u")["User"]["UserName"])["AccessKey"]["AccessKeyId"]
    topic = sns.create_topic(Name="ends")["TopicArn"]
    ssm.put_parameter(Name="/a", Value="b", Type="String")
    keys = own_backend.client("sts").assume_role(RoleArn=role["Arn"], RoleSessionName="session")["Credentials"]
    own_backend.kill()
    rights, journal = own_backend.home / "roles.json", own_backend.home / "moto.jsonl"
    rights.unlink()
    with journal.open("a") as half:
        half.write('{"service": "iam", "operat')  # as a kill in the middle of a write leaves it
    own_backend.up()
    session = dict(
        zip(("aws_access_key_id", "aws_secret_access_key", "aws_session_token"), keys.values(), strict=False)
    )
    asks = {"region_name": "us-east-1", "endpoint_url": own_backend.endpoint, **session}

    assert boto3.client("s3", **asks).list_buckets()
    assert error_of(boto3.client("ssm", **asks).get_parameter, Name="/a")[0] == "AccessDeniedException"
    assert rights.stat().st_mode & 0o077 == 0
    assert iam.get_role(RoleName="kept")["Role"]["RoleId"] == role["RoleId"]
    assert iam.get_role_policy(RoleName="kept", PolicyName="s3")["PolicyDocument"] == json.loads(ALLOW_S3)
    assert error_of(iam.get_role, RoleName="gone")[0] == "NoSuchEntity"
    assert [one["AccessKeyId"] for one in iam.list_access_keys(UserName="u")["AccessKeyMetadata"]] == [key]
    assert [one["TopicArn"] for one in sns.list_topics()["Topics"]] == [topic]
    assert ssm.get_parameter(Name="/a")["Parameter"]["Value"] == "b"
    iam.create_role(RoleName="later", AssumeRolePolicyDocument=TRUST)
    own_backend.kill()
    own_backend.up()
    assert {one["RoleName"] for one in iam.list_roles()["Roles"]} == {"kept", "later", "local-sagemaker"}
    assert iam.list_attached_role_policies(**own)["AttachedPolicies"] == []
    assert journal.stat().st_mode & 0o077 == 0


def test_what_moto_lacks(backend):
    """An operation that neither moto nor local_sagemaker implements is an error in the service's protocol."""
    code, message = error_of(backend.client("iam").get_context_keys_for_custom_policy, PolicyInputList=["{}"])

    assert code == "InvalidAction"
    assert "iam:GetContextKeysForCustomPolicy is not built in local_sagemaker" in message
