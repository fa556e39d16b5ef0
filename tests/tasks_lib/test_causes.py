"""The table of known failure causes, checked with real messages of the programs."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from aws_doubles import make_block

from local_sagemaker.jobs import Job as LocalJob
from local_sagemaker.kinds import KINDS
from local_sagemaker.runtime.runtime_spec import JobFailure
from tasks_lib.failure_causes import CAUSES
from tasks_lib.job_errors import job_error
from tasks_lib.jobs.job import Job
from tasks_lib.jobs.kinds import TRAINING
from worker_toolkit.archive import unpack
from worker_toolkit.errors import BootstrapError
from worker_toolkit.failure import explain, explain_start
from worker_toolkit.process import Ended

USUAL = "fix the code that the last lines name, and run again: finished steps are skipped."
ARGPARSE = "import argparse; argparse.ArgumentParser().parse_args(['--rate=1'])"


REQUIRED = "import argparse; p = argparse.ArgumentParser(); p.add_argument('--rate', required=True); p.parse_args()"


def unpacking(content: bytes) -> str:
    """Return the reason of a job whose input cannot be unpacked."""
    with TemporaryDirectory() as folder:
        archive = Path(folder, "model.tar.gz")
        archive.write_bytes(content)
        with pytest.raises(BootstrapError) as caught:
            unpack(archive, Path(folder))
    return explain_start("algo-1 of 1", 1, str(caught.value))


def plan_of_pipe_mode() -> str:
    """Return the reason of a local job whose input is a pipe."""
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://bucket/data/"}}
    algorithm = {"TrainingInputMode": "Pipe", "TrainingImage": "image", "ContainerEntrypoint": ["true"]}
    channels = [{"ChannelName": "data", "DataSource": source}]
    cluster = {"InstanceType": "ml.m5.large", "InstanceCount": 1}
    request = {
        "AlgorithmSpecification": algorithm,
        "InputDataConfig": channels,
        "ResourceConfig": cluster,
        "OutputDataConfig": {"S3OutputPath": "s3://bucket/out"},
    }
    job = LocalJob("training-job", "fit", "arn", request, 0.0, "InProgress", None, {}, 0.0, False, {})
    with pytest.raises(JobFailure) as caught:
        KINDS[job.kind].plan(job)
    return str(caught.value)


def said_by(*command: str) -> str:
    """Return the last line that a failing program writes."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SM_")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment | {"LC_ALL": "C"})
    assert done.returncode != 0
    return done.stderr.splitlines()[-1]


def python(program: str) -> str:
    """Return the last line that a Python program writes when it fails."""
    return said_by(sys.executable, "-c", program)


def fix(reason: str) -> str:
    """Return the fix in the error of a failed job."""
    arn = "arn:aws:sagemaker:us-east-1:123456789012:training-job/fit-1"
    return job_error(make_block(), "fit", Job(TRAINING, "fit-1", arn, "Failed", reason=reason), []).fix


SAID = {
    "A missing package": [
        (lambda: python("import no_such_package"), "'no_such_package'"),
        (lambda: said_by(sys.executable, "-m", "no_such_module"), "no_such_module"),
    ],
    "A missing channel": [
        (lambda: python("import os; os.environ['SM_CHANNEL_TRIAN']"), "SM_CHANNEL_TRIAN"),
        (lambda: said_by("sh", "-uc", 'cat "$SM_CHANNEL_TRIAN"'), "SM_CHANNEL_TRIAN"),
        (lambda: said_by("bash", "-uc", 'cat "$SM_CHANNEL_TRIAN"'), "SM_CHANNEL_TRIAN"),
    ],
    "An unknown argument": [(lambda: python(ARGPARSE), "add --rate ")],
    "A syntax error": [
        # as wrapped by the sagemaker-training toolkit
        (lambda: 'ExecuteUserScriptError:\nExitCode 1\nErrorMessage "SyntaxError: invalid syntax"', "correct"),
        (lambda: python("print(1"), "correct the line"),
        (lambda: python("if True:\nprint(1)"), "correct the line"),
    ],
    "An image without Python": [
        (lambda: said_by("sh", "-c", "PATH=/nowhere; python3 fit.py"), "has python3 on"),
        (lambda: said_by("bash", "-c", "PATH=/nowhere; python3 fit.py"), "has python3 on"),
    ],
    "A full disk": [(lambda: f"OSError: [Errno 28] {os.strerror(errno.ENOSPC)}: 'model.bin'", "volume_size_gb")],
    "Out of memory": [
        (lambda: python("raise MemoryError"), "more memory"),
        (lambda: "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB.", "more memory"),
        (lambda: explain("fit.py on algo-1 of 1", Ended(137, "")), "more memory"),
    ],
    "A literal /opt/ml on this machine": [(lambda: python("open('/opt/ml/no/such')"), "SM_* variables")],
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html
    "A missing permission": [
        (
            lambda: (
                "botocore.exceptions.ClientError: An error occurred (AccessDenied) when calling the GetObject "
                "operation: User: arn:aws:sts::123456789012:assumed-role/jobs/SageMaker is not authorized to perform: "
                's3:GetObject on resource: "arn:aws:s3:::elsewhere/rows.csv"'
            ),
            "permission s3:GetObject:",
        )
    ],
    # messages of containerd and of the kernel
    "An image that cannot be started": [
        (lambda: "ClientError: Cannot pull image: manifest unknown", "the role may pull it"),
        (lambda: "exec /usr/bin/python3: exec format error", "processor"),
    ],
    "A file outside of the code": [
        (
            lambda: "The entry point 'fit.py' is not in the code, which holds: a.py",
            "'fit.py'",
        ),
        (lambda: said_by(sys.executable, "fit.py"), "fit.py relative to source_dir"),
    ],
    "An input that only AWS has": [(plan_of_pipe_mode, "a project on AWS")],
    "A missing argument": [(lambda: python(REQUIRED), "what --rate needs")],
    "An archive that cannot be unpacked": [(lambda: unpacking(b"no tarball"), "run again")],
    "A program that could not be started": [
        (lambda: explain_start("algo-1 of 1", 1, "SM_LOG_LEVEL is 'high'."), "what the message says")
    ],
}
CASES = [(section, *case) for section, cases in SAID.items() for case in cases]


@pytest.mark.processes
@pytest.mark.parametrize(("section", "words", "named"), CASES, ids=[case[0] for case in CASES])
def test_the_words_of_a_failure_lead_to_its_fix(section, words, named):
    """The fix names what is missing, and links to the section that explains it."""
    (row,) = (row for row in CAUSES if row.section == section)
    said = fix(f"AlgorithmError: {words()}, exit code: 1")

    assert named in said
    assert said.endswith(f"#{row.anchor}")


@pytest.mark.parametrize("error", [KeyError("SM_MODEL"), ValueError("no rows"), FileNotFoundError("/data/opt/ml/rows")])
def test_other_words_have_the_usual_fix(error):
    """An error that only resembles a known one has the usual fix."""
    assert fix(f"AlgorithmError: {type(error).__name__}: {error}, exit code: 1") == USUAL
