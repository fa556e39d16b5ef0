"""The texts of all errors on one page, `golden_errors.md`, for a reader to judge together.

Each message is raised by the code that raises it for a user. A changed message, and an error type without an example,
fail here. `WRITE_GOLDEN=1 pytest tests/tasks_lib/test_error_messages.py` rewrites the page, so that the difference can
be reviewed. The page is also the reference of errors in the documentation.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import tarfile
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import uuid4

import prefect
import pytest
from aws_doubles import BUCKET, client_error, make_block
from botocore.exceptions import ConnectionClosedError, NoCredentialsError, ProfileNotFound
from prefect.settings import PREFECT_API_URL, Settings, temporary_settings

from blocks import SageMakerProject, backend
from tasks_lib import Channel, JobResult, SageMakerTasks, best, output_of, sagemaker_tasks
from tasks_lib.aws.errors import translated
from tasks_lib.aws.objects import Objects
from tasks_lib.aws.sync import download, extract
from tasks_lib.backend import Backend
from tasks_lib.error_categories import TABLE
from tasks_lib.errors import JobError, PrefectSageMakerError
from tasks_lib.jobs.channels import as_channels
from tasks_lib.jobs.kinds import TRAINING
from tasks_lib.jobs.metrics import Metrics
from tasks_lib.jobs.s3_layout import Location, TaskFolder
from tasks_lib.jobs.spec import JobSpec
from tasks_lib.ledger.project_file import check_account
from tasks_lib.ledger.records import Ledger
from tasks_lib.ledger.state_directory import Holder, document
from tasks_lib.options import RunOptions
from tasks_lib.prefect_runtime.run_context import RunContext
from tasks_lib.prefect_runtime.server_watch import LOST_SECONDS, ServerWatch
from tasks_lib.run.execution import Execution
from tasks_lib.run.prepare import Call

GOLDEN = Path(__file__).parent / "golden_errors.md"
REWRITE = "If the new text is right: WRITE_GOLDEN=1 .venv/bin/pytest -n 0 tests/tasks_lib/test_error_messages.py"
PARENTS = {"PrefectSageMakerError", "JobError"}
"""Types that are only base classes."""

HEAD = """# Errors

Every kind of error, with what it says. All are `PrefectSageMakerError`; `from tasks_lib.errors import …`.
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A user's working directory with a script and some data."""
    folder = tmp_path / "here"
    for name, text in {"fit.py": "print(1)", "data/a.csv": "1", "code/fit.py": "print(1)"}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.chdir(folder)
    return folder


def _broken_block():
    """Return a block document as Prefect's API gives it, with an invalid bucket and role."""
    of_schema = {"id": str(uuid4()), "checksum": "sha256:0", "fields": {}, "block_type_id": str(uuid4())}
    schema = {**of_schema, "capabilities": [], "version": "0", "block_type": None}
    data = {"project": "demo", "bucket": "My_Bucket", "role": "arn:aws:s3:::role"}
    ids = {"id": str(uuid4()), "block_schema_id": schema["id"], "block_type_id": schema["block_type_id"]}
    return {"name": "broken", "data": data, "block_schema": schema, "block_document_references": {}, **ids}


