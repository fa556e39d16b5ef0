"""The session of a role: for whom a temporary key was given out, and as whom SageMaker acts for a job. Pure.

Inside `local_sagemaker` anybody may import it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Session:
    """The session of a role.

    Attributes:
        role_arn: the ARN by which the role was named, its path included.
        name: the session's.
        role_id: the id that the role had when the session began; empty if this home's IAM did not have it.
    """

    role_arn: str
    name: str
    role_id: str = ""

    @property
    def arn(self) -> str:
        """The ARN that the session has at STS; the role's path is not part of it."""
        parts = self.role_arn.split(":")
        account = parts[4] if len(parts) > 5 else ""  # noqa: PLR2004 -- an ARN has six parts
        partition = parts[1] if account else "aws"
        return f"arn:{partition}:sts::{account}:assumed-role/{self.role_arn.rpartition('/')[2]}/{self.name}"
