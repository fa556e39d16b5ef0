"""Jobs that fail or are stopped: what the error says, what can still be read, and which secrets stay secret."""

from __future__ import annotations

import io
import tarfile

import pytest
from journey_tools import Bucket, Gate, in_background, jobs_of, last_task_runs
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.logging.handlers import APILogWorker
from waiting import wait_until

from tasks_lib import output_of, sagemaker_tasks
from tasks_lib.errors import JobFailed, JobStopped, UnsafeArchive

pytestmark = pytest.mark.sampled(7, group="all")

PRINT_AND_FAIL = 'for i in 1 2 3; do echo "$SM_CURRENT_HOST line $i"; done; [ "$SM_CURRENT_HOST" != algo-2 ] || {end}'
KINDS = pytest.mark.parametrize("kind", ["train", "process"])


def described(backend, job):
    """Return SageMaker's description of a training job."""
    return backend.client("sagemaker").describe_training_job(TrainingJobName=job)


def failed(call):
    with pytest.raises(JobFailed) as caught:
        call()
    return caught.value


# -- failed jobs ---------------------------------------------------------------------------------------------------


@KINDS
def test_a_failing_host_is_told_with_its_exit_code_and_last_lines(kind, sm):
    """The error has job, host, exit code, the host's last lines before its peers', SageMaker's reason and the fix."""
    command = PRINT_AND_FAIL.format(end="exit 3")
    error = failed(lambda: getattr(sm, kind)("fit", command=command, instance_count=2, state="none"))

    assert (error.task, error.host, error.exit_code) == ("fit", "algo-2", 3)
    assert error.job in error.arn
    lines = [f"algo-2 | algo-2 line {number}" for number in (1, 2, 3)]
    assert lines == [line for line in error.last_lines if line.startswith("algo-2 | algo-2 line")]
    hosts = [line.partition(" | ")[0] for line in error.last_lines]
    assert hosts == sorted(hosts, reverse=True)  # some lines of its peer follow
    text = str(error)
    assert f"{error.job} of task 'fit' failed on algo-2 with exit code 3: algo-2 line 3." in text.splitlines()[0]
    assert all(line in text for line in lines)
    assert text.count("algo-2 line 3") == 2  # as the cause, and at its place in the log
    assert len(text.splitlines()) <= 25
    assert text.splitlines()[-1].startswith("To resolve this: ")


def test_the_host_is_known_where_the_code_left_a_reason(sm):
    """The error names the failing host of several also if the code itself wrote the reason."""
    end = '{ echo mine > "$LOCAL_SAGEMAKER_ROOT/opt/ml/output/failure"; exit 4; }'
    error = failed(lambda: sm.train("fit", command=PRINT_AND_FAIL.format(end=end), instance_count=2, state="none"))

    assert error.host == "algo-2"


def test_a_training_job_tells_its_own_failure_text(sm, backend):
    """What the code wrote to `/opt/ml/output/failure` is in the error, as SageMaker reports it."""
    end = "{ echo 'the data are empty' > \"$LOCAL_SAGEMAKER_ROOT/opt/ml/output/failure\"; exit 4; }"
    error = failed(lambda: sm.train("fit", command=PRINT_AND_FAIL.format(end=end), instance_count=2, state="none"))

    assert "the data are empty" in error.reason
    assert described(backend, error.job)["FailureReason"] == error.reason
    assert error.exit_code == 4
    assert "with exit code 4: the data are empty." in str(error)


def test_a_python_exception_is_the_reason(sm, tmp_path):
    """If a program raises, the reason has the exception, and not the beginning of a traceback."""
    script = tmp_path / "fit.py"
    script.write_text("def load():\n    raise ValueError('no rows in part-7')\n\nload()\n")
    error = failed(lambda: sm.train("fit", entry_point=str(script)))

    assert "ValueError: no rows in part-7" in error.reason.splitlines()[0]
    assert error.exit_code == 1


