"""The IAM role that a project's jobs assume: the configured one, or one created with least privilege.

A created role may read and write the project's own prefix in its own bucket, write job logs and metrics, and pull
images. Beside that it may access what its jobs' requests reference (`role_policies.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from blocks import SageMakerProject
from tasks_lib.aws.errors import code_of, translating
from tasks_lib.aws.policies import own_role_name, trust_policy
from tasks_lib.aws.role_policies import role_policies
from tasks_lib.errors import ProjectError

if TYPE_CHECKING:
    from types_boto3_iam import IAMClient
    from types_boto3_iam.type_defs import CreateRoleRequestTypeDef


def role_arn(project: SageMakerProject, request: Mapping[str, Any], secrets: Mapping[str, str]) -> str:
    """Return the ARN of the role that a job assumes.

    If the project names no role, create one, and give it the policies that it lacks for this request.

    Args:
        project: The job's project.
        request: The job's request, without its role.
        secrets: The job's references to secrets, by variable.

    Raises:
        AccessDenied: The caller may not read or create the role, or extend its policies.
        ProjectError: The role has as many policies as IAM allows.
    """
    if project.role and project.role.startswith("arn:"):
        return project.role
    iam = project.client("iam")
    name = project.role or own_role_name(project)
    arn = _found(iam, name, project)
    if not project.role:
        _give_rights(iam, name, role_policies(project, request, secrets))
    return arn


def _found(iam: IAMClient, name: str, project: SageMakerProject) -> str:
    with translating(f"find the role {name}"):
        try:
            return str(iam.get_role(RoleName=name)["Role"]["Arn"])
        except ClientError as error:
            if code_of(error) != "NoSuchEntity" or project.role:
                raise
    return _made(iam, name, project)


def _made(iam: IAMClient, name: str, project: SageMakerProject) -> str:
    wanted: CreateRoleRequestTypeDef = {
        "RoleName": name,
        "AssumeRolePolicyDocument": json.dumps(trust_policy()),
        "Description": f"Jobs of the prefect-sagemaker project {project.project}",
    }
    if project.permissions_boundary:
        wanted["PermissionsBoundary"] = project.permissions_boundary
    with translating(f"make the role {name}"):
        try:
            answer = iam.create_role(**wanted)
        except ClientError as error:
            if code_of(error) != "EntityAlreadyExists":
                raise
            return str(iam.get_role(RoleName=name)["Role"]["Arn"])  # another caller created it first
        iam.get_waiter("role_exists").wait(RoleName=name)
    return str(answer["Role"]["Arn"])


def _give_rights(iam: IAMClient, name: str, policies: Mapping[str, Any]) -> None:
    """Put the policies that the role lacks, compared by name.

    No policy is deleted: a running job may need it. If a caller dies in between, the next one puts the rest.
    """
    with translating(f"extend the role {name}"):
        pages = iam.get_paginator("list_role_policies").paginate(RoleName=name)
        present = {found for page in pages for found in page["PolicyNames"]}
        for policy, document in policies.items():
            if policy not in present:
                _put(iam, name, policy, document)


def _put(iam: IAMClient, name: str, policy: str, document: Any) -> None:
    text = json.dumps(document, separators=(",", ":"))
    try:
        iam.put_role_policy(RoleName=name, PolicyName=policy, PolicyDocument=text)
    except ClientError as error:
        if code_of(error) != "LimitExceeded":
            raise
        raise ProjectError(
            f"The role {name} has as many policies as IAM takes, and this job needs one more: {text}.",
            fix="make a role with the permissions of `ssm policy --read s3://bucket/prefix-of-all-inputs/ job`, and "
            "name it in the block; or delete those of its inline policies that no job needs any more "
            f"(aws iam list-role-policies --role-name {name}).",
        ) from error
