"""What a request to a service other than S3 needs of a role's policies. Pure but for what it is given to look up.

Source: the pages of the Service Authorization Reference. A service that has no function here, or an operation whose
resource cannot be told from the request, is decided by the action alone. `gate` imports it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from local_sagemaker.account import ACCOUNT
from local_sagemaker.iam.policies import Need

# Names in signatures that are not those of actions.
_PREFIXES = {"monitoring": "cloudwatch", "email": "ses"}
# "No permissions are required" (STS API reference).
_ALWAYS = frozenset({"sts:GetCallerIdentity", "sts:GetSessionToken"})
_JOB = re.compile(r"(?:Create|Describe|Stop|Delete|Update)(Training|Processing)Job")


@dataclass(frozen=True)
class Asked:
    """A request to a service.

    Attributes:
        service: as its signature names it.
        region: of the signature.
        operation: its name.
        parameters: the request's members, also of the query protocol.
        tags_of: returns the tags of a resource by its ARN.
        secret_arn: returns the ARN of a secret by its name or a part of its ARN; None if there is none.
    """

    service: str
    region: str
    operation: str
    parameters: Mapping[str, Any]
    tags_of: Callable[[str], Mapping[str, str]]
    secret_arn: Callable[[str, str], str | None]

    @property
    def prefix(self) -> str:
        """The service as actions name it."""
        return _PREFIXES.get(self.service, self.service)

    def text(self, name: str) -> str:
        """Return a member of the request; empty where it is missing or no text."""
        value = self.parameters.get(name, "")
        return value if isinstance(value, str) else ""

    def arn(self, resource: str) -> str:
        """Return the ARN of a resource of the service."""
        return f"arn:aws:{self.prefix}:{self.region}:{ACCOUNT}:{resource}"

    def need(self, resource: str | None, **context: str) -> Need:
        """Return the need of the operation itself."""
        return Need(f"{self.prefix}:{self.operation}", resource, {key: [value] for key, value in context.items()})


def needs_of(asked: Asked) -> list[Need]:
    """Return what a request needs."""
    if f"{asked.prefix}:{asked.operation}" in _ALWAYS:
        return []
    return _SERVICES.get(asked.prefix, _of_action)(asked)


def _of_action(asked: Asked) -> list[Need]:
    return [asked.need(None)]


def _secretsmanager(asked: Asked) -> list[Need]:
    name = asked.text("SecretId")
    if not name:
        return _of_action(asked)
    missing = name if name.startswith("arn:") else asked.arn(f"secret:{name}-AAAAAA")
    return [asked.need(asked.secret_arn(asked.region, name) or missing)]


def _ssm(asked: Asked) -> list[Need]:
    if names := asked.parameters.get("Names"):
        return [asked.need(_parameter(asked, str(name))) for name in names]
    name = asked.text("Name") or asked.text("Path")
    return [asked.need(_parameter(asked, name) if name else None)]


def _parameter(asked: Asked, name: str) -> str:
    if name.startswith("arn:"):
        return name
    return asked.arn(f"parameter/{name.partition(':')[0].removeprefix('/')}")  # without version or label


def _kms(asked: Asked) -> list[Need]:
    key = asked.text("KeyId")
    if not key or key.startswith("alias/") or ":alias/" in key:
        return _of_action(asked)  # policies know keys only; which one the alias is for, moto alone knows
    return [asked.need(key if key.startswith("arn:") else asked.arn(f"key/{key}"))]


def _logs(asked: Asked) -> list[Need]:
    group = asked.text("logGroupName")
    if not group:
        return _of_action(asked)
    return [asked.need(asked.arn(f"log-group:{group}:log-stream:{asked.text('logStreamName')}"))]


def _ecr(asked: Asked) -> list[Need]:
    if asked.operation == "GetAuthorizationToken":
        return [asked.need("*")]
    name = asked.text("repositoryName")
    return [asked.need(asked.arn(f"repository/{name}") if name else None)]


def _cloudwatch(asked: Asked) -> list[Need]:
    if asked.operation != "PutMetricData":
        return _of_action(asked)
    return [asked.need("*", **{"cloudwatch:namespace": asked.text("Namespace")})]


def _sagemaker(asked: Asked) -> list[Need]:
    if found := _JOB.fullmatch(asked.operation):
        kind = found[1]
        arn = asked.arn(f"{kind.lower()}-job/{asked.text(f'{kind}JobName')}")
        return [_of_job(asked, asked.operation, arn), *_with_the_role(asked)]
    if asked.operation in ("AddTags", "DeleteTags", "ListTags"):
        return [_of_job(asked, asked.operation, asked.text("ResourceArn"))]
    return [asked.need("*" if asked.operation.startswith(("List", "Search")) else None)]


def _of_job(asked: Asked, operation: str, arn: str) -> Need:
    given = {tag["Key"]: tag["Value"] for tag in asked.parameters.get("Tags") or [] if isinstance(tag, dict)}
    context = {f"aws:requesttag/{key.lower()}": [str(value)] for key, value in given.items()}
    context |= {"aws:tagkeys": list(given)} if given else {}
    # A new resource has the tags of its request.
    present = given if operation.startswith("Create") else asked.tags_of(arn)
    context |= {f"aws:resourcetag/{key.lower()}": [value] for key, value in present.items()}
    return Need(f"sagemaker:{operation}", arn, context)


def _with_the_role(asked: Asked) -> list[Need]:
    """Return what a create needs besides: to pass the role, and to tag."""
    if not asked.operation.startswith("Create"):
        return []
    kind = asked.operation.removeprefix("Create").removesuffix("Job")
    arn = asked.arn(f"{kind.lower()}-job/{asked.text(f'{kind}JobName')}")
    tagging = [_of_job(asked, "AddTags", arn)] if asked.parameters.get("Tags") else []
    passed = {"iam:passedtoservice": ["sagemaker.amazonaws.com"]}
    return [Need("iam:PassRole", asked.text("RoleArn"), passed), *tagging]


def _iam(asked: Asked) -> list[Need]:
    name = asked.text("RoleName")
    return [asked.need(f"arn:aws:iam::{ACCOUNT}:role/{name}" if name else None)]


def _by_arn(*members: str) -> Callable[[Asked], list[Need]]:
    def needs(asked: Asked) -> list[Need]:
        return [asked.need(next((asked.text(name) for name in members if asked.text(name)), None))]

    return needs


def _sqs(asked: Asked) -> list[Need]:
    url = asked.text("QueueUrl")
    return [asked.need(asked.arn(url.rstrip("/").rpartition("/")[2]) if url else None)]


_SERVICES: Mapping[str, Callable[[Asked], list[Need]]] = {
    "cloudwatch": _cloudwatch,
    "ecr": _ecr,
    "iam": _iam,
    "kms": _kms,
    "logs": _logs,
    "sagemaker": _sagemaker,
    "secretsmanager": _secretsmanager,
    "sns": _by_arn("TopicArn", "TargetArn"),
    "sqs": _sqs,
    "ssm": _ssm,
    "sts": _by_arn("RoleArn"),
}
