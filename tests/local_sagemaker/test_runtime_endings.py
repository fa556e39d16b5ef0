"""How jobs end: completed, failed, stopped or too late, and with which messages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime_laboratory import BUCKET, laboratory, one_laboratory
from waiting import wait_until

from local_sagemaker.runtime import final_status

pytestmark = pytest.mark.sampled(9, group="all")

__all__ = ["laboratory", "one_laboratory"]

ON = {
    number: f"grep -q 'current_host.: .algo-{number}' $R/opt/ml/input/config/resourceconfig.json" for number in (1, 2)
}
FOREVER = "while true; do sleep 0.02; done"


def secondaries(job):
    return [one["Status"] for one in job.fields["SecondaryStatusTransitions"]]


def test_a_completed_training_job(laboratory):
    """A completed training job has AWS's statuses and times in order, and is billed for wall-clock time."""
    job = laboratory.train("true", hosts=2)
    fields = job.fields

    assert (job.status, job.secondary_status) == ("Completed", "Completed")
    assert secondaries(job) == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    assert job.created <= fields["TrainingStartTime"] <= fields["TrainingEndTime"] <= job.modified
    assert 1 <= fields["TrainingTimeInSeconds"] == fields["BillableTimeInSeconds"]
    assert "FailureReason" not in fields


def test_a_completed_processing_job(laboratory):
    """A completed processing job has its times and its exit message."""
    job = laboratory.process("printf 'all good' > $R/opt/ml/output/message")

    assert job.status == "Completed"
    assert job.created <= job.fields["ProcessingStartTime"] <= job.fields["ProcessingEndTime"]
    assert job.fields["ExitMessage"] == "all good"


def test_the_failure_file_becomes_the_failure_reason(laboratory):
    """The failure reason is `AlgorithmError: <text>, exit code: <code>`, cut to 1,024 characters but never the code."""
    job = laboratory.train("printf 'no such column: ä' > $R/opt/ml/output/failure; exit 7")
    long = laboratory.train("head -c 5000 /dev/zero | tr '\\0' x > $R/opt/ml/output/failure; exit 8", name="long")

    assert (job.status, job.secondary_status) == ("Failed", "Failed")
    assert job.fields["FailureReason"] == "AlgorithmError: no such column: ä, exit code: 7"
    assert len(long.fields["FailureReason"]) == 1024
    assert long.fields["FailureReason"].endswith("xxx, exit code: 8")


@pytest.mark.parametrize(
    ("script", "code"), [("exit 3", 3), ("kill -9 $$", 137), ("kill -TERM $$", 143), ("exec /no/such/program", 127)]
)
def test_an_exit_code_without_a_failure_file(one_laboratory, script, code):
    """Without a failure file, the reason has the exit code; a signal counts as 128 plus its number, as in a shell."""
    assert f"AlgorithmError: , exit code: {code}" == one_laboratory.train(script).fields["FailureReason"]


def test_an_entry_point_that_does_not_exist(one_laboratory):
    """A missing entry point is exit code 127, and the log names the program."""
    job = one_laboratory.start(
        "training-job",
        "job",
        {
            "AlgorithmSpecification": {"ContainerEntrypoint": ["/no/such/program"], "TrainingInputMode": "File"},
            "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/out"},
            "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
        },
    )
    (stream,) = one_laboratory.home.glob("logs/*/job/*")

    assert job.fields["FailureReason"] == "AlgorithmError: , exit code: 127"
    assert "cannot run '/no/such/program'" in stream.read_text()


def test_a_failed_processing_job(laboratory):
    """A failed processing job has the exit code in its failure reason, and keeps its exit message."""
    job = laboratory.process("printf bad > $R/opt/ml/output/message; exit 4")

    assert job.status == "Failed"
    assert job.fields["FailureReason"] == "AlgorithmError: See job logs for more information, exit code: 4"
    assert job.fields["ExitMessage"] == "bad"


