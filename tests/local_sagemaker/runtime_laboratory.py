"""A separate home for a test of the runtime, with the job table, real supervisors and the object store."""

import io
import json
import os
import signal
import tarfile
from contextlib import suppress
from pathlib import Path

import pytest
from waiting import wait_until

from local_sagemaker.job_table import JobTable
from local_sagemaker.jobs import JobFinished
from local_sagemaker.runtime.supervisor import reconcile, start_supervisor
from local_sagemaker.s3.store import ObjectStore

BUCKET = "bucket"
REGION = "eu-central-1"
GRACE = 0.4  # seconds from SIGTERM to SIGKILL in these tests


def processes(mark):
    """Return the pids of the processes, except zombies, that have `mark` in their command line."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):  # "[0-9]*/cmdline" fails if a process ends during the glob
        try:
            if mark.encode() in (process / "cmdline").read_bytes() and int(process.name) != os.getpid():
                found.append(int(process.name))
        except (FileNotFoundError, ProcessLookupError):  # noqa: PERF203 -- each process may end meanwhile
            continue
    return found


def is_gone(pid):
    """Return whether a process has ended; a zombie has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


class Laboratory:
    """A home with its job table, object store and supervisors."""

    def __init__(self, home, isolation):
        self.home = home.resolve()
        self.home.mkdir(exist_ok=True)
        self.isolation = isolation
        self.settle(isolation=isolation)
        self.table = JobTable(home)
        self.store = ObjectStore(home / "s3")
        self.store.create_bucket(BUCKET)
        self.supervisors = []

    def settle(self, **settings):
        """Write settings.json."""
        (self.home / "settings.json").write_text(json.dumps({"stop_grace_seconds": GRACE, **settings}))

    def put(self, key, content=b"x"):
        """Store an object."""
        with self.store.new_upload() as upload:
            upload.write(content)
            upload.commit(BUCKET, key)

    def keys(self, prefix=""):
        """Return the keys below a prefix."""
        return [found.key for found in self.store.list(BUCKET, prefix)]

    def body(self, key):
        """Return an object's content."""
        return self.store.get(BUCKET, key).path.read_bytes()

    def archive(self, key):
        """Read a tar.gz; return each member's content by name, or the target of a link."""
        with tarfile.open(fileobj=io.BytesIO(self.body(key))) as archive:
            return {
                member.name: archive.extractfile(member).read() if member.isfile() else member.linkname
                for member in archive
                if not member.isdir()
            }

    def train(self, script, *, name="job", hosts=1, wait=True, **request):
        """Create and start a training job that runs a shell script; `$R` is the root of the contract's paths."""
        defaults = {
            "TrainingJobName": name,
            "AlgorithmSpecification": {
                "TrainingImage": "image",
                "TrainingInputMode": "File",
                "ContainerEntrypoint": ["/bin/sh", "-c", f'R="$LOCAL_SAGEMAKER_ROOT"\n{script}'],
            },
            "RoleArn": "arn:aws:iam::123456789012:role/role",
            "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/out"},
            "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": hosts, "VolumeSizeInGB": 1},
            "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
        }
        return self.start("training-job", name, defaults | request, wait=wait)

    def process(self, script, *, name="job", hosts=1, wait=True, **request):
        """Create and start a processing job that runs a shell script."""
        cluster = {"InstanceType": "ml.m5.large", "InstanceCount": hosts, "VolumeSizeInGB": 1}
        defaults = {
            "ProcessingJobName": name,
            "AppSpecification": {
                "ImageUri": "image",
                "ContainerEntrypoint": ["/bin/sh", "-c", f'R="$LOCAL_SAGEMAKER_ROOT"\n{script}'],
            },
            "RoleArn": "arn:aws:iam::123456789012:role/role",
            "ProcessingResources": {"ClusterConfig": cluster},
        }
        return self.start("processing-job", name, defaults | request, wait=wait)

    def start(self, kind, name, request, *, wait=True):
        """Create and start a job; return it at its end, or at once."""
        self.table.create(kind, name, f"arn:aws:sagemaker:{REGION}:123456789012:{kind}/{name}", request, {})
        self.resume(kind, name)
        return self.end_of(kind, name) if wait else self.table.get(kind, name)

    def resume(self, kind, name):
        """Start a supervisor for a job that is in the table.

        A job of that name may just have ended: its supervisor holds the lock a little longer than it is visible.
        """
        supervisor = wait_until(lambda: start_supervisor(self.home, kind, name), f"the lock of {name}")
        self.supervisors.append(supervisor)

    def recover(self, name="job"):
        """Let the runtime find the job without a supervisor, as the server does repeatedly.

        The first attempt may come too early: a killed process keeps its locks until its last thread has ended.
        """
        wait_until(lambda: name in reconcile(self.home), f"a new supervisor of {name}")

    def end_of(self, kind="training-job", name="job"):
        """Wait for the end of a job and of its supervisor."""
        wait_until(lambda: self.table.get(kind, name).finished, f"the end of {name}")
        wait_until(lambda: not self.supervisor_pids(), "the end of the supervisors")
        return self.table.get(kind, name)

    def lines(self, host="algo-1", name="job", group="TrainingJobs"):
        """Return a host's messages, except those of the runtime itself."""
        (stream,) = (self.home / "logs" / f"%2Faws%2Fsagemaker%2F{group}" / name).glob(f"{host}-*.jsonl")
        messages = [json.loads(line)["message"] for line in stream.read_bytes().splitlines()]
        return [message for message in messages if not message.startswith("local_sagemaker: ")]

    def has_lines(self, *expected, host="algo-1", name="job"):
        """Return whether the host's log has these lines by now."""
        try:
            return set(expected) <= set(self.lines(host, name))
        except ValueError:
            return False

    def directory(self, name="job", kind="training-job"):
        """Return the job's workspace."""
        return self.home / "jobs" / kind / name

    def host_pid(self, host="algo-1", name="job"):
        """Wait for a host; return the pid of its first process."""
        path = self.directory(name) / "hosts" / host / "host.json"
        wait_until(path.exists, f"{host} of {name}")
        return json.loads(path.read_text())["pid"]

    def supervisor_pids(self):
        """Return the pids of the living supervisors of this home."""
        return [pid for pid in processes("local_sagemaker.runtime.supervisor\0" + str(self.home)) if not is_gone(pid)]

    def kill_supervisor(self):
        """Kill the supervisor of the only job with SIGKILL, and wait until it is gone.

        A supervisor that has just started has no command line yet, and a child that it forks has the same one for a
        moment.
        """
        (pid,) = wait_until(lambda: len(pids := self.supervisor_pids()) == 1 and pids, "the one supervisor")
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: is_gone(pid), "the supervisor's death")

    def _nothing_runs(self):
        reconcile(self.home)  # a test may have killed the supervisor that would end the job
        return not self.table.live()

    def close(self):
        """Stop all jobs, and wait for their supervisors."""
        for job in self.table.live():
            with suppress(JobFinished):  # the job has ended by itself meanwhile
                self.table.request_stop(job.kind, job.name)
        wait_until(self._nothing_runs, "the end of all jobs")
        wait_until(lambda: not self.supervisor_pids(), "the end of the supervisors")
        self.table.close()
        self.store.close()


