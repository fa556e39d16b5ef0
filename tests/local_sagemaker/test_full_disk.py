"""A full disk: a job that fills it fails with the reason, all else goes on, and nothing needs manual clean-up.

Each test has its own small disk: a tmpfs that is mounted in a namespace, which does not need root.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

import boto3
import pytest
from api_requests import training_request
from botocore.config import Config
from hypothesis import given
from hypothesis import strategies as st
from waiting import wait_until

from local_sagemaker.disk import LEAST, Reserve, Volumes, free, is_full, with_space

MEGABYTES = 40
INSIDE = f'mount -t tmpfs -o size={MEGABYTES}m none "$1" && echo mounted && exec sleep infinity'


def namespaces():
    """Return whether a user may mount a file system in a namespace here."""
    program = ["unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    return shutil.which("unshare") and subprocess.run(program, capture_output=True, check=False).returncode == 0


small_disk = pytest.mark.skipif(not namespaces(), reason="this machine lets nobody mount a file system of their own")


class SmallDisk:
    """A home on a disk of 40 MB, and commands that run where it is mounted."""

    def __init__(self, home):
        home.mkdir()
        self.home = home
        command = ["unshare", "--user", "--map-root-user", "--mount", "/bin/sh", "-c", INSIDE, "sh", str(home)]
        self.holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.holder.stdout.readline() == "mounted\n"
        self.inside = f"/proc/{self.holder.pid}/root{home}"

    def enter(self, *command):
        """Run a command in the disk's namespace."""
        entering = ["nsenter", "--user", "--mount", "--preserve-credentials", "--target", str(self.holder.pid)]
        return subprocess.run([*entering, *command], capture_output=True, text=True, check=False, timeout=180)

    def run(self, *words):
        """Run a command of the local SageMaker on this home."""
        return self.enter(sys.executable, "-m", "local_sagemaker", *words, "--home", str(self.home))

    def client(self, service):
        """Start the server if necessary; return a client for it."""
        told = json.loads(self.run("up", "--json").stdout)
        return boto3.client(
            service,
            endpoint_url=told["endpoint"],
            region_name="us-east-1",
            aws_access_key_id=told["access_key"],
            aws_secret_access_key=told["secret_key"],
            config=Config(retries={"total_max_attempts": 2}),
        )

    def close(self):
        """Stop the server, and end the process that holds the mount."""
        self.run("down")
        self.holder.send_signal(signal.SIGKILL)
        self.holder.wait()


@pytest.fixture
def disk(tmp_path):
    """Yield a home on a small disk; its server is stopped afterwards."""
    disk = SmallDisk(tmp_path / "small")
    try:
        yield disk
    finally:
        disk.close()


def request(name, command):
    """Return a request for a training job that runs a shell command."""
    given = training_request(name)
    given["AlgorithmSpecification"] = {
        **given["AlgorithmSpecification"], "ContainerEntrypoint": ["/bin/sh", "-c", command],
    }  # fmt: skip
    return given


FILLS = "cat /dev/zero > ${LOCAL_SAGEMAKER_ROOT:-}/opt/ml/model/big 2>/dev/null"


@small_disk
@pytest.mark.parametrize("then", ["", "; exit 0", "; sleep 600"], ids=["fails", "ends", "goes on"])
def test_a_job_that_fills_the_disk_ends(disk, then):
    """A job that fills the disk soon fails with the reason, whatever it does; the next job has space and runs."""
    disk.client("s3").create_bucket(Bucket="api-tests")
    sagemaker = disk.client("sagemaker")
    sagemaker.create_training_job(**request("fills", FILLS + then))
    describe = sagemaker.describe_training_job

    def over():
        return describe(TrainingJobName="fills")["TrainingJobStatus"] not in ("InProgress", "Stopping")

    wait_until(over, "the job's end")
    job = describe(TrainingJobName="fills")
    sagemaker.create_training_job(**request("next", "true"))
    wait_until(lambda: describe(TrainingJobName="next")["TrainingJobStatus"] == "Completed", "the next job's end")

    assert job["TrainingJobStatus"] == "Failed"
    assert "space" in job["FailureReason"], job["FailureReason"]
    assert free(disk.inside) > MEGABYTES / 2 * LEAST
    assert (shutil.os.path.getsize(f"{disk.inside}/reserve")) > LEAST


