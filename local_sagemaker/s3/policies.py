"""Validation of bucket policies, as far as S3 refuses them for their form.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/access-policy-language-overview.html
"""

from __future__ import annotations

import json
from typing import Any

from local_sagemaker.s3.errors import MalformedPolicy

_VERSIONS = ("2012-10-17", "2008-10-17")
_FIELDS = frozenset({"Version", "Id", "Statement"})
_OF_STATEMENT = frozenset(
    {"Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition"}
)
_LARGEST = 20 * 1024  # bytes
_ARN = "arn:aws:s3:::"


def check_policy(bucket: str, content: bytes) -> dict[str, Any]:
    """Validate a bucket policy and return it parsed.

    Raises:
        MalformedPolicy: S3 does not accept this policy for this bucket.
    """
    if len(content) > _LARGEST:
        raise MalformedPolicy(f"The policy has more than {_LARGEST} bytes.")
    try:
        policy = json.loads(content)
    except ValueError as error:
        raise MalformedPolicy("Policies must be valid JSON and the first byte must be '{'") from error
    if not isinstance(policy, dict):
        raise MalformedPolicy("Policies must be valid JSON and the first byte must be '{'")
    _check_fields(policy, _FIELDS)
    if policy.get("Version", _VERSIONS[1]) not in _VERSIONS:
        raise MalformedPolicy("The policy must contain a valid version string")
    statements = _listed(policy.get("Statement"))
    if not statements:
        raise MalformedPolicy("Missing required field Statement")
    for statement in statements:
        _check_statement(bucket, statement)
    return policy


def is_public(policy: dict[str, Any]) -> bool:
    """Return whether a policy allows something to everyone without a condition."""
    return any(
        one["Effect"] == "Allow"
        and not one.get("Condition")
        and ("NotPrincipal" in one or "*" in _listed(_principal(one.get("Principal"))))
        for one in _listed(policy["Statement"])
    )


def _principal(value: Any) -> Any:
    return value.get("AWS", []) if isinstance(value, dict) else value


def _check_statement(bucket: str, statement: Any) -> None:
    if not isinstance(statement, dict):
        raise MalformedPolicy("A statement of the policy is not an object.")
    _check_fields(statement, _OF_STATEMENT)
    effect = statement.get("Effect")
    if effect is None:
        raise MalformedPolicy("Missing required field Effect")
    if effect not in ("Allow", "Deny"):
        raise MalformedPolicy(f"Invalid effect: {effect}")
    for name in ("Principal", "Action", "Resource"):
        if (name in statement) == (f"Not{name}" in statement):
            wrong = "Missing required field" if name not in statement else f"Not{name} cannot stand beside"
            raise MalformedPolicy(f"{wrong} {name}")
    _check_action_and_resource(bucket, statement)
    if not isinstance(statement.get("Condition", {}), dict):
        raise MalformedPolicy("The condition of a statement is not an object.")


def _check_action_and_resource(bucket: str, statement: dict[str, Any]) -> None:
    for action in _texts(statement.get("Action", statement.get("NotAction")), "Action"):
        if action != "*" and not action.startswith("s3:"):
            raise MalformedPolicy("Policy has invalid action")
    for resource in _texts(statement.get("Resource", statement.get("NotResource")), "Resource"):
        path = resource.removeprefix(_ARN)
        if resource != "*" and (path == resource or not _is_of(bucket, path.partition("/")[0])):
            raise MalformedPolicy("Policy has invalid resource")


def _is_of(bucket: str, named: str) -> bool:
    # Patterns and variables are not resolved: they may match this bucket.
    return named == bucket or any(sign in named for sign in "*?$")


def _check_fields(given: dict[str, Any], known: frozenset[str]) -> None:
    for name in given:
        if name not in known:
            raise MalformedPolicy(f"Unknown field {name}")


def _texts(value: Any, name: str) -> list[str]:
    found = _listed(value)
    if not found or not all(isinstance(one, str) for one in found):
        raise MalformedPolicy(f"Policy has invalid {name.lower()}")
    return found


def _listed(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]
