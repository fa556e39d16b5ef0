"""One table of what SageMaker's job statuses mean, for every kind of job. Pure.

Written out, because every neighbour got one of them wrong: `Stopped` is not success, and a status that AWS invents
tomorrow is not success either.
"""

from __future__ import annotations

from enum import Enum
from typing import Literal

JobKind = Literal["training", "processing"]


class Phase(Enum):
    """What a status means for the one who waits."""

    LIVE = "live"
    STOPPING = "stopping"
    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"
    UNKNOWN = "unknown"

    @property
    def terminal(self) -> bool:
        """Whether the job will never change again."""
        return self in (Phase.COMPLETED, Phase.FAILED, Phase.STOPPED)


# The status enums of `DescribeTrainingJob` and `DescribeProcessingJob`; a test holds them against botocore's model.
PHASES: dict[str, Phase] = {
    "InProgress": Phase.LIVE,
    "Stopping": Phase.STOPPING,
    "Completed": Phase.COMPLETED,
    "Failed": Phase.FAILED,
    "Stopped": Phase.STOPPED,
    "Deleting": Phase.UNKNOWN,
}


def phase_of(status: str) -> Phase:
    """Return the meaning of a status; one that is not in the table is `UNKNOWN`, never a success."""
    return PHASES.get(status, Phase.UNKNOWN)
