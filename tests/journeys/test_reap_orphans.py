"""The reaper with real jobs: it stops orphans, and no other jobs."""

from __future__ import annotations

import hashlib
import json
import time
from datetime import timedelta

import pytest
from journey_tools import Gate, in_background, jobs_of
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.flows import flow
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Completed, Failed, Running
from waiting import wait_until

from blocks.backend import ROLE
from tasks_lib.aws.jobs import Jobs
from tasks_lib.aws.objects import Objects
from tasks_lib.aws.rate_limit import TokenBucket
from tasks_lib.errors import ServiceFault
from tasks_lib.jobs.job import FINGERPRINT_VARIABLE, STARTED_BY_VARIABLE
from tasks_lib.jobs.kinds import KINDS
from tasks_lib.jobs.naming import job_name
from tasks_lib.jobs.s3_layout import Location, TaskFolder
from tasks_lib.ledger.heartbeats import Heartbeat
from tasks_lib.orphans.policy import Rules
from tasks_lib.orphans.reap_orphans import reap_orphans
from tasks_lib.orphans.reaper import Reaper, asking

pytestmark = pytest.mark.sampled(5, group="all")

EACH_KIND = pytest.mark.parametrize("kind", ["training", "processing"])
HALF_AN_HOUR = timedelta(minutes=30)
FOREVER = 600.0


class LaterObjects(Objects):
    """S3 as it looks some time after some heartbeats were written."""

    def __init__(self, project):
        super().__init__(project)
        self.later: dict[str, timedelta] = {}

    def ages(self, prefix):
        return {name: age + self.later.get(name, timedelta()) for name, age in super().ages(prefix).items()}


