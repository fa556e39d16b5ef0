"""`kill -9` of any process of a job loses nothing, repeats nothing and leaves nothing behind."""

import hashlib
import os
import signal

import pytest
from runtime_laboratory import BUCKET, is_gone, laboratory, one_laboratory, processes
from waiting import wait_until

from local_sagemaker.runtime.supervisor import reconcile, start_supervisor

pytestmark = pytest.mark.sampled(5, group="all")

__all__ = ["laboratory", "one_laboratory"]


def test_a_killed_supervisor_is_replaced_and_each_line_comes_once(laboratory):
    """If its supervisor is killed three times, a job completes with its checkpoint and 1,500 lines once, in order."""
    laboratory.train(
        "i=0; while [ $i -lt 1500 ]; do i=$((i+1)); echo line $i; [ $((i % 10)) = 0 ] && sleep 0.01;"
        " [ $i = 700 ] && echo middle > $R/state/c;"
        " [ $i = 1000 ] && while [ ! -e $R/opt/ml/go ]; do sleep 0.02; done; done; echo end > $R/opt/ml/model/m",
        wait=False,
        CheckpointConfig={"S3Uri": f"s3://{BUCKET}/ck/", "LocalPath": "/state"},
    )
    for line in (20, 300, 900):
        wait_until(lambda line=line: laboratory.has_lines(f"line {line}"), f"line {line}")
        laboratory.kill_supervisor()
        assert not laboratory.table.get("training-job", "job").finished
        laboratory.recover()
    (laboratory.directory() / "hosts/algo-1/files/opt/ml/go").touch()
    job = laboratory.end_of()

    assert job.status == "Completed"
    assert [f"line {number}" for number in range(1, 1501)] == laboratory.lines()
    assert laboratory.archive("out/job/output/model.tar.gz") == {"m": b"end\n"}
    assert laboratory.body("ck/c") == b"middle\n"


@pytest.mark.always
def test_a_job_that_ended_without_supervisor_is_completed_by_its_successor(laboratory):
    """The init keeps the exit code of a job that ends without a supervisor; the successor stores outputs and lines."""
    laboratory.train(
        "echo up; while [ ! -e $R/opt/ml/go ]; do sleep 0.02; done; echo down; echo m > $R/opt/ml/model/m; exit 6",
        wait=False,
    )
    wait_until(lambda: laboratory.has_lines("up"), "the first line")
    host = laboratory.host_pid()
    laboratory.kill_supervisor()
    (laboratory.directory() / "hosts/algo-1/files/opt/ml/go").touch()
    wait_until(lambda: is_gone(host), "the host's end")
    laboratory.recover()
    job = laboratory.end_of()

    assert (job.status, job.fields["FailureReason"]) == ("Failed", "AlgorithmError: , exit code: 6")
    assert laboratory.lines() == ["up", "down"]
    assert laboratory.archive("out/job/output/model.tar.gz") == {"m": b"m\n"}


@pytest.mark.parametrize("hosts", [1, 2])
def test_a_killed_init_fails_the_job_and_its_processes_end(laboratory, hosts):
    """A killed init fails the job with AWS's internal error, and all processes of the host and its peers end."""
    mark = f"lost-{laboratory.home}"
    laboratory.train(
        f"setsid sh -c 'sleep 600; : {mark}' & sh -c 'sleep 600; : {mark}' & echo up; wait", hosts=hosts, wait=False
    )
    wait_until(lambda: all(laboratory.has_lines("up", host=f"algo-{n + 1}") for n in range(hosts)), "the hosts")
    os.kill(laboratory.host_pid(f"algo-{hosts}"), signal.SIGKILL)
    job = laboratory.end_of()

    assert job.status == "Failed"
    assert job.fields["FailureReason"].startswith("InternalServerError: We encountered an internal error.")
    assert f"algo-{hosts}" in job.fields["FailureReason"]
    wait_until(lambda: all(is_gone(pid) for pid in processes(mark)), "the end of what the host ran")


def test_a_supervisor_killed_in_the_upload_begins_it_again(one_laboratory):
    """If the supervisor is killed during the upload, its successor uploads the whole archive."""
    one_laboratory.train("head -c 60000000 /dev/urandom > $R/opt/ml/model/m; sha256sum < $R/opt/ml/model/m", wait=False)
    wait_until(lambda: one_laboratory.table.get("training-job", "job").secondary_status == "Uploading", "the upload")
    one_laboratory.kill_supervisor()
    assert one_laboratory.table.get("training-job", "job").secondary_status == "Uploading"
    assert one_laboratory.keys() == []
    one_laboratory.recover()
    job = one_laboratory.end_of()
    content = one_laboratory.archive("out/job/output/model.tar.gz")["m"]

    assert job.status == "Completed"
    assert hashlib.sha256(content).hexdigest() == one_laboratory.lines()[0].split()[0]


