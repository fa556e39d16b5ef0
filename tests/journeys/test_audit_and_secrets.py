"""Audit tags that say who started a job, from which code and in which run; and secrets that only the code gets."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import uuid
from base64 import b64encode
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from journey_tools import Gate, counting, in_background, jobs_of, last_task_runs
from own_prefect import HOME
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, LogFilter, LogFilterFlowRunId
from prefect.context import FlowRunContext
from prefect.flow_engine import run_flow
from prefect.logging.handlers import APILogWorker
from waiting import wait_until

from tasks_lib import sagemaker_tasks
from tasks_lib.errors import InvalidTask, JobFailed

pytestmark = pytest.mark.sampled(4, group="all")

OURS = "prefect-sagemaker:"


def tags_of(backend, result):
    """Return all tags of a job in SageMaker."""
    rows = backend.client("sagemaker").list_tags(ResourceArn=result.arn)["Tags"]
    return {row["Key"]: row["Value"] for row in rows}


# -- audit ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def code(tmp_path):
    """A folder with a script, in its own Git repository."""
    (tmp_path / "fit.py").write_text("print('fit')")
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (["init", "--quiet"], ["add", "."], [*identity, "commit", "--quiet", "-m", "first"]):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    return tmp_path


@pytest.mark.parametrize("kind", ["train", "process"])
def test_each_job_says_who_started_what(kind, sm, backend, code, monkeypatch):
    """A job has all audit tags beside the user's own tags, which cannot replace them."""
    monkeypatch.setenv("PREFECT_SAGEMAKER_USER", "ada@example.org")
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=code, capture_output=True, text=True, check=True).stdout
    script = {"entry_point" if kind == "train" else "code": "fit.py", "source_dir": code}

    @flow
    def one():
        result = getattr(sm, kind).submit("fit", tags={"team": "a", f"{OURS}task": "other"}, **script).result()
        return result, FlowRunContext.get().flow_run.id

    result, flow_run = one()

    assert tags_of(backend, result) == {
        "team": "a",
        f"{OURS}project": sm.project.project,
        f"{OURS}task": "fit",
        f"{OURS}fingerprint": result.fingerprint,
        f"{OURS}flow-run": str(flow_run),
        f"{OURS}git-commit": head.strip(),
        f"{OURS}user": "ada@example.org",
    }


def test_a_deployments_jobs_name_it(sm, backend, monkeypatch):
    """A job of a deployment's run has tags with its id, its name from the worker, and the creator of the run."""
    monkeypatch.setenv("PREFECT__DEPLOYMENT_NAME", "nightly")
    monkeypatch.delenv("PREFECT_SAGEMAKER_USER", raising=False)
    created_by = {"prefect-automation-id": str(uuid.uuid4()), "prefect-automation-name": b64encode(b"on new data")}

    @flow
    def one():
        return sm.train("fit", command="true")

    with get_client(sync_client=True, httpx_settings={"headers": created_by}) as client:
        deployment = client.create_deployment(client.create_flow(one), name="nightly")
        flow_run = client.create_flow_run_from_deployment(deployment)
    tags = tags_of(backend, run_flow(one, flow_run=flow_run))

    assert tags[f"{OURS}flow-run"] == str(flow_run.id)
    assert tags[f"{OURS}deployment"] == str(deployment)
    assert tags[f"{OURS}deployment-name"] == "nightly"
    assert tags[f"{OURS}user"] == "on new data"


# -- secrets -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kept(backend):
    """A parameter and a secret with random values, and the references to them."""
    token, password, name = uuid.uuid4().hex, f"pw/{uuid.uuid4().hex}", uuid.uuid4().hex[:8]
    backend.client("ssm").put_parameter(Name=f"/{name}/token", Value=token, Type="SecureString")
    secret = json.dumps({"user": "me", "password": password})
    arn = backend.client("secretsmanager").create_secret(Name=f"{name}/db", SecretString=secret)["ARN"]
    references = {"TOKEN": f"ssm:/{name}/token", "PASSWORD": f"secretsmanager:{name}/db#password", "WHOLE": arn}
    return SimpleNamespace(references=references, values=(token, password), name=name)


def found_in(root, texts):
    """Return the files below a directory that contain one of some texts, relative to it."""
    found = []
    for path in (Path(folder, name) for folder, _, names in os.walk(root) for name in names):
        with suppress(FileNotFoundError):  # the directory of a running server: a deleted file contains nothing
            content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
            if any(text.encode() in content for text in texts):
                found.append(path.relative_to(root).as_posix())
    return found