@contextmanager
def small_prefect_server():
    """Run a server that answers like a Prefect server with one invalid block; a real one takes 8 s to start."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self):
            answers = {"version": prefect.__version__, "broken": _broken_block()}
            found = answers.get(self.path.partition("?")[0].rpartition("/")[2])
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write(json.dumps(found or {"detail": "not found"}).encode())

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{server.server_port}/api"}):
                yield
        finally:
            server.shutdown()


class Case:
    """The code that raises each message; the name of a method is the title of its message."""

    def __init__(self, project, here):
        self.project, self.here = project, here
        self.sm, self.objects = SageMakerTasks(project, {}), Objects(project)
        self.sagemaker, self.logs = project.client("sagemaker"), project.client("logs")

    # -- before a job is created -------------------------------------------------------------------------------------

    def a_task_name_with_a_blank(self):
        self.sm.train.fn("fit C", command="true")

    def a_channel_name_with_a_slash(self):
        self.sm.train.fn("fit", command="true", inputs={"a/b": "data"})

    def an_entry_point_that_is_not_there(self):
        self.sm.train.fn("fit", entry_point="fitt.py")

    def a_source_directory_that_is_not_there(self):
        self.sm.train.fn("fit", source_dir="kode", entry_point="fit.py")

    def a_dependency_that_is_not_there(self):
        self.sm.train.fn("fit", entry_point="fit.py", dependencies=["lib"])

    def an_input_that_is_not_there(self):
        self.sm.train.fn("fit", command="true", inputs={"train": "dat"})

    def an_empty_input(self):
        (self.here / "empty").mkdir()
        self.sm.train.fn("fit", command="true", inputs={"train": "empty"})

    def an_input_in_s3_that_is_not_there(self):
        self.sm.train.fn("fit", command="true", inputs={"train": f"s3://{BUCKET}/nothing/"})

    def an_input_in_a_bucket_that_is_not_there(self):
        self.sm.train.fn("fit", command="true", inputs={"train": "s3://no-such-bucket/data"})

    def an_object_whose_name_begins_another(self):
        for name in ("data.csv", "data.csv.bak"):
            self.project.client("s3").put_object(Bucket=BUCKET, Key=f"raw/{name}", Body=b"1")
        self.sm.train.fn("fit", command="true", inputs={"train": f"s3://{BUCKET}/raw/data.csv"})

    def an_input_that_is_not_a_path(self):
        self.sm.train.fn("fit", command="true", inputs={"train": 7})

    def inputs_without_names(self):
        self.sm.train.fn("fit", command="true", inputs=["data"])

    def an_unknown_distribution(self):
        self.sm.train.fn("fit", command="true", inputs={"train": Channel("data", distribution="Sharded")})

    def an_output_that_there_is_not(self):
        output_of("prepare", "models")

    def a_project_for_what_knows_its_own(self):
        output_of(object(), project="features")

    def a_subdirectory_of_a_packed_output(self):
        self._completed("fit")
        self.sm.process.fn("evaluate", command="true", inputs={"model": output_of("fit", subdir="a")})

    def a_subdirectory_that_climbs(self):
        output_of("prepare", subdir="../other")

    def an_input_task_that_never_ran(self):
        self.sm.train.fn("fit", command="true", inputs={"train": output_of("prepare")})

    def an_input_task_that_failed(self):
        environment = {"SSM_TASK": "prepare", "SSM_PROJECT": "demo"}
        self.sagemaker.add("prepare-" + "0" * 16 + "-1", status="Failed", Environment=environment)
        self.sm.train.fn("fit", command="true", inputs={"train": output_of("prepare")})

    def a_hyperparameter_that_is_not_finite(self):
        self.sm.train.fn("fit", command="true", hyperparameters={"C": float("nan")})

    def a_hyperparameter_that_json_cannot_say(self):
        self.sm.train.fn("fit", command="true", hyperparameters={"model": object()})

    def a_request_that_aws_would_refuse(self):
        self.sm.train.fn("fit", command="true", environment={"TEXT": "x" * 600}, tags={"k" * 200: "v"})

    def a_file_and_a_command(self):
        self.sm.train.fn("fit", entry_point="fit.py", command="true")

    def code_and_nothing_of_it_to_run(self):
        self.sm.train.fn("fit", source_dir="code")

    def no_image(self):
        block = make_block(image=None)
        SageMakerTasks(block, {}).train.fn("fit", command="true")

    def an_unknown_default(self):
        sagemaker_tasks(make_block(), instance="ml.m5.large")

    def arguments_as_one_text(self):
        self.sm.train.fn("fit", entry_point="fit.py", arguments="--fast --C 1")

    def an_unknown_choice(self):
        self.sm.train.fn("fit", command="true", rerun="never")

    def minutes_that_are_not_a_number(self):
        self.sm.train.fn("fit", command="true", max_runtime_minutes="90m")

    def a_metric_that_does_not_compile(self):
        self.sm.train.fn("fit", command="true", metrics={"auc": "auc=([0-9"})

    def a_metric_without_a_group(self):
        self.sm.train.fn("fit", command="true", metrics={"auc": "auc=[0-9.]+"})

    def a_metric_that_the_log_had_not(self):
        Metrics(loss=0.5)["auc"]

    def no_result_with_a_finite_metric(self):
        facts = {"job": "fit-1", "arn": "", "kind": "training", "cached": False, "reason": "", "seconds": 1.0}
        diverged = JobResult(project="demo", task="fit", fingerprint="", metrics={"loss": math.nan}, **facts)
        best([diverged], minimize="loss")

    def overrides_of_the_job_name(self):
        self.sm.train.fn("fit", command="true", overrides={"TrainingJobName": "mine"})

    def a_prefect_server_that_died(self):
        now = iter([0.0, LOST_SECONDS, LOST_SECONDS])
        watch = ServerWatch(
            "http://127.0.0.1:4200/api/", Settings(), listens=lambda: False, clock=lambda: next(now), thread=None
        )
        watch.look()
        RunContext(server=watch).check_running("job fit-1 was running")

    def one_name_for_two_kinds_of_work(self):
        for run, parameters in (("first", {"C": 1}), ("second", {"C": 2})):
            self._call(hyperparameters=parameters, flow_run="a-flow-run", task_run=run)

    # -- the project -------------------------------------------------------------------------------------------------

    def a_block_that_is_not_saved(self):
        with small_prefect_server():
            SageMakerProject.named("prod")

    def a_saved_block_that_does_not_validate(self):
        with small_prefect_server():
            SageMakerProject.named("broken")

    def no_credentials(self):
        raise translated(NoCredentialsError(), "create the training job fit-1")

    def a_profile_that_there_is_not(self):
        raise translated(ProfileNotFound(profile="dev"), "reach the bucket my-bucket")

    def a_bucket_that_there_is_not(self):
        raise translated(client_error("NoSuchBucket", "The specified bucket does not exist"), "list s3://my-bucket/x/")

    def a_folder_of_another_account(self):
        shared = make_block(project="shared")  # not yet checked in this process
        place = Location(BUCKET, "shared/_project.json")
        self.objects.write(place, {"account": "210987654321", "region": "eu-central-1"})
        check_account(shared, self.objects)

    def a_project_file_that_is_damaged(self):
        damaged = make_block(project="damaged")  # not yet checked in this process
        self.objects.put(Location(BUCKET, "damaged/_project.json"), b"{")
        check_account(damaged, self.objects)

    def a_local_sagemaker_that_does_not_start(self):
        backend.ensure_server(
            self.here, run=lambda command: subprocess.CompletedProcess(command, 1, "", "no space left")
        )

    def a_local_sagemaker_that_does_not_answer(self):
        told = "The server (pid 4711) has not answered for 120 s. It lives, and its jobs go on; it may only be slow. …"
        backend.ensure_server(self.here, run=lambda command: subprocess.CompletedProcess(command, 4, "", told))

    def a_local_project_that_calls_away(self):
        block = SageMakerProject.local(home=self.here)
        client = backend.isolated_session("us-east-1").client("s3", endpoint_url="https://s3.amazonaws.com")
        backend.refuse_foreign_hosts(client)
        client.list_objects_v2(Bucket=block.bucket)

    # -- the job -----------------------------------------------------------------------------------------------------

    def a_job_that_failed(self):
        self._ends("Failed", FailureReason="AlgorithmError: ExecuteUserScriptError:\nExitCode 1\nValueError: no rows")

    def a_job_whose_second_host_failed(self):
        reason = "AlgorithmError: fit.py on algo-2 of 2 ended with exit code 137"
        self._ends("Failed", FailureReason=reason)

    def a_job_that_was_stopped(self):
        self._ends("Stopped", SecondaryStatus="Stopped")

    def a_job_that_ran_into_its_time_limit(self):
        self._ends("Stopped", SecondaryStatus="MaxRuntimeExceeded")

    def a_state_that_other_work_writes(self):
        self.sagemaker.add("fit-other-1")
        ledger = Ledger(self.objects, TaskFolder(BUCKET, "demo/fit/"))
        self.objects.write(ledger.folder.lease, document(Holder("fit-other-1", "f" * 64, TRAINING)))
        self.sm.train.fn("fit", command="true", on_busy="fail")

    def an_input_that_changed_meanwhile(self):
        s3 = self.project.client("s3")
        s3.put_object(Bucket=BUCKET, Key="raw/a.csv", Body=b"1")

        def change(sagemaker, kind, job):
            s3.put_object(Bucket=BUCKET, Key="raw/a.csv", Body=b"22")
            sagemaker.end(job[f"{kind}JobName"], kind=kind)

        self.sagemaker.at_create = change
        self._call(inputs={"raw": f"s3://{BUCKET}/raw/"})

    # -- the outputs -------------------------------------------------------------------------------------------------

    def an_output_that_the_job_has_not(self):
        assert self._completed("fit").output

    def a_file_that_the_job_did_not_leave(self):
        self._completed("fit").source.read_text("absent.txt")

    def a_result_from_json(self):
        result = self._completed("fit")
        assert type(result).model_validate_json(result.model_dump_json(exclude={"origin"})).model

    def an_output_that_is_gone(self):
        download(self.objects, Location(BUCKET, "demo/fit/fit-1/output/"), self.here / "target")

    def a_tarball_that_climbs(self):
        with tarfile.open(self.here / "model.tar.gz", "w:gz") as tar:
            tar.add(self.here / "fit.py", "../evil.py")
        extract(self.here / "model.tar.gz", self.here / "target")

    def a_file_that_is_not_a_tarball(self):
        extract(self.here / "fit.py", self.here / "target")

    def a_record_that_keeps_changing(self):
        class Busy(type(self.objects)):
            def write(self, *_, **__):
                return None

        Ledger(Busy(self.project), TaskFolder(BUCKET, "demo/fit/")).close("f" * 64, 1, "failed")

    # -- errors of AWS calls -----------------------------------------------------------------------------------------

    def the_network_breaks(self):
        raise translated(ConnectionClosedError(endpoint_url="https://api"), "describe the training job fit-1")

    def aws_answers_something_unheard_of(self):
        raise translated(
            client_error("Teapot", "short and stout", "CreateTrainingJob"), "create the training job fit-1"
        )

    # -- helpers -----------------------------------------------------------------------------------------------------

    def _call(self, *, inputs=None, hyperparameters=None, **run):
        spec = JobSpec(
            kind=TRAINING, task="fit", image="image:1", instance_types=("ml.m5.large",), instance_count=1,
            volume_size_gb=30, max_runtime_seconds=60, hyperparameters=hyperparameters or {},
        )  # fmt: skip
        if self.sagemaker.at_create is None:
            self.sagemaker.at_create = lambda sagemaker, kind, job: sagemaker.end(job[f"{kind}JobName"], kind=kind)
        self.project.is_local, self.project.local_home = True, self.here
        channels = as_channels(inputs)
        run = RunContext(**run)
        return Execution(Call(spec, None, channels, RunOptions()), Backend(self.project), run).result()

    def _completed(self, task):
        def leave(sagemaker, kind, job):
            key = f"demo/{task}/{job['TrainingJobName']}/output/model.tar.gz"
            self.project.client("s3").put_object(Bucket=BUCKET, Key=key, Body=b"")
            sagemaker.end(job["TrainingJobName"])

        self.sagemaker.at_create = leave
        self.project.is_local, self.project.local_home = True, self.here
        answer = self.sm.train.fn(task, entry_point="fit.py")
        self.project.is_local = False
        return answer

    def _ends(self, status, **more):
        def end(sagemaker, kind, job):
            name = job["TrainingJobName"]
            for host in (1, 2):
                self.logs.write(f"{name}/algo-{host}-1", "epoch=1 loss=0.7", "ValueError: no rows")
            sagemaker.end(name, status, **more)

        self.sagemaker.at_create = end
        self.project.local_home = self.here
        self.sm.train.fn("fit", command="true")


_PROPER = {"aws": "AWS", "s3": "S3", "json": "JSON", "sagemaker": "SageMaker"}
AWS = [row for row in TABLE if row.codes]
TITLES = [name for name in vars(Case) if not name.startswith("_")]


@pytest.fixture
def messages(project, here):
    """The errors' triggers: each title is a method that raises the error."""
    return Case(project, here)