def test_a_supervisor_killed_in_the_download_begins_it_again(one_laboratory):
    """If the supervisor is killed during the download, partial inputs are discarded, and the job runs once with all."""
    for number in range(300):
        one_laboratory.put(f"data/{number:03}", os.urandom(100_000))
    given = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/data/"}
    one_laboratory.train(
        f"while [ ! -e {one_laboratory.home}/go ]; do sleep 0.02; done; ls $R/opt/ml/input/data/train | wc -l",
        wait=False,
        InputDataConfig=[{"ChannelName": "train", "DataSource": {"S3DataSource": given}}],
    )
    first = one_laboratory.directory() / "hosts/algo-1/files/opt/ml/input/data/train/000"
    wait_until(first.exists, "the first object")
    one_laboratory.kill_supervisor()
    one_laboratory.recover()
    (one_laboratory.home / "go").touch()

    assert one_laboratory.end_of().status == "Completed"
    assert one_laboratory.lines() == ["300"]


def test_a_stop_is_carried_out_by_the_successor(laboratory):
    """A stop that is requested without a supervisor is executed by the successor: SIGTERM, and later SIGKILL."""
    laboratory.train("trap '' TERM; echo up; while true; do sleep 0.02; done", wait=False)
    wait_until(lambda: laboratory.has_lines("up"), "the first line")
    laboratory.kill_supervisor()
    laboratory.table.request_stop("training-job", "job")
    laboratory.recover()

    assert laboratory.end_of().status == "Stopped"


@pytest.mark.always
def test_a_job_whose_supervisors_crash_fails(laboratory):
    """A job whose supervisors all crash, here on an invalid file, fails with the cause, and its host is ended."""
    laboratory.train("echo up; while true; do sleep 0.02; done", wait=False)
    wait_until(lambda: laboratory.has_lines("up"), "the first line")
    host = laboratory.host_pid()
    laboratory.kill_supervisor()
    (laboratory.directory() / "progress.json").write_text("{")

    def given_up():
        reconcile(laboratory.home)
        return laboratory.table.get("training-job", "job").finished

    wait_until(given_up, "the job's end")
    job = laboratory.end_of()

    assert (job.status, job.secondary_status) == ("Failed", "Failed")
    reason = job.fields["FailureReason"]
    assert "its supervisor crashed 10 times, with json.decoder.JSONDecodeError: Expecting" in reason
    assert str(laboratory.directory() / "supervisor.log") in reason
    wait_until(lambda: is_gone(host), "the end of the host, which was killed")
    assert reconcile(laboratory.home) == []


def test_a_supervisor_that_is_killed_again_and_again_is_replaced(laboratory):
    """Killed supervisors do not count as crashes: the job completes after 12 of them."""
    laboratory.train("echo up; while [ ! -e $R/opt/ml/go ]; do sleep 0.02; done", wait=False)
    wait_until(lambda: laboratory.has_lines("up"), "the first line")
    for _ in range(12):
        laboratory.kill_supervisor()
        laboratory.recover()
    (laboratory.directory() / "hosts/algo-1/files/opt/ml/go").touch()

    assert laboratory.end_of().status == "Completed"


def test_a_job_has_one_supervisor(one_laboratory):
    """A job has one supervisor from its start until its end, and runs once."""
    one_laboratory.train("echo up; while [ ! -e $R/opt/ml/go ]; do sleep 0.02; done", wait=False)
    while_it_starts = reconcile(one_laboratory.home)
    wait_until(lambda: one_laboratory.has_lines("up"), "the first line")
    assert while_it_starts == reconcile(one_laboratory.home) == []
    assert start_supervisor(one_laboratory.home, "training-job", "job") is None
    assert not is_gone(one_laboratory.supervisors[0])
    (one_laboratory.directory() / "hosts/algo-1/files/opt/ml/go").touch()

    assert one_laboratory.end_of().status == "Completed"
    assert one_laboratory.lines() == ["up"]


def test_a_supervisor_of_a_finished_job_does_nothing(one_laboratory):
    """A supervisor of a finished job changes nothing, and `reconcile` starts no other."""
    before = one_laboratory.train("echo once")
    one_laboratory.resume("training-job", "job")
    wait_until(lambda: is_gone(one_laboratory.supervisors[-1]), "its end")

    assert before == one_laboratory.table.get("training-job", "job")
    assert reconcile(one_laboratory.home) == []
    assert one_laboratory.lines() == ["once"]


def test_a_deleted_name_can_be_used_again(one_laboratory):
    """A new job with a deleted job's name starts without its files, and with its own log stream."""
    one_laboratory.train("echo first; echo m > $R/opt/ml/model/m")
    one_laboratory.table.delete("training-job", "job")
    job = one_laboratory.train("ls $R/opt/ml/model; echo second")
    streams = sorted(one_laboratory.home.glob("logs/*/job/*"), key=lambda path: path.stat().st_mtime)

    assert job.status == "Completed"
    assert len(streams) == 2
    assert "second" in streams[1].read_text()
    assert "first" not in streams[1].read_text()
