"""The role of a project's jobs: the one that is named, or one with the least it needs, whole or not at all."""

import json
import uuid

import pytest
from aws_doubles import client_error, make_block

from tasks_lib.aws.policies import job_policy, own_role_name, trust_policy
from tasks_lib.aws.role_policies import POLICY_NAME, role_policies
from tasks_lib.aws.roles import role_arn
from tasks_lib.errors import AccessDenied, ProjectError, ServiceError

OTHER_KEY = "arn:aws:kms:us-east-1:123456789012:key/of-an-override"


def arn_for(block, *uris, secrets=(), **more):
    """The role's ARN for a job that reads these URIs."""
    channels = [{"DataSource": {"S3DataSource": {"S3Uri": uri}}} for uri in uris]
    return role_arn(block, {"InputDataConfig": channels, **more}, {f"S{n}": one for n, one in enumerate(secrets)})


def policies_of(block):
    """The inline policies of the role that a block has, by name."""
    iam, name = block.client("iam"), own_role_name(block)
    names = iam.list_role_policies(RoleName=name)["PolicyNames"]
    return {one: iam.get_role_policy(RoleName=name, PolicyName=one)["PolicyDocument"] for one in names}


def objects_read(block):
    """The objects that the role may read, but for its project's."""
    statements = [one for policy in policies_of(block).values() for one in policy["Statement"]]
    return {arn for one in statements if one["Sid"] == "ReadInputs" for arn in one["Resource"]}


@pytest.fixture
def block(aws):
    """A project of its own, whose role nobody has made."""
    return make_block(project=f"p{uuid.uuid4().hex[:12]}", role=None)


def test_a_named_role_is_asked_of_nobody(aws):
    """An ARN is an ARN."""
    block = make_block(role="arn:aws:iam::123456789012:role/mine")
    block.client("iam").meta.events.register("before-call.iam", lambda **_: pytest.fail("IAM was asked"))

    assert arn_for(block) == "arn:aws:iam::123456789012:role/mine"


def test_a_role_by_name_is_looked_up(block):
    """And never made under a name that somebody gave: a typing error must not become a role."""
    made = arn_for(block)
    name = made.rpartition("/")[2]

    assert arn_for(make_block(role=name)) == made
    with pytest.raises(ServiceError, match="find the role gone"):
        arn_for(make_block(role="gone"))


def test_a_role_is_made_once(block):
    """With its policy and the trust of SageMaker alone; a second call finds it."""
    made = arn_for(block)
    name = made.rpartition("/")[2]
    role = block.client("iam").get_role(RoleName=name)["Role"]
    [(policy_name, policy)] = policies_of(block).items()

    assert arn_for(block) == made
    assert role["AssumeRolePolicyDocument"] == trust_policy()
    assert policy == json.loads(json.dumps(job_policy(block)))
    assert policy_name.startswith(f"{POLICY_NAME}-")
    assert len(name) <= 64


def test_the_boundary_is_set(aws):
    """X18: what bounds the role that is made."""
    block = make_block(
        project=f"p{uuid.uuid4().hex[:12]}", role=None, permissions_boundary="arn:aws:iam::123456789012:policy/boundary"
    )
    name = arn_for(block).rpartition("/")[2]

    assert block.client("iam").get_role(RoleName=name)["Role"]["PermissionsBoundary"]["PermissionsBoundaryArn"] == (
        "arn:aws:iam::123456789012:policy/boundary"
    )


def test_of_two_that_make_the_role_both_have_it(block):
    """1. Neither finds it. 2. One makes it. 3. The other finds it there."""
    other = make_block(project=block.project, role=None)
    events = block.client("iam").meta.events
    events.register_first("before-call.iam.CreateRole", lambda **_: arn_for(other) and None)

    assert arn_for(block) == arn_for(other)


def test_a_role_without_rights_is_completed(block):
    """1. The policy is refused, or the caller dies. 2. The next call gives the role what it lacks."""

    def refuse(**_):
        raise client_error("AccessDenied", "not authorized to perform iam:PutRolePolicy", "PutRolePolicy")

    events = block.client("iam").meta.events
    events.register("before-call.iam.PutRolePolicy", refuse, unique_id="refuse")
    with pytest.raises(AccessDenied):
        arn_for(block)
    events.unregister("before-call.iam.PutRolePolicy", unique_id="refuse")
    arn_for(block)

    assert [policy["Statement"][0]["Sid"] for policy in policies_of(block).values()] == ["UseTheProject"]


