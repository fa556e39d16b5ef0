"""The permissions that a request to a service other than S3 needs. Pure, except for `ResourceLookup`.

Source: the pages of the Service Authorization Reference. The action alone decides if a service has no row in
`resources`, or if the request does not tell the resource.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from local_sagemaker.iam.policies import Permission
from local_sagemaker.iam.request_context import RequestContext
from local_sagemaker.iam.resources import event_bus, key_of, key_of_ciphertext, resources_of, secret_of
from local_sagemaker.kinds import KINDS

# "No permissions are required", and an explicit deny has no effect (STS API reference, GetCallerIdentity).
_ALWAYS = "sts:GetCallerIdentity"
_JOB = re.compile(r"(?:Create|Describe|Stop|Delete|Update)(\w+)")
_OF_SECRETS = "/aws/reference/secretsmanager/"

# By service: the operations that need `iam:PassRole`, and the members that name the role.
_PASSING: Mapping[str, tuple[str, str]] = {
    "events": (r"PutRule|PutTargets", "RoleArn Targets.RoleArn"),
    "sagemaker": (r"Create\w+", "RoleArn"),
    "scheduler": (r"(Create|Update)Schedule", "Target.RoleArn"),
}


def required_permissions(asked: RequestContext) -> list[Permission]:
    """Return the permissions that a request needs, `iam:PassRole` included."""
    if f"{asked.prefix}:{asked.operation}" == _ALWAYS:
        return []
    own = _SERVICES.get(asked.prefix, _of_resources)(asked)
    return [*own, *_of_passing(asked)]


def _of_resources(asked: RequestContext) -> list[Permission]:
    return [asked.need(resource) for resource in resources_of(asked)]


def _of_passing(asked: RequestContext) -> list[Permission]:
    operations, members = _PASSING.get(asked.prefix, ("", ""))
    if not re.fullmatch(operations, asked.operation):
        return []
    context = {"iam:passedtoservice": [f"{asked.prefix}.amazonaws.com"]}
    roles = [arn for member in members.split() for arn in asked.texts(*member.split("."))]
    return [Permission("iam:PassRole", arn, context) for arn in roles]


def _cloudwatch(asked: RequestContext) -> list[Permission]:
    if asked.operation != "PutMetricData":
        return _of_resources(asked)
    return [asked.need("*", **{"cloudwatch:namespace": asked.text("Namespace")})]


def _events(asked: RequestContext) -> list[Permission]:
    """Return the permissions for EventBridge. PutEvents needs one for each bus; the default bus may be left out."""
    if asked.operation != "PutEvents":
        return _of_resources(asked)
    buses = {entry.get("EventBusName") or "default" for entry in asked.parameters.get("Entries") or ()}
    return [asked.need(event_bus(asked, bus)) for bus in sorted(buses)]


def _kms(asked: RequestContext) -> list[Permission]:
    """Return the permissions for KMS. ReEncrypt has one action for each of its two keys."""
    if asked.operation != "ReEncrypt":
        return _of_resources(asked)
    blobs = [key_of_ciphertext(asked, text) for text in asked.texts("CiphertextBlob")]
    source = [*(key_of(asked, name) for name in asked.texts("SourceKeyId")), *blobs]
    target = [key_of(asked, name) for name in asked.texts("DestinationKeyId")]
    return [Permission("kms:ReEncryptFrom", arn) for arn in source] + [
        Permission("kms:ReEncryptTo", arn) for arn in target
    ]


def _secretsmanager(asked: RequestContext) -> list[Permission]:
    """Return the permissions for Secrets Manager.

    BatchGetSecretValue also needs GetSecretValue for each named secret. With a filter, or without names, it needs
    GetSecretValue and ListSecrets for all secrets.
    """
    own = _of_resources(asked)
    if asked.operation != "BatchGetSecretValue":
        return own
    own += [Permission("secretsmanager:GetSecretValue", secret_of(asked, name)) for name in asked.texts("SecretIdList")]
    if asked.parameters.get("Filters") or len(own) == 1:
        own += [Permission("secretsmanager:GetSecretValue", "*"), Permission("secretsmanager:ListSecrets", "*")]
    return own


def _ssm(asked: RequestContext) -> list[Permission]:
    """Return the permissions for Parameter Store. A parameter below `_OF_SECRETS` is a secret."""
    names = [name for member in ("Name", "Names") for name in asked.texts(member) if name.startswith(_OF_SECRETS)]
    secrets = [secret_of(asked, name.removeprefix(_OF_SECRETS)) for name in names]
    return [*_of_resources(asked), *(Permission("secretsmanager:GetSecretValue", arn) for arn in secrets)]


def _sagemaker(asked: RequestContext) -> list[Permission]:
    found = _JOB.fullmatch(asked.operation)
    kind = next((each for each in KINDS.values() if found and each.noun == found[1]), None)
    if kind:
        arn = asked.arn(f"{kind.name}/{asked.text(f'{kind.noun}Name')}")
        tags = asked.operation.startswith("Create") and asked.parameters.get("Tags")
        return [_of_job(asked, asked.operation, arn), *([_of_job(asked, "AddTags", arn)] if tags else [])]
    if asked.operation in ("AddTags", "DeleteTags", "ListTags"):
        return [_of_job(asked, asked.operation, asked.text("ResourceArn"))]
    return [asked.need("*" if asked.operation.startswith(("List", "Search")) else None)]


def _of_job(asked: RequestContext, operation: str, arn: str) -> Permission:
    given = asked.tags()
    context = {f"aws:requesttag/{key.lower()}": [value] for key, value in given.items()}
    keys = [*given, *asked.texts("TagKeys")]
    context |= {"aws:tagkeys": keys} if keys else {}
    # The tags of a new resource are those of its request.
    present = given if asked.operation.startswith("Create") else asked.known.tags(arn)
    context |= {f"aws:resourcetag/{key.lower()}": [value] for key, value in present.items()}
    return Permission(f"sagemaker:{operation}", arn, context)


_SERVICES: Mapping[str, Callable[[RequestContext], list[Permission]]] = {
    "cloudwatch": _cloudwatch,
    "events": _events,
    "kms": _kms,
    "sagemaker": _sagemaker,
    "secretsmanager": _secretsmanager,
    "ssm": _ssm,
}
