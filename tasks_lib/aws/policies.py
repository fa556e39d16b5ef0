"""Least-privilege IAM policies of a project: one for the caller, one for its jobs.

They are for two principals. The caller (a laptop, a CI runner, a worker) creates and watches jobs. The role that the
jobs assume reads and writes their data. There is no managed full-access policy and no `s3:*`. The caller's actions are
those that this package calls: a test runs flows and checks every request against these policies.

Pure, except that botocore's table of regions is read.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import botocore.session

from blocks import SageMakerProject
from tasks_lib.jobs.kinds import KINDS
from tasks_lib.jobs.naming import slug
from tasks_lib.jobs.s3_layout import Location
from tasks_lib.jobs.secret_references import checked_reference
from worker_toolkit.secret_references import SecretReference

Policy = dict[str, Any]
Statement = dict[str, Any]

_ROLE_NAME_LIMIT = 64  # RoleName in the IAM API reference
_SAGEMAKER = "sagemaker.amazonaws.com"

_WRITE_LOGS = ("logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams")

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
"""SageMaker creates network interfaces with the role's permissions (AWS: "Give SageMaker Training Jobs Access to
Resources in Your Amazon VPC"). EC2 has no narrower resource for them."""

_PULL_IMAGES = (
    "ecr:GetAuthorizationToken",
    "ecr:BatchCheckLayerAvailability",
    "ecr:GetDownloadUrlForLayer",
    "ecr:BatchGetImage",
)

_ENCRYPTION = (
    "kms:Encrypt",
    "kms:Decrypt",
    "kms:ReEncrypt*",
    "kms:GenerateDataKey*",
    "kms:DescribeKey",
    "kms:CreateGrant",
)


def caller_policy(project: SageMakerProject, reads: Iterable[str] = ()) -> Policy:
    """Return the permissions of the principal that starts and watches the project's jobs.

    `sts:GetCallerIdentity` is called as well and needs no permission (STS API reference).

    Args:
        project: A project on AWS.
        reads: S3 URIs outside the project's folder that its steps take as inputs; default none.
    """
    arns = _Arns(project)
    return _policy(
        *_jobs(arns, project),
        *_job_logs(arns),
        *_events(arns, project),
        *_project_data(arns, project),
        # boto3 uploads large files in parts and aborts the upload if one fails: unfinished parts are billed.
        _allow("TakeBackHalfAnUpload", ["s3:AbortMultipartUpload"], arns.objects(project.uri)),
        *_foreign_data(arns, reads),
        *_keys("EncryptData", ["kms:GenerateDataKey", "kms:Decrypt"], project.output_kms_key),
        *_role(arns, project),
    )


def job_policy(project: SageMakerProject, reads: Iterable[str] = (), secrets: Iterable[str] = ()) -> Policy:
    """Return the permissions of the role that the project's jobs assume.

    Args:
        project: A project on AWS.
        reads: S3 URIs outside the project's folder that its steps take as inputs; default none.
        secrets: References to secrets, as its steps give them; default none.

    Raises:
        InvalidTask: A reference to a secret is invalid.
    """
    arns = _Arns(project)
    namespaces = {"StringLike": {"cloudwatch:namespace": ["/aws/sagemaker/*", "aws/sagemaker/*"]}}
    return _policy(
        *_project_data(arns, project),
        *_foreign_data(arns, reads),
        *_secrets(arns, secrets),
        _allow("WriteLogs", _WRITE_LOGS, [arns.of("logs", "log-group:/aws/sagemaker/*")]),
        _allow("WriteMetrics", ["cloudwatch:PutMetricData"], ["*"], namespaces),
        _allow("PullImages", _PULL_IMAGES, ["*"]),
        *(network_policy()["Statement"] if project.subnets else []),
        *_keys("EncryptVolumesAndOutputs", _ENCRYPTION, project.volume_kms_key, project.output_kms_key),
    )


def reading_policy(project: SageMakerProject, uri: str) -> Policy:
    """Return the permissions to read one S3 URI outside the project's folder."""
    return _policy(*_foreign_data(_Arns(project), [uri]))


def output_policy(project: SageMakerProject, uri: str) -> Policy:
    """Return the permissions to write below one S3 URI outside the project's folder."""
    arns = _Arns(project)
    # GetObject is for checkpoints, which are read back.
    write = _allow("WriteOutputs", ["s3:GetObject", "s3:PutObject"], arns.objects(uri))
    return _policy(write, _list("ListOutputs", arns, uri))


