"""The roles in moto's IAM, as records for `iam.roles`."""

from __future__ import annotations

from typing import Any

from local_sagemaker.account import ACCOUNT
from local_sagemaker.iam.roles import Role


def roles_of_moto() -> list[Role]:
    """Return all roles with the documents of their policies.

    It reads moto's objects. moto's `GetAccountAuthorizationDetails` returns the documents of attached policies only
    together with the thousand policies that AWS manages.
    """
    from moto.iam.models import iam_backends  # noqa: PLC0415 -- see `moto_services`

    # The backends are by partition, of which a home has one.
    return [_role(one, iam.managed_policies) for iam in iam_backends[ACCOUNT].values() for one in iam.roles.values()]


def _role(role: Any, managed: dict[str, Any]) -> Role:
    attached = [_document(policy) for policy in role.managed_policies.values()]
    # A boundary policy of another account is unknown here, and is ignored.
    boundary = managed.get(role.permissions_boundary_arn)
    tags = role.tags.values() if isinstance(role.tags, dict) else role.tags or ()
    return Role(
        role.arn,
        role.id,
        [*attached, *role.policies.values()],
        _document(boundary) if boundary else None,
        {tag["Key"]: tag["Value"] for tag in tags},
    )


def _document(policy: Any) -> str:
    (current,) = [one for one in policy.versions if one.version_id == policy.default_version_id]
    return str(current.document)