def told_by_prefect(flow_run, tasks):
    """Return all that Prefect's API has of a flow run with this many tasks: logs, artifacts, states, parameters."""
    APILogWorker.drain_all()
    with get_client(sync_client=True) as client:
        logs = client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run])), limit=200)
        artifacts = client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run]))
        )
        runs = [client.read_flow_run(flow_run), *last_task_runs(client, of_flows=[flow_run], count=tasks)]
        states = client.read_flow_run_states(flow_run)
    assert logs
    assert artifacts
    return "\n".join(each.model_dump_json() for each in (*logs, *artifacts, *runs, *states))


USES_AND_PRINTS = (
    "import os\n"
    "for name, length in (('TOKEN', 32), ('PASSWORD', 35)):\n"
    "    print(name, len(os.environ[name]) == length, os.environ[name])\n"
)
FAILS = USES_AND_PRINTS + "def login(password):\n    raise RuntimeError('no login with ' + password)\n"


FUNCTION = """
import os

from tasks_lib import sagemaker_task

@sagemaker_task
def lengths() -> list[int]:
    print(os.environ["TOKEN"], os.environ["PASSWORD"])
    return [len(os.environ["TOKEN"]), len(os.environ["PASSWORD"])]
"""


def lengths_task(folder):
    """Return a function task in its own module: the test's module has neighbours that do not travel."""
    (folder / "of_secrets.py").write_text(FUNCTION)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        return importlib.import_module("of_secrets").lengths


@pytest.fixture(scope="module")
def used(make_project, backend, kept, tmp_path_factory):
    """What is left of a flow run in which jobs of all kinds used the secrets, printed them, and failed with them."""
    project, folder = make_project(), tmp_path_factory.mktemp("secrets") / "code"
    folder.mkdir()
    (folder / "use.py").write_text(USES_AND_PRINTS)
    (folder / "fail.py").write_text(f"{FAILS}login(os.environ['PASSWORD'])\n")
    marker = uuid.uuid4().hex
    sm = sagemaker_tasks(project, secrets=kept.references, environment={"MARKER": marker})
    function = lengths_task(folder.parent).on(sm)

    @flow
    def uses():
        results = [
            sm.train("train", entry_point="use.py", source_dir=folder),
            sm.process("process", code="use.py", source_dir=folder),
            sm.shell("shell", 'set -x; test ${#TOKEN} = 32; echo "$TOKEN $PASSWORD $WHOLE $MARKER"'),
        ]
        assert function() == [32, 35]
        errors = []
        for call, script in ((sm.train, {"entry_point": "fail.py"}), (sm.process, {"code": "fail.py"})):
            with pytest.raises(JobFailed) as caught:
                call(f"failing-{call.name}", source_dir=folder, **script)
            errors.append(caught.value)
        return SimpleNamespace(results=results, errors=errors, flow_run=FlowRunContext.get().flow_run.id)

    left = uses()
    return SimpleNamespace(**vars(left), project=project, marker=marker)


def test_the_code_has_the_secrets(used):
    """The code in training, processing, a shell command and a function has the values; printed values are masked."""
    train, process, shell = ([line.text for line in result.logs()] for result in used.results)

    assert train[-2:] == process[-2:] == ["TOKEN True ****", "PASSWORD True ****"]
    assert f"**** **** **** {used.marker}" in shell


@pytest.mark.always
def test_descriptions_hold_references_alone(used, backend, kept):
    """Describe returns the references and no value, for jobs that completed and for jobs that failed."""
    client = backend.client("sagemaker")
    described = []
    for result in (*used.results, *used.errors):
        kind = "training" if ":training-job/" in result.arn else "processing"
        call = getattr(client, f"describe_{kind}_job")
        described.append(json.dumps(call(**{f"{kind.title()}JobName": result.job}), default=str))

    assert len(described) == 5
    for text in described:
        assert kept.references["TOKEN"] in text
        assert not any(value in text for value in kept.values)


def test_failures_are_reported_without_secrets(used, kept):
    """The reason and the error itself have `****` in place of the password."""
    for error in used.errors:
        assert "RuntimeError: no login with ****" in error.reason
        assert not any(value in str(error) for value in kept.values)


