"""The least rights that a project needs on AWS, as IAM policies: for whoever starts its jobs, and for the jobs.

Two principals and never one: the caller (a laptop, a CI runner, a worker) makes and watches jobs; the role that the
jobs assume reads and writes their data. No managed full-access policy, no `s3:*`. The caller's actions are those that
this package calls: a test lets flows run and holds every request against what is written here.

Pure but for botocore's table of regions.
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
"""SageMaker makes network interfaces in the role's name (AWS: "Give SageMaker Training Jobs Access to Resources in Your
Amazon VPC"); EC2 has no narrower resource for them."""

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
    """Return the rights of whoever starts and watches the project's jobs.

    `sts:GetCallerIdentity`, which is called too, needs no right (STS API reference).

    Args:
        project: On AWS.
        reads: S3 URIs outside the project's folder that its steps take as inputs.
    """
    arns = _Arns(project)
    return _policy(
        *_jobs(arns, project),
        *_job_logs(arns),
        *_events(arns, project),
        *_project_data(arns, project),
        # boto3 sends large files in parts, and takes them back when one fails: what lies there unfinished is paid for.
        _allow("TakeBackHalfAnUpload", ["s3:AbortMultipartUpload"], arns.objects(project.uri)),
        *_foreign_data(arns, reads),
        *_keys("EncryptData", ["kms:GenerateDataKey", "kms:Decrypt"], project.output_kms_key),
        *_role(arns, project),
    )


def job_policy(project: SageMakerProject, reads: Iterable[str] = (), secrets: Iterable[str] = ()) -> Policy:
    """Return the rights of the role that the project's jobs assume.

    Args:
        project: On AWS.
        reads: S3 URIs outside the project's folder that its steps take as inputs.
        secrets: References to the secrets of its steps, as they have them.

    Raises:
        InvalidTask: One of these is no reference.
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
    """Return the rights to read one S3 URI outside the project's folder."""
    return _policy(*_foreign_data(_Arns(project), [uri]))


def output_policy(project: SageMakerProject, uri: str) -> Policy:
    """Return the rights to write below one S3 URI outside the project's folder."""
    arns = _Arns(project)
    # Checkpoints are read back.
    write = _allow("WriteOutputs", ["s3:GetObject", "s3:PutObject"], arns.objects(uri))
    return _policy(write, _list("ListOutputs", arns, uri))


def secret_policy(project: SageMakerProject, reference: str) -> Policy:
    """Return the rights to read one secret.

    Raises:
        InvalidTask: It is no reference.
    """
    return _policy(*_secrets(_Arns(project), [reference]))


def key_policy(key: str) -> Policy:
    """Return the rights to encrypt with a KMS key, by its ARN."""
    return _policy(*_keys("EncryptVolumesAndOutputs", _ENCRYPTION, key))


def network_policy() -> Policy:
    """Return the rights to join a VPC."""
    return _policy(_allow("JoinTheNetwork", _NETWORK, ["*"]))


def trust_policy() -> Policy:
    """Return who may assume the jobs' role: SageMaker."""
    return _policy({"Effect": "Allow", "Principal": {"Service": _SAGEMAKER}, "Action": "sts:AssumeRole"})


def own_role_name(project: SageMakerProject) -> str:
    """Return the name of the project's own role; its rights end at one folder, so the folder is part of the name."""
    tail = f"-{hashlib.sha256(project.uri.encode()).hexdigest()[:8]}"
    return f"prefect-sagemaker-{slug(project.project)}"[: _ROLE_NAME_LIMIT - len(tail)] + tail


class _Arns:
    """ARNs in the project's region and in the partition of that region (`aws`, `aws-cn`, `aws-us-gov`).

    Of any account, since a policy gives no rights outside its own, and asking AWS for that one needs credentials.
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
    """Return the partition of a region; botocore reads a large file for the answer."""
    return str(botocore.session.Session().get_partition_for_region(region))


def _at_and_below(key: str) -> list[str]:
    """Return patterns of the keys at and below one: `data` must not match `data2`."""
    literal = re.sub(r"[*?$]", r"${\g<0>}", key)  # IAM's way to write a star that is a star
    return [f"{literal}*"] if key.endswith("/") or not key else [literal, f"{literal}/*"]


def _jobs(arns: _Arns, project: SageMakerProject) -> list[Statement]:
    """Return the rights on jobs: looking at one tells whose it is, so that is no narrower; only our own are stopped."""
    jobs = [arns.of("sagemaker", f"{kind.iam_resource}/*") for kind in KINDS.values()]
    ours = {"StringEquals": {"aws:ResourceTag/prefect-sagemaker:project": project.project}}
    return [
        # A create with tags asks for AddTags too (SageMaker's page of the Service Authorization Reference).
        _allow("MakeJobs", [*_on_jobs("Create"), "sagemaker:AddTags"], jobs),
        _allow("LookAtJobs", _on_jobs("Describe"), jobs),
        _allow("StopOwnJobs", _on_jobs("Stop"), jobs, ours),
        _allow("ListJobs", _on_jobs("List"), ["*"]),  # AWS has no narrower resource for a list
        _allow("ReadQuotas", ["servicequotas:ListServiceQuotas"], ["*"]),  # nor for quotas
    ]


def _events(arns: _Arns, project: SageMakerProject) -> list[Statement]:
    """Return the rights on the queue of events, whose URL ends in account and name."""
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
    """Return the rights to read inputs of others; a caller reads, of another project, also its ledger."""
    found = list(uris)
    objects = [arn for uri in found for arn in arns.objects(uri)]
    reading = [_allow("ReadInputs", ["s3:GetObject"], objects)] if found else []
    return reading + [_list(f"ListInputs{number}", arns, uri) for number, uri in enumerate(found, 1)]


def _secrets(arns: _Arns, references: Iterable[str]) -> list[Statement]:
    """Return the rights to read secrets.

    With a KMS key of one's own they need `kms:Decrypt` on that, too; no reference tells whether there is one.
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
    """Return the right to list a folder, which also turns S3's "forbidden" for a missing object into "not found"."""
    place = Location.parse(uri)
    below = {"StringLike": {"s3:prefix": _at_and_below(place.key)}}
    return _allow(sid, ["s3:ListBucket"], [arns.bucket(place.bucket)], below)


def _keys(sid: str, actions: Sequence[str], *keys: str | None) -> list[Statement]:
    """Return the rights on the keys that are named by ARN; IAM knows no other name of a key."""
    named = sorted({key for key in keys if key and key.startswith("arn:")})
    return [_allow(sid, actions, named)] if named else []


def _role(arns: _Arns, project: SageMakerProject) -> list[Statement]:
    """Return the rights on the jobs' role: to hand it to SageMaker, and what it takes to find or make it."""
    role = project.role or own_role_name(project)
    is_arn = role.startswith("arn:")
    target = [role if is_arn else arns.of("iam", f"role/{role}")]
    passing = _allow(
        "GiveTheRoleToSageMaker", ["iam:PassRole"], target, {"StringEquals": {"iam:PassedToService": _SAGEMAKER}}
    )
    finding = [] if is_arn else [_allow("FindTheRole", ["iam:GetRole"], target)]
    return [passing, *finding, *([] if project.role else _making_the_role(target, project.permissions_boundary))]


def _making_the_role(target: list[str], boundary: str | None) -> list[Statement]:
    """Return the rights to make the role. Who has them may give it any rights, unless a boundary bounds them."""
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
