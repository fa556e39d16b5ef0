"""Each fault alone: the local SageMaker or its S3 fails in one way, and the flow ends as without the fault.

The flow has two tasks. The second has a state, and reads the first one's output. Afterwards each piece of work has one
completed job, no two jobs were live at the same time, no job is live, the ledger is right, no heartbeat is left, and a
second run skips all (`fault_mixtures.py`).
"""

from __future__ import annotations

import signal
import threading

from fault_mixtures import BUCKET, Lane, Mixture, own_prefect  # before any import of Prefect
from waiting import wait_until

# ruff: isort: split
import prefect.settings as prefect_settings
import pytest
from contestants import Contestant, Machine, Order
from prefect.settings import temporary_settings
from race_invariants import TaskSeen, assert_exactly_once

from tasks_lib import sagemaker_tasks
from tasks_lib.error_categories import ErrorCategory
from tasks_lib.errors import CredentialsExpired, JobFailed, QuotaExceeded, ServiceFault

LEDGER, MARK = "*/_ledger/*.json", "*/_ledger/interest/*"
BIG, SMALL = "ml.p3.2xlarge", "ml.m5.large"
NO_BIG = {"kind": "capacity", "instance_type": BIG}


@pytest.fixture(scope="module", autouse=True)
def isolated_prefect(prefect_api):
    """Isolate Prefect from the user's settings, with the tests' own server."""
    with temporary_settings({**own_prefect.ISOLATED, prefect_settings.PREFECT_API_URL: prefect_api}):
        yield prefect_api


@pytest.fixture(scope="module")
def the_lane(tmp_path_factory, make_backend):
    """A local SageMaker of these tests alone: its faults and its kills must not affect other tests."""
    directory = tmp_path_factory.mktemp("every-fault")
    backend = make_backend(directory / "home")
    backend.up()
    return Lane(backend, directory)


@pytest.fixture
def lane(the_lane):
    """The lane, without faults before and after the test."""
    the_lane.clear()
    yield the_lane
    the_lane.clear()


def seen(lane, sm, task):
    """Return a task as seen without the product."""
    return TaskSeen(lane.backend, BUCKET, sm.project.project, task)


def described(lane, job):
    """Return a training job as SageMaker describes it."""
    return lane.backend.client("sagemaker").describe_training_job(TrainingJobName=job)


def on(operation, kind="lose", **more):
    """Return a rule for one operation, for two requests: botocore's one retry does not help."""
    return {"kind": kind, "operation": operation, "times": 2, **more}


# -- requests ----------------------------------------------------------------------------------------------------------

LOST = {
    "create": on("Create*Job"),
    "describe": on("Describe*Job"),
    "conditional put": on("PutObject", path=LEDGER, times=6),
    "put of a mark": on("PutObject", path=MARK),
    "delete of a mark": on("DeleteObject", path=MARK),
    "list": on("ListObjectsV2"),
    "get": on("GetObject", path=LEDGER),
    "one in ten": {"kind": "lose", "probability": 0.1, "times": 8},
}
REFUSED = {
    "throttle": {"kind": "throttle", "probability": 0.3},
    "slow": {"kind": "slow", "probability": 0.5, "seconds": 0.2},
    "drop": {"kind": "drop", "probability": 0.3, "times": 8},
    "500": {"kind": "error", "probability": 0.3, "times": 8},
    "500 after the create": on("Create*Job", "error", when="after"),
    "expire": {"kind": "expire", "probability": 0.3, "times": 3},
    "expire at the create": on("Create*Job", "expire"),
    "503": {"kind": "error", "service": "s3", "code": "SlowDown", "probability": 0.3},
    "503 at a put": on("PutObject", "error", code="ServiceUnavailable", times=6),
    "412": on("PutObject", "error", path=LEDGER, code="PreconditionFailed", times=6),
    "412 of its own": on("PutObject", "error", path=LEDGER, code="PreconditionFailed", when="after", times=6),
    "409": on("PutObject", "error", path=LEDGER, code="ConditionalRequestConflict", times=6),
    "deletes never": {"kind": "error", "operation": "DeleteObject", "code": "ServiceUnavailable"},
}


