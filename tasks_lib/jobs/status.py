"""What SageMaker's job statuses mean.

Written out, because `Stopped` is not success, and a status that AWS invents tomorrow is not success either.
"""

from __future__ import annotations

from enum import Enum


class Phase(Enum):
    """What a status means to a caller who waits for the job."""

    LIVE = "live"
    STOPPING = "stopping"
    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"
    UNKNOWN = "unknown"

    @property
    def word(self) -> str:
        """The word for a reader, which is that of most kinds of jobs: `Completed`."""
        return self.value.capitalize()

    @property
    def terminal(self) -> bool:
        """Whether the job will never change again."""
        return self in (Phase.COMPLETED, Phase.FAILED, Phase.STOPPED)


# The status enums of `DescribeTrainingJob` and `DescribeProcessingJob`; a test compares them with botocore's model.
STATUSES: dict[str, Phase] = {
    "InProgress": Phase.LIVE,
    "Stopping": Phase.STOPPING,
    "Completed": Phase.COMPLETED,
    "Failed": Phase.FAILED,
    "Stopped": Phase.STOPPED,
    "Deleting": Phase.UNKNOWN,
}
"""Statuses of training and processing jobs."""