def secret_policy(project: SageMakerProject, reference: str) -> Policy:
    """Return the permissions to read one secret.

    Raises:
        InvalidTask: The reference is invalid.
    """
    return _policy(*_secrets(_Arns(project), [reference]))


def key_policy(key: str) -> Policy:
    """Return the permissions to encrypt with a KMS key, given by its ARN."""
    return _policy(*_keys("EncryptVolumesAndOutputs", _ENCRYPTION, key))


def network_policy() -> Policy:
    """Return the permissions to join a VPC."""
    return _policy(_allow("JoinTheNetwork", _NETWORK, ["*"]))


def trust_policy() -> Policy:
    """Return the trust policy of the jobs' role: SageMaker may assume it."""
    return _policy({"Effect": "Allow", "Principal": {"Service": _SAGEMAKER}, "Action": "sts:AssumeRole"})


def own_role_name(project: SageMakerProject) -> str:
    """Return the name of the project's own role.

    Its permissions are limited to one folder in S3, so the name contains a hash of the folder.
    """
    tail = f"-{hashlib.sha256(project.uri.encode()).hexdigest()[:8]}"
    return f"prefect-sagemaker-{slug(project.project)}"[: _ROLE_NAME_LIMIT - len(tail)] + tail


class _Arns:
    """ARNs in the project's region and in the partition of that region (`aws`, `aws-cn`, `aws-us-gov`).

    The account is `*`. A policy grants nothing outside its own account, and to ask AWS for that account takes
    credentials.
    """

    def __init__(self, project: SageMakerProject) -> None:
        region = project.region or project.credentials.region_name
        self._region = region or "*"
        self._partition = _partition(region) if region else "aws"

    def of(self, service: str, resource: str) -> str:
        """Return the ARN of a resource."""
        region = "" if service == "iam" else self._region
        return f"arn:{self._partition}:{service}:{region}:*:{resource}"

    def secret(self, reference: SecretReference) -> str:
        """Return the ARN of a secret or a parameter."""
        return reference.policy_arn(self._partition, self._region, "*")

    def bucket(self, name: str) -> str:
        """Return the ARN of a bucket."""
        return f"arn:{self._partition}:s3:::{name}"

    def objects(self, uri: str) -> list[str]:
        """Return the ARNs of the objects at and below an S3 URI."""
        place = Location.parse(uri)
        return [f"{self.bucket(place.bucket)}/{key}" for key in _at_and_below(place.key)]


@cache
def _partition(region: str) -> str:
    """Return the partition of a region. Cached, since botocore reads a large file for the answer."""
    return str(botocore.session.Session().get_partition_for_region(region))


def _at_and_below(key: str) -> list[str]:
    """Return patterns for the keys at and below a key; `data` must not match `data2`."""
    literal = re.sub(r"[*?$]", r"${\g<0>}", key)  # IAM's escape for a literal `*`, `?` or `$`
    return [f"{literal}*"] if key.endswith("/") or not key else [literal, f"{literal}/*"]


def _jobs(arns: _Arns, project: SageMakerProject) -> list[Statement]:
    """Return the permissions on jobs.

    Only the project's own jobs may be stopped. Any job may be described: only the description tells whose job it is.
    """
    jobs = [arns.of("sagemaker", f"{kind.iam_resource}/*") for kind in KINDS.values()]
    ours = {"StringEquals": {"aws:ResourceTag/prefect-sagemaker:project": project.project}}
    return [
        # A create request with tags needs AddTags too (SageMaker's page of the Service Authorization Reference).
        _allow("MakeJobs", [*_on_jobs("Create"), "sagemaker:AddTags"], jobs),
        _allow("LookAtJobs", _on_jobs("Describe"), jobs),
        _allow("StopOwnJobs", _on_jobs("Stop"), jobs, ours),
        _allow("ListJobs", _on_jobs("List"), ["*"]),  # AWS has no narrower resource for list actions
        _allow("ReadQuotas", ["servicequotas:ListServiceQuotas"], ["*"]),  # nor for quotas
    ]


def _events(arns: _Arns, project: SageMakerProject) -> list[Statement]:
    """Return the permissions on the queue of events. Its URL ends in account and name."""
    if not project.events_queue_url:
        return []
    queue = arns.of("sqs", project.events_queue_url.rstrip("/").rpartition("/")[2])
    return [_allow("HearOfJobs", ["sqs:ReceiveMessage", "sqs:DeleteMessage"], [queue])]


