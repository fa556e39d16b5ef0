"""The rights that a project needs: no more than its own folder, its own role, in its own partition."""

import pytest
from aws_doubles import make_block

from tasks_lib.aws.policies import caller_policy, job_policy, own_role_name, trust_policy

ROLE = "arn:aws:iam::123456789012:role/team/jobs"
KEY = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
BOUNDARY = "arn:aws:iam::123456789012:policy/boundary"


def statements(policy):
    """The statements by their names, which are unique, as IAM wants them."""
    found = {statement.get("Sid"): statement for statement in policy["Statement"]}
    assert len(found) == len(policy["Statement"])
    return found


def actions(policy):
    return {action for statement in policy["Statement"] for action in statement["Action"]}


@pytest.mark.parametrize("document", [caller_policy, job_policy])
def test_no_service_as_a_whole(document):
    """Neither `*` nor `s3:*`, and all resources only where AWS knows no narrower one."""
    policy = document(make_block(role=None, output_kms_key=KEY, subnets=["subnet-0a"], security_group_ids=["sg-0a"]))
    everywhere = {name for name, statement in statements(policy).items() if "*" in statement["Resource"]}

    assert not {action for action in actions(policy) if action == "*" or action.endswith(":*")}
    assert everywhere <= {"ListJobs", "ReadQuotas", "WriteMetrics", "PullImages", "JoinTheNetwork"}


@pytest.mark.parametrize("document", [caller_policy, job_policy])
def test_data_of_the_project_alone(document):
    """Its folder in its bucket; a neighbour whose name begins the same is another project."""
    found = statements(document(make_block(prefix="team", project="demo")))

    assert found["UseTheProject"]["Resource"] == ["arn:aws:s3:::a-bucket/team/demo/*"]
    assert found["ListTheProject"]["Condition"] == {"StringLike": {"s3:prefix": ["team/demo/*"]}}


@pytest.mark.parametrize("document", [caller_policy, job_policy])
def test_inputs_of_others_can_be_read(document):
    """What `reads` names, at and below it: `data` does not match `data2`; nothing is written there."""
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
    """A prefix may hold what IAM takes for a pattern."""
    found = statements(caller_policy(make_block(prefix="a*b", project="demo")))

    assert found["UseTheProject"]["Resource"] == ["arn:aws:s3:::a-bucket/a${*}b/demo/*"]


@pytest.mark.parametrize(
    ("region", "partition"), [("eu-central-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")]
)
def test_arns_of_the_partition(region, partition):
    """Each ARN is of the region's own partition; AWS refuses a policy with another's."""
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
    """To SageMaker and to nobody else; it is neither looked up nor made."""
    found = statements(caller_policy(make_block(role=ROLE)))

    assert found["GiveTheRoleToSageMaker"]["Resource"] == [ROLE]
    assert found["GiveTheRoleToSageMaker"]["Condition"] == {
        "StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}
    }
    assert {action for action in actions(caller_policy(make_block(role=ROLE))) if action.startswith("iam:")} == {
        "iam:PassRole"
    }


def test_a_role_by_name_is_found():
    """And never made."""
    found = statements(caller_policy(make_block(role="jobs")))

    assert found["FindTheRole"]["Resource"] == ["arn:aws:iam::*:role/jobs"]
    assert "MakeTheRole" not in found


def test_the_own_role_is_made_within_its_boundary():
    """The one name of the project, and where a boundary is set, never without it."""
    project = make_block(role=None, permissions_boundary=BOUNDARY)
    found = statements(caller_policy(project))

    assert found["MakeTheRole"]["Resource"] == [f"arn:aws:iam::*:role/{own_role_name(project)}"]
    assert found["MakeTheRole"]["Condition"] == {"StringEquals": {"iam:PermissionsBoundary": BOUNDARY}}
    assert "Condition" not in statements(caller_policy(make_block(role=None)))["MakeTheRole"]


def test_a_key_that_is_named():
    """The caller writes inputs and reads outputs with it."""
    found = statements(caller_policy(make_block(output_kms_key=KEY)))

    assert found["EncryptData"]["Resource"] == [KEY]
    assert "EncryptData" not in statements(caller_policy(make_block()))


def test_the_jobs_may_use_keys():
    """Those that are named by their ARN, of volumes and of outputs."""
    policy = job_policy(make_block(output_kms_key=KEY, volume_kms_key="alias/x"))

    assert statements(policy)["EncryptVolumesAndOutputs"]["Resource"] == [KEY]


def test_a_vpc_needs_network_interfaces():
    """SageMaker makes them in the name of the role."""
    policy = job_policy(make_block(subnets=["subnet-0a"], security_group_ids=["sg-0a"]))

    assert {"ec2:CreateNetworkInterface", "ec2:DescribeSubnets"} <= actions(policy)
    assert "JoinTheNetwork" not in statements(job_policy(make_block()))


def test_only_own_jobs_are_stopped():
    """By the tag that each of our jobs has."""
    found = statements(caller_policy(make_block(project="demo")))

    assert found["StopOwnJobs"]["Condition"] == {"StringEquals": {"aws:ResourceTag/prefect-sagemaker:project": "demo"}}


def test_only_sagemaker_assumes_the_role():
    """Nobody else is trusted."""
    [statement] = trust_policy()["Statement"]

    assert statement["Principal"] == {"Service": "sagemaker.amazonaws.com"}
    assert statement["Action"] == "sts:AssumeRole"


def test_the_queue_of_events_alone():
    """Its messages may be received and deleted, where a project has such a queue."""
    url = "https://sqs.us-east-1.amazonaws.com/123456789012/sagemaker-jobs"

    assert "HearOfJobs" not in statements(caller_policy(make_block()))
    found = statements(caller_policy(make_block(events_queue_url=url)))["HearOfJobs"]
    assert found["Resource"] == ["arn:aws:sqs:us-east-1:*:sagemaker-jobs"]
    assert set(found["Action"]) == {"sqs:ReceiveMessage", "sqs:DeleteMessage"}
