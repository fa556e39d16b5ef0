"""Calls of a task from end to end, with a SageMaker double and moto's S3, including races."""

import json
import threading

import pytest
from aws_doubles import BUCKET, FIRST, client_error, make_block
from botocore.exceptions import ConnectionClosedError, NoCredentialsError

from tasks_lib import Channel, SageMakerTasks, output_of
from tasks_lib.backend import Backend
from tasks_lib.error_categories import ErrorCategory
from tasks_lib.errors import (
    AccessDenied,
    DuplicateTask,
    InputNotReady,
    InputsChanged,
    InvalidRequest,
    InvalidTask,
    JobFailed,
    JobStopped,
    PrefectSageMakerError,
    QuotaExceeded,
    ServiceError,
    ServiceFault,
    StateBusy,
)
from tasks_lib.jobs.channels import as_channels
from tasks_lib.jobs.kinds import PROCESSING, TRAINING
from tasks_lib.jobs.s3_layout import Location
from tasks_lib.jobs.spec import JobSpec
from tasks_lib.ledger.heartbeats import Heartbeat
from tasks_lib.ledger.state_directory import Holder, document
from tasks_lib.options import RunOptions
from tasks_lib.prefect_runtime.run_context import RunCancelled, RunContext
from tasks_lib.run.decision import Action
from tasks_lib.run.execution import Execution
from tasks_lib.run.prepare import Call

LONG = 60


def spec(**changed):
    given = {
        "kind": TRAINING, "task": "fit", "image": "image:1", "instance_types": ("ml.m5.large",), "instance_count": 1,
        "volume_size_gb": 30, "max_runtime_seconds": 60,
    }  # fmt: skip
    return JobSpec(**(given | changed))


@pytest.fixture
def project(project, sagemaker, tmp_path):
    """A project whose jobs leave a model and complete as soon as they are created."""
    project.is_local = True  # a local project does not wait for its log to settle
    project.local_home = tmp_path / "home"  # gives the project its own watcher

    def ends(sagemaker, kind, job):
        name = job[f"{kind}JobName"]
        key = f"demo/{job['Environment']['SSM_TASK']}/{name}/output/model.tar.gz"
        project.client("s3").put_object(Bucket=BUCKET, Key=key, Body=name.encode())
        sagemaker.end(name, kind=kind)

    sagemaker.at_create = ends
    return project


@pytest.fixture
def call(project):
    """Make a call of a task; for these tests each call acts like a separate process."""

    def make(the_spec=None, *, inputs=None, options=None, **run):
        asked = Call(the_spec or spec(), None, as_channels(inputs), options or RunOptions())
        return Execution(asked, Backend(project), RunContext(**run))

    return make


def put(project, key, body=b"x"):
    project.client("s3").put_object(Bucket=BUCKET, Key=key, Body=body)


def created(sagemaker):
    return sagemaker.count("create")


# -- skip ----------------------------------------------------------------------------------------------------------


def test_the_second_call_skips(call, sagemaker, project):
    """1. A job runs. 2. The same work is skipped with one GET, one LIST and no call of SageMaker."""
    first = call().result()
    asked, requests = len(sagemaker.calls), []
    events = project.client("s3").meta.events
    events.register("before-call.s3", lambda model, **_: requests.append(model.name), unique_id="count")
    second = call().result()
    events.unregister("before-call.s3", unique_id="count")

    assert (first.cached, first.reason) == (False, "ran: first run")
    assert (second.cached, second.reason) == (True, "skipped: nothing changed")
    assert (second.job, second.outputs) == (first.job, first.outputs)
    assert len(sagemaker.calls) == asked
    assert requests == ["GetObject", "ListObjectsV2"]


@pytest.mark.parametrize("change", ["deleted", "overwritten"])
def test_outputs_that_are_gone_are_made_again(call, sagemaker, objects, change):
    """If an output of the record is deleted or overwritten, the work runs again."""
    first = call().result()
    place = Location.parse(first.outputs["model"])
    objects.delete(place) if change == "deleted" else objects.put(place, b"other")
    again = call().result()

    assert (again.cached, again.reason) == (False, "ran: its outputs were changed or deleted")
    assert again.job != first.job
    assert created(sagemaker) == 2


def test_a_state_that_others_changed_is_no_result(call, project, sagemaker):
    """If other work changed the state that a job left, the work runs again."""
    put(project, "demo/fit/state/x", b"1")
    call().result()
    assert call().result().cached
    put(project, "demo/fit/state/x", b"2")

    assert call().result().reason == "ran: its state was changed by other work"
    assert created(sagemaker) == 2


def test_other_metrics_are_no_reason_to_run(call, logs, sagemaker):
    """Other metrics do not cause a run: they are read from the log of the existing job."""
    first = call().result()
    logs.write(f"{first.job}/algo-1-1", "auc=0.5", "loss=2")
    again = call(spec(metrics={"auc": "auc=([0-9.]+)"})).result()

    assert again.cached
    assert again.metrics == {"auc": 0.5}
    assert created(sagemaker) == 1


