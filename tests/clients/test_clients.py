"""`make clients`: the SageMaker SDKs and simple-sagemaker, each in a fresh environment, train and process.

Each program runs in a shell that has evaluated `env`, as a user's shell, with a `sitecustomize` that lets it reach no
other machine. Most of these clients name a script without an entry point, which needs the extra `training-toolkit` in
the environment of the local SageMaker. uv makes the environments from names of packages.
"""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from evaluated_shell import Shell
from waiting import wait_until

pytestmark = pytest.mark.exhaustive

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
ROLE = "arn:aws:iam::123456789012:role/local-sagemaker"


def environment(place: Path, *requirements: str, overrides: Sequence[str] = ()) -> Path:
    """Make a virtual environment with packages; return its directory of programs."""
    uv = shutil.which("uv")
    assert uv, "make clients needs uv: pip install uv"
    file = place.parent / f"{place.name}-overrides.txt"
    file.write_text("\n".join(overrides))
    python = place / "bin" / "python"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, place], check=True)
    install = [uv, "pip", "install", "--quiet", "--python", python, "--overrides", file]
    subprocess.run([*install, *requirements], cwd=ROOT, check=True)
    return python.parent


@pytest.fixture(scope="module")
def ours(tmp_path_factory) -> Path:
    """The directory of programs of an environment with this package, and the SDK v3 that it requires."""
    place = tmp_path_factory.mktemp("environments") / "ours"
    return environment(place, "-c", "constraints.txt", "-e", ".")


@pytest.fixture(scope="module")
def backend(make_backend, ours, tmp_path_factory):
    """A local SageMaker in that environment, with the script of `script_mode` in its S3."""
    made = make_backend(tmp_path_factory.mktemp("served") / "home", python=ours / "python")
    made.up()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.add(HERE / "code" / "train.py", "train.py")
    made.client("s3").create_bucket(Bucket="clients")
    made.client("s3").put_object(Bucket="clients", Key="sourcedir.tar.gz", Body=packed.getvalue())
    return made


