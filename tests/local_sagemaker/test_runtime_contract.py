"""What a job finds when it starts: files, directories, environment and names, and nothing of the caller's."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import hypothesis
import pytest
from runtime_laboratory import (
    BUCKET,
    REGION,
    Laboratory,
    channel,
    is_gone,
    laboratory,
    one_laboratory,
    processes,
    processing_input,
    processing_outputs,
)
from waiting import wait_until

from local_sagemaker.keys import HomeKey

pytestmark = pytest.mark.sampled(8, group="all")

__all__ = ["laboratory", "one_laboratory"]


def test_a_training_job_finds_its_configuration(laboratory):
    """The files of "How Amazon SageMaker AI Provides Training Information" are there on the second of two hosts."""
    laboratory.put("data/x")
    job = laboratory.train(
        "for f in hyperparameters inputdataconfig resourceconfig; do"
        ' tr -d "\\n" < $R/opt/ml/input/config/$f.json; echo; done',
        hosts=2,
        HyperParameters={"lr": "0.1", "name": '"x"'},
        InputDataConfig=[channel("train", f"s3://{BUCKET}/data/") | {"ContentType": "text/csv"}],
    )
    hyperparameters, channels, resources = map(json.loads, laboratory.lines("algo-2"))

    assert job.status == "Completed"
    assert hyperparameters == {"lr": "0.1", "name": '"x"'}
    assert channels == {
        "train": {
            "ContentType": "text/csv",
            "TrainingInputMode": "File",
            "S3DistributionType": "FullyReplicated",
            "RecordWrapperType": "None",
        }
    }
    assert resources == {
        "current_host": "algo-2",
        "current_instance_type": "ml.m5.large",
        "current_group_name": "homogeneousCluster",
        "hosts": ["algo-1", "algo-2"],
        "instance_groups": [
            {"instance_group_name": "homogeneousCluster", "instance_type": "ml.m5.large", "hosts": ["algo-1", "algo-2"]}
        ],
        "network_interface_name": "lo",
    }


def test_a_processing_job_finds_its_configuration(laboratory):
    """The two files of "How Amazon SageMaker Processing Configures Your Processing Container" are there."""
    laboratory.put("in/x")
    inputs = [processing_input("one", f"s3://{BUCKET}/in/", "/opt/ml/processing/input/one")]
    laboratory.process(
        'for f in processingjobconfig resourceconfig; do tr -d "\\n" < $R/opt/ml/config/$f.json; echo; done',
        ProcessingInputs=inputs,
        Environment={"COLOUR": "red"},
    )
    configuration, resources = map(json.loads, laboratory.lines(group="ProcessingJobs"))

    assert resources == {"current_host": "algo-1", "hosts": ["algo-1"]}
    assert configuration["ProcessingJobName"] == "job"
    assert inputs == configuration["ProcessingInputs"]
    assert configuration["Environment"] == {"COLOUR": "red"}


def test_the_directories_of_the_contract_exist(laboratory):
    """The directories for model, output, checkpoints and a channel without objects on this host can be written."""
    laboratory.put("data/only")
    job = laboratory.train(
        "for d in opt/ml/model opt/ml/output/data opt/ml/input/data/train state/deep;"
        " do touch $R/$d/written || exit 1; done",
        hosts=2,
        InputDataConfig=[channel("train", f"s3://{BUCKET}/data/", S3DataDistributionType="ShardedByS3Key")],
        CheckpointConfig={"S3Uri": f"s3://{BUCKET}/ck/", "LocalPath": "/state/deep"},
    )

    assert job.status == "Completed", job.fields


def test_a_processing_output_directory_exists_also_far_from_opt_ml(laboratory):
    """A LocalPath may be any absolute path, even below an existing directory of the machine."""
    job = laboratory.process(
        "touch $R/usr/share/made-for-this-job/a && ls $R/usr/share | head -3",
        ProcessingOutputConfig=processing_outputs(
            (f"s3://{BUCKET}/o", "/usr/share/made-for-this-job", "EndOfJob"),
        ),
    )

    assert job.status == "Completed", job.fields
    assert laboratory.keys("o") == ["o/a"]
    assert not Path("/usr/share/made-for-this-job").exists()


@pytest.mark.always
def test_a_job_sees_only_the_documented_environment(laboratory, monkeypatch):
    """No secret of the caller reaches the job's environment, nor that of a process that the job can see."""
    monkeypatch.setenv("CALLERS_TOKEN", "hidden-value-4711")
    (laboratory.home / "endpoint.json").write_text('{"endpoint": "http://127.0.0.1:9999"}')
    laboratory.train(
        "env; cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | grep -c '^TRAINING_JOB_NAME=job$'",
        Environment={"COLOUR": "red", "LANG": "C"},
    )
    lines = laboratory.lines()
    names = {line.partition("=")[0] for line in lines if "=" in line}

    assert {
        "TRAINING_JOB_NAME=job",
        f"TRAINING_JOB_ARN=arn:aws:sagemaker:{REGION}:123456789012:training-job/job",
        "AWS_ENDPOINT_URL=http://127.0.0.1:9999",
        f"AWS_DEFAULT_REGION={REGION}",
        f"AWS_REGION={REGION}",
        "COLOUR=red",
        "LANG=C",
    } <= set(lines)
    assert names <= {
        "TRAINING_JOB_NAME", "TRAINING_JOB_ARN", "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_EC2_METADATA_DISABLED", "COLOUR", "PATH", "HOME", "LANG", "TZ",
        "PYTHONUNBUFFERED", "LOCAL_SAGEMAKER_ROOT", "PWD", "OLDPWD", "SHLVL", "_",
    }  # fmt: skip
    assert not any("hidden-value-4711" in line for line in lines)
    given = dict(line.split("=", 1) for line in lines if line.startswith("AWS_"))
    of_home = HomeKey.of(laboratory.home)
    assert not any(of_home.keys.secret_key in line for line in lines)
    assert of_home.secret_of(given["AWS_ACCESS_KEY_ID"], given["AWS_SESSION_TOKEN"]) == given["AWS_SECRET_ACCESS_KEY"]


