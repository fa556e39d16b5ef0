"""How far a job is: by SageMaker's own words, none of which is unknown to us."""

from __future__ import annotations

import pytest

from tasks_lib.jobs.job import Job
from tasks_lib.jobs.kinds import PROCESSING, TRAINING


def job(kind=TRAINING, status="InProgress", **more):
    return Job(kind, "fit-1", "arn", status, **more)


def test_every_secondary_status_has_its_words(sagemaker_model):
    """Each `SecondaryStatus` of AWS's model is told in words that begin with a capital and are no CamelCase."""
    for secondary in sagemaker_model.shape_for("SecondaryStatus").enum:
        words = job(secondary=secondary).progress.words
        ended = secondary in ("Completed", "Failed", "Stopped")

        assert words != secondary or secondary in ("Starting", "Training", "Restarting", "Stopping") or ended
        assert words[1:] == words[1:].lower() or words.endswith("AWS took the instances back")


def test_the_bar_moves_forward():
    """A job's usual way through its steps never moves the bar back, and ends at 100."""
    steps = ["Starting", "Pending", "LaunchingMLInstances", "PreparingTrainingStack", "Downloading",
             "DownloadingTrainingImage", "Training", "Uploading"]  # fmt: skip
    seen = [job(secondary=step).progress.percent for step in steps]

    assert seen == sorted(seen)
    assert seen[0] > 0
    assert job(status="Completed", secondary="Completed").progress == (100, "Completed")


def test_a_processing_job_has_two_steps():
    """SageMaker only tells when its code began."""
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
    """What ends is told by its status, and what AWS invents tomorrow by AWS's own word."""
    assert job(**told).progress.words == words
