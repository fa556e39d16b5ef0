"""How far a job is: by SageMaker's own words, none of which is unknown to us."""

from __future__ import annotations

import pytest

from tasks_lib.aws.jobs import Job
from tasks_lib.reports.progress import progress_of


def job(kind="training", status="InProgress", **more):
    return Job(kind, "fit-1", "arn", status, **more)


def test_every_secondary_status_has_its_words(sagemaker_model):
    """Each `SecondaryStatus` of AWS's model is told in words that begin with a capital and are no CamelCase."""
    for secondary in sagemaker_model.shape_for("SecondaryStatus").enum:
        words = progress_of(job(secondary=secondary)).words
        ended = secondary in ("Completed", "Failed", "Stopped")

        assert words != secondary or secondary in ("Starting", "Training", "Restarting", "Stopping") or ended
        assert words[1:] == words[1:].lower() or words.endswith("AWS took the instances back")


def test_the_bar_moves_forward():
    """A job's usual way through its steps never moves the bar back, and ends at 100."""
    steps = ["Starting", "Pending", "LaunchingMLInstances", "PreparingTrainingStack", "Downloading",
             "DownloadingTrainingImage", "Training", "Uploading"]  # fmt: skip
    seen = [progress_of(job(secondary=step)).percent for step in steps]

    assert seen == sorted(seen)
    assert seen[0] > 0
    assert progress_of(job(status="Completed", secondary="Completed")) == (100, "Completed")


def test_a_processing_job_has_two_steps():
    """SageMaker only tells when its code began."""
    assert progress_of(job("processing")).words == "Starting"
    assert progress_of(job("processing", started=1.0)).words == "Processing"


@pytest.mark.parametrize(("told", "words"), [
    ({"status": "Stopping", "secondary": "Stopping"}, "Stopping"),
    ({"status": "Stopping", "secondary": "MaxRuntimeExceeded"}, "Stopping at its time limit"),
    ({"kind": "processing", "status": "Stopping", "started": 1.0}, "Stopping"),
    ({"status": "Failed", "secondary": "Failed"}, "Failed"),
    ({"status": "Stopped", "secondary": "MaxRuntimeExceeded"}, "Stopped"),
    ({"secondary": "SomethingNew"}, "SomethingNew"),
    ({"secondary": ""}, "Starting"),
])  # fmt: skip
def test_other_words(told, words):
    """What ends is told by its status, and what AWS invents tomorrow by AWS's own word."""
    assert progress_of(job(**told)).words == words