def script_mode(name: str) -> dict:
    """Return a request as the SDK v2 makes it: script and archive are hyperparameters, and there is no entry point."""
    return {
        "TrainingJobName": name,
        "RoleArn": ROLE,
        "AlgorithmSpecification": {"TrainingImage": "sagemaker-scikit-learn:1.2-1", "TrainingInputMode": "File"},
        "HyperParameters": {
            "sagemaker_program": '"train.py"',
            "sagemaker_submit_directory": '"s3://clients/sourcedir.tar.gz"',
            "alpha": "0.25",
        },
        "OutputDataConfig": {"S3OutputPath": "s3://clients/out"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
    }


def end_of(backend, name: str) -> dict:
    """Wait for a training job to end; return its description."""

    def ended():
        job = backend.client("sagemaker").describe_training_job(TrainingJobName=name)
        return job if job["TrainingJobStatus"] in {"Completed", "Failed"} else None

    return wait_until(ended, f"{name} to end")


@pytest.fixture(scope="module")
def refusal(backend) -> str:
    """The failure reason of a job in script mode without the toolkit. The toolkit is then installed by its command."""
    backend.client("sagemaker").create_training_job(**script_mode("refused"))
    reason = end_of(backend, "refused").get("FailureReason", "")
    subprocess.run(shlex.split(reason.partition("Install it: ")[2]), check=True)
    return reason


@pytest.fixture
def shell(backend, refusal, tmp_path) -> Shell:
    """A shell for this test, with some data in its directory; jobs have the toolkit."""
    (tmp_path / "data").mkdir()
    for name in ("a.csv", "b.csv"):
        (tmp_path / "data" / name).write_text("1\n")
    return Shell(backend, tmp_path)


def said(output: str, what: str) -> str:
    """Return what a program of this folder printed last under a name."""
    return re.findall(rf"^{what}: (.*)$", output, re.MULTILINE)[-1].strip()


def lines(backend, group: str, job: str) -> list[str]:
    """Return the lines of a job's log."""
    asked = {"logGroupName": f"/aws/sagemaker/{group}", "logStreamNamePrefix": f"{job}/"}
    return [one["message"] for one in backend.client("logs").filter_log_events(**asked)["events"]]


def test_the_refusal_says_how_to_install_the_toolkit(backend, refusal, ours):
    """A job in script mode fails without the toolkit; after the command in its reason, the same job runs."""
    backend.client("sagemaker").create_training_job(**script_mode("accepted"))
    job = end_of(backend, "accepted")

    assert refusal.endswith(f"{ours / 'python'} -m pip install 'prefect-sagemaker[training-toolkit]'")
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert "alpha=0.25; channel=[]" in lines(backend, "TrainingJobs", "accepted")


def test_script_mode_needs_namespaces(backend, refusal):
    """Without namespaces a job in script mode fails at once with the reason; the toolkit would wait 15 minutes."""
    settings = backend.home / "settings.json"
    before = settings.read_text()
    settings.write_text(json.dumps({**json.loads(before), "isolation": "directory"}))
    try:
        backend.client("sagemaker").create_training_job(**script_mode("in-a-directory"))
        job = end_of(backend, "in-a-directory")
    finally:
        settings.write_text(before)

    assert job["TrainingJobStatus"] == "Failed"
    assert "AWS's training toolkit needs namespaces" in "\n".join(lines(backend, "TrainingJobs", "in-a-directory"))


def test_sdk_v3_trains(backend, shell, ours):
    """`ModelTrainer` with a default session and without a role takes the caller's role, and its script runs."""
    output = shell.run(ours / "python", HERE / "train_with_sdk_v3.py", HERE / "code", "wait")
    job = backend.client("sagemaker").describe_training_job(TrainingJobName=said(output, "job"))

    assert (job["TrainingJobStatus"], job["RoleArn"], said(output, "role")) == ("Completed", ROLE, ROLE)
    assert "alpha=0.5; channel=[]" in lines(backend, "TrainingJobs", said(output, "job"))


def test_sdk_v3_processes(backend, shell, ours):
    """`ScriptProcessor` with a default session and `get_execution_role()` runs its script."""
    output = shell.run(ours / "python", HERE / "process_with_sdk_v3.py", HERE / "code")
    job = backend.client("sagemaker").describe_processing_job(ProcessingJobName=said(output, "job"))

    assert (job["ProcessingJobStatus"], job["RoleArn"]) == ("Completed", ROLE)
    assert lines(backend, "ProcessingJobs", said(output, "job"))[-1] == "processed"


def test_sdk_v2_trains_in_script_mode(backend, shell, tmp_path):
    """`SKLearn` of the SDK v2 runs a script by AWS's `train`, attaches to the job and gets its metrics."""
    v2 = environment(tmp_path / "v2", "sagemaker<3")
    output = shell.run(v2 / "python", HERE / "train_with_sdk_v2.py", HERE / "code")
    job = backend.client("sagemaker").describe_training_job(TrainingJobName=said(output, "job"))

    assert (job["TrainingJobStatus"], job["RoleArn"], said(output, "role")) == ("Completed", ROLE, ROLE)
    assert "alpha=0.5; channel=['a.csv', 'b.csv']" in lines(backend, "TrainingJobs", said(output, "job"))
    assert (said(output, "attached"), said(output, "metrics")) == ("True 0.5", "[0.5]")


def test_simple_sagemaker_runs(backend, shell, tmp_path):
    """`ssm shell` and `ssm run` of simple-sagemaker work, also on two hosts with shards and state; a task runs once."""
    ssm = (
        environment(tmp_path / "simple", "simple-sagemaker==0.9.24", "sagemaker<2.148", overrides=["pyyaml>=6"]) / "ssm"
    )
    shell.run(ssm, "shell", "-p", "demo", "-t", "hello", "--cmd", "echo from a $((1 + 1)). shell", "-o", "shell")
    run = [ssm, "run", "-p", "demo", "-t", "work", "-e", HERE / "code" / "worker.py", "--ic", "2", "--rate", "0.1"]
    channel = ["-i", tmp_path / "data", "ShardedByS3Key"]
    shell.run(*run, *channel, "-o", "run", "--download_state")
    again = shell.run(*run, *channel, "-o", "again")
    logs = ["\n".join(file.read_text() for file in (tmp_path / name / "logs").iterdir()) for name in ("shell", "run")]
    jobs = backend.client("sagemaker").list_training_jobs(NameContains="work")["TrainingJobSummaries"]

    assert "from a 2. shell" in logs[0]
    assert sorted(re.findall(r"worked=0.1; rank=(\d) of 2; channels=\['data'\];", logs[1])) == ["0", "1"]
    assert {path.name for path in (tmp_path / "run" / "state").iterdir()} == {"algo-1", "algo-2"}
    assert len(jobs) == 1, again