def test_metrics_of_a_log_that_could_not_be_read_are_read_by_the_next_skip(call, logs):
    """If the log could not be read, no metrics are recorded, so the next skip reads them."""
    wanted = spec(metrics={"auc": "auc=(.*)"})
    logs.faults = [client_error("AccessDeniedException") for _ in range(100)]
    first = call(wanted).result()
    logs.faults.clear()
    logs.write(f"{first.job}/algo-1-1", "auc=0.5")
    again = call(wanted).result()

    assert (first.cached, first.metrics) == (False, {})
    assert (again.cached, again.metrics) == (True, {"auc": 0.5})


def test_by_name_alone(call, sagemaker):
    """With `if_incomplete` any completed job of the task's name is a result."""
    call().result()

    assert call(spec(image="image:2"), options=RunOptions(rerun="if_incomplete")).result().cached
    assert call(spec(task="other"), options=RunOptions(rerun="if_incomplete")).result().cached is False
    assert created(sagemaker) == 2


# -- exactly once --------------------------------------------------------------------------------------------------


def test_a_crash_between_create_and_record_loses_nothing(call, sagemaker, objects):
    """1. A job completes. 2. Its record was never written. 3. The next call finds the job by its name."""
    first = call().result()
    objects.empty(Location(BUCKET, "demo/fit/_ledger/"))
    again = call().result()

    assert (again.job, again.cached) == (first.job, False)
    assert created(sagemaker) == 1
    assert call().result().cached


def test_a_lost_answer_is_no_failure(call, sagemaker):
    """If the connection breaks after the job was created, the job is found and not created again."""
    make = sagemaker.create_training_job

    def create_and_lose(**request):
        make(**request)
        raise ConnectionClosedError(endpoint_url="https://x")

    sagemaker.create_training_job = create_and_lose

    assert call().result().cached is False
    assert created(sagemaker) == 1


def test_a_create_that_fails_for_ever_keeps_the_state(call, sagemaker):
    """SageMaker may have created the job although every response was lost, so the lease is kept from other work."""
    sagemaker.fail("create", *(ConnectionClosedError(endpoint_url="https://x") for _ in range(20)))
    with pytest.raises(ServiceFault):
        call().result()
    sagemaker.faults.clear()

    with pytest.raises(StateBusy):
        call(spec(hyperparameters={"C": 2}), options=RunOptions(on_busy="fail")).result()
    assert call().result().cached is False  # the same work continues


@pytest.mark.parametrize("looks", [0, 2])
def test_a_create_that_a_signal_cut_off_is_looked_for(call, sagemaker, looks):
    """After Ctrl-C during the create request, the job is stopped, even if SageMaker shows it only a moment later."""
    make, describe, left = sagemaker.create_training_job, sagemaker.describe_training_job, [looks]
    sagemaker.at_create = None
    late = []

    def cut_off(**request):
        late.append(request)
        raise KeyboardInterrupt

    def describe_late(**request):
        if late and left[0]:
            left[0] -= 1
        elif late:
            make(**late.pop())
        return describe(**request)

    sagemaker.create_training_job, sagemaker.describe_training_job = cut_off, describe_late
    with pytest.raises(KeyboardInterrupt):
        call().result()

    assert sagemaker.count("stop") == 1


NEVER_ENOUGH = (
    "The account-level service limit 'ml.p3.2xlarge for training job usage' is 0 Instances, with current utilization "
    "of 0 Instances and a request delta of 1 Instances."
)


@pytest.mark.parametrize(
    ("code", "kind"), [("ResourceLimitExceeded", QuotaExceeded), ("AccessDeniedException", AccessDenied)]
)
def test_a_create_that_failed_is_raised(call, sagemaker, code, kind):
    """If no job has the name, AWS's error is raised.

    After an authorisation error the name is not even looked up.
    """
    sagemaker.fail("create", client_error(code, NEVER_ENOUGH))

    with pytest.raises(kind, match="service limit"):
        call().result()

    verbs = [verb for verb, _ in sagemaker.calls]
    assert verbs == ["describe", "create"] + ["describe"] * (kind is QuotaExceeded)
    assert call().result().cached is False


@pytest.mark.parametrize("refusal", ["by SageMaker", "by IAM"])
def test_a_refused_job_holds_no_state(call, sagemaker, project, refusal):
    """1. SageMaker or IAM refuses the job. 2. Other work of the task starts at once, and not 15 minutes later."""
    if refusal == "by IAM":
        project.role = "a-role-that-is-not-there"
    sagemaker.fail("create", client_error("ResourceLimitExceeded", NEVER_ENOUGH))
    with pytest.raises(PrefectSageMakerError):
        call().result()
    project.role = "arn:aws:iam::123456789012:role/jobs"
    sagemaker.faults.clear()

    assert call(spec(hyperparameters={"C": 2}), options=RunOptions(on_busy="fail")).result().cached is False