def channel(name, uri, **source):
    """Return a channel of a training job."""
    s3 = {"S3DataType": "S3Prefix", "S3Uri": uri, "S3DataDistributionType": "FullyReplicated"}
    return {"ChannelName": name, "DataSource": {"S3DataSource": s3 | source}}


def processing_input(name, uri, path, **source):
    """Return an input of a processing job."""
    s3 = {"S3Uri": uri, "LocalPath": path, "S3DataType": "S3Prefix", "S3InputMode": "File"}
    return {"InputName": name, "S3Input": s3 | source}


def processing_outputs(*outputs):
    """Return the output configuration of a processing job from (uri, path, mode)."""
    return {
        "Outputs": [
            {"OutputName": f"o{number}", "S3Output": {"S3Uri": uri, "LocalPath": path, "S3UploadMode": mode}}
            for number, (uri, path, mode) in enumerate(outputs)
        ]
    }


@pytest.fixture(params=["auto", "directory"])
def laboratory(request, tmp_path):
    """Return a laboratory for each of the two ways to run a host."""
    made = Laboratory(tmp_path, request.param)
    yield made
    made.close()


@pytest.fixture
def one_laboratory(tmp_path):
    """Return a laboratory for tests that do not depend on how a host runs."""
    made = Laboratory(tmp_path, "auto")
    yield made
    made.close()