def request_for(kind, name, role, uri):
    """Return the request for a job that only takes its time."""
    cluster = {"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 1}
    if kind == "processing":
        return {
            "ProcessingJobName": name,
            "AppSpecification": {"ImageUri": "local/simulated"},
            "ProcessingResources": {"ClusterConfig": cluster},
            "RoleArn": role,
        }
    return {
        "TrainingJobName": name,
        "AlgorithmSpecification": {"TrainingImage": "local/simulated", "TrainingInputMode": "File"},
        "OutputDataConfig": {"S3OutputPath": uri},
        "ResourceConfig": cluster,
        "RoleArn": role,
        "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
    }


class Place:
    """A project with live jobs, as flows leave them, and a reaper that comes half an hour later."""

    def __init__(self, project):
        self.project, self.jobs, self.objects = project, Jobs(project), LaterObjects(project)
        self._made: list = []

    def job(self, task, *, kind="training", seconds=FOREVER, started_by="", name=None, environment=None):
        """Make a job as a call of the task makes it, or with another name or environment."""
        uri = f"{self.project.uri}{task}/"
        work = hashlib.sha256(task.encode()).hexdigest()
        told = {"SSM_PROJECT": self.project.project, "SSM_TASK": task, FINGERPRINT_VARIABLE: work}
        told |= {STARTED_BY_VARIABLE: started_by} if started_by else {}
        request = request_for(kind, name or job_name(task, uri, work, 1), self.project.role, uri)
        request["Environment"] = {"SIMULATED_SECONDS": str(seconds), **(told if environment is None else environment)}
        request["Tags"] = [{"Key": "prefect-sagemaker:project", "Value": self.project.project}]  # IAM checks it
        self._made.append(self.jobs.create(KINDS[kind], request))
        return self._made[-1]

    def heartbeat(self, task, job, waiter):
        folder = TaskFolder(self.project.bucket, f"{self.project.key_prefix}{task}/")
        return Heartbeat(self.objects, folder, job.name, waiter)

    def mark(self, task, job, waiter, ago=timedelta()):
        """Write a waiter's heartbeat that the reaper sees as this old."""
        self.heartbeat(task, job, waiter).start()
        self.objects.later[waiter] = ago

    def reap(self, runs=lambda _: "unknown", *, dry_run=False, **rules):
        """Run the reaper; return its action for each job."""
        later = HALF_AN_HOUR.total_seconds()
        quick = TokenBucket(rate=1000, burst=1000)
        reaper = Reaper(
            self.project, runs, Rules(**rules), objects=self.objects, listings=quick, clock=lambda: time.time() + later
        )
        self.harvest = reaper.reap(dry_run=dry_run)
        return {row.job: row.action for row in self.harvest.rows}

    def why(self, job):
        return next(row.why for row in self.harvest.rows if row.job == job.name)

    def status(self, job):
        return self.jobs.describe(job.kind, job.name).status

    def lives(self, job):
        return self.status(job) == "InProgress"

    def end(self):
        for job in self._made:
            self.jobs.stop(job)


@pytest.fixture
def make_place(make_project):
    """Return a function that makes a `Place`; its jobs are stopped at the end."""
    places = []

    def make(**fields):
        places.append(Place(make_project(**{"role": ROLE, **fields})))
        return places[-1]

    yield make
    for place in places:
        place.end()


@pytest.fixture
def place(make_place):
    """A project without jobs yet."""
    return make_place()


@pytest.fixture
def api():
    """A client of the Prefect server of these tests."""
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def make_run(api):
    """Return a function that makes a flow run in a state and returns its id."""
    work = flow(lambda: None, name="work")

    return lambda state: str(api.create_flow_run(work, state=state).id)


# -- orphans and other jobs ------------------------------------------------------------------------------------------


@EACH_KIND
def test_the_job_of_a_killed_run(place, kind):
    """1. A waiting process is killed: its heartbeat stays. 2. Kept. 3. The heartbeat expires: the job is stopped."""
    job = place.job("fit", kind=kind)
    place.mark("fit", job, "no-flow/1")

    assert place.reap() == {job.name: "kept"}
    assert place.why(job) == "1 run waits for it"
    assert place.lives(job)

    place.mark("fit", job, "no-flow/1", ago=timedelta(minutes=16))

    assert place.reap() == {job.name: "stopped"}
    assert place.why(job) == "no run waits for it; only the heartbeats decide"
    assert place.status(job) in ("Stopping", "Stopped")


def test_a_dry_run_stops_nothing(place):
    """A dry run says what would be stopped, and changes neither the job nor the ledger."""
    job = place.job("fit")

    assert place.reap(dry_run=True) == {job.name: "would stop"}
    assert place.lives(job)
    assert not len(place.objects.listing(Location.parse(place.project.uri)))


def test_one_waiter_keeps_the_job(place):
    """If two of three waiters are dead, the third keeps the job."""
    job = place.job("fit")
    for waiter, minutes in (("a/1", 16), ("b/1", 600), ("c/1", 14)):
        place.mark("fit", job, waiter, ago=timedelta(minutes=minutes))

    assert place.reap() == {job.name: "kept"}
    assert place.lives(job)


def test_a_young_job_is_left_alone(place):
    """A job without a heartbeat is kept for a grace period, since a run may be about to wait for it."""
    job = place.job("fit")

    assert place.reap(grace=timedelta(minutes=31)) == {job.name: "kept"}
    assert place.reap(grace=timedelta(minutes=29)) == {job.name: "stopped"}


def test_a_job_that_was_left_on_purpose(place):
    """A job that was left on purpose has its own reason, and is stopped only with `include_left`."""
    job = place.job("fit")
    heartbeat = place.heartbeat("fit", job, "a/1")
    heartbeat.start()
    heartbeat.leave_running()

    assert place.reap() == {job.name: "kept"}
    assert place.why(job) == "left on purpose by a"
    assert place.lives(job)
    assert place.reap(include_left=True) == {job.name: "stopped"}


@pytest.mark.always
def test_jobs_of_other_projects_are_not_touched(make_place):
    """Jobs of another project, of another prefix, or with a similar name but not of this project are never touched."""
    place = make_place()
    name, uri = place.project.project, place.project.uri
    other, elsewhere = make_place(), make_place(project=name, prefix="elsewhere")
    work = hashlib.sha256(b"fit").hexdigest()
    ours = job_name("fit", f"{uri}fit/", work, 1)
    strangers = [
        (other, other.job("fit")),
        (elsewhere, elsewhere.job("fit")),
        (place, place.job("fit", name=f"fit-{'0' * 16}-1")),
        (place, place.job("fit", name="fit")),
        (place, place.job("fit", name=ours, environment={})),
        (place, place.job("fit", name=f"{ours[:-1]}2", environment={"SSM_PROJECT": name, "SSM_TASK": "fat"})),
    ]
    own = place.job("own")

    assert place.reap() == {own.name: "stopped"}
    assert all(at.lives(job) for at, job in strangers)
    assert set(elsewhere.reap()) == {strangers[1][1].name}


def test_an_orphan_behind_pages_of_others(place):
    """`StatusEquals` filters after paging: an empty page of jobs that are over does not end the search."""
    orphan = place.job("fit")
    for number in range(100):
        place.job(f"over-{number}", seconds=0)
    wait_until(lambda: place.jobs.page(KINDS["training"], StatusEquals="InProgress")[0] == {}, "the others to end")

    assert place.reap() == {orphan.name: "stopped"}


# -- states in Prefect -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (Running(), ("kept", "is not over in Prefect")),
        (Completed(), ("stopped", "is over")),
        (Failed(), ("stopped", "is over")),
    ],
)
def test_flow_run_of_an_expired_heartbeat(place, make_run, api, state, expected):
    """Two hours after its last heartbeat (a sleeping laptop) a job is kept while its run is not over in Prefect."""
    run = make_run(state)
    job = place.job("fit", started_by=f"{run}/1/task")
    place.mark("fit", job, f"{run}/task", ago=timedelta(hours=2))

    assert place.reap(asking(api)) == {job.name: expected[0]}
    assert f"flow run {run} {expected[1]}" in place.why(job)


