"""The phases of SageMaker's job statuses.

Every status is listed, because `Stopped` is not a success, and neither is a status that AWS adds later.
"""

from __future__ import annotations

from enum import Enum


class Phase(Enum):
    """The meaning of a status for a caller that waits for the job."""

    IN_PROGRESS = "live"
    STOPPING = "stopping"
    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"
    UNKNOWN = "unknown"

    @property
    def word(self) -> str:
        """The word for a reader, which most kinds of jobs use as their status: `Completed`."""
        return self.value.capitalize()

    @property
    def terminal(self) -> bool:
        """Whether the job has ended, so that its status does not change any more."""
        return self in (Phase.COMPLETED, Phase.FAILED, Phase.STOPPED)


# The status enums of `DescribeTrainingJob` and `DescribeProcessingJob`; a test compares them with botocore's model.
STATUSES: dict[str, Phase] = {
    "InProgress": Phase.IN_PROGRESS,
    "Stopping": Phase.STOPPING,
    "Completed": Phase.COMPLETED,
    "Failed": Phase.FAILED,
    "Stopped": Phase.STOPPED,
    "Deleting": Phase.UNKNOWN,
}
"""The phase of each status of training and processing jobs."""
