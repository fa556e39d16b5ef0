"""A third kind of job needs no change of code: every feature works with its row in the table of kinds."""

from __future__ import annotations

import json
import threading
from contextlib import ExitStack

import pytest
from aws_doubles import BUCKET, FIRST, SageMakerDouble
from made_up_kind import NOUN, REHEARSAL, WORDS

from tasks_lib.aws.console_links import console_url, log_url
from tasks_lib.aws.events import StateChange, read_event
from tasks_lib.aws.jobs import Jobs
from tasks_lib.aws.policies import caller_policy
from tasks_lib.aws.rate_limit import TokenBucket
from tasks_lib.aws.watch import MAX_DESCRIBED, Watcher
from tasks_lib.backend import Backend
from tasks_lib.dry_run.dry_run import DryRun
from tasks_lib.error_categories import ErrorCategory
from tasks_lib.errors import JobFailed, JobStopped
from tasks_lib.jobs.channels import output_of, output_place
from tasks_lib.jobs.job import Job
from tasks_lib.jobs.kind import Phase
from tasks_lib.jobs.kinds import KINDS
from tasks_lib.jobs.naming import is_job_of, job_name
from tasks_lib.jobs.s3_layout import Location
from tasks_lib.jobs.spec import JobSpec
from tasks_lib.options import RunOptions
from tasks_lib.orphans.policy import Rules
from tasks_lib.orphans.reaper import Reaper
from tasks_lib.prefect_runtime.run_context import RunCancelled, RunContext
from tasks_lib.quotas.quota import hosts_by_quota
from tasks_lib.reports.summary import Pages
from tasks_lib.run.execution import Execution
from tasks_lib.run.prepare import Call

LONG = 60
TASK = "a-play-with-a-long-name"


@pytest.fixture(autouse=True)
def _third_kind(monkeypatch):
    monkeypatch.setitem(KINDS, REHEARSAL.name, REHEARSAL)


@pytest.fixture
def sagemaker():
    """A SageMaker double with the status words of the third kind, whose jobs run until a test ends them."""
    return SageMakerDouble(words={NOUN: WORDS}, shown=("TrainingJobDefinition",))


@pytest.fixture
def project(project, tmp_path):
    """A project that does not wait for its log to settle."""
    project.is_local, project.local_home = True, tmp_path / "home"
    return project


@pytest.fixture
def call(project):
    """Make a call of a task of the third kind."""

    def make(*, options=None, flow_run="flow-1", **run):
        spec = JobSpec(
            kind=REHEARSAL, task=TASK, image="stage:1", instance_types=("ml.m5.large",), instance_count=2,
            volume_size_gb=30, max_runtime_seconds=60, state="none",
        )  # fmt: skip
        context = RunContext(flow_run=flow_run, **run)
        return Execution(Call(spec, None, {}, options or RunOptions()), Backend(project), context)

    return make


@pytest.fixture
def ends(sagemaker, project):
    """Make jobs complete as soon as they are created, with an output."""

    def end(sagemaker, kind, job, status="Completed", **more):
        name = job[f"{kind}JobName"]
        project.client("s3").put_object(Bucket=BUCKET, Key=f"demo/{TASK}/{name}/output/best/play.txt", Body=b"x")
        sagemaker.end(name, status, kind=kind, CurtainTime=job["CreationTime"], Rehearsed=7.0, **more)

    sagemaker.at_create = end
    return end


def in_thread(work):
    """Run a function in a thread; the returned `join` returns its result or raises its error."""
    found: list = []

    def run():
        try:
            found.append((work(), None))
        except BaseException as error:  # noqa: BLE001 - passed to the test
            found.append((None, error))

    thread = threading.Thread(target=run)
    thread.start()

    def join():
        thread.join(LONG)
        ((value, error),) = found
        if error:
            raise error
        return value

    return join