@pytest.mark.always
def test_nothing_in_prefect(used, kept):
    """Neither the logs, artifacts, states and parameters in Prefect's API nor a file of Prefect's home has a value."""
    told = told_by_prefect(used.flow_run, tasks=6)

    assert "no login with ****" in told
    assert not any(value in told for value in kept.values)
    assert found_in(HOME, kept.values) == []


def test_nothing_in_the_bucket(used, backend, kept):
    """No object of the project has a value; the ledger has the references."""
    client, project = backend.client("s3"), used.project
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=project.bucket, Prefix=project.key_prefix)
    keys = [row["Key"] for page in pages for row in page["Contents"]]
    content = {key: client.get_object(Bucket=project.bucket, Key=key)["Body"].read() for key in keys}
    ledgers = [body for key, body in content.items() if "/_ledger/" in key]

    assert any(kept.references["TOKEN"].encode() in body for body in ledgers)
    assert [key for key, body in content.items() if any(value.encode() in body for value in kept.values)] == []


def test_nothing_in_the_home_of_the_backend(used, backend, kept):
    """In the backend's logs, database, job folders and objects, only the store of the secrets has their values."""
    places = {name.partition("/")[0] for name in found_in(backend.home, [used.marker])}

    assert "logs" in places  # text that is not secret is found, so the search works
    assert found_in(backend.home, kept.values) == ["moto.jsonl"]


def test_nothing_on_the_disk_while_it_runs(sm, backend, kept, tmp_path):
    """While the code has the values in its environment, no file of the backend has them except the store."""
    gate, marker = Gate(tmp_path / "gate"), uuid.uuid4().hex
    started = f"echo $TOKEN > /dev/null; touch {tmp_path}/started; {gate.wait}"
    given = {"secrets": kept.references, "environment": {"MARKER": marker}}
    with in_background(lambda: sm.train("held", command=started, **given)) as running:
        try:
            wait_until((tmp_path / "started").exists, "the command")
            places = found_in(backend.home, [marker])

            assert any(name.startswith("jobs/") for name in places)
            assert found_in(backend.home, kept.values) == ["moto.jsonl"]
        finally:
            gate.open()
        running.result()


def test_a_rotated_secret_makes_nothing_run_again(sm, backend):
    """A rotated secret makes no job run again; a secret kept in another place does."""
    store, name = backend.client("ssm"), f"/{uuid.uuid4().hex}"
    for value in ("the first value", "the second value"):
        store.put_parameter(Name=name, Value=value, Type="SecureString", Overwrite=True)
        result = sm.train("fit", command='test -n "$A"', secrets={"A": f"ssm:{name}"})
    moved = sm.train("fit", command='test -n "$A"', secrets={"A": f"ssm:{name}:1"})

    assert result.cached
    assert moved.reason == f'ran: secret "A" is kept elsewhere (ssm:{name} -> ssm:{name}:1)'


def test_a_secret_that_is_missing(sm):
    """If a secret is missing, the job fails before its code starts, and the reason names the reference."""
    with pytest.raises(JobFailed) as caught:
        sm.train("fit", command="echo started", secrets={"A": "ssm:/not/there"})

    assert "The secret A (ssm:/not/there) does not exist in us-east-1" in caught.value.reason
    assert not [line for line in caught.value.last_lines if "started" in line]


@pytest.mark.parametrize("isolated", ["project", "overrides"])
def test_no_secrets_in_isolation(make_project, backend, isolated):
    """A job with secrets and network isolation is refused before any request."""
    project = make_project(network_isolation=isolated == "project")
    overrides = {"EnableNetworkIsolation": True} if isolated == "overrides" else {}
    with counting(backend) as made, pytest.raises(InvalidTask, match="network isolation"):
        sagemaker_tasks(project).train("fit", command="true", secrets={"A": "ssm:/x"}, overrides=overrides)

    assert made == {}
    assert jobs_of(backend, project, "fit") == []


@pytest.mark.exhaustive
def test_the_local_secrets_manager_remembers(own_backend):
    """A secret and its ARN survive the kill of the local SageMaker's server."""
    own_backend.up()
    arn = own_backend.client("secretsmanager").create_secret(Name="team/db", SecretString="kept")["ARN"]
    own_backend.kill()
    own_backend.up()

    assert own_backend.client("secretsmanager").get_secret_value(SecretId=arn)["SecretString"] == "kept"
