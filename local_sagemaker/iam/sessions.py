"""A role session: the principal of a temporary key, and of SageMaker when it acts for a job. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Session:
    """A role session.

    Attributes:
        role_arn: the role's ARN, with its path.
        name: the name of the session.
        role_id: the id of the role when the session began; empty if this home's IAM did not have the role.
    """

    role_arn: str
    name: str
    role_id: str = ""

    @property
    def arn(self) -> str:
        """The ARN of the session at STS, which does not contain the role's path."""
        parts = self.role_arn.split(":")
        account = parts[4] if len(parts) > 5 else ""  # noqa: PLR2004 -- an ARN has six parts
        partition = parts[1] if account else "aws"
        return f"arn:{partition}:sts::{account}:assumed-role/{self.role_arn.rpartition('/')[2]}/{self.name}"
