"""The caller in the journeys: a session of a role with exactly the permissions that `ssm policy` prints."""

from __future__ import annotations

import json
import re

import boto3

from tasks_lib.aws.policies import caller_policy, trust_policy

SERVICES = ("s3", "sagemaker", "logs", "iam", "sts", "service-quotas", "secretsmanager", "ssm", "ecr")
NAME = "caller-of-journeys"


class Caller:
    """One role for all projects of a test process, since making clients takes longer than most tests.

    Args:
        backend: The local SageMaker, whose IAM has the role.
    """

    def __init__(self, backend):
        self._backend, self._iam = backend, backend.client("iam")
        role = self._iam.create_role(RoleName=NAME, AssumeRolePolicyDocument=json.dumps(trust_policy()))["Role"]
        self._keys = backend.client("sts").assume_role(RoleArn=role["Arn"], RoleSessionName="session")["Credentials"]

    def clients_like(self, project):
        """Return clients of all services that are configured like a project's own but sign as this caller."""
        return {
            service: boto3.client(
                service,
                region_name=project.region_name,
                endpoint_url=self._backend.endpoint,
                config=project.client(service).meta.config,
                aws_access_key_id=self._keys["AccessKeyId"],
                aws_secret_access_key=self._keys["SecretAccessKey"],
                aws_session_token=self._keys["SessionToken"],
            )
            for service in SERVICES
        }

    def gets_policy_of(self, project, reads=()):
        """Add the permissions that are printed for a project, and for the inputs that it reads elsewhere."""
        self._gets(project.project, json.dumps(caller_policy(project, reads)))

    def gets_policy_of_each(self, project, prefix=""):
        """Add the permissions that are printed for a project, for every project whose name begins with `p-`.

        The name of a made role ends in a hash, and a tag is compared exactly: both are replaced by patterns.
        """
        printed = json.dumps(caller_policy(project.model_copy(update={"project": "each", "prefix": prefix})))
        pattern = re.sub(r"role/prefect-sagemaker-each-\w+", "role/prefect-sagemaker-p-*", printed)
        pattern = pattern.replace('"StringEquals": {"aws:ResourceTag', '"StringLike": {"aws:ResourceTag')
        self._gets(f"each{prefix}", re.sub(r"\beach\b", "p-*", pattern).replace("any-prefix", "*"))

    def _gets(self, name, policy):
        self._iam.put_role_policy(RoleName=NAME, PolicyName=name, PolicyDocument=policy)
