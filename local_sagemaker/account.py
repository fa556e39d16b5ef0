"""Whose resources these are: the one account of this backend, and the region of a home that was told no other.

A module of its own, because the light command line and the heavy services say the same. Anybody may import it.
"""

from __future__ import annotations

ACCOUNT = "123456789012"
"""moto's default account, so that roles and jobs agree."""

ROLE = "local-sagemaker"
"""The role of the home's user. The SageMaker SDKs run jobs with the caller's role, and refuse a caller without."""

REGION = "us-east-1"
"""The region of a home, unless its first `up` names another."""


def partition_of(region: str) -> str:
    """Return the partition of a region, with which its ARNs begin: `aws`, `aws-cn` or `aws-us-gov`."""
    if region.startswith("cn-"):
        return "aws-cn"
    return "aws-us-gov" if region.startswith("us-gov-") else "aws"
