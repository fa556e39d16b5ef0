"""The IAM role that a project's jobs assume: the one that is named, or one made with the least it needs.

Made rights: the project's own prefix in its own bucket, its job logs and metrics, and pulling images. Never a managed
full-access policy, never `s3:*`.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from botocore.exceptions import ClientError

from blocks import SageMakerProject
from tasks_lib.aws_errors import code_of, translating
from tasks_lib.naming import slug

_NAME_LIMIT = 64  # RoleName in the IAM API reference
POLICY_NAME = "prefect-sagemaker"

_NETWORK = (
    "ec2:CreateNetworkInterface",
    "ec2:CreateNetworkInterfacePermission",
    "ec2:DeleteNetworkInterface",
    "ec2:DeleteNetworkInterfacePermission",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeVpcs",
    "ec2:DescribeDhcpOptions",
    "ec2:DescribeSubnets",
    "ec2:DescribeSecurityGroups",
)
"""SageMaker makes network interfaces in the role's name (AWS: "Give SageMaker Training Jobs Access to Resources in Your
Amazon VPC"); EC2 has no narrower resource for them."""

_ENCRYPTION = (
    "kms:Encrypt",
    "kms:Decrypt",
    "kms:ReEncrypt*",
    "kms:GenerateDataKey*",
    "kms:DescribeKey",
    "kms:CreateGrant",
)


def role_arn(project: SageMakerProject) -> str:
    """Return the ARN of the role that the project's jobs assume, making the role where none is named.

    Raises:
        AccessDenied: The caller may not look the role up or make it.
    """
    if project.role and project.role.startswith("arn:"):
        return project.role
    iam = project.client("iam")
    name = project.role or _own_name(project)
    with translating(f"find the role {name}"):
        try:
            return str(iam.get_role(RoleName=name)["Role"]["Arn"])
        except ClientError as error:
            if code_of(error) != "NoSuchEntity" or project.role:
                raise
    return _made(iam, name, project)


def _own_name(project: SageMakerProject) -> str:
    """Return the name of the project's own role; its rights end at one folder, so the folder is part of the name."""
    tail = f"-{hashlib.sha256(project.uri.encode()).hexdigest()[:8]}"
    return f"prefect-sagemaker-{slug(project.project)}"[: _NAME_LIMIT - len(tail)] + tail


def _made(iam: Any, name: str, project: SageMakerProject) -> str:
    boundary = {"PermissionsBoundary": project.permissions_boundary} if project.permissions_boundary else {}
    with translating(f"make the role {name}"):
        try:
            answer = iam.create_role(
                RoleName=name,
                AssumeRolePolicyDocument=json.dumps(trust_policy()),
                Description=f"Jobs of the prefect-sagemaker project {project.project}",
                **boundary,
            )
        except ClientError as error:
            if code_of(error) != "EntityAlreadyExists":
                raise
            return str(iam.get_role(RoleName=name)["Role"]["Arn"])  # somebody else was faster
        _give_rights(iam, name, project)
    return str(answer["Role"]["Arn"])


def _give_rights(iam: Any, name: str, project: SageMakerProject) -> None:
    """Give a new role its policy; a role that cannot have it is taken away, for the next call would trust it."""
    try:
        iam.put_role_policy(RoleName=name, PolicyName=POLICY_NAME, PolicyDocument=json.dumps(job_policy(project)))
    except BaseException:
        iam.delete_role(RoleName=name)
        raise
    iam.get_waiter("role_exists").wait(RoleName=name)


def trust_policy() -> dict[str, Any]:
    """Return who may assume the role: SageMaker."""
    principal = {"Service": "sagemaker.amazonaws.com"}
    return _policy([{"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}])


def job_policy(project: SageMakerProject) -> dict[str, Any]:
    """Return the least rights that the project's jobs need."""
    bucket = f"arn:aws:s3:::{project.bucket}"
    statements = [
        _allow(["s3:GetObject", "s3:PutObject", "s3:DeleteObject"], [f"{bucket}/{project.key_prefix}*"]),
        _allow(["s3:ListBucket"], [bucket], {"StringLike": {"s3:prefix": [f"{project.key_prefix}*"]}}),
        _allow(
            ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"],
            ["arn:aws:logs:*:*:log-group:/aws/sagemaker/*"],
        ),
        _allow(
            ["cloudwatch:PutMetricData"],
            ["*"],
            {"StringLike": {"cloudwatch:namespace": ["/aws/sagemaker/*", "aws/sagemaker/*"]}},
        ),
        _allow(
            [
                "ecr:GetAuthorizationToken",
                "ecr:BatchCheckLayerAvailability",
                "ecr:GetDownloadUrlForLayer",
                "ecr:BatchGetImage",
            ],
            ["*"],
        ),
    ]
    if project.subnets:
        statements.append(_allow(list(_NETWORK), ["*"]))
    keys = [key for key in (project.volume_kms_key, project.output_kms_key) if key and key.startswith("arn:")]
    if keys:
        statements.append(_allow(list(_ENCRYPTION), keys))
    return _policy(statements)


def _allow(actions: list[str], resources: list[str], condition: dict[str, Any] | None = None) -> dict[str, Any]:
    statement: dict[str, Any] = {"Effect": "Allow", "Action": actions, "Resource": resources}
    return {**statement, "Condition": condition} if condition else statement


def _policy(statements: list[dict[str, Any]]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": statements}