def _caught(raising) -> PrefectSageMakerError:
    with pytest.raises(PrefectSageMakerError) as caught:
        raising()
    return caught.value


def _code(rule) -> str:
    return min(code for code in rule.codes if code.isalpha())


def _from_aws(rule) -> PrefectSageMakerError:
    code = _code(rule)
    return translated(client_error(code, "words of AWS", "CreateTrainingJob"), "create the training job fit-1")


def _as_text(error: PrefectSageMakerError, here: Path) -> str:
    text = str(error).replace(str(here), "/home/you/project")
    return re.sub(r"\b[0-9a-f]{16,64}\b", "<hash>", text)


def _section(title: str, error: PrefectSageMakerError, here: Path) -> str:
    words = [_PROPER.get(word, word) for word in title.split("_")]
    heading = " ".join(words)[0].upper() + " ".join(words)[1:]
    return f"## {heading}\n\n`{type(error).__name__}`\n\n```text\n{_as_text(error, here)}\n```\n"


def _known() -> dict[str, str]:
    sections = re.split(r"^(?=## )", GOLDEN.read_text(), flags=re.MULTILINE)[1:] if GOLDEN.exists() else []
    return {section.splitlines()[0]: section for section in sections}


def _judge(title: str, error: PrefectSageMakerError, here: Path) -> None:
    """Compare a section with the page, or write it to the page."""
    section = _section(title, error, here)
    known = _known()
    if os.environ.get("WRITE_GOLDEN"):
        known[section.splitlines()[0]] = section
        GOLDEN.write_text("\n".join([HEAD, *(text.rstrip("\n") + "\n" for text in known.values())]))
        return

    assert section.strip() == known.get(section.splitlines()[0], "").strip(), REWRITE