@KINDS
def test_a_killed_program_is_told_with_its_host(kind, sm):
    """If a program is killed, as by the kernel for its memory, the error has 137 and the host."""
    command = PRINT_AND_FAIL.format(end="kill -9 $$")
    error = failed(lambda: getattr(sm, kind)("fit", command=command, instance_count=2, state="none"))

    assert "SIGKILL" in error.reason
    assert (error.exit_code, error.host) == (137, "algo-2")


@pytest.mark.always
def test_what_a_failed_job_left_can_be_read(sm, backend, project, tmp_path):
    """1. A job fails. 2. Its log is in CloudWatch, its state in S3. 3. The next attempt goes on from that state."""
    command = f'cat "$SSM_STATE/epoch"; echo 7 > "$SSM_STATE/epoch"; echo working; [ -e {tmp_path}/healed ]'
    error = failed(lambda: sm.train("fit", command=command))

    logs = backend.client("logs")
    streams = logs.describe_log_streams(logGroupName="/aws/sagemaker/TrainingJobs", logStreamNamePrefix=f"{error.job}/")
    (name,) = [stream["logStreamName"] for stream in streams["logStreams"]]
    events = logs.get_log_events(logGroupName="/aws/sagemaker/TrainingJobs", logStreamName=name)["events"]
    assert "working" in [event["message"] for event in events]
    assert Bucket(backend, project).read("fit/state/epoch") == b"7\n"

    (tmp_path / "healed").touch()
    healed = sm.train("fit", command=command, metrics={"epoch": "^([0-9]+)$"})
    assert healed.metrics == {"epoch": 7.0}
    assert healed.state.read_text("epoch") == "7\n"


def test_requirements_that_cannot_be_installed(sm, tmp_path):
    """If pip cannot install `requirements.txt`, the job fails with pip's message, and its program does not start."""
    (tmp_path / "requirements.txt").write_text("./no-such-package\n")
    (tmp_path / "fit.py").write_text("print('started')\n")
    error = failed(lambda: sm.train("fit", source_dir=str(tmp_path), entry_point="fit.py"))

    assert error.host == "algo-1"
    assert "requirements.txt could not be installed: " in error.summary
    assert "no-such-package" in error.reason
    assert not [line for line in error.last_lines if "started" in line]


def test_a_failed_step_fails_its_flow(sm):
    """If a job fails, its task run and its flow run are Failed in Prefect, and dependent tasks do not run."""
    steps = []

    @flow
    def chain():
        steps.append(sm.train.submit("fit", command="exit 1"))
        steps.append(sm.process.submit("evaluate", command="true", inputs={"model": output_of(steps[0])}))
        return [step.wait() or step.state for step in steps]

    state = chain(return_state=True)

    assert state.is_failed()
    assert [step.state.name for step in steps] == ["Failed", "NotReady"]


KNOWN = {
    "a-missing-package": ("import no_such_package", "'no_such_package'"),
    "a-syntax-error": ("print(1", "correct the line"),
    "a-missing-channel": ("import os\nos.environ['SM_CHANNEL_TRIAN']", "SM_CHANNEL_TRIAN stands for"),
    "an-unknown-argument": (
        "import argparse\nargparse.ArgumentParser().parse_args()",
        "add --lr",
    ),
    "out-of-memory": ("import os\nos.kill(os.getpid(), 9)", "more memory"),
    "a-literal-optml-on-this-machine": ("open('/opt/ml/not/there')", "SM_* variables"),
}


@pytest.mark.parametrize("anchor", KNOWN)
def test_a_known_cause_is_told_with_its_own_fix(anchor, sm, tmp_path):
    """A cause that the troubleshooting page explains has its own fix in the message, with the link to the section."""
    program, words = KNOWN[anchor]
    (tmp_path / "fit.py").write_text(program)
    error = failed(lambda: sm.train("fit", entry_point=str(tmp_path / "fit.py"), hyperparameters={"lr": 1}))

    assert words in error.fix
    assert str(error).splitlines()[-1] == f"More: docs/troubleshooting.md#{anchor}"


