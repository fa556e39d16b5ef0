"""The role of a project's jobs: the one that is named, or one with the least it needs, whole or not at all."""

import json
import uuid

import pytest
from aws_doubles import client_error, make_block

from tasks_lib.aws.policies import job_policy, trust_policy
from tasks_lib.aws.roles import POLICY_NAME, role_arn
from tasks_lib.errors import AccessDenied, ServiceError


@pytest.fixture
def block(aws):
    """A project of its own, whose role nobody has made."""
    return make_block(project=f"p{uuid.uuid4().hex[:12]}", role=None)


def test_a_named_role_is_asked_of_nobody(aws):
    """An ARN is an ARN."""
    block = make_block(role="arn:aws:iam::123456789012:role/mine")
    block.client("iam").meta.events.register("before-call.iam", lambda **_: pytest.fail("IAM was asked"))

    assert role_arn(block) == "arn:aws:iam::123456789012:role/mine"


def test_a_role_by_name_is_looked_up(block):
    """And never made under a name that somebody gave: a typing error must not become a role."""
    made = role_arn(block)
    name = made.rpartition("/")[2]

    assert role_arn(make_block(role=name)) == made
    with pytest.raises(ServiceError, match="find the role gone"):
        role_arn(make_block(role="gone"))


def test_a_role_is_made_once(block):
    """With its policy and the trust of SageMaker alone; a second call finds it."""
    made = role_arn(block)
    name = made.rpartition("/")[2]
    role = block.client("iam").get_role(RoleName=name)["Role"]
    policy = block.client("iam").get_role_policy(RoleName=name, PolicyName=POLICY_NAME)["PolicyDocument"]

    assert role_arn(block) == made
    assert role["AssumeRolePolicyDocument"] == trust_policy()
    assert policy == json.loads(json.dumps(job_policy(block)))
    assert len(name) <= 64


def test_the_boundary_is_set(aws):
    """X18: what bounds the role that is made."""
    block = make_block(
        project=f"p{uuid.uuid4().hex[:12]}", role=None, permissions_boundary="arn:aws:iam::123456789012:policy/boundary"
    )
    name = role_arn(block).rpartition("/")[2]

    assert block.client("iam").get_role(RoleName=name)["Role"]["PermissionsBoundary"]["PermissionsBoundaryArn"] == (
        "arn:aws:iam::123456789012:policy/boundary"
    )


def test_of_two_that_make_the_role_both_have_it(block):
    """1. Neither finds it. 2. One makes it. 3. The other finds it there."""
    other = make_block(project=block.project, role=None)
    events = block.client("iam").meta.events
    events.register_first("before-call.iam.CreateRole", lambda **_: role_arn(other) and None)

    assert role_arn(block) == role_arn(other)


def test_a_role_without_rights_is_not_left(block):
    """1. The policy is refused. 2. The next call mends it, or there was no role left to find."""

    def refuse(**_):
        raise client_error("AccessDenied", "not authorized to perform iam:PutRolePolicy", "PutRolePolicy")

    events = block.client("iam").meta.events
    events.register("before-call.iam.PutRolePolicy", refuse, unique_id="refuse")
    with pytest.raises(AccessDenied):
        role_arn(block)
    events.unregister("before-call.iam.PutRolePolicy", unique_id="refuse")
    name = role_arn(block).rpartition("/")[2]

    assert block.client("iam").list_role_policies(RoleName=name)["PolicyNames"] == [POLICY_NAME]