def test_an_exit_message_that_is_no_text_fails_the_job(one_laboratory):
    """An exit message that is not UTF-8 fails the job.

    AWS: "If the data in this file isn't UTF-8 encoded, the job fails and returns a ClientError".
    """
    job = one_laboratory.process("printf '\\377\\376' > $R/opt/ml/output/message")

    assert job.status == "Failed"
    assert job.fields["FailureReason"].startswith("ClientError: ")


@given(parts=st.lists(st.text(), min_size=1, max_size=3), size=st.integers(0, 2000))
def test_exit_messages_are_joined_and_cut_between_characters(parts, size):
    """Exit messages are joined and cut between characters to at most 1 KB; valid text is never an error."""
    parts = [*parts, "ä" * size]
    message = final_status.exit_message([part.encode()[: final_status.MAX_EXIT_MESSAGE + 1] for part in parts])

    assert len(message.encode()) <= 1024
    assert "".join(parts).startswith(message)


def test_one_failed_host_fails_the_job_and_stops_the_others(laboratory):
    """If one of two hosts fails, the other is ended, even if it ignores SIGTERM, and the failed host is named."""
    job = laboratory.train(
        f"if {ON[2]}; then printf 'from two' > $R/opt/ml/output/failure; exit 5; fi\n"
        f"printf 'from one' > $R/opt/ml/output/failure; trap '' TERM; {FOREVER}",
        hosts=2,
    )
    (stream,) = laboratory.home.glob("logs/*/job/algo-2-*")

    assert (job.status, job.fields["FailureReason"]) == ("Failed", "AlgorithmError: from two, exit code: 5")
    assert "algo-2 exited with code 5" in job.fields["SecondaryStatusTransitions"][-1]["StatusMessage"]
    assert "algo-2 exited with code 5" in stream.read_text()


@pytest.mark.always
def test_a_stop_gives_the_job_time_to_save(laboratory):
    """A stop sends SIGTERM to the command; what its handler saves is in S3, and the job is Stopped without failure."""
    laboratory.settle(stop_grace_seconds=30, isolation=laboratory.isolation)
    laboratory.train(
        f"trap 'echo saved > $R/opt/ml/model/m; echo saved > $R/state/c; exit 1' TERM; echo up; {FOREVER}",
        wait=False,
        CheckpointConfig={"S3Uri": f"s3://{BUCKET}/ck/", "LocalPath": "/state"},
    )
    wait_until(lambda: laboratory.has_lines("up"), "the job's first line")
    assert laboratory.table.request_stop("training-job", "job").status == "Stopping"
    job = laboratory.end_of()

    assert (job.status, job.secondary_status) == ("Stopped", "Stopped")
    assert secondaries(job) == ["Starting", "Downloading", "Training", "Stopping", "Uploading", "Stopped"]
    assert "FailureReason" not in job.fields
    assert laboratory.archive("out/job/output/model.tar.gz") == {"m": b"saved\n"}
    assert laboratory.body("ck/c") == b"saved\n"


def test_a_job_that_saves_for_longer_than_its_peers_would_get_has_the_time(one_laboratory):
    """A stopped job has the whole grace period to save; the limit of 5 s is for hosts whose peer failed."""
    one_laboratory.settle(stop_grace_seconds=30, isolation=one_laboratory.isolation)
    save = "sleep 5.5; echo saved > $R/opt/ml/model/m; exit 1"
    one_laboratory.train(f"trap '{save}' TERM; echo up; {FOREVER}", wait=False)
    wait_until(lambda: one_laboratory.has_lines("up"), "the job's first line")
    one_laboratory.table.request_stop("training-job", "job")

    assert one_laboratory.end_of().status == "Stopped"
    assert one_laboratory.archive("out/job/output/model.tar.gz") == {"m": b"saved\n"}