@pytest.mark.parametrize(("status", "kind", "reason"), [
    ("Failed", JobFailed, "ran: the previous attempt failed"),
    ("Stopped", JobStopped, "ran: the previous attempt was stopped"),
])  # fmt: skip
def test_a_job_that_did_not_complete(call, sagemaker, status, kind, reason):
    """1. The call that watched the job raises, and creates no job. 2. The next call makes a new attempt."""
    completes = sagemaker.at_create
    sagemaker.at_create = lambda sagemaker, of, job: sagemaker.end(job[f"{of}JobName"], status, FailureReason="boom")
    with pytest.raises(kind, match="boom") as caught:
        call().result()
    assert created(sagemaker) == 1
    sagemaker.at_create = completes
    again = call().result()

    assert again.reason == reason
    assert again.job != caught.value.job
    assert created(sagemaker) == 2


def test_why_it_ran_where_another_run_is_the_first_to_record_it(call, sagemaker):
    """1. A job is created, and the response is late. 2. Another run attaches to it and records it.

    3. The first run still reports why the job was created.
    """
    completes, others = sagemaker.at_create, []

    def meanwhile(sagemaker, kind, job):
        sagemaker.at_create = None
        completes(sagemaker, kind, job)
        others.append(call().result())

    sagemaker.at_create = meanwhile
    ours = call().result()

    assert ours.reason == "ran: first run"
    assert others[0].job == ours.job
    assert created(sagemaker) == 1


# -- retries by error category -------------------------------------------------------------------------------------


PASSING = {
    "throttled": client_error("ThrottlingException", "Rate exceeded"),
    "a fault": client_error("InternalServerException", "Please try again"),
    "a lost connection": ConnectionClosedError(endpoint_url="https://x"),
    "expired": client_error("ExpiredTokenException", "The security token is expired"),
    "quota used up": client_error("ResourceLimitExceeded", NEVER_ENOUGH.replace("is 0 In", "is 2 In")),
    "no capacity": client_error("CapacityError", "no capacity"),
}


@pytest.mark.parametrize("verb", ["describe", "create"])
@pytest.mark.parametrize("passing", PASSING)
def test_a_transient_error_is_retried(call, sagemaker, project, passing, verb):
    """A transient error is retried and costs no attempt, and the job counts as created by this run.

    Expired credentials cause new clients.
    """
    sagemaker.fail(verb, *(2 * [PASSING[passing]]))
    wanted = call(task_run="me")
    result = wanted.result()

    assert result.reason == "ran: first run"
    assert result.job == wanted.step.job_name(1)
    assert len(sagemaker.jobs) == 1
    assert (project.forgotten > 0) == (passing == "expired")


@pytest.mark.parametrize(("passing", "tries"), [("a fault", 9), ("expired", 4)])
def test_a_lasting_error_is_raised(call, sagemaker, passing, tries):
    """A transient error that persists is raised after a limited number of tries."""
    sagemaker.fail("describe", *(50 * [PASSING[passing]]))

    with pytest.raises(ServiceError):
        call().result()
    assert sagemaker.count("describe") == tries


def test_a_queue_for_a_quota_holds_no_state(call, sagemaker, project, ledger):
    """While the account's quota is used up the call holds no lease, so that other work may run first."""
    sagemaker.fail("create", *(3 * [PASSING["quota used up"]]))
    seen = []
    wanted = call()
    wanted.retries.wait = lambda *_: seen.append(wanted.lookup.state._lease.holder())
    wanted.result()

    assert seen == [None, None, None]


def ends_of(sagemaker, *ends):
    """Make the next jobs end like this: (status, reason), and later jobs complete."""
    completes, waiting = sagemaker.at_create, list(ends)

    def end(sagemaker, kind, job):
        if not waiting:
            return completes(sagemaker, kind, job)
        status, reason = waiting.pop(0)
        return sagemaker.end(job[f"{kind}JobName"], status, kind=kind, FailureReason=reason)

    sagemaker.at_create = end


NO_CAPACITY = ("Failed", "CapacityError: Unable to provision requested ML compute capacity.")


def test_capacity_choices_are_tried_in_order(call, sagemaker, ledger):
    """Without capacity a call tries spot with each type, then on-demand with all types, then the first choice again.

    All choices are attempts at one piece of work.
    """
    ends_of(sagemaker, NO_CAPACITY, NO_CAPACITY, NO_CAPACITY)
    types = ("ml.g5.xlarge", "ml.g4dn.xlarge")
    wanted = call(spec(instance_types=types, spot=True, on_demand_after_spot=True))
    result = wanted.result()
    requests = [job["request"] for job in sagemaker.jobs.values()]
    asked = [
        (
            request.get("EnableManagedSpotTraining", False),
            request["ResourceConfig"].get("InstanceType")
            or [one["InstanceType"] for one in request["ResourceConfig"]["InstancePreferences"]],
        )
        for request in requests
    ]

    assert asked == [(True, types[0]), (True, types[1]), (False, list(types)), (True, types[0])]
    assert [closed.because for closed in ledger.entry(result.fingerprint).closed] == 3 * ["capacity"]
    assert result.job == wanted.step.job_name(4)