@small_disk
def test_down_and_reset_work_on_a_full_disk(disk):
    """With no space left because of other files, `down` and `reset --yes` still work."""
    disk.client("s3").create_bucket(Bucket="api-tests")
    sagemaker = disk.client("sagemaker")
    disk.enter("/bin/sh", "-c", f"cat /dev/zero > {disk.home}/others")
    down, reset = disk.run("down"), disk.run("reset", "--yes")
    os.unlink(f"{disk.inside}/others")  # noqa: PTH108 -- below /proc
    up = disk.run("up", "--json")

    assert sagemaker
    assert (down.returncode, reset.returncode) == (0, 0), down.stderr + reset.stderr
    assert up.returncode == 0, up.stderr


# -- parts ---------------------------------------------------------------------------------------------------------


def test_a_job_may_use_its_volume_and_no_more(tmp_path):
    """A job's volume counts the blocks of its files: holes do not count, and links are not followed."""
    files = tmp_path / "files"
    (files / "deep").mkdir(parents=True)
    (files / "deep" / "half").write_bytes(bytes(1 << 20))
    (files / "out").symlink_to("/")
    with (files / "holes").open("wb") as sparse:
        sparse.truncate(1 << 40)
    hosts, now = [("algo-1", files)], [0.0]
    roomy, tight = (Volumes(tmp_path, hosts, size, lambda: now[0]) for size in (2 / 1024, 0.5 / 1024))

    assert roomy.violation() is None
    assert "algo-1 used 0.0 GB, and the VolumeSizeInGB of the job is 0.000488281" in tight.violation()
    (files / "deep" / "more").write_bytes(bytes(2 << 20))
    assert roomy.violation() is None  # it has just measured
    now[0] = 100.0
    assert "VolumeSizeInGB" in roomy.violation()


def test_a_reserve_is_kept_and_given_up(tmp_path, monkeypatch):
    """The reserve is made once, and released only when almost no other space is left."""
    reserve, left = Reserve(tmp_path), [100 * LEAST]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=100 * LEAST, free=left[0]))
    reserve.keep()
    reserve.keep()
    kept = (tmp_path / "reserve").stat()
    reserve.release_if_low()
    still = (tmp_path / "reserve").exists()
    left[0] = LEAST - 1
    reserve.release_if_low()
    reserve.keep()

    assert kept.st_size == 8 * LEAST
    assert kept.st_blocks * 512 >= 8 * LEAST
    assert still
    assert not (tmp_path / "reserve").exists()


@given(st.lists(st.sampled_from(["full", "table full", "other"]), max_size=3))
def test_with_space_retries_once_per_way(errors):
    """`with_space` retries once for each way to make room, and only after errors of a full disk."""
    import sqlite3

    made, waiting = [], list(errors)
    known = {
        "full": OSError(28, "No space left on device"),
        "table full": sqlite3.OperationalError("database or disk is full"),
        "other": OSError(5, "Input/output error"),
    }

    def act():
        if waiting:
            raise known[waiting.pop(0)]
        return "done"

    ways = [lambda: made.append("files"), lambda: made.append("reserve")]
    first_bad = next((n for n, name in enumerate(errors) if n == 2 or name == "other"), None)
    if first_bad is None:
        assert with_space(act, *ways) == "done"
        assert len(made) == len(errors)
    else:
        with pytest.raises((OSError, sqlite3.OperationalError)):
            with_space(act, *ways)
        assert len(made) == first_bad
    assert [is_full(known[name]) for name in ("full", "table full", "other")] == [True, True, False]
