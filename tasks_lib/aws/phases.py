"""Where a job's time went: waiting for instances, fetching, computing, sending. Pure.

A training job tells it itself (`SecondaryStatusTransitions`); of a processing job SageMaker only says when its code
began and ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks_lib.status import JobKind

# `SecondaryStatus` in botocore's model; a test holds the table against it. A status that stands for the job's end takes
# no time.
PHASE_OF: dict[str, str | None] = {
    "Starting": "starting",
    "Pending": "starting",
    "LaunchingMLInstances": "starting",
    "PreparingTrainingStack": "starting",
    "Restarting": "starting",
    "Downloading": "downloading",
    "DownloadingTrainingImage": "downloading",
    "Training": "training",
    "Updating": "training",
    "Uploading": "uploading",
    "Interrupted": "interrupted",
    "Stopping": "stopping",
    "Completed": None,
    "Failed": None,
    "Stopped": None,
    "MaxRuntimeExceeded": None,
    "MaxWaitTimeExceeded": None,
}

ORDER = ("starting", "downloading", "training", "processing", "interrupted", "stopping", "uploading")
"""As they follow each other; JSON in S3 is written with sorted keys."""


def seconds_by_phase(kind: JobKind, answer: Mapping[str, Any]) -> dict[str, float]:
    """Return the seconds of each phase that has ended, in the order of time.

    Args:
        kind: Kind of job.
        answer: What `DescribeTrainingJob` or `DescribeProcessingJob` said.
    """
    return in_order(_of_training(answer) if kind == "training" else _of_processing(answer))


def in_order(seconds: Mapping[str, float]) -> dict[str, float]:
    """Return the seconds by phase in the order of time."""
    return {name: seconds[name] for name in ORDER if name in seconds}


def _of_training(answer: Mapping[str, Any]) -> dict[str, float]:
    seconds: dict[str, float] = {}
    for row in answer.get("SecondaryStatusTransitions", ()):
        phase = PHASE_OF.get(row["Status"])
        if phase and "EndTime" in row:
            seconds[phase] = seconds.get(phase, 0.0) + _between(row["StartTime"], row["EndTime"])
    return seconds


def _of_processing(answer: Mapping[str, Any]) -> dict[str, float]:
    started, ended = answer.get("ProcessingStartTime"), answer.get("ProcessingEndTime")
    if started is None:
        return {}
    waited = {"starting": _between(answer["CreationTime"], started)}
    return {**waited, "processing": _between(started, ended)} if ended else waited


def _between(start: Any, end: Any) -> float:
    seconds: float = max((end - start).total_seconds(), 0.0)
    return seconds