def test_capacity_is_asked_for_in_time(call, sagemaker):
    """The search for capacity ends at the caller's time limit; the error suggests more instance types."""
    ends_of(sagemaker, *(9 * [NO_CAPACITY]))
    with pytest.raises(JobFailed) as caught:
        call(options=RunOptions(capacity_seconds=0)).result()

    assert caught.value.category is ErrorCategory.CAPACITY
    assert "instance_type=[" in caught.value.fix
    assert created(sagemaker) == 1


def test_a_fault_of_sagemakers_costs_two_more_jobs_at_most(call, sagemaker, ledger):
    """A job that failed by SageMaker's own fault is created at most twice more, because jobs cost money."""
    ends_of(sagemaker, *(9 * [("Failed", "InternalServerError: We encountered an internal error.")]))
    with pytest.raises(JobFailed, match="the fault is SageMaker's"):
        call().result()

    assert created(sagemaker) == 3


def test_a_users_error_is_never_tried_again(call, sagemaker):
    """A job that failed by the user's error is not retried."""
    ends_of(sagemaker, ("Failed", "AlgorithmError: , exit code: 1"))
    with pytest.raises(JobFailed) as caught:
        call().result()

    assert caught.value.category is ErrorCategory.USER_ERROR
    assert created(sagemaker) == 1


@pytest.mark.parametrize("announced", [True, False])
def test_a_job_that_others_stopped(call, sagemaker, objects, announced):
    """If another run stopped the job because it saw no heartbeat, the call makes a new attempt.

    If a user stopped it in the console, the call raises.
    """
    holding = sagemaker.at_create
    sagemaker.at_create = None
    wanted = call()
    waiting = in_thread(wanted.result)
    sagemaker.wait_for("describe", 2)
    name = wanted.step.job_name(1)
    if announced:
        Heartbeat(objects, wanted.lookup.folder, name, "another/0-run").announce_stop()
    sagemaker.at_create = holding
    sagemaker.end(name, "Stopped")

    if announced:
        assert waiting().job == wanted.step.job_name(2)
    else:
        with pytest.raises(JobStopped):
            waiting()


def test_a_lost_ledger_is_built_again(call, sagemaker, objects, ledger):
    """1.

    A forced run made a second attempt. 2. The ledger is lost. 3. The later attempt counts, and no job is created.
    """
    call().result()
    forced = call(options=RunOptions(rerun="always"), flow_run="flow-1").result()
    objects.empty(Location(BUCKET, "demo/fit/_ledger/"))
    again = call().result()

    assert again.job == forced.job
    assert created(sagemaker) == 2
    assert ledger.latest().job == forced.job
    assert call().result().cached


def test_a_clean_state_is_cleaned_once_in_a_flow_run(call, sagemaker, project):
    """1. The job fails and leaves a state. 2. The retry, in another process, continues from that state."""
    ends_of(sagemaker, ("Failed", "AlgorithmError: , exit code: 1"))
    with pytest.raises(JobFailed):
        call(options=RunOptions(clean_state=True), flow_run="flow-1").result()
    put(project, "demo/fit/state/checkpoint")
    call(options=RunOptions(clean_state=True), flow_run="flow-1").result()

    listed = project.client("s3").list_objects_v2(Bucket=BUCKET, Prefix="demo/fit/state/")
    assert [row["Key"] for row in listed["Contents"]] == ["demo/fit/state/checkpoint"]


def test_a_long_spot_run_without_checkpoints_warns(call, caplog, project):
    """A long spot job without checkpoints causes a warning, except in a local project, which has no interruptions."""
    call(spec(task="local", spot=True, state="none", max_runtime_seconds=7200)).result()
    project.is_local = False
    call(spec(spot=True, state="none", max_runtime_seconds=7200)).result()
    call(spec(task="short", spot=True, state="none", max_runtime_seconds=600)).result()

    warnings = [record.message for record in caplog.records if "no checkpoints" in record.message]
    assert len(warnings) == 1
    assert warnings[0].startswith("fit: ")
    assert "up to 2 h of work" in warnings[0]


def test_a_foreign_job_with_our_name(call, sagemaker):
    """A job of other work with the same name is not used: the next attempt has another name."""
    mine = call()
    name = mine.step.job_name(1)
    sagemaker.add(name, status="Completed", Environment={"SSM_FINGERPRINT": "0" * 64})
    result = mine.result()

    assert result.job != name
    assert result.reason == "ran: another job had taken its name"


