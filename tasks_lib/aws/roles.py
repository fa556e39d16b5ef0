"""The IAM role that a project's jobs assume: the one that is named, or one made with the least it needs.

What a made role may do is told by `policies`: the project's own prefix in its own bucket, its job logs and metrics, and
pulling images.
"""

from __future__ import annotations

import json
from typing import Any

from botocore.exceptions import ClientError

from blocks import SageMakerProject
from tasks_lib.aws.errors import code_of, translating
from tasks_lib.aws.policies import job_policy, own_role_name, trust_policy

POLICY_NAME = "prefect-sagemaker"


def role_arn(project: SageMakerProject) -> str:
    """Return the ARN of the role that the project's jobs assume, making the role where none is named.

    Raises:
        AccessDenied: The caller may not look the role up or make it.
    """
    if project.role and project.role.startswith("arn:"):
        return project.role
    iam = project.client("iam")
    name = project.role or own_role_name(project)
    with translating(f"find the role {name}"):
        try:
            return str(iam.get_role(RoleName=name)["Role"]["Arn"])
        except ClientError as error:
            if code_of(error) != "NoSuchEntity" or project.role:
                raise
    return _made(iam, name, project)


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
