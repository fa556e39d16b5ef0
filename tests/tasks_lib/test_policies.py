"""IAM policies of a project: least privilege for its folder, its role and its partition."""

import pytest
from aws_doubles import make_block

from tasks_lib.aws.policies import caller_policy, job_policy, own_role_name, trust_policy

ROLE = "arn:aws:iam::123456789012:role/team/jobs"
KEY = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
BOUNDARY = "arn:aws:iam::123456789012:policy/boundary"


def statements(policy):
    """Return the statements by their `Sid`, which must be unique."""
    found = {statement.get("Sid"): statement for statement in policy["Statement"]}
    assert len(found) == len(policy["Statement"])
    return found


def actions(policy):
    return {action for statement in policy["Statement"] for action in statement["Action"]}


@pytest.mark.parametrize("document", [caller_policy, job_policy])
def test_no_service_as_a_whole(document):
    """No action is a wildcard, and "*" as a resource is only in statements that AWS cannot restrict."""
    policy = document(make_block(role=None, output_kms_key=KEY, subnets=["subnet-0a"], security_group_ids=["sg-0a"]))
    everywhere = {name for name, statement in statements(policy).items() if "*" in statement["Resource"]}

    assert not {action for action in actions(policy) if action == "*" or action.endswith(":*")}
    assert everywhere <= {"ListJobs", "ReadQuotas", "WriteMetrics", "PullImages", "JoinTheNetwork"}


@pytest.mark.parametrize("document", [caller_policy, job_policy])
def test_data_of_the_project_alone(document):
    """The policy allows the project's folder only, not a neighbour whose name begins with the project's."""
    found = statements(document(make_block(prefix="team", project="demo")))

    assert found["UseTheProject"]["Resource"] == ["arn:aws:s3:::a-bucket/team/demo/*"]
    assert found["ListTheProject"]["Condition"] == {"StringLike": {"s3:prefix": ["team/demo/*"]}}


@pytest.mark.parametrize("document", [caller_policy, job_policy])
def test_inputs_of_others_can_be_read(document):
    """`reads` allows reading at and below its prefixes, not writing; `data` does not match `data2`."""
    found = statements(document(make_block(), ["s3://other/data", "s3://third/all/"]))

    assert found["ReadInputs"]["Action"] == ["s3:GetObject"]
    assert found["ReadInputs"]["Resource"] == [
        "arn:aws:s3:::other/data",
        "arn:aws:s3:::other/data/*",
        "arn:aws:s3:::third/all/*",
    ]
    assert found["ListInputs1"]["Condition"] == {"StringLike": {"s3:prefix": ["data", "data/*"]}}
    assert found["ListInputs2"]["Resource"] == ["arn:aws:s3:::third"]


def test_a_star_in_a_key_is_a_star():
    """A star in a prefix is escaped, because IAM would read it as a wildcard."""
    found = statements(caller_policy(make_block(prefix="a*b", project="demo")))

    assert found["UseTheProject"]["Resource"] == ["arn:aws:s3:::a-bucket/a${*}b/demo/*"]


@pytest.mark.parametrize(
    ("region", "partition"), [("eu-central-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")]
)
def test_arns_of_the_partition(region, partition):
    """Each ARN has the partition of the region, because AWS refuses a policy with another one."""
    project = make_block(region=region, role=None)
    resources = [
        resource
        for policy in (caller_policy(project), job_policy(project))
        for statement in policy["Statement"]
        for resource in statement["Resource"]
        if resource != "*"
    ]

    assert {resource.split(":")[1] for resource in resources} == {partition}
    assert {resource.split(":")[3] for resource in resources} == {"", region}


def test_a_role_by_arn_is_only_handed_on():
    """A role given by ARN can be passed to SageMaker only, and is neither looked up nor created."""
    found = statements(caller_policy(make_block(role=ROLE)))

    assert found["GiveTheRoleToSageMaker"]["Resource"] == [ROLE]
    assert found["GiveTheRoleToSageMaker"]["Condition"] == {
        "StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}
    }
    assert {action for action in actions(caller_policy(make_block(role=ROLE))) if action.startswith("iam:")} == {
        "iam:PassRole"
    }


def test_a_role_by_name_is_found():
    """A role given by name can be looked up but not created."""
    found = statements(caller_policy(make_block(role="jobs")))

    assert found["FindTheRole"]["Resource"] == ["arn:aws:iam::*:role/jobs"]
    assert "MakeTheRole" not in found


def test_the_own_role_is_made_within_its_boundary():
    """Only the role with the project's own name can be created, and only with the boundary, if one is set."""
    project = make_block(role=None, permissions_boundary=BOUNDARY)
    found = statements(caller_policy(project))

    assert found["MakeTheRole"]["Resource"] == [f"arn:aws:iam::*:role/{own_role_name(project)}"]
    assert found["MakeTheRole"]["Condition"] == {"StringEquals": {"iam:PermissionsBoundary": BOUNDARY}}
    assert "Condition" not in statements(caller_policy(make_block(role=None)))["MakeTheRole"]


def test_a_key_that_is_named():
    """The caller may use the project's output key, with which it writes inputs and reads outputs."""
    found = statements(caller_policy(make_block(output_kms_key=KEY)))

    assert found["EncryptData"]["Resource"] == [KEY]
    assert "EncryptData" not in statements(caller_policy(make_block()))


def test_the_jobs_may_use_keys():
    """The jobs may use the keys of volumes and outputs that are given by ARN."""
    policy = job_policy(make_block(output_kms_key=KEY, volume_kms_key="alias/x"))

    assert statements(policy)["EncryptVolumesAndOutputs"]["Resource"] == [KEY]


def test_a_vpc_needs_network_interfaces():
    """In a VPC the role may create network interfaces, because SageMaker does so with the role."""
    policy = job_policy(make_block(subnets=["subnet-0a"], security_group_ids=["sg-0a"]))

    assert {"ec2:CreateNetworkInterface", "ec2:DescribeSubnets"} <= actions(policy)
    assert "JoinTheNetwork" not in statements(job_policy(make_block()))


def test_only_own_jobs_are_stopped():
    """Only jobs with the project's tag can be stopped."""
    found = statements(caller_policy(make_block(project="demo")))

    assert found["StopOwnJobs"]["Condition"] == {"StringEquals": {"aws:ResourceTag/prefect-sagemaker:project": "demo"}}


def test_only_sagemaker_assumes_the_role():
    """The trust policy allows only SageMaker to assume the role."""
    [statement] = trust_policy()["Statement"]

    assert statement["Principal"] == {"Service": "sagemaker.amazonaws.com"}
    assert statement["Action"] == "sts:AssumeRole"


def test_the_queue_of_events_alone():
    """Messages of the project's event queue can be received and deleted, if it has one."""
    url = "https://sqs.us-east-1.amazonaws.com/123456789012/sagemaker-jobs"

    assert "HearOfJobs" not in statements(caller_policy(make_block()))
    found = statements(caller_policy(make_block(events_queue_url=url)))["HearOfJobs"]
    assert found["Resource"] == ["arn:aws:sqs:us-east-1:*:sagemaker-jobs"]
    assert set(found["Action"]) == {"sqs:ReceiveMessage", "sqs:DeleteMessage"}