def in_thread(work):
    """Run a function in a thread; the returned `join` returns its result or raises its error."""
    result = {}

    def run():
        try:
            result["value"] = work()
        except BaseException as error:  # noqa: BLE001 - passed to the test
            result["error"] = error

    thread = threading.Thread(target=run)
    thread.start()

    def join():
        thread.join(LONG)
        assert not thread.is_alive()
        if "error" in result:
            raise result["error"]
        return result["value"]

    return join


def test_a_running_job_is_attached_to(call, sagemaker, project):
    """Two concurrent calls share one job and have the same result."""
    ends, sagemaker.at_create = sagemaker.at_create, None
    first = in_thread(call().result)
    sagemaker.wait_for("create", 1)
    second = in_thread(call().result)
    sagemaker.wait_for("describe", 5)
    ((_, name),) = sagemaker.jobs
    ends(sagemaker, "Training", sagemaker.jobs["Training", name])

    assert first().job == second().job == name
    assert created(sagemaker) == 1


def test_a_forced_run_runs_once(call, sagemaker):
    """1. The work is completed. 2. A flow run forces it. 3. Its retry does not. 4. Another flow run does."""
    call().result()
    forced = call(options=RunOptions(rerun="always"), flow_run="flow-1").result()
    assert forced.reason == "ran: it was asked to run in any case"
    assert call(options=RunOptions(rerun="always"), flow_run="flow-1").result().job == forced.job
    assert call(refresh=True, flow_run="flow-2").result().job != forced.job
    assert created(sagemaker) == 3


@pytest.mark.parametrize("before", ["nothing", "failed"])
def test_a_forced_first_attempt_is_not_forced_again(call, sagemaker, before):
    """1.

    A forced run makes the first completed job. 2. A later step fails and the flow run is retried: no second job.
    """
    if before == "failed":
        completes = sagemaker.at_create
        sagemaker.at_create = lambda sagemaker, of, job: sagemaker.end(job[f"{of}JobName"], "Failed")
        with pytest.raises(JobFailed):
            call().result()
        sagemaker.at_create = completes
    forced = call(options=RunOptions(rerun="always"), flow_run="flow-1").result()
    retried = call(options=RunOptions(rerun="always"), flow_run="flow-1").result()

    assert retried.job == forced.job


# -- cancel --------------------------------------------------------------------------------------------------------


def test_a_cancelled_run_stops_its_job(call, sagemaker):
    """If a run is cancelled and no other run waits for its job, the job is stopped."""
    sagemaker.at_create = None
    cancelled = threading.Event()
    waiting = in_thread(call(flow_run="flow-1", cancelled=cancelled.is_set).result)
    sagemaker.wait_for("create", 1)
    cancelled.set()

    with pytest.raises(RunCancelled):
        waiting()
    assert sagemaker.count("stop") == 1


@pytest.mark.parametrize("trouble", [client_error("AccessDenied", "no"), NoCredentialsError()], ids=type)
def test_a_job_that_cannot_be_stopped_does_not_hide_the_cancellation(call, sagemaker, caplog, trouble):
    """The run ends as cancelled, and its log says that the job may be running, and how to stop it."""
    sagemaker.at_create = None
    cancelled = threading.Event()
    waiting = in_thread(call(flow_run="flow-1", cancelled=cancelled.is_set).result)
    sagemaker.wait_for("create", 1)
    sagemaker.fail("stop", *(20 * [trouble]))
    cancelled.set()

    with pytest.raises(RunCancelled):
        waiting()
    assert "could not be stopped, and may be running" in caplog.text


def mark_left_by(execution):
    """Return an event that is set once this call has written its heartbeat for a job."""
    marked, put = threading.Event(), execution.backend.objects.put

    def noting(place, *more):
        done = put(place, *more)
        if "/interest/" in place.key:
            marked.set()
        return done

    execution.backend.objects.put = noting
    return marked


def test_a_cancelled_run_leaves_the_job_to_others(call, sagemaker):
    """1. Two flow runs wait for one job. 2. One is cancelled, and the job goes on. 3. The other gets the result."""
    ends, sagemaker.at_create = sagemaker.at_create, None
    cancelled = threading.Event()
    first = in_thread(call(flow_run="flow-1", cancelled=cancelled.is_set).result)
    sagemaker.wait_for("create", 1)
    other = call(flow_run="flow-2")
    marked = mark_left_by(other)
    second = in_thread(other.result)
    assert marked.wait(LONG)
    cancelled.set()
    with pytest.raises(RunCancelled):
        first()
    assert sagemaker.count("stop") == 0
    ((_, name),) = sagemaker.jobs
    ends(sagemaker, "Training", sagemaker.jobs["Training", name])

    assert second().job == name


