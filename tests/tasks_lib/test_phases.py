"""The phases of a job and their durations, from SageMaker's description."""

import datetime as dt

from tasks_lib.jobs.kinds import PROCESSING, TRAINING

BEGIN = dt.datetime(2026, 11, 1, tzinfo=dt.timezone.utc)


def at(seconds):
    return BEGIN + dt.timedelta(seconds=seconds)


def row(status, start, end=None):
    return {"Status": status, "StartTime": at(start), **({"EndTime": at(end)} if end is not None else {})}


def test_a_training_job_is_summed_by_phase():
    """Durations are summed by phase, since an interrupted spot job downloads twice; an open phase does not count."""
    rows = [
        row("Starting", 0, 60), row("Downloading", 60, 70), row("Training", 70, 100), row("Interrupted", 100, 130),
        row("Restarting", 130, 150), row("Downloading", 150, 160), row("Training", 160, 300), row("Uploading", 300),
    ]  # fmt: skip

    assert TRAINING.seconds_by_phase({"SecondaryStatusTransitions": rows}) == {
        "starting": 80.0, "downloading": 20.0, "training": 170.0, "interrupted": 30.0,
    }  # fmt: skip


def test_a_processing_job_tells_when_its_code_ran():
    """A processing job has the phases before and during its code, and none before it starts."""
    times = {"CreationTime": at(0), "ProcessingStartTime": at(90), "ProcessingEndTime": at(100)}

    assert PROCESSING.seconds_by_phase(times) == {"starting": 90.0, "processing": 10.0}
    assert PROCESSING.seconds_by_phase({"CreationTime": at(0)}) == {}


def test_the_order_of_time_survives_sorted_json():
    """Phases are in the order of time, also after JSON with sorted keys, as in the ledger."""
    assert list(TRAINING.in_order({"uploading": 1.0, "downloading": 2.0, "starting": 3.0})) == [
        "starting", "downloading", "uploading",
    ]  # fmt: skip


def test_every_secondary_status_of_the_model_has_a_phase_or_ends_the_job(sagemaker_model):
    """Each `SecondaryStatus` in botocore's model has one of the kind's phases or ends the job."""
    found = {}
    for status in sagemaker_model.shape_for("SecondaryStatus").enum:
        rows = [row(status, 0, 1)]
        found[status] = next(iter(TRAINING.seconds_by_phase({"SecondaryStatusTransitions": rows})), None)
    timeless = {status for status, phase in found.items() if phase is None}

    assert timeless == {"Completed", "Failed", "Stopped", "MaxRuntimeExceeded", "MaxWaitTimeExceeded"}
    assert {phase for phase in found.values() if phase} == set(TRAINING.phases)