@pytest.mark.always
def test_the_supervisor_carries_no_secret_of_the_caller(one_laboratory, monkeypatch):
    """The supervisor's environment has no secret of the caller: without namespaces, a job's processes can read it."""
    monkeypatch.setenv("CALLERS_TOKEN", "hidden-value-4711")
    one_laboratory.train("while [ ! -e $R/opt/ml/go ]; do sleep 0.02; done", wait=False)
    one_laboratory.host_pid()
    environment = Path(f"/proc/{one_laboratory.supervisors[0]}/environ").read_bytes()

    assert b"hidden-value-4711" not in environment
    (one_laboratory.directory() / "hosts/algo-1/files/opt/ml/go").touch()
    assert one_laboratory.end_of().status == "Completed"


def test_home_is_private_and_can_be_written(laboratory):
    """A job gets its own writable HOME, because the caller's contains credentials."""
    laboratory.train('[ "$HOME" != ~root ] && touch $HOME/x && ls -A $HOME')

    assert laboratory.lines() == ["x"]


def test_the_servers_python_comes_first(laboratory):
    """`python3` in a job is the interpreter that runs the server, with its packages."""
    laboratory.train("python3 -c 'import sys, hypothesis; print(sys.base_prefix); print(hypothesis.__file__)'")
    assert laboratory.lines() == [sys.base_prefix, hypothesis.__file__]


@pytest.fixture
def namespaces(one_laboratory):
    """Return a laboratory whose hosts have namespaces; skip the test if this machine forbids them."""
    one_laboratory.train("touch $R/opt/ml/x; true", name="probe", wait=False)
    record = one_laboratory.directory("probe") / "hosts/algo-1/host.json"
    wait_until(lambda: record.exists() or one_laboratory.table.get("training-job", "probe").finished, "the probe")
    stream = wait_until(lambda: list(one_laboratory.home.glob("logs/*/probe/*")), "the probe's log")[0]
    one_laboratory.end_of(name="probe")
    if "local_sagemaker: namespaces cannot be made" in stream.read_text():
        pytest.skip(f"this machine forbids namespaces: {stream.read_text()}")
    return one_laboratory


def test_with_namespaces_paths_are_real_and_nothing_is_made_on_the_machine(namespaces):
    """With namespaces, `/opt/ml`, `/state` and host names are real inside, and the machine is unchanged."""
    before = set(Path("/").iterdir()) | set(Path("/opt").iterdir())
    job = namespaces.train(
        "hostname; getent hosts algo-1 algo-2 | cut -c1-9; echo ${LOCAL_SAGEMAKER_ROOT-unset}; pwd;"
        " echo m > /opt/ml/model/m; echo s > /state/s; ls /opt",
        hosts=2,
        CheckpointConfig={"S3Uri": f"s3://{BUCKET}/ck/", "LocalPath": "/state"},
    )
    lines = namespaces.lines("algo-2")

    assert job.status == "Completed"
    assert lines[:5] == ["algo-2", "127.0.0.1", "127.0.0.1", "unset", "/"]
    assert sorted({"ml"} | {path.name for path in Path("/opt").iterdir()}) == sorted(lines[5:])
    assert before == set(Path("/").iterdir()) | set(Path("/opt").iterdir())
    assert namespaces.keys("ck") == ["ck/s"]