def _on_jobs(verb: str) -> list[str]:
    return [f"sagemaker:{kind.api.operation(verb)}" for kind in KINDS.values()]


def _job_logs(arns: _Arns) -> list[Statement]:
    groups = [arns.of("logs", f"log-group:{kind.log_group}:*") for kind in KINDS.values()]
    return [_allow("ReadLogsOfJobs", ["logs:DescribeLogStreams", "logs:GetLogEvents"], groups)]


def _project_data(arns: _Arns, project: SageMakerProject) -> list[Statement]:
    objects = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
    return [
        _allow("UseTheProject", objects, arns.objects(project.uri)),
        _list("ListTheProject", arns, project.uri),
    ]


def _foreign_data(arns: _Arns, uris: Iterable[str]) -> list[Statement]:
    """Return the permissions to read and list inputs outside the project's folder.

    For an input from another project the caller also reads that project's ledger.
    """
    found = list(uris)
    objects = [arn for uri in found for arn in arns.objects(uri)]
    reading = [_allow("ReadInputs", ["s3:GetObject"], objects)] if found else []
    return reading + [_list(f"ListInputs{number}", arns, uri) for number, uri in enumerate(found, 1)]


def _secrets(arns: _Arns, references: Iterable[str]) -> list[Statement]:
    """Return the permissions to read secrets.

    A secret that is encrypted with a customer managed KMS key also needs `kms:Decrypt` on the key. A reference does not
    tell whether there is one.
    """
    resources: dict[str, list[str]] = {}
    for number, reference in enumerate(references, 1):
        found = checked_reference(reference, f"Secret {number} of the policy")
        resources.setdefault(found.service, []).append(arns.secret(found))
    return [
        _allow(sid, [action], resources[service])
        for service, sid, action in (
            ("secretsmanager", "ReadSecrets", "secretsmanager:GetSecretValue"),
            ("ssm", "ReadParameters", "ssm:GetParameter"),
        )
        if service in resources
    ]


def _list(sid: str, arns: _Arns, uri: str) -> Statement:
    """Return the permission to list a folder. With it, S3 answers 404 instead of 403 for a missing object."""
    place = Location.parse(uri)
    below = {"StringLike": {"s3:prefix": _at_and_below(place.key)}}
    return _allow(sid, ["s3:ListBucket"], [arns.bucket(place.bucket)], below)


def _keys(sid: str, actions: Sequence[str], *keys: str | None) -> list[Statement]:
    """Return the permissions on the keys that are given by ARN; IAM accepts no other name of a key."""
    named = sorted({key for key in keys if key and key.startswith("arn:")})
    return [_allow(sid, actions, named)] if named else []


def _role(arns: _Arns, project: SageMakerProject) -> list[Statement]:
    """Return the permissions on the jobs' role: to pass it to SageMaker, and to find or create it."""
    role = project.role or own_role_name(project)
    is_arn = role.startswith("arn:")
    target = [role if is_arn else arns.of("iam", f"role/{role}")]
    passing = _allow(
        "GiveTheRoleToSageMaker", ["iam:PassRole"], target, {"StringEquals": {"iam:PassedToService": _SAGEMAKER}}
    )
    finding = [] if is_arn else [_allow("FindTheRole", ["iam:GetRole"], target)]
    return [passing, *finding, *([] if project.role else _making_the_role(target, project.permissions_boundary))]


def _making_the_role(target: list[str], boundary: str | None) -> list[Statement]:
    """Return the permissions to create the role.

    A principal that has them can give the role any permissions, unless a permissions boundary is required.
    """
    bound = {"StringEquals": {"iam:PermissionsBoundary": boundary}} if boundary else None
    return [
        _allow("MakeTheRole", ["iam:CreateRole", "iam:PutRolePolicy"], target, bound),
        _allow("SeeItsPolicies", ["iam:ListRolePolicies"], target),
    ]


def _allow(
    sid: str, actions: Sequence[str], resources: Sequence[str], condition: dict[str, Any] | None = None
) -> Statement:
    statement = {"Sid": sid, "Effect": "Allow", "Action": list(actions), "Resource": list(resources)}
    return {**statement, "Condition": condition} if condition else statement


def _policy(*statements: Statement) -> Policy:
    return {"Version": "2012-10-17", "Statement": list(statements)}