def test_the_last_of_two_cancelled_runs_stops_the_job(call, sagemaker):
    """If two runs that share a job are cancelled at once, at least one of them stops it."""
    sagemaker.at_create = None
    both_looked = threading.Barrier(2)
    runs = []
    for task_run in ("one", "two"):
        execution = call(flow_run="flow-1", task_run=task_run, cancelled=threading.Event().is_set)
        runs.append(execution)
    ages, marked = runs[0].backend.objects.ages, mark_left_by(runs[1])

    def slow(prefix):
        found = ages(prefix)
        if "/interest/" in prefix.key and not prefix.key.endswith("/left/"):
            both_looked.wait(LONG)
        return found

    cancelled = threading.Event()
    for execution in runs:
        execution.backend.objects.ages = slow
        execution.run = RunContext(flow_run="flow-1", task_run=execution.run.task_run, cancelled=cancelled.is_set)
    first = in_thread(runs[0].result)
    sagemaker.wait_for("create", 1)
    second = in_thread(runs[1].result)
    assert marked.wait(LONG)
    cancelled.set()
    for waiting in (first, second):
        with pytest.raises(RunCancelled):
            waiting()

    assert sagemaker.count("stop") >= 1


# -- inputs --------------------------------------------------------------------------------------------------------


def test_an_input_that_changes_while_the_job_reads_it(call, sagemaker, project):
    """1. Nothing is recorded. 2. The error names an object. 3. The next call reads the input again."""
    put(project, "foreign/data/a.csv")
    ends = sagemaker.at_create

    def changes(sagemaker, kind, job):
        put(project, "foreign/data/b.csv")
        ends(sagemaker, kind, job)

    sagemaker.at_create = changes
    inputs = {"data": f"s3://{BUCKET}/foreign/data"}
    with pytest.raises(InputsChanged, match=r"1 object\(s\), such as s3://a-bucket/foreign/data/b.csv"):
        call(inputs=inputs).result()
    sagemaker.at_create = ends

    assert call(inputs=inputs).result().cached is False
    assert call(inputs=inputs).result().cached is True


def test_a_prefix_is_not_the_beginning_of_another(call, sagemaker, project):
    """The prefix `data` does not match `data2`."""
    put(project, "foreign/data/a.csv")
    inputs = {"data": f"s3://{BUCKET}/foreign/data"}
    call(inputs=inputs).result()
    put(project, "foreign/data2/b.csv")

    assert call(inputs=inputs).result().cached is True
    ((_, job),) = sagemaker.jobs.items()
    source = job["request"]["InputDataConfig"][0]["DataSource"]["S3DataSource"]
    assert source["S3Uri"] == f"s3://{BUCKET}/foreign/data/"


def test_local_data_goes_where_its_content_says(call, sagemaker, tmp_path, objects):
    """Local data is uploaded under its digest, so that a later change cannot alter the input of a waiting job."""
    (tmp_path / "a.csv").write_text("1")
    call(inputs={"data": Channel(tmp_path)}).result()
    (tmp_path / "a.csv").write_text("2")
    second = call(inputs={"data": Channel(tmp_path)}).result()
    folders = {name.split("/")[1] for name, _ in objects.listing(Location(BUCKET, "demo/fit/input/"))}

    assert second.reason == 'ran: input "data" changed (1 of 1 object)'
    assert len(folders) == 2


def test_tasks_are_chained_by_result_and_by_name(call, sagemaker):
    """An input by result and one by task name mean the same job, so the second call is skipped."""
    fitted = call().result()
    by_result = call(spec(task="use"), inputs={"model": output_of(fitted, extract=True)}).result()
    by_name = call(spec(task="use"), inputs={"model": output_of("fit", "model", extract=True)}).result()

    assert by_name.cached
    assert by_name.job == by_result.job
    source = sagemaker.jobs["Training", by_result.job]["request"]["InputDataConfig"][0]["DataSource"]["S3DataSource"]
    assert source["S3Uri"] == fitted.outputs["model"]


@pytest.mark.parametrize(
    ("status", "words"), [(None, "it never ran"), ("InProgress", "is InProgress"), ("Failed", "is Failed")]
)
def test_an_input_task_that_is_not_completed(call, sagemaker, status, words):
    """The error for an input task that is not completed has its status, and no job is created."""
    if status:
        name = call(spec(task="prepare")).step.job_name(1)
        sagemaker.add(name, status=status, Environment={"SSM_TASK": "prepare", "SSM_PROJECT": "demo"})

    with pytest.raises(InputNotReady, match=words):
        call(inputs={"data": output_of("prepare")}).result()

    assert created(sagemaker) == 0


def test_an_input_task_whose_job_is_old(call, sagemaker):
    """The job of an input task is found even among a hundred newer jobs of others."""
    name = call(spec(task="prepare")).step.job_name(1)
    sagemaker.add(name, status="Failed", Environment={"SSM_TASK": "prepare", "SSM_PROJECT": "demo"})
    for number in range(100):
        sagemaker.add(f"other-{number}")
    with pytest.raises(InputNotReady) as caught:
        call(inputs={"data": output_of("prepare")}).result()

    assert "is Failed" in caught.value.message