def test_the_role_gets_what_a_request_references(block):
    """Inputs, outputs, keys and networks of the request, and secrets; a second job adds its own and takes nothing."""
    arn_for(block, "s3://other/data.csv")
    first = policies_of(block)
    arn_for(
        block,
        f"{block.uri}task/input/",
        "s3://other/data/",
        secrets=["ssm:/team/db", "ssm:/team/db"],
        OutputDataConfig={"S3OutputPath": "s3://results/x/", "KmsKeyId": OTHER_KEY},
        VpcConfig={"Subnets": ["subnet-1"]},
    )
    statements = {one["Sid"]: one for policy in policies_of(block).values() for one in policy["Statement"]}

    assert policies_of(block).items() >= first.items()
    assert objects_read(block) == {
        "arn:aws:s3:::other/data.csv",
        "arn:aws:s3:::other/data.csv/*",
        "arn:aws:s3:::other/data/*",
    }
    assert statements["WriteOutputs"]["Resource"] == ["arn:aws:s3:::results/x/*"]
    assert statements["EncryptVolumesAndOutputs"]["Resource"] == [OTHER_KEY]
    assert statements["ReadParameters"]["Resource"] == ["arn:aws:ssm:us-east-1:*:parameter/team/db"]
    assert "JoinTheNetwork" in statements
    assert len(policies_of(block)) == 7


def test_what_is_there_is_not_put_again(block):
    """A second job with the same references lists the policies, and writes nothing."""
    arn_for(block, "s3://other/data/")
    block.client("iam").meta.events.register("before-call.iam.PutRolePolicy", lambda **_: pytest.fail("put again"))

    arn_for(block, "s3://other/data/")


def test_two_that_extend_the_role_at_once(block):
    """1. Both have listed the policies. 2. The second puts its own. 3. The first puts its own. Both are there."""
    arn_for(block)
    other, events = make_block(project=block.project, role=None), block.client("iam").meta.events
    events.register_first("before-call.iam.PutRolePolicy", lambda **_: arn_for(other, "s3://second/") and None)
    arn_for(block, "s3://first/")

    assert objects_read(block) == {"arn:aws:s3:::first/*", "arn:aws:s3:::second/*"}


def test_the_outputs_of_another_projects_task(block):
    """Of all of its jobs, so that the role does not grow with each of them; neither another task nor another's data."""
    root = block.uri.removesuffix(f"{block.project}/")
    for job in ("job-1", "job-2"):
        arn_for(block, f"{root}features/embed/{job}/output/model.tar.gz")
    arn_for(block, f"{root}raw/2026/11/28/", f"{root}features/_bundles/abc/source.tar.gz")

    assert objects_read(block) == {
        f"arn:aws:s3:::{block.bucket}/features/embed/*",
        f"arn:aws:s3:::{block.bucket}/features/_bundles/*",
        f"arn:aws:s3:::{block.bucket}/raw/2026/11/28/*",
    }


def test_a_full_role(block):
    """IAM takes 10,240 characters of inline policies: the error says what to do, before a job is made."""

    def refuse(**_):
        raise client_error("LimitExceeded", "Maximum policy size of 10240 bytes exceeded", "PutRolePolicy")

    arn_for(block)
    block.client("iam").meta.events.register("before-call.iam.PutRolePolicy", refuse)
    with pytest.raises(ProjectError, match="as many policies as IAM takes") as refused:
        arn_for(block, "s3://one/more/")

    assert "ssm policy --read" in refused.value.fix


def test_a_policy_says_its_name():
    """The name is made of the content: other content never has it, and the same always does."""
    block, request = make_block(role=None), {"InputDataConfig": []}
    names = role_policies(block, request, {})

    assert names == role_policies(make_block(role=None), request, {})
    assert not names.keys() & role_policies(make_block(role=None, region="eu-west-1"), request, {}).keys()