@pytest.mark.sampled(2, group="requests")
@pytest.mark.parametrize("rule", LOST.values(), ids=LOST.keys())
def test_an_answer_is_lost(lane, rule):
    """If the server acts and its response is lost, the flow finds what was done and does not do it again."""
    outcome = lane.run(Mixture("chain", {"seed": 1, "requests": [rule]}))

    assert outcome.wrong == []
    assert outcome.fired["lose"] >= 2


@pytest.mark.sampled(2, group="requests")
@pytest.mark.parametrize("rule", REFUSED.values(), ids=REFUSED.keys())
def test_a_request_fails(lane, rule):
    """The flow completes if requests are throttled, late, dropped, failed, unauthorised, unavailable or in conflict."""
    outcome = lane.run(Mixture("chain", {"seed": 1, "requests": [rule]}))

    assert outcome.wrong == []
    assert outcome.fired[rule["kind"]] >= 1


@pytest.mark.sampled(2, group="requests")
@pytest.mark.parametrize(
    "rule", [REFUSED["throttle"], LOST["one in ten"], REFUSED["drop"]], ids=["throttle", "lose", "drop"]
)
def test_real_jobs_under_faults(lane, rule):
    """Real jobs with a state and a metric run once under faults, and the metric has its value."""
    outcome = lane.run(Mixture("real", {"seed": 2, "requests": [rule]}))

    assert outcome.wrong == []
    assert outcome.fired[rule["kind"]] >= 1
    assert outcome.results[1].metrics == {"loss": 0.25}


@pytest.mark.sampled(2, group="faults")
def test_credentials_that_stay_expired(lane):
    """Credentials that stay expired are renewed a few times; then the error says what to do, and no job is created."""
    sm = sagemaker_tasks(lane.project())
    outcome = lane.under(
        Mixture("one", {"requests": [{"kind": "expire", "service": "sagemaker"}]}), lambda: [sm.train("fit")]
    )

    assert isinstance(outcome.error, CredentialsExpired)
    assert "renew the credentials" in outcome.error.fix
    assert outcome.fired["expire"] >= 2
    assert seen(lane, sm, "fit").jobs() == []


@pytest.mark.sampled(2, group="faults")
def test_a_fault_that_does_not_pass(lane):
    """Creates that always fail end in `ServiceFault` after some retries, and no heartbeat is left."""
    sm = sagemaker_tasks(lane.project())
    rule = {"kind": "error", "operation": "CreateTrainingJob"}
    outcome = lane.under(Mixture("one", {"requests": [rule]}), lambda: [sm.train("fit")])

    assert isinstance(outcome.error, ServiceFault)
    assert outcome.fired["error"] >= 9
    assert seen(lane, sm, "fit").jobs() == []
    assert seen(lane, sm, "fit").keys("_ledger/interest/") == []


@pytest.mark.sampled(2, group="faults")
def test_a_user_error_under_throttling(lane):
    """While a third of all calls are throttled, exit code 3 fails the task at once: one job, no retry."""
    sm = sagemaker_tasks(lane.project())
    rule = {"kind": "throttle", "probability": 0.3}
    outcome = lane.under(
        Mixture("one", {"seed": 3, "requests": [rule]}),
        lambda: [sm.train("fit", image="local/python", command="echo told; exit 3")],
    )

    assert isinstance(outcome.error, JobFailed), outcome.error
    assert (outcome.error.exit_code, outcome.error.category) == (3, ErrorCategory.USER_ERROR)
    assert any("told" in line for line in outcome.error.last_lines)
    assert [job.status for job in seen(lane, sm, "fit").jobs()] == ["Failed"]


STOPS = {
    "lost": on("Stop*Job"),
    "dropped": on("Stop*Job", "drop"),
    "throttled": on("Stop*Job", "throttle"),
    "failed": on("Stop*Job", "error"),
    "unauthorised": on("Stop*Job", "expire", times=1),
    "unmarked": on("DeleteObject", "error", path=MARK),
}


@pytest.fixture(scope="module")
def canceller(the_lane, isolated_prefect, tmp_path_factory):
    """A process whose flows are interrupted."""
    process = Contestant(Machine(the_lane.backend.home, isolated_prefect, tmp_path_factory.mktemp("canceller")))
    process.until_ready()
    yield process
    process.close()