# -- the state directory -------------------------------------------------------------------------------------------


def holds(project, ledger, holder):
    put(project, ledger.folder.lease.key, json.dumps(document(holder)).encode())


OTHERS = Holder("fit-other-1", "b" * 64, TRAINING)


def test_other_work_writes_the_state(call, sagemaker, project, ledger):
    """With `on_busy="fail"` the error names the job that writes the state, and no job is created."""
    sagemaker.add(OTHERS.job)
    holds(project, ledger, OTHERS)

    with pytest.raises(StateBusy, match=OTHERS.job):
        call(options=RunOptions(on_busy="fail")).result()

    assert created(sagemaker) == 0


def test_a_waiter_for_the_state_gets_it(call, sagemaker, project, ledger):
    """A call that waits for the state gets it as soon as the job that holds it ends."""
    sagemaker.add(OTHERS.job)
    holds(project, ledger, OTHERS)
    waiting = in_thread(call().result)
    sagemaker.wait_for("describe", 3)
    assert created(sagemaker) == 0
    sagemaker.end(OTHERS.job, "Failed")

    assert waiting().cached is False


def test_without_state_there_is_no_lease(call, sagemaker, project, ledger):
    """Without state no lease is needed, so any number of jobs run in parallel."""
    sagemaker.add(OTHERS.job)
    holds(project, ledger, OTHERS)

    assert call(spec(state="none"), options=RunOptions(on_busy="fail")).result().cached is False


def test_a_lease_that_was_lost_stops_the_job(call, sagemaker, project, ledger):
    """1. A call takes the lease. 2. Other work takes it over before the job is created.

    3. The call's job must not write the state, so it is stopped. 4. When it has ended, the call finds the state busy,
       like any other work.
    """
    sagemaker.at_create = lambda sagemaker, kind, job: holds(project, ledger, OTHERS)
    wanted = call(options=RunOptions(on_busy="fail"))
    running = in_thread(wanted.result)
    sagemaker.wait_for("stop", 1)
    sagemaker.end(wanted.step.job_name(1), "Stopped")

    with pytest.raises(StateBusy, match=OTHERS.job):
        running()
    assert created(sagemaker) == 1


def test_a_clean_state_is_empty_before_the_job(call, sagemaker, project):
    """The state is emptied before the job runs, the work is done again, and the state of a similar name is kept."""
    put(project, "demo/fit/state/old")
    put(project, "demo/fit/state2/other")
    call().result()
    seen = []
    ends = sagemaker.at_create

    def looks(sagemaker, kind, job):
        seen.extend(
            row["Key"]
            for row in project.client("s3").list_objects_v2(Bucket=BUCKET, Prefix="demo/fit/state")["Contents"]
        )
        ends(sagemaker, kind, job)

    sagemaker.at_create = looks
    again = call(options=RunOptions(clean_state=True)).result()

    assert again.reason == "ran: its state was cleaned"
    assert seen == ["demo/fit/state2/other"]


# -- before a job is created ---------------------------------------------------------------------------------------


@pytest.fixture
def train(project):
    """The body of the Prefect task, as Prefect calls it."""
    return lambda **arguments: SageMakerTasks(project, arguments.pop("defaults", {})).train.fn("fit", **arguments)


BAD = {
    "expression": {"metrics": {"auc": "auc=("}},
    "expression without a group": {"metrics": {"auc": "auc"}},
    "hyperparameter": {"hyperparameters": {"x": object()}},
    "input": {"inputs": {"data": 3}},
    "missing input": {"inputs": {"data": "/no/such/path"}},
    "missing S3 input": {"inputs": {"data": "s3://a-bucket/nothing/"}},
    "name of an input": {"inputs": {"a b": "data"}},
    "entry point": {"entry_point": "/no/such/file.py"},
    "file and command": {"entry_point": "fit.py", "command": "ls"},
    "code without a start": {"source_dir": "."},
    "variable": {"environment": {"A": None}},
    "arguments": {"arguments": "--verbose"},
    "request": {"instance_type": "ml.m5.huge"},
    "override": {"overrides": {"Foo": 1}},
    "forbidden override": {"overrides": {"TrainingJobName": "mine"}},
    "rerun": {"rerun": "sometimes"},
    "default of rerun": {"defaults": {"rerun": "sometimes"}},
    "on_busy": {"on_busy": "panic"},
    "state": {"state": "shared"},
    "unknown default": {"defaults": {"instance": "ml.m5.large"}},
}


@pytest.mark.parametrize("what", BAD)
def test_bad_arguments_make_no_job(train, sagemaker, objects, what):
    """Invalid arguments raise an error with a fix; no job is created, and nothing but the project file is written."""
    with pytest.raises(InvalidTask) as caught:
        train(**BAD[what])

    assert caught.value.fix
    assert created(sagemaker) == 0
    assert [name for name, _ in objects.listing(Location(BUCKET, "demo/")) if name != "_project.json"] == []