def test_a_job_that_ignores_the_stop_is_killed(laboratory):
    """A job that ignores SIGTERM gets SIGKILL after the grace period on all hosts, and its files are saved."""
    laboratory.train(f"trap '' TERM; echo m > $R/opt/ml/model/m; echo up; {FOREVER}", hosts=2, wait=False)
    wait_until(lambda: laboratory.has_lines("up") and laboratory.has_lines("up", host="algo-2"), "both hosts")
    laboratory.table.request_stop("training-job", "job")
    job = laboratory.end_of()

    assert job.status == "Stopped"
    assert laboratory.archive("out/job/output/model.tar.gz") == {"m": b"m\n"}


def test_a_job_that_prints_faster_than_its_log_is_held_back_and_can_be_stopped(laboratory):
    """A job that prints faster than its log is written is paused, goes on, and can be stopped."""
    burst = "yes $(head -c 200 /dev/zero | tr '\\0' x) | head -c 64000000"  # more than may be ahead of the log
    laboratory.train(f"while true; do {burst}; sleep 1; done", wait=False)
    held = laboratory.directory() / "hosts/algo-1/held"
    wait_until(held.exists, "the host to be held back")
    wait_until(lambda: not held.exists(), "the host to go on")
    laboratory.table.request_stop("training-job", "job")

    assert laboratory.end_of().status == "Stopped"


def test_a_stopped_processing_job(one_laboratory):
    """A stopped processing job is Stopped and has no failure reason."""
    one_laboratory.process(f"echo up; {FOREVER}", wait=False)
    wait_until(lambda: list(one_laboratory.home.glob("logs/*/job/*")), "the log")
    one_laboratory.table.request_stop("processing-job", "job")
    job = one_laboratory.end_of("processing-job")

    assert job.status == "Stopped"
    assert "FailureReason" not in job.fields


def test_a_job_stopped_before_it_began_never_runs(one_laboratory):
    """A job that is stopped before its supervisor starts never runs."""
    request = {
        "AlgorithmSpecification": {"ContainerEntrypoint": ["/bin/echo", "ran"], "TrainingInputMode": "File"},
        "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/out"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
    }
    one_laboratory.table.create("training-job", "early", "arn:aws:sagemaker:eu-west-1:1:training-job/early", request)
    one_laboratory.table.request_stop("training-job", "early")
    one_laboratory.resume("training-job", "early")
    job = one_laboratory.end_of(name="early")

    assert (job.status, job.secondary_status) == ("Stopped", "Stopped")
    assert not (one_laboratory.home / "logs").exists()


def test_a_job_that_takes_too_long_is_stopped(laboratory):
    """A job that exceeds `MaxRuntimeInSeconds` is Stopped with its own secondary status, and its model is saved."""
    script = f"echo m > $R/opt/ml/model/m; echo up; {FOREVER}"
    job = laboratory.train(script, StoppingCondition={"MaxRuntimeInSeconds": 2})

    assert (job.status, job.secondary_status) == ("Stopped", "MaxRuntimeExceeded")
    assert laboratory.has_lines("up")
    assert laboratory.keys() == ["out/job/output/model.tar.gz"]


def test_a_spot_job_that_waits_too_long_is_stopped(one_laboratory):
    """`MaxWaitTimeInSeconds` of a spot job counts from its creation."""
    condition = {"MaxRuntimeInSeconds": 3600, "MaxWaitTimeInSeconds": 1}
    job = one_laboratory.train(FOREVER, EnableManagedSpotTraining=True, StoppingCondition=condition)

    assert (job.status, job.secondary_status) == ("Stopped", "MaxWaitTimeExceeded")


def test_a_bad_settings_file_fails_the_job_loudly(one_laboratory):
    """A misspelt setting fails the job with its name, and is not ignored."""
    (one_laboratory.home / "settings.json").write_text('{"isolatoin": "auto"}')
    job = one_laboratory.train("true")

    assert job.status == "Failed"
    assert "isolatoin" in job.fields["FailureReason"]