def test_skip(call, ends, sagemaker, project):
    """1. The job runs. 2. The work is skipped without a call of SageMaker. 3. Its outputs can be inputs."""
    first = call().result()
    asked = len(sagemaker.calls)
    second = call().result()
    assert len(sagemaker.calls) == asked

    assert (first.cached, second.cached) == (False, True)
    assert Jobs(project).newest_of(TASK, "demo").name == first.job
    assert (second.job, second.kind, second.status) == (first.job, "rehearsal", "Completed")
    assert output_place("x", output_of(first), REHEARSAL, first.outputs) == ("output", f"{first.outputs['output']}")
    assert first.outputs == {"output": f"s3://{BUCKET}/demo/{TASK}/{first.job}/output/best/"}


def test_names_are_short(call, ends):
    """A name of at most 32 characters has the hash and the attempt, and is recognized as one of the task."""
    name = call().result().job

    assert len(name) <= 32
    assert is_job_of(name, TASK, limit=32)
    assert name == job_name(TASK, f"s3://{BUCKET}/demo/{TASK}/", call().step.fingerprint, 1, limit=32)
    assert not is_job_of(f"{name}-001-0a1b2c3d", TASK, limit=32)  # a child job


def test_attach(call, ends, sagemaker, project):
    """1. A job runs. 2. Another run attaches to it. 3. It ends: one job, two results."""
    sagemaker.at_create = None
    first = in_thread(call().result)
    sagemaker.wait_for("create", 1)
    ((_, name),) = sagemaker.jobs
    assert Jobs(project).describe(REHEARSAL, name).phase is Phase.IN_PROGRESS
    second = in_thread(call(flow_run="flow-2").result)
    sagemaker.wait_for("describe", 4)
    ends(sagemaker, NOUN, sagemaker.jobs[NOUN, name])

    assert {first().job, second().job} == {name}
    assert sagemaker.count("create") == 1


def test_cancel(call, sagemaker):
    """Cancelling a run stops its job, and leaves the child jobs to SageMaker."""
    cancelled = threading.Event()
    waiting = in_thread(call(cancelled=cancelled.is_set).result)
    sagemaker.wait_for("create", 1)
    ((_, name),) = sagemaker.jobs
    sagemaker.add(f"{name}-001-0a1b2c3d")
    cancelled.set()
    with pytest.raises(RunCancelled):
        waiting()

    assert sagemaker.jobs[NOUN, name]["HyperParameterTuningJobStatus"] == "Leaving"
    assert sagemaker.jobs["Training", f"{name}-001-0a1b2c3d"]["TrainingJobStatus"] == "InProgress"


def test_crash(call, ends, sagemaker, objects):
    """1. A job completes. 2. Its record was never written. 3. The next call finds the job by its name."""
    first = call().result()
    objects.empty(Location(BUCKET, f"demo/{TASK}/_ledger/"))
    again = call(flow_run="flow-2").result()

    assert (again.job, again.cached) == (first.job, False)
    assert sagemaker.count("create") == 1
    assert call().result().cached


@pytest.mark.parametrize(
    "told",
    [("Failed", JobFailed, ErrorCategory.USER_ERROR), ("Stopped", JobStopped, ErrorCategory.STOPPED)],
    ids=lambda told: told[0],
)
def test_failure(call, ends, sagemaker, told):
    """The kind's words for failed and stopped have the usual effect, and the next call makes a new attempt."""
    status, error, category = told
    sagemaker.at_create = lambda *job: ends(*job, status, FailureReason="AlgorithmError: no audience, exit code: 1")
    with pytest.raises(error, match="no audience") as caught:
        call().result()
    sagemaker.at_create = ends
    again = call().result()

    assert caught.value.category is category
    assert caught.value.result.status == status
    assert again.job == f"{caught.value.job[:-1]}2"


def test_record_and_summary(call, ends, project, ledger_of):
    """The record has the kind's name, and the result has times, phases and costs by the kind's rules."""
    project.hourly_prices = {"ml.m5.large": 3600.0}
    result = call().result()
    record = json.loads(ledger_of(TASK, call().step.fingerprint))["record"]
    page = Pages(project).summary(result)

    assert record["kind"] == "rehearsal"
    assert (result.instance_type, result.instance_count, result.phases) == ("ml.m5.large", 2, {"rehearsing": 7.0})
    assert result.cost == 14.0  # two hosts for the duration of the code
    assert "rehearsal" in page
    assert "about 7 s of each instance" in page