@pytest.mark.parametrize(
    "bad",
    [
        {"instance_count": "many"},
        {"max_runtime_minutes": "1h"},
        {"volume_size_gb": 1.5},
        {"image": 3.5, "instance_type": 7},
    ],
)
def test_arguments_of_a_wrong_type_make_no_job(train, bad):
    """An argument of a wrong type raises `InvalidTask`, not an error of pydantic."""
    with pytest.raises(InvalidTask):
        train(**bad)


def test_defaults_and_overrides_are_merged_deep(train, sagemaker):
    """Defaults and the arguments of a task are merged deeply into the request."""
    train(
        defaults={
            "overrides": {"ResourceConfig": {"KeepAlivePeriodInSeconds": 60}},
            "environment": {"A": "1", "B": "1"},
            "tags": {"team": "a"},
        },
        overrides={
            "ResourceConfig": {"TrainingPlanArn": "arn:aws:sagemaker:us-east-1:123456789012:training-plan/a"},
            "RetryStrategy": {"MaximumRetryAttempts": 2},
        },
        environment={"B": "2"},
        tags={"more": "b"},
    )
    ((_, job),) = sagemaker.jobs.items()
    request = job["request"]

    assert request["ResourceConfig"]["KeepAlivePeriodInSeconds"] == 60
    assert request["ResourceConfig"]["TrainingPlanArn"].endswith("training-plan/a")
    assert request["RetryStrategy"] == {"MaximumRetryAttempts": 2}
    assert {name: request["Environment"][name] for name in "AB"} == {"A": "1", "B": "2"}
    tags = {tag["Key"]: tag["Value"] for tag in request["Tags"]}
    assert tags["team"] == "a"
    assert tags["more"] == "b"
    assert {f"prefect-sagemaker:{name}" for name in ("project", "task", "fingerprint")} <= tags.keys()


def test_an_empty_command_is_none(train, sagemaker):
    """With an empty command the image runs its own entry point, without the bootstrap."""
    train(command="")
    ((_, job),) = sagemaker.jobs.items()

    assert "ContainerEntrypoint" not in job["request"]["AlgorithmSpecification"]


def test_one_name_two_works_in_one_flow_run(call, sagemaker):
    """A second call with other work under the same name in a flow run is refused before any request."""
    call(flow_run="flow-x", task_run="one").result()
    with pytest.raises(DuplicateTask, match="image changed"):
        call(spec(image="image:2"), flow_run="flow-x", task_run="two").result()

    assert created(sagemaker) == 1


def test_a_request_that_aws_would_refuse_is_not_sent(call, sagemaker):
    """An invalid request is refused before it is sent."""
    with pytest.raises(InvalidRequest):
        call(spec(environment={"A-B": "x"})).result()

    assert [verb for verb, _ in sagemaker.calls] == ["describe"]


def test_what_a_processing_job_says_of_its_end_shows_no_secret(call, sagemaker):
    """Secrets are masked in a processing job's exit message, which is the user's text, as in its failure reason."""
    told = {"FailureReason": "no login with hunter22", "ExitMessage": "hunter22 was refused"}
    sagemaker.at_create = lambda sagemaker, kind, job: sagemaker.end(job[f"{kind}JobName"], "Failed", kind=kind, **told)
    with pytest.raises(JobFailed) as caught:
        call(spec(kind=PROCESSING, environment={"DB_PASSWORD": "hunter22"})).result()

    assert "hunter22" not in str(caught.value)
    assert "**** was refused" in caught.value.result.failure
    assert "no login with ****" in caught.value.result.failure


def test_nothing_secret_is_written(call, project, objects):
    """No secret value is in the ledger or in any other document in S3."""
    call(spec(environment={"TOKEN": "hunter2"})).result()
    written = b"".join(
        objects.open(Location(BUCKET, f"demo/{name}")).read() for name, _ in objects.listing(Location(BUCKET, "demo/"))
    )

    assert b"TOKEN" in written
    assert b"hunter2" not in written


def test_times_and_costs_of_a_job(call, sagemaker):
    """A result has the job's duration and billable seconds from SageMaker's description."""
    ends = sagemaker.at_create

    def bills(sagemaker, kind, job):
        job["BillableTimeInSeconds"] = 42
        ends(sagemaker, kind, job)

    sagemaker.at_create = bills
    result = call().result()

    assert result.billable_seconds == 42
    assert 3590 <= result.job_seconds <= FIRST
    assert call().result().billable_seconds == 42


def test_the_actions_are_all_taken():
    """The tests above cover each action of a decision."""
    assert {action.name for action in Action} == {"SKIP", "ASK", "CREATE", "ATTACH", "RECORD", "CLOSE"}
    assert make_block().is_local is False
