"""The progress of a job: by SageMaker's statuses, all of which are known."""

from __future__ import annotations

import pytest

from tasks_lib.jobs.job import Job
from tasks_lib.jobs.kinds import PROCESSING, TRAINING


def job(kind=TRAINING, status="InProgress", **more):
    return Job(kind, "fit-1", "arn", status, **more)


def test_every_secondary_status_has_its_words(sagemaker_model):
    """Each `SecondaryStatus` of botocore's model is shown in words, capitalized and not in CamelCase."""
    for secondary in sagemaker_model.shape_for("SecondaryStatus").enum:
        words = job(secondary=secondary).progress.words
        ended = secondary in ("Completed", "Failed", "Stopped")

        assert words != secondary or secondary in ("Starting", "Training", "Restarting", "Stopping") or ended
        assert words[1:] == words[1:].lower() or words.endswith("AWS took the instances back")


def test_the_bar_moves_forward():
    """The percentage never decreases during the usual steps of a job, and ends at 100."""
    steps = ["Starting", "Pending", "LaunchingMLInstances", "PreparingTrainingStack", "Downloading",
             "DownloadingTrainingImage", "Training", "Uploading"]  # fmt: skip
    seen = [job(secondary=step).progress.percent for step in steps]

    assert seen == sorted(seen)
    assert seen[0] > 0
    assert job(status="Completed", secondary="Completed").progress == (100, "Completed")


def test_a_processing_job_has_two_steps():
    """A processing job has two steps, because SageMaker only says when its code started."""
    assert job(PROCESSING).progress.words == "Starting"
    assert job(PROCESSING, started=1.0).progress.words == "Processing"


@pytest.mark.parametrize(("told", "words"), [
    ({"status": "Stopping", "secondary": "Stopping"}, "Stopping"),
    ({"status": "Stopping", "secondary": "MaxRuntimeExceeded"}, "Stopping at its time limit"),
    ({"kind": PROCESSING, "status": "Stopping", "started": 1.0}, "Stopping"),
    ({"status": "Failed", "secondary": "Failed"}, "Failed"),
    ({"status": "Stopped", "secondary": "MaxRuntimeExceeded"}, "Stopped"),
    ({"secondary": "SomethingNew"}, "SomethingNew"),
    ({"secondary": ""}, "Starting"),
])  # fmt: skip
def test_other_words(told, words):
    """A job that ends is shown by its status, and an unknown status by AWS's own name."""
    assert job(**told).progress.words == words
