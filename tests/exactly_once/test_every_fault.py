"""Every fault by itself: the local SageMaker and its S3 go wrong in one way, and the flow ends as if nothing had been.

A flow of two tasks, the second with a state and the first one's output. Afterwards: one completed job for each piece of
work, never two alive at once, none left alive, the ledger right, no mark of interest left, and a second run skips all
(`fault_mixtures.py`). Mixtures of them are in `test_fault_mixtures.py`.
"""

from __future__ import annotations

import signal
import threading

from fault_mixtures import BUCKET, Lane, Mixture, own_prefect  # before anybody imports Prefect
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
    """A Prefect of the tests' own."""
    with temporary_settings({**own_prefect.ISOLATED, prefect_settings.PREFECT_API_URL: prefect_api}):
        yield prefect_api


@pytest.fixture(scope="module")
def the_lane(tmp_path_factory, make_backend):
    """A local SageMaker of these tests' own: its faults, and its death, must not meet others."""
    directory = tmp_path_factory.mktemp("every-fault")
    backend = make_backend(directory / "home")
    backend.up()
    return Lane(backend, directory)


@pytest.fixture
def lane(the_lane):
    """That one, with no fault on before and after."""
    the_lane.clear()
    yield the_lane
    the_lane.clear()


def seen(lane, sm, task):
    """A task as it stands outside of the product."""
    return TaskSeen(lane.backend, BUCKET, sm.project.project, task)


def described(lane, job):
    """A training job as SageMaker describes it."""
    return lane.backend.client("sagemaker").describe_training_job(TrainingJobName=job)


def on(operation, kind="lose", **more):
    """A rule for one operation, twice: botocore's one retry does not help."""
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
    """The server acts, and its answer does not arrive: what was done is found, not done again."""
    outcome = lane.run(Mixture("chain", {"seed": 1, "requests": [rule]}))

    assert outcome.wrong == []
    assert outcome.fired["lose"] >= 2


@pytest.mark.sampled(2, group="requests")
@pytest.mark.parametrize("rule", REFUSED.values(), ids=REFUSED.keys())
def test_a_request_fails(lane, rule):
    """Throttled, late, cut off, failed, unauthorised, unavailable, in conflict: it passes, and so does the flow."""
    outcome = lane.run(Mixture("chain", {"seed": 1, "requests": [rule]}))

    assert outcome.wrong == []
    assert outcome.fired[rule["kind"]] >= 1


@pytest.mark.sampled(2, group="requests")
@pytest.mark.parametrize(
    "rule", [REFUSED["throttle"], LOST["one in ten"], REFUSED["drop"]], ids=["throttle", "lose", "drop"]
)
def test_real_jobs_under_faults(lane, rule):
    """The same with real jobs, a state and a metric: the metric has its value, and the state was begun once."""
    outcome = lane.run(Mixture("real", {"seed": 2, "requests": [rule]}))

    assert outcome.wrong == []
    assert outcome.fired[rule["kind"]] >= 1
    assert outcome.results[1].metrics == {"loss": 0.25}


@pytest.mark.sampled(2, group="faults")
def test_credentials_that_stay_expired(lane):
    """They are renewed a few times, and then the error says what to do: no endless loop, and no job."""
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
    """Creates that fail for ever end in the service's fault, after some tries, and nobody is noted to wait."""
    sm = sagemaker_tasks(lane.project())
    rule = {"kind": "error", "operation": "CreateTrainingJob"}
    outcome = lane.under(Mixture("one", {"requests": [rule]}), lambda: [sm.train("fit")])

    assert isinstance(outcome.error, ServiceFault)
    assert outcome.fired["error"] >= 9
    assert seen(lane, sm, "fit").jobs() == []
    assert seen(lane, sm, "fit").keys("_ledger/interest/") == []


@pytest.mark.sampled(2, group="faults")
def test_a_user_error_under_throttling(lane):
    """Exit code 3 while a third of all calls are throttled: the failure, once, and one job."""
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
    """A flow is interrupted, and the call that stops its job fails at first: the job is stopped all the same."""
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
    """The instance is taken back: SageMaker starts the job again with the state, and the task ends with one job."""
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
    """No capacity for the first type of a list: SageMaker itself takes the second, in one job."""
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
    """The same for processing: the attempt without capacity is spent, and the next asks for the second type."""
    sm = sagemaker_tasks(lane.project())
    outcome = lane.under(Mixture("one", {"jobs": [NO_BIG]}), lambda: [sm.process("clean", instance_type=[BIG, SMALL])])

    assert outcome.error is None
    jobs = assert_exactly_once(seen(lane, sm, "clean"))
    assert [job.status for job in jobs] == ["Failed", "Completed"]
    assert outcome.results[0].job == jobs[-1].name


@pytest.mark.sampled(2, group="faults")
def test_from_spot_to_on_demand(lane):
    """`spot="fallback"`: the attempt without spot capacity is spent, and the next is on-demand."""
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
    """With no capacity for ever, the wait is bounded by `capacity_minutes`; the failure says what it was."""
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
    """Two refusals of the create: the job is made when there is room, once."""
    sm = sagemaker_tasks(lane.project())
    rule = on("CreateTrainingJob", "error", code="ResourceLimitExceeded")
    outcome = lane.under(Mixture("one", {"requests": [rule]}), lambda: [sm.train("fit")])

    assert (outcome.error, outcome.fired["error"]) == (None, 2)
    assert len(assert_exactly_once(seen(lane, sm, "fit"))) == 1


@pytest.mark.sampled(2, group="faults")
def test_tasks_take_turns_under_a_quota(lane):
    """Room for one, and two tasks side by side: both complete, and no two jobs live at once."""
    outcome = lane.run(Mixture("two", {"jobs": [{"kind": "quota", "limit": 1}]}))

    assert outcome.wrong == []


@pytest.mark.sampled(2, group="faults")
def test_a_quota_that_is_too_small(lane):
    """No waiting helps where the quota has no room for the job at all: the error comes at once, and no job."""
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
    """`kill -9` of the server while a job runs: the flow starts it again by itself, and the job is the same."""
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
    """`kill -9` of the server while it creates a job, before and after it did: there is one in the end."""
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
    killing.join()  # its last step would take away the next test's fault

    assert outcome.error is None
    (job,) = assert_exactly_once(seen(lane, sm, "fit"))
    assert outcome.results[0].job == job.name