def test_an_unknown_cause_is_told_with_the_usual_fix(sm, tmp_path):
    """Another cause has the usual fix, even if an earlier log line looks like a known cause."""
    (tmp_path / "fit.py").write_text(
        "print('ModuleNotFoundError: No module named x')\nprint('going on\\n' * 9)\nraise ValueError('no rows')"
    )
    error = failed(lambda: sm.train("fit", entry_point=str(tmp_path / "fit.py")))

    assert error.fix == "fix the code that the last lines name, and run again: finished steps are skipped."


# -- stopped jobs --------------------------------------------------------------------------------------------------


@KINDS
@pytest.mark.sampled(1)
def test_a_job_at_its_time_limit_fails(kind, backend, project):
    """A job that reaches its time limit raises `JobStopped` and is not recorded; for training the limit is named."""
    with pytest.raises(JobStopped) as caught:
        getattr(sagemaker_tasks(project, max_wait_minutes=5), kind)(
            "fit", command="sleep 60", max_runtime_minutes=1 / 60
        )

    words = {"train": "ran into its time limit (MaxRuntimeExceeded)", "process": "was stopped before it was done"}
    assert words[kind] in str(caught.value)
    assert kind == "process" or "raise max_runtime_minutes" in str(caught.value)
    assert "fit/_ledger/latest.json" not in Bucket(backend, project).names()


@KINDS
@pytest.mark.sampled(1)
def test_a_job_stopped_from_outside_fails(kind, sm, backend, project, tmp_path):
    """1. A user stops the job. 2. The run fails. 3. Nothing is recorded; the next run makes another attempt."""
    gate = Gate(tmp_path / "open")
    word = {"train": "training", "process": "processing"}[kind]
    call = getattr(sm, kind)
    with in_background(lambda: call("fit", command=gate.wait)) as running:
        (job,) = wait_until(lambda: jobs_of(backend, project, "fit"), "the job")
        stop = getattr(backend.client("sagemaker"), f"stop_{word}_job")
        stop(**{f"{word.title()}JobName": job})
        with pytest.raises(JobStopped, match="was stopped before it was done"):
            running.result()

    assert "fit/_ledger/latest.json" not in Bucket(backend, project).names()
    gate.open()
    again = call("fit", command=gate.wait)
    assert (again.job[-2:], again.reason) == ("-2", "ran: the previous attempt was stopped")


# -- hostile tarballs ----------------------------------------------------------------------------------------------