def test_live_run_without_heartbeat(place, make_run, api):
    """1. The ledger is deleted. 2. The job names its flow run, which is not over in Prefect. 3. Kept."""
    job = place.job("fit", started_by=f"{make_run(Running())}/1/task")

    assert place.reap(asking(api)) == {job.name: "kept"}


@pytest.mark.parametrize("run", ["00000000-0000-4000-8000-000000000000", "not-an-id"])
def test_a_run_that_prefect_does_not_know(place, api, run):
    """For a flow run that Prefect does not know, only the heartbeats decide, and the reason says so."""
    job = place.job("fit", started_by=f"{run}/1/task")

    assert place.reap(asking(api)) == {job.name: "stopped"}
    assert place.why(job).endswith(f"flow run {run} is not known to this Prefect server; only the heartbeats decide")


def test_a_prefect_that_does_not_answer(place):
    """If Prefect does not answer, the job is kept."""
    job = place.job("fit", started_by="00000000-0000-4000-8000-000000000000/1/task")
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}), get_client(sync_client=True) as nobody:
        deeds = place.reap(asking(nobody))

    assert deeds == {job.name: "kept"}
    assert place.why(job).startswith("Prefect did not say")


# -- changes while the reaper runs -----------------------------------------------------------------------------------


class AtLook:
    """Answers for Prefect, and calls a function while the reaper looks for the n-th time."""

    def __init__(self, number, happens):
        self.number, self._happens, self._looks = number, happens, 0

    def __call__(self, _):
        self._looks += 1
        if self._looks == self.number:
            self._happens()
        return "over"


@pytest.mark.sampled(1)
@pytest.mark.parametrize("look", [1, 2])
def test_a_job_that_ends_meanwhile(place, look):
    """A job that ends before or after the reaper's last look is reported as ended, not as stopped or as an error."""
    job = place.job("fit", seconds=5, started_by="run/1/task")
    over = AtLook(look, lambda: wait_until(lambda: place.status(job) == "Completed", "the job to end"))

    assert place.reap(over) == {job.name: "had ended"}
    assert place.status(job) == "Completed"


def test_attach_before_the_last_look_keeps_the_job(place):
    """1. The reaper sees no waiter. 2. A run attaches. 3. The reaper looks again, and does not stop the job."""
    job = place.job("fit", started_by="run/1/task")
    arrival = AtLook(1, lambda: place.mark("fit", job, "other/1"))

    assert place.reap(arrival) == {job.name: "kept"}
    assert place.lives(job)


def test_attach_after_the_last_look_sees_the_announcement(place):
    """1. The reaper has looked for the last time. 2. A run attaches. 3. It can tell that its job was reaped."""
    job = place.job("fit", started_by="run/1/task")
    told = []

    def attach():
        place.mark("fit", job, "other/1")
        told.append(place.heartbeat("fit", job, "other/1").stop_was_announced())

    assert place.reap(AtLook(2, attach)) == {job.name: "stopped"}
    assert told == [True]
    assert place.why(job).endswith("; other/1 came at that moment, and goes on with the next attempt")