@pytest.mark.parametrize("rule", STOPS.values(), ids=STOPS.keys())
def test_a_stop_gets_through(lane, canceller, rule):
    """If a flow is interrupted and the call that stops its job fails at first, the job is stopped all the same."""
    project = lane.project()
    task = TaskSeen(lane.backend, BUCKET, project.project, "fit")
    canceller.begin(Order(project.project, "fit", {"environment": {"SIMULATED_SECONDS": "600"}}, how="flow"))
    wait_until(lambda: [job for job in task.jobs() if job.status == "InProgress"], "the job to run")
    lane.faults.set({"requests": [rule]})
    canceller.signal(signal.SIGINT)
    outcome = canceller.outcome()
    fired = sum(lane.fired().values())
    lane.clear()

    assert outcome.error, outcome
    assert fired >= 1
    wait_until(lambda: [job.status for job in task.jobs()] == ["Stopped"], "the job to be stopped")


# -- jobs --------------------------------------------------------------------------------------------------------------


@pytest.mark.sampled(2, group="faults")
def test_an_interrupted_spot_job_goes_on(lane, tmp_path):
    """After a spot interruption SageMaker restarts the job with its state, and the task ends with one job."""
    sm, begun = sagemaker_tasks(lane.project(spot=True, image="local/python")), tmp_path / "begun"
    command = (
        'if [ -e "$SSM_STATE/step" ]; then echo loss=$(cat "$SSM_STATE/step"); exit 0; fi\n'
        f'echo 7 > "$SSM_STATE/step"; touch {begun}; exec sleep 600'
    )

    def interrupt():
        wait_until(begun.exists, "the job's first step")
        lane.faults.set({"jobs": [{"kind": "interrupt", "seconds": 0.5, "times": 1}]})

    threading.Thread(target=interrupt, daemon=True).start()
    outcome = lane.under(
        Mixture("one", {}), lambda: [sm.train("fit", command=command, metrics={"loss": r"loss=(\d+)"})]
    )

    assert outcome.error is None
    assert outcome.fired["interrupt"] == 1
    (job,) = assert_exactly_once(seen(lane, sm, "fit"))
    assert (outcome.results[0].job, outcome.results[0].metrics) == (job.name, {"loss": 7})
    secondaries = [each["Status"] for each in described(lane, job.name)["SecondaryStatusTransitions"]]
    assert secondaries.count("Interrupted") == 1


@pytest.mark.sampled(2, group="faults")
def test_the_next_type_by_preference(lane):
    """Without capacity for the first instance type of a list, SageMaker itself takes the second, in one job."""
    sm = sagemaker_tasks(lane.project(instance_type=SMALL))
    outcome = lane.under(
        Mixture("one", {"jobs": [NO_BIG]}), lambda: [sm.train("fit", instance_type=[BIG, SMALL], spot=False)]
    )

    assert outcome.error is None
    (job,) = assert_exactly_once(seen(lane, sm, "fit"))
    cluster = described(lane, job.name)["ResourceConfig"]
    assert [each["InstanceType"] for each in cluster["InstancePreferences"]] == [BIG, SMALL]
    assert cluster["SelectedInstanceType"] == SMALL


@pytest.mark.sampled(2, group="faults")
def test_processing_goes_type_by_type(lane):
    """For processing, the attempt without capacity is closed, and the next one asks for the second type."""
    sm = sagemaker_tasks(lane.project())
    outcome = lane.under(Mixture("one", {"jobs": [NO_BIG]}), lambda: [sm.process("clean", instance_type=[BIG, SMALL])])

    assert outcome.error is None
    jobs = assert_exactly_once(seen(lane, sm, "clean"))
    assert [job.status for job in jobs] == ["Failed", "Completed"]
    assert outcome.results[0].job == jobs[-1].name


@pytest.mark.sampled(2, group="faults")
def test_from_spot_to_on_demand(lane):
    """With `spot="fallback"`, the attempt without spot capacity is closed, and the next one is on-demand."""
    sm = sagemaker_tasks(lane.project())
    outcome = lane.under(
        Mixture("one", {"jobs": [{"kind": "capacity", "times": 1}]}), lambda: [sm.train("fit", spot="fallback")]
    )

    assert outcome.error is None
    jobs = assert_exactly_once(seen(lane, sm, "fit"))
    assert [job.status for job in jobs] == ["Failed", "Completed"]
    assert [described(lane, job.name)["EnableManagedSpotTraining"] for job in jobs] == [True, False]