def member(name, kind=tarfile.REGTYPE, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


HOSTILE = {
    "climbs": [member("../climbed")],
    "climbs from below": [member("a/../../climbed")],
    "absolute": [member("/tmp/journeys-absolute")],
    "symbolic link": [member("link", tarfile.SYMTYPE, "/etc/passwd")],
    "file through a link": [member("link", tarfile.SYMTYPE, ".."), member("link/climbed")],
    "hard link": [member("link", tarfile.LNKTYPE, "/etc/passwd")],
    "device": [member("zero", tarfile.CHRTYPE)],
    "pipe": [member("pipe", tarfile.FIFOTYPE)],
}


def tarball(members):
    """Return a tarball that begins with a harmless file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for info in (member("harmless"), *members):
            tar.addfile(info)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def victim(make_project, backend):
    """A completed training job, its bucket, and its project."""
    project = make_project()
    return sagemaker_tasks(project).train("fit", command='touch "$SM_MODEL_DIR/x"'), Bucket(backend, project), project


@pytest.mark.parametrize("members", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_tarball_is_refused_and_nothing_is_written(members, victim, tmp_path):
    """A tarball that would write outside its target, or anything but files, is refused before its first member."""
    result, bucket, _ = victim
    bucket.write(f"fit/{result.job}/output/model.tar.gz", tarball(members))
    with pytest.raises(UnsafeArchive, match="nothing of it was unpacked"):
        result.model.download(tmp_path / "below" / "target")
    with pytest.raises(UnsafeArchive):
        result.model.read_bytes("harmless")

    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []


def test_no_tarball_at_all_is_refused(victim, tmp_path):
    """Bytes that are not a tarball are an `UnsafeArchive`, and nothing is written."""
    result, bucket, _ = victim
    bucket.write(f"fit/{result.job}/output/model.tar.gz", b"not a tarball")
    with pytest.raises(UnsafeArchive):
        result.model.download(tmp_path / "target")

    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("members", [HOSTILE["climbs"], HOSTILE["file through a link"]], ids=["climbs", "link"])
def test_a_job_refuses_a_hostile_tarball(members, victim):
    """If a channel has `extract=True` and a hostile tarball, the job fails before its program starts."""
    result, bucket, project = victim
    bucket.write(f"fit/{result.job}/output/model.tar.gz", tarball(members))
    inputs = {"model": output_of(result, extract=True)}
    error = failed(lambda: sagemaker_tasks(project).process("reader", command="echo started", inputs=inputs))

    assert "model.tar.gz" in error.reason
    assert not [line for line in error.last_lines if "started" in line]


# -- secrets -------------------------------------------------------------------------------------------------------


def test_files_that_look_like_secrets_are_named(sm, tmp_path, caplog):
    """Files that look like secrets are left out of the code but not of the data; each is named, without its content."""
    for folder in ("code", "data"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / ".env").write_text("TOKEN=hunter22")
    (tmp_path / "code" / "ls.sh").write_text('ls -A . "$SM_CHANNEL_DATA"')
    inputs = {"data": tmp_path / "data"}
    result = sm.process("look", code="ls.sh", source_dir=tmp_path / "code", inputs=inputs)

    assert [line.text for line in result.logs()].count(".env") == 1
    assert caplog.text.count("left out of the code, since they look like secrets: .env.") == 1
    assert caplog.text.count("the input 'data' takes files along that look like secrets: .env") == 1
    assert "hunter22" not in caplog.text


@pytest.mark.always
def test_no_secret_leaves_the_environment(sm, backend, project, run_log, monkeypatch):
    """No secret of a job or of the caller is in a log, a record, an error or Prefect's database."""
    secrets = ("s3cr3t-of-the-job", "s3cr3t-of-the-next", "s3cr3t-of-the-caller")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secrets[2])
    monkeypatch.setenv("DATABASE_URL", f"postgres://user:{secrets[2]}@host")

    work, run_ids = {}, []

    @flow
    def confidential():
        sm.train.submit("fit", **work).wait()

    for command, secret in (("true", secrets[0]), ("true", secrets[1]), ("exit 1", secrets[1])):
        work |= {"command": command, "environment": {"DB_PASSWORD": secret}}
        run_ids.append(confidential(return_state=True).state_details.flow_run_id)

    bucket = Bucket(backend, project)
    kept = [bucket.read(key).decode() for key in bucket.names() if "/_ledger/" in key]
    APILogWorker.drain_all()
    with get_client(sync_client=True) as client:
        these_runs = LogFilter(flow_run_id=LogFilterFlowRunId(any_=run_ids))
        logs = client.read_logs(these_runs, limit=200)
        task_runs = last_task_runs(client, of_flows=run_ids, count=len(run_ids))
    assert {log.flow_run_id for log in logs} == set(run_ids)
    everything = [
        *kept,
        *run_log.texts,
        *(repr(vars(record)) for record in run_log.records),
        *(found.model_dump_json() for found in (*task_runs, *logs)),
    ]

    assert {"fit: Completed", "fit: Failed"} <= set(run_log.texts)
    assert any('"DB_PASSWORD"' in document for document in kept)
    assert [(secret, text[:300]) for secret in secrets for text in everything if secret in text] == []
    assert [text[:300] for text in everything if "DB_PASSWORD=" in text] == []