@pytest.fixture
def ledger_of(project):
    """A function that reads the ledger's entry of some work."""
    return lambda task, work: (
        project.client("s3").get_object(Bucket=BUCKET, Key=f"demo/{task}/_ledger/{work}.json")["Body"].read()
    )


def test_reaper(call, sagemaker, project):
    """An orphan of this kind is stopped, and its child jobs are not."""
    sagemaker.at_create = None
    work = call().step.fingerprint
    name = job_name(TASK, f"s3://{BUCKET}/demo/{TASK}/", work, 1, limit=32)
    told = {"SSM_PROJECT": "demo", "SSM_TASK": TASK, "SSM_FINGERPRINT": work}
    sagemaker.add(name, kind=NOUN, TrainingJobDefinition={"Environment": told})
    sagemaker.add(f"{name}-001-0a1b2c3d", Environment=told)
    quick = TokenBucket(rate=1000, burst=1000)
    harvest = Reaper(project, lambda _: "unknown", Rules(), listings=quick, clock=lambda: FIRST + 86_400).reap(
        dry_run=False
    )

    assert {row.job: row.action for row in harvest.rows} == {name: "stopped"}


def test_many_are_watched(sagemaker, project):
    """Many jobs of this kind are listed with others, and their ends are seen."""
    watcher = Watcher(project)
    jobs = [Job(REHEARSAL, f"play-{number}", "arn", "Rehearsing", created=FIRST) for number in range(MAX_DESCRIBED + 2)]
    for job in jobs:
        sagemaker.add(job.name, kind=NOUN)
    with ExitStack() as stack:
        watched = [stack.enter_context(watcher.watching(job)) for job in jobs]
        sagemaker.wait_for("list", 1)
        for job in jobs:
            sagemaker.end(job.name, kind=NOUN)

        assert all(one.wait(LONG) for one in watched)
        assert {one.job.status for one in watched} == {"Performed"}


def test_a_new_job_is_running(sagemaker, project):
    """A created job has the kind's own word for a running job, because the response of Create has no status."""
    made = Jobs(project).create(REHEARSAL, {"HyperParameterTuningJobName": "play"})

    assert (made.status, made.phase) == ("Rehearsing", Phase.IN_PROGRESS)


def test_plan(call, sagemaker, project):
    """A dry run shows the maximum cost: two hosts for the maximum run time, at the project's price."""
    project.hourly_prices = {"ml.m5.large": 3600.0}
    step, result = DryRun(call().call, Backend(project), RunContext()).plan_call({})

    assert (step.action, step.at_most, step.job) == ("run", 120.0, result.job)
    assert sagemaker.count("create") == 0


def test_events_policies_links_and_quotas(block):
    """Events, policies, console links and quotas also have the kind."""
    told = {"HyperParameterTuningJobName": "play", "HyperParameterTuningJobStatus": "Performed"}
    change = read_event(json.dumps({"detail-type": REHEARSAL.event_type, "detail": told}))
    allowed = json.dumps(caller_policy(block))
    cluster = {"InstanceType": "ml.m5.large", "InstanceCount": 2}

    assert change == StateChange(REHEARSAL, "play", "Performed")
    assert change.is_end
    for verb in ("Create", "Describe", "Stop", "List"):
        assert f'"sagemaker:{REHEARSAL.api.operation(verb)}"' in allowed
    assert ":hyper-parameter-tuning-job/*" in allowed
    assert console_url(block, REHEARSAL, "play").endswith("#/hyper-tuning-jobs/play")
    assert "TrainingJobs" in log_url(block, REHEARSAL, "play")
    assert hosts_by_quota(REHEARSAL, {"TrainingJobDefinition": {"ResourceConfig": cluster}}) == {
        "ml.m5.large for rehearsal job usage": 2
    }