@pytest.mark.sampled(2, group="faults")
@pytest.mark.parametrize(("minutes", "most"), [(0, 1), (0.03, 5)], ids=["none", "a little"])
def test_capacity_is_waited_for_so_long(lane, minutes, most):
    """If there is never capacity, the wait is bounded by `capacity_minutes`; the error has the category `CAPACITY`."""
    sm = sagemaker_tasks(lane.project())
    outcome = lane.under(
        Mixture("one", {"jobs": [{"kind": "capacity"}]}), lambda: [sm.train("fit", capacity_minutes=minutes)]
    )

    assert isinstance(outcome.error, JobFailed), outcome.error
    assert outcome.error.category is ErrorCategory.CAPACITY
    statuses = [job.status for job in seen(lane, sm, "fit").jobs()]
    assert set(statuses) == {"Failed"}
    assert len(statuses) <= most


@pytest.mark.sampled(2, group="faults")
def test_a_used_up_quota_is_waited_for(lane):
    """If the create is refused twice because a quota is used up, the job is created later, once."""
    sm = sagemaker_tasks(lane.project())
    rule = on("CreateTrainingJob", "error", code="ResourceLimitExceeded")
    outcome = lane.under(Mixture("one", {"requests": [rule]}), lambda: [sm.train("fit")])

    assert (outcome.error, outcome.fired["error"]) == (None, 2)
    assert len(assert_exactly_once(seen(lane, sm, "fit"))) == 1


@pytest.mark.sampled(2, group="faults")
def test_tasks_take_turns_under_a_quota(lane):
    """With a quota for one job, two tasks side by side both complete, and no two jobs are live at the same time."""
    outcome = lane.run(Mixture("two", {"jobs": [{"kind": "quota", "limit": 1}]}))

    assert outcome.wrong == []


@pytest.mark.sampled(2, group="faults")
def test_a_quota_that_is_too_small(lane):
    """If the quota is smaller than the job, the error comes at once and no job is created."""
    sm = sagemaker_tasks(lane.project())
    outcome = lane.under(
        Mixture("one", {"jobs": [{"kind": "quota", "limit": 1}]}), lambda: [sm.train("fit", instance_count=2)]
    )

    assert isinstance(outcome.error, QuotaExceeded)
    assert outcome.error.fix
    assert seen(lane, sm, "fit").jobs() == []
    assert seen(lane, sm, "fit").keys("_ledger/interest/") == []


@pytest.mark.sampled(2, group="faults")
def test_instances_that_come_late(lane):
    """Jobs that are `Pending` for a while are waited for."""
    outcome = lane.run(Mixture("chain", {"jobs": [{"kind": "pending", "seconds": 1}]}))

    assert outcome.wrong == []
    assert outcome.fired["pending"] == 2


# -- the server --------------------------------------------------------------------------------------------------------


@pytest.mark.sampled(1, group="kills")
def test_killed_in_mid_job(lane, tmp_path):
    """If the server is killed while a job runs, the flow starts the server again, and the job is the same."""
    sm, begun, gate = sagemaker_tasks(lane.project(image="local/python")), tmp_path / "begun", tmp_path / "gate"
    command = f"touch {begun}; until [ -e {gate} ]; do sleep 0.05; done"

    def kill():
        wait_until(begun.exists, "the job to run")
        lane.backend.kill()
        gate.touch()

    threading.Thread(target=kill, daemon=True).start()
    outcome = lane.under(Mixture("one", {}), lambda: [sm.train("fit", command=command)])

    assert outcome.error is None
    (job,) = assert_exactly_once(seen(lane, sm, "fit"))
    assert outcome.results[0].job == job.name


@pytest.mark.sampled(1, group="kills")
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_in_mid_create(lane, when):
    """If the server is killed before or after it creates a job, there is one job in the end."""
    sm = sagemaker_tasks(lane.project())

    def kill():
        wait_until(lambda: lane.faults.wait_for_held(20), "the create to be held")
        lane.backend.kill()
        lane.backend.up()
        lane.clear()

    killing = threading.Thread(target=kill, daemon=True)
    killing.start()
    rule = {"kind": "hold", "operation": "CreateTrainingJob", "when": when, "nth": 1}
    outcome = lane.under(Mixture("one", {"requests": [rule]}), lambda: [sm.train("fit")])
    killing.join()  # its last step would delete the next test's fault

    assert outcome.error is None
    (job,) = assert_exactly_once(seen(lane, sm, "fit"))
    assert outcome.results[0].job == job.name
