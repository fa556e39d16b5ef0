"""The role of a project's jobs: the given one, or one with least privilege that is complete."""

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
    """Return the role's ARN for a job that reads these URIs."""
    channels = [{"DataSource": {"S3DataSource": {"S3Uri": uri}}} for uri in uris]
    return role_arn(block, {"InputDataConfig": channels, **more}, {f"S{n}": one for n, one in enumerate(secrets)})


def policies_of(block):
    """Return the inline policies of the role that a block has, by name."""
    iam, name = block.client("iam"), own_role_name(block)
    names = iam.list_role_policies(RoleName=name)["PolicyNames"]
    return {one: iam.get_role_policy(RoleName=name, PolicyName=one)["PolicyDocument"] for one in names}


def objects_read(block):
    """Return the objects that the role may read outside its project."""
    statements = [one for policy in policies_of(block).values() for one in policy["Statement"]]
    return {arn for one in statements if one["Sid"] == "ReadInputs" for arn in one["Resource"]}


@pytest.fixture
def block(aws):
    """A separate project whose role does not exist yet."""
    return make_block(project=f"p{uuid.uuid4().hex[:12]}", role=None)


def test_a_role_by_arn_needs_no_request(aws):
    """A role given by ARN causes no request to IAM."""
    block = make_block(role="arn:aws:iam::123456789012:role/mine")
    block.client("iam").meta.events.register("before-call.iam", lambda **_: pytest.fail("IAM was asked"))

    assert arn_for(block) == "arn:aws:iam::123456789012:role/mine"


def test_a_role_by_name_is_looked_up(block):
    """A role given by name is looked up but never created, so that a typing error does not become a role."""
    made = arn_for(block)
    name = made.rpartition("/")[2]

    assert arn_for(make_block(role=name)) == made
    with pytest.raises(ServiceError, match="find the role gone"):
        arn_for(make_block(role="gone"))


def test_a_role_is_made_once(block):
    """The role is created with its policy and a trust policy for SageMaker only; a second call finds it."""
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
    """The created role has the project's permissions boundary (X18)."""
    block = make_block(
        project=f"p{uuid.uuid4().hex[:12]}", role=None, permissions_boundary="arn:aws:iam::123456789012:policy/boundary"
    )
    name = arn_for(block).rpartition("/")[2]

    assert block.client("iam").get_role(RoleName=name)["Role"]["PermissionsBoundary"]["PermissionsBoundaryArn"] == (
        "arn:aws:iam::123456789012:policy/boundary"
    )


def test_of_two_that_make_the_role_both_have_it(block):
    """1. Two callers do not find the role. 2. One creates it. 3. The other finds it."""
    other = make_block(project=block.project, role=None)
    events = block.client("iam").meta.events
    events.register_first("before-call.iam.CreateRole", lambda **_: arn_for(other) and None)

    assert arn_for(block) == arn_for(other)


def test_a_role_without_policy_is_completed(block):
    """1. The policy is refused, or the caller ends. 2. The next call adds the missing policy to the role."""

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
    """The role gets permissions for the inputs, outputs, keys, networks and secrets of the request.

    A second job adds its own and removes none.
    """
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
    """A second job with the same references only lists the policies."""
    arn_for(block, "s3://other/data/")
    block.client("iam").meta.events.register("before-call.iam.PutRolePolicy", lambda **_: pytest.fail("put again"))

    arn_for(block, "s3://other/data/")


def test_two_that_extend_the_role_at_once(block):
    """1. Two callers have listed the policies. 2. The second puts its own. 3. The first puts its own. Both are kept."""
    arn_for(block)
    other, events = make_block(project=block.project, role=None), block.client("iam").meta.events
    events.register_first("before-call.iam.PutRolePolicy", lambda **_: arn_for(other, "s3://second/") and None)
    arn_for(block, "s3://first/")

    assert objects_read(block) == {"arn:aws:s3:::first/*", "arn:aws:s3:::second/*"}


def test_the_outputs_of_another_projects_task(block):
    """For outputs of another project's task the role may read all jobs of that task, so it does not grow with each.

    It may not read other tasks or data.
    """
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
    """If the role has IAM's limit of 10,240 characters of inline policies, an error with a fix comes before any job."""

    def refuse(**_):
        raise client_error("LimitExceeded", "Maximum policy size of 10240 bytes exceeded", "PutRolePolicy")

    arn_for(block)
    block.client("iam").meta.events.register("before-call.iam.PutRolePolicy", refuse)
    with pytest.raises(ProjectError, match="as many policies as IAM takes") as refused:
        arn_for(block, "s3://one/more/")

    assert "ssm policy --read" in refused.value.fix


def test_a_policy_says_its_name():
    """The name of a policy depends on its content and on nothing else."""
    block, request = make_block(role=None), {"InputDataConfig": []}
    names = role_policies(block, request, {})

    assert names == role_policies(make_block(role=None), request, {})
    assert not names.keys() & role_policies(make_block(role=None, region="eu-west-1"), request, {}).keys()
