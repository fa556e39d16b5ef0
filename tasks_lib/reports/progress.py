"""How far a job is, in words and as a bar. Pure.

SageMaker tells a training job's step (`SecondaryStatus`), and of a processing job only whether its code has begun; how
much of the work is done it never knows. So the bar shows the step, not the share of time.
"""

from __future__ import annotations

from typing import NamedTuple

from tasks_lib.aws.jobs import Job
from tasks_lib.status import Phase


class Progress(NamedTuple):
    """One step of a job.

    Args:
        percent: How far the bar is, from 0 to 100.
        words: What is happening.
    """

    percent: float
    words: str


# `SecondaryStatus` in botocore's model; a test holds the table against it.
_OF_TRAINING: dict[str, Progress] = {
    "Starting": Progress(5, "Starting"),
    "Pending": Progress(5, "Waiting for instances"),
    "LaunchingMLInstances": Progress(10, "Launching instances"),
    "PreparingTrainingStack": Progress(15, "Preparing instances"),
    "PreparingTraining": Progress(15, "Preparing instances"),
    "Downloading": Progress(25, "Downloading inputs"),
    "DownloadingTrainingImage": Progress(30, "Downloading the image"),
    "Training": Progress(50, "Training"),
    "Updating": Progress(50, "Training, with new settings"),
    "Uploading": Progress(90, "Uploading outputs"),
    "Interrupted": Progress(5, "Interrupted: AWS took the instances back"),
    "Restarting": Progress(5, "Restarting"),
    "Stopping": Progress(90, "Stopping"),
    "MaxRuntimeExceeded": Progress(90, "Stopping at its time limit"),
    "MaxWaitTimeExceeded": Progress(90, "Stopping at its time limit"),
}
_STARTING, _PROCESSING, _STOPPING = Progress(5, "Starting"), Progress(50, "Processing"), Progress(90, "Stopping")


def progress_of(job: Job) -> Progress:
    """Return how far a job is; one that is over is at 100."""
    if job.phase.terminal:
        return Progress(100, job.status)
    if job.phase is Phase.STOPPING:
        return _OF_TRAINING.get(job.secondary, _STOPPING)
    if job.kind == "processing":
        return _PROCESSING if job.started else _STARTING
    return _OF_TRAINING.get(job.secondary) or Progress(5, job.secondary or "Starting")
