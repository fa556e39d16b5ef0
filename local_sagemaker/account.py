"""The account, role and default region of a home.

A module of its own, so that the command line can import it without the services.
"""

from __future__ import annotations

ACCOUNT = "123456789012"
"""The account of every home: moto's default, so that the ARNs of roles and jobs agree."""

ROLE = "local-sagemaker"
"""The role of the home's user. The SageMaker SDKs run jobs with the caller's role and require one."""

REGION = "us-east-1"
"""The region of a home by default; the first `up` may name another."""


def partition_of(region: str) -> str:
    """Return the ARN partition of a region: `aws`, `aws-cn` or `aws-us-gov`."""
    if region.startswith("cn-"):
        return "aws-cn"
    return "aws-us-gov" if region.startswith("us-gov-") else "aws"
