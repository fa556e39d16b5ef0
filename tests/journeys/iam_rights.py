"""The permissions of a request on AWS, by the Service Authorization Reference, and whether a policy allows them.

Only what this package's requests and policies use is here: `Allow`, `*` and `?`, and two condition operators. Anything
else is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

ACCOUNT, REGION = "123456789012", "us-east-1"


@dataclass(frozen=True)
class Permission:
    """An action on a resource, with the request context for conditions."""

    action: str
    resource: str
    context: dict[str, str] = field(default_factory=dict, hash=False)


def allows(policy: dict[str, Any], need: Permission) -> bool:
    """Return whether a statement of the policy allows it."""
    return any(_applies(statement, need) for statement in policy["Statement"])


def _applies(statement: dict[str, Any], need: Permission) -> bool:
    return (
        statement["Effect"] == "Allow"
        and need.action in statement["Action"]
        and any(fnmatchcase(need.resource, pattern) for pattern in statement["Resource"])
        and all(
            key in need.context and _fits(operator, need.context[key], wanted)
            for operator, keys in statement.get("Condition", {}).items()
            for key, wanted in keys.items()
        )
    )


def _fits(operator: str, value: str, wanted: str | list[str]) -> bool:
    patterns = [wanted] if isinstance(wanted, str) else wanted
    if operator == "StringLike":
        return any(fnmatchcase(value, pattern) for pattern in patterns)
    assert operator == "StringEquals"
    return value in patterns


def needs(service: str, operation: str, params: dict[str, Any], project: str) -> list[Permission]:
    """Return the permissions that a request needs.

    Args:
        service: botocore's name of the service.
        operation: botocore's name of the operation.
        params: The request.
        project: The project in the jobs' tags.
    """
    if (service, operation) == ("sts", "GetCallerIdentity"):
        return []  # "No permissions are required" (STS API reference)
    if service == "service-quotas":
        return [Permission(f"servicequotas:{operation}", "*")]
    return {"s3": _s3, "sagemaker": _sagemaker, "logs": _logs, "iam": _iam}[service](operation, params, project)


def _s3(operation: str, params: dict[str, Any], _: str) -> list[Permission]:
    bucket = f"arn:aws:s3:::{params['Bucket']}"
    if operation == "ListObjectsV2":
        return [Permission("s3:ListBucket", bucket, {"s3:prefix": params["Prefix"]})]
    if operation == "DeleteObjects":
        return [Permission("s3:DeleteObject", f"{bucket}/{row['Key']}") for row in params["Delete"]["Objects"]]
    here = f"{bucket}/{params['Key']}"
    if operation in {"GetObject", "HeadObject"}:
        # S3 says "not found" only to callers that may list the bucket; it compares the key with the allowed prefixes.
        return [Permission("s3:GetObject", here), Permission("s3:ListBucket", bucket, {"s3:prefix": params["Key"]})]
    if operation in {"CopyObject", "UploadPartCopy"}:
        source = params["CopySource"]
        return [
            Permission("s3:GetObject", f"arn:aws:s3:::{source['Bucket']}/{source['Key']}"),
            Permission("s3:PutObject", here),
        ]
    if operation in {"PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"}:
        return [Permission("s3:PutObject", here)]
    return [Permission(f"s3:{operation}", here)]


def _sagemaker(operation: str, params: dict[str, Any], project: str) -> list[Permission]:
    if operation.startswith("List"):
        return [Permission(f"sagemaker:{operation}", "*")]
    kind = "training" if "Training" in operation else "processing"
    name = params[f"{kind.capitalize()}JobName"]
    job = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:{kind}-job/{name}"
    found = [Permission(f"sagemaker:{operation}", job, {"aws:ResourceTag/prefect-sagemaker:project": project})]
    if operation.startswith("Create"):
        assert {"Key": "prefect-sagemaker:project", "Value": project} in params["Tags"]
        passed = {"iam:PassedToService": "sagemaker.amazonaws.com"}
        found += [Permission("sagemaker:AddTags", job), Permission("iam:PassRole", params["RoleArn"], passed)]
    return found


def _logs(operation: str, params: dict[str, Any], _: str) -> list[Permission]:
    stream = params.get("logStreamName", "")
    group = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{params['logGroupName']}"
    return [Permission(f"logs:{operation}", f"{group}:log-stream:{stream}")]


def _iam(operation: str, params: dict[str, Any], _: str) -> list[Permission]:
    return [Permission(f"iam:{operation}", f"arn:aws:iam::{ACCOUNT}:role/{params['RoleName']}")]