@pytest.mark.parametrize("title", TITLES)
def test_what_an_error_says(title, messages, here):
    """The message, AWS's text, the last lines, the link and the fix are as on the page."""
    error = _caught(getattr(messages, title))

    assert error.fix
    if isinstance(error, JobError):
        assert error.job
        assert error.job in str(error)
    _judge(title, error, here)


@pytest.mark.parametrize("rule", AWS, ids=_code)
def test_what_an_error_of_aws_says(rule, here):
    """The message for each row of the table, by its first code, is as on the page."""
    _judge(f"AWS answers {_code(rule)}", _from_aws(rule), here)


def test_every_kind_of_error_is_on_the_page():
    """Every error type that is not only a base class has an example on the page."""
    shown = set(re.findall(r"^`(\w+)`$", GOLDEN.read_text(), flags=re.MULTILINE))
    waiting, kinds = [PrefectSageMakerError], set()
    while waiting:
        kind = waiting.pop()
        kinds |= {kind.__name__} if kind.__module__.split(".")[0] in ("blocks", "tasks_lib") else set()
        waiting += kind.__subclasses__()

    assert kinds - PARENTS - shown == set(), "Raise these errors here: a row of the table, or a method of `Case`."


def test_nothing_else_is_on_the_page():
    """The page has no message that is no longer raised."""
    wanted = len(TITLES) + len(AWS)

    assert len(_known()) == wanted, "Delete the sections of errors that are gone, or write the new ones. " + REWRITE