def test_with_namespaces_a_host_sees_its_own_processes_only(namespaces):
    """With namespaces, a host sees only its own processes, and none of another host or of the machine."""
    namespaces.train("ls -d /proc/[0-9]* | wc -l")

    assert int(namespaces.lines()[0]) < 8


def test_with_namespaces_an_archive_with_foreign_owners_unpacks(namespaces):
    """A host that runs as root maps all user IDs, so `chown` works as in a container."""
    if os.geteuid() != 0:
        pytest.skip("only root can map other identities than its own")
    namespaces.train("cd /opt/ml/model && touch x && chown 1234:1234 x && stat -c %u x")

    assert namespaces.lines() == ["1234"]


def test_with_namespaces_a_job_changes_the_python_for_itself_only(namespaces):
    """A package that a job installs exists for that job only, and not on this machine afterwards."""
    name = f"made_by_{namespaces.home.name.replace('-', '_')}"
    namespaces.train(
        "site=$(python3 -c 'import sysconfig; print(sysconfig.get_path(\"purelib\"))');"
        f" echo 'print(\"imported\")' > $site/{name}.py && python3 -c 'import {name}'"
    )
    (stream,) = namespaces.home.glob("logs/*/job/*")
    if "cannot be overlaid" in stream.read_text():
        pytest.skip(stream.read_text())

    assert namespaces.lines() == ["imported"]
    assert importlib.util.find_spec(name) is None


def test_without_namespaces_the_log_says_so(tmp_path):
    """Without namespaces, one line of the job's log says so and has the root of the paths."""
    made = Laboratory(tmp_path, "directory")
    made.train("true")
    made.close()
    (stream,) = tmp_path.glob("logs/*/*/*.jsonl")
    (line,) = stream.read_text().splitlines()

    assert "LOCAL_SAGEMAKER_ROOT=" in json.loads(line)["message"]


def test_where_namespaces_are_forbidden_the_job_runs_without_them(tmp_path):
    """On a machine that forbids namespaces (here: at most 0), a job runs without them, and its log has the cause."""
    forbidding = ["unshare", "--user", "--map-root-user", "sh", "-c"]
    limit = "echo 0 > /proc/sys/user/max_user_namespaces"
    if shutil.which("unshare") is None or subprocess.run([*forbidding, limit], check=False).returncode:
        pytest.skip("this machine has no way to forbid namespaces to a test")
    program = (
        "import pathlib, runtime_laboratory as r; made = r.Laboratory(pathlib.Path('home'), 'auto');"
        " made.train('echo m > $R/opt/ml/model/m'); print(made.keys()); made.close()"
    )
    done = subprocess.run(
        [*forbidding, f'{limit} && exec "$@"', "sh", sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        check=True,
        timeout=300,
    )
    (stream,) = tmp_path.glob("home/logs/*/*/*.jsonl")

    assert done.stdout.decode().split() == ["['out/job/output/model.tar.gz']"]
    assert "namespaces cannot be made here" in stream.read_text()


@pytest.mark.parametrize("kind", ["train", "process"])
def test_an_image_without_entry_point_is_refused_with_the_way_out(one_laboratory, kind):
    """An image without an entry point is refused with the member to set, since the process runner pulls no image."""
    member = "AlgorithmSpecification" if kind == "train" else "AppSpecification"
    job = getattr(one_laboratory, kind)(
        "", **{member: {"TrainingImage": "i", "ImageUri": "i", "TrainingInputMode": "File"}}
    )

    assert job.status == "Failed"
    assert job.fields["FailureReason"].startswith("ClientError: ")
    assert f"{member}.ContainerEntrypoint" in job.fields["FailureReason"]


def test_nothing_is_left_behind(laboratory):
    """Background processes end with the job, even in their own sessions, and the workspace keeps no data."""
    mark = f"left-{laboratory.home}"
    job = laboratory.train(
        f"sh -c 'sleep 600; : {mark}' & setsid sh -c 'sleep 600; : {mark}' &"
        f" while [ $(ps ax | grep -c '{mark}') -lt 3 ];"
        " do sleep 0.01; done; echo up"
    )

    assert job.status == "Completed"
    assert laboratory.lines() == ["up"]
    wait_until(lambda: all(is_gone(pid) for pid in processes(mark)), "the end of what the job left")
    assert not (laboratory.directory() / "hosts").exists()