def test_runs_whose_job_is_reaped_have_their_result(project, sm, backend, tmp_path):
    """1. A run sleeps too long. 2. The stop is on its way. 3. Another run attaches. 4. Both have the next attempt's."""
    faults, place, gate = backend.faults, Place(project), Gate(tmp_path / "gate")
    work = {"command": gate.wait, "state": "none"}
    with in_background(lambda: sm.train("fit", **work)) as sleeper:
        [name] = wait_until(lambda: place.reap(dry_run=True), "the job")
        place.objects.later = dict.fromkeys(wait_until(lambda: _waiters(place, name), "its mark"), timedelta(hours=1))
        faults.set({"requests": [{"kind": "hold", "operation": "StopTrainingJob"}]})
        with in_background(place.reap) as reaped, in_background(lambda: _attached(sm, faults, work)) as attached:
            try:
                wait_until(lambda: len(_waiters(place, name)) == 2, "the other run's mark")
                faults.clear()
                deeds = reaped.result()
            finally:
                faults.clear()
                gate.open()

    assert deeds == {name: "stopped"}
    assert "came at that moment" in place.why(place.jobs.describe(KINDS["training"], name))
    assert sleeper.result().job == attached.result().job != name
    assert jobs_of(backend, project, "fit") == [name, sleeper.result().job]


def _attached(sm, faults, work):
    """Call the task once the reaper's stop is on its way."""
    assert faults.wait_for_held()
    return sm.train("fit", **work)


def _waiters(place, job):
    folder = f"{place.project.key_prefix}fit/_ledger/interest/{job}/"
    return place.objects.ages(Location(place.project.bucket, folder))


def test_one_job_that_cannot_be_assessed(make_place):
    """An error with one job is in its row, and the others are still handled."""
    place = make_place()
    bad, good = place.job("bad"), place.job("good")

    class Refusing(LaterObjects):
        def ages(self, prefix):
            if bad.name in prefix.key:
                raise ServiceFault("S3 is away.")
            return super().ages(prefix)

    place.objects = Refusing(place.project)

    assert place.reap() == {bad.name: "not assessed", good.name: "stopped"}
    assert place.why(bad) == "S3 is away."
    assert [str(error) for error in place.harvest.errors] == ["S3 is away."]


# -- the flow --------------------------------------------------------------------------------------------------------


@pytest.mark.always
def test_the_flow_and_its_report(make_place, api):
    """By a saved block, the flow makes a dry run by default, and returns a table, which is also an artifact."""
    place = make_place(hourly_prices={"ml.m5.large": 0.5})
    name = place.project.project
    place.project.save(name)
    orphan, kept = place.job("fit"), place.job("sum", kind="processing")
    place.mark("sum", kept, "no-flow/1")
    table = reap_orphans(name, grace_minutes=0)
    first, second = table.to_dicts()
    key = ArtifactFilterKey(any_=[f"orphans-{name}"])
    [artifact] = api.read_artifacts(artifact_filter=ArtifactFilter(key=key))

    assert table.title == f"Live jobs of {name}: 1 kept, 1 would stop"
    assert first == {
        "task": "fit",
        "job": orphan.name,
        "age": "0 min",
        "instances": "2 x ml.m5.large",
        "cost so far": first["cost so far"],
        "last waiter": "none",
        "verdict": "would stop",
        "why": "no run waits for it or has a heartbeat; only the heartbeats decide",
    }
    assert first["cost so far"] in ("0.00", "less than 0.01")
    assert (second["job"], second["verdict"], second["why"]) == (kept.name, "kept", "1 run waits for it")
    assert second["last waiter"] == "no-flow, 0 min ago"
    assert artifact.description == table.title
    assert artifact.data == json.dumps([first, second])
    assert place.lives(orphan)

    real = reap_orphans(name, grace_minutes=0, dry_run=False)

    assert [row["verdict"] for row in real.to_dicts()] == ["stopped", "kept"]
    assert not place.lives(orphan)
    assert place.lives(kept)
