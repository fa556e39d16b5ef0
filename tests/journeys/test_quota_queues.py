"""Quotas of the account as a user meets them: checked before the job, queued for at AWS, queued for in Prefect."""

from __future__ import annotations

import json
import threading
from collections import Counter

import pytest
from journey_tools import counting, in_background
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from waiting import PATIENCE_SECONDS, wait_until

from blocks import SageMakerProject
from tasks_lib import sagemaker_tasks
from tasks_lib.cli import main
from tasks_lib.errors import QuotaExceeded
from tasks_lib.jobs.kinds import TRAINING
from tasks_lib.prefect_runtime.run_context import RunCancelled, RunContext
from tasks_lib.quotas.quota import limit_name
from tasks_lib.quotas.slots import Slots

pytestmark = pytest.mark.sampled(4, group="all")

TYPE = "ml.m5.large"
ON_DEMAND, SPOT, PROCESSING = (f"{TYPE} for {use} job usage" for use in ("training", "spot training", "processing"))
QUICK = {"state": "none", "environment": {"SIMULATED_SECONDS": "0"}}
LIMIT = limit_name("123456789012", "us-east-1", ON_DEMAND)


@pytest.fixture(scope="module")
def backend(tmp_path_factory, make_backend):
    """A server of this module alone: its quotas must not affect other tests."""
    backend = make_backend(tmp_path_factory.mktemp("quotas") / "home")
    backend.up()
    return backend


@pytest.fixture(scope="module")
def shared_clients(backend):
    """A project whose clients all projects of this module share, since they are slow to make."""
    return SageMakerProject.local("quotas", home=backend.home, image="local/simulated", spot=False)


@pytest.fixture
def make_project(shared_clients, request):
    """Return a function that makes a project with a folder of this test alone."""
    name = f"p-{abs(hash(request.node.nodeid)):x}"

    def make(**fields):
        return shared_clients.model_copy(update={"project": name, **fields})

    return make


@pytest.fixture
def set_quotas(backend, shared_clients):
    """Return a function that writes the account's quotas into `settings.json`; they are removed afterwards.

    New clients read them again.
    """
    path = backend.home / "settings.json"
    before = path.read_text()

    def write(quotas):
        path.write_text(json.dumps({**json.loads(before), "quotas": quotas}))
        shared_clients.forget_clients()

    yield write
    path.write_text(before)
    shared_clients.forget_clients()


@pytest.fixture
def api():
    """A client of the Prefect server, without limits for quotas: a page of the documentation may have left some."""
    with get_client(sync_client=True) as client:
        delete_limits(client)
        yield client
        delete_limits(client)


def limits_of_quotas(client):
    """Return the limits that were made for quotas, with their slots; the others belong to deployments."""
    found = client.read_global_concurrency_limits(limit=200)
    return {limit.name: limit.limit for limit in found if limit.name.startswith("sagemaker:")}


def delete_limits(client):
    for name in limits_of_quotas(client):
        client.delete_global_concurrency_limit_by_name(name)


def ssm(capsys, *arguments):
    """Run a command; return its exit code and its output."""
    code = main(arguments)
    said = capsys.readouterr()
    return code, said.out + said.err


@pytest.fixture
def block(make_project):
    """Return a function that saves a project as a block and returns the block's name; it is deleted afterwards."""
    saved = set()

    def save(**fields):
        project = make_project(**fields)
        project.save(project.project, overwrite=True)
        saved.add(project.project)
        return project.project

    yield save
    for name in saved:
        SageMakerProject.delete(name)


@flow
def six(project, seconds):
    """Run six jobs at once."""
    sm = sagemaker_tasks(project, state="none", environment={"SIMULATED_SECONDS": str(seconds)})
    fits = [sm.train.submit(f"fit-{number}") for number in range(6)]
    return [fit.result() for fit in fits]


def most_at_once(backend, results):
    """Return how many of these results' jobs were live at the same moment, by SageMaker's times."""
    sagemaker = backend.client("sagemaker")
    jobs = [sagemaker.describe_training_job(TrainingJobName=result.job) for result in results]
    births = [(job["CreationTime"], 1) for job in jobs]
    deaths = [(job["TrainingEndTime"], -1) for job in jobs]
    live = most = 0
    for _, change in sorted([*births, *deaths]):
        live += change
        most = max(most, live)
    return most


# -- six jobs, and a quota of two ----------------------------------------------------------------------------------


@pytest.mark.always
def test_a_used_up_quota_is_a_queue(backend, make_project, set_quotas):
    """Without limits in Prefect, AWS's refusals are retried: all jobs complete, and at most two are live at once."""
    set_quotas({ON_DEMAND: 2})
    with counting(backend) as made:
        results = six(make_project(), 3)

    assert len({result.job for result in results}) == 6
    assert most_at_once(backend, results) == 2
    assert made["sagemaker:CreateTrainingJob"] > 6


@pytest.mark.exhaustive
def test_with_limits_in_prefect_no_create_is_refused(backend, make_project, set_quotas, api):
    """With limits in Prefect, the six jobs wait for their slots: as many creates as jobs, and no slot stays taken."""
    set_quotas({ON_DEMAND: 2})
    api.upsert_global_concurrency_limit_by_name(LIMIT, 2)
    with counting(backend) as made:
        results = six(make_project(use_concurrency_limits=True), 3)

    assert most_at_once(backend, results) == 2
    assert made["sagemaker:CreateTrainingJob"] == 6
    assert api.read_global_concurrency_limit_by_name(LIMIT).active_slots == 0


def test_without_the_limit_the_jobs_run(make_project, api, run_log):
    """If the limit for a block's slots does not exist, the job runs, and the log says how to make the limit."""
    result = sagemaker_tasks(make_project(use_concurrency_limits=True)).train("fit", **QUICK)

    assert result.job
    assert any(LIMIT in text and "ssm quotas --apply" in text for text in run_log.texts)


# -- before the job ------------------------------------------------------------------------------------------------


@pytest.mark.sampled(1)
@pytest.mark.parametrize(("value", "hosts"), [(0, 1), (2, 3)])
def test_a_job_that_can_never_run_is_refused_before_anything_is_made(backend, make_project, set_quotas, value, hosts):
    """A job beyond its quota is refused with task, quota, figures and fix; no job and no role is created."""
    set_quotas({ON_DEMAND: value})
    project = make_project()
    with counting(backend) as made, pytest.raises(QuotaExceeded) as caught:
        sagemaker_tasks(project).train("fit", instance_count=hosts)
    said = str(caught.value)

    assert f"Task 'fit' asks for {hosts} instance(s), and the account's quota '{ON_DEMAND}' is {value}" in said
    assert f"To resolve this: raise it in {backend.home}/settings.json" in said
    assert not {name for name in made if name.startswith(("sagemaker:Create", "iam:Create"))}


@pytest.mark.parametrize(
    "quotas", [{}, {SPOT: 0, PROCESSING: 0, "ml.c5.large for training job usage": 0}], ids=["none", "of others"]
)
def test_what_no_quota_is_about_runs(make_project, set_quotas, quotas):
    """Quotas for other uses and other types do not matter, and a job without a quota runs."""
    set_quotas(quotas)

    assert sagemaker_tasks(make_project()).train("fit", instance_count=50, **QUICK).job


def test_jobs_run_without_permission_to_list_quotas(backend, make_project, set_quotas):
    """Without the permission to list quotas, jobs run; the package asks for them once in a process."""
    set_quotas({ON_DEMAND: 1})
    faults, sm = backend.faults, sagemaker_tasks(make_project(), **QUICK)
    denied = {"kind": "error", "service": "servicequotas", "code": "AccessDeniedException"}
    faults.set({"requests": [denied]})
    try:
        with counting(backend) as made:
            jobs = [sm.train(f"fit-{number}").job for number in range(2)]
    finally:
        faults.clear()

    assert len(set(jobs)) == 2
    assert made["servicequotas:ListServiceQuotas"] == 1


# -- slots ---------------------------------------------------------------------------------------------------------


def request_for(hosts, *types):
    """Return the part of a create request that determines its quotas."""
    if len(types) > 1:
        choices = [{"InstanceType": each, "InstanceCount": hosts} for each in types]
        return {"ResourceConfig": {"InstancePreferences": choices}}
    return {"ResourceConfig": {"InstanceType": types[0] if types else TYPE, "InstanceCount": hosts}}


def taken(api, limit=LIMIT):
    """Return how many slots of a limit are taken."""
    return api.read_global_concurrency_limit_by_name(limit).active_slots


def test_slots_are_hosts(make_project, api):
    """Slots are taken once however often they are requested, change with the request, and are given back once."""
    api.upsert_global_concurrency_limit_by_name(LIMIT, 4)
    slots = Slots(make_project(use_concurrency_limits=True), RunContext(api=api), "fit")
    seen = []
    for hosts in (3, 3, 2):
        waited = slots.acquire(TRAINING, request_for(hosts))
        seen.append((waited, taken(api)))
    for _ in range(2):
        slots.release()
        seen.append(taken(api))

    assert seen == [(False, 3), (False, 3), (False, 2), 0, 0]


def test_each_of_several_instance_types_has_its_slots(make_project, api):
    """A request with several instance types takes slots for each, since AWS checks the quota of each."""
    other = limit_name("123456789012", "us-east-1", "ml.c5.xlarge for training job usage")
    for limit in (LIMIT, other):
        api.upsert_global_concurrency_limit_by_name(limit, 4)
    slots = Slots(make_project(use_concurrency_limits=True), RunContext(api=api), "fit")
    slots.acquire(TRAINING, request_for(2, TYPE, "ml.c5.xlarge"))
    both = [taken(api), taken(api, other)]
    slots.release()

    assert both == [2, 2]
    assert [taken(api), taken(api, other)] == [0, 0]


def test_slots_are_off_by_default(make_project, api):
    """By default the block takes no slots, even if there is a limit."""
    api.upsert_global_concurrency_limit_by_name(LIMIT, 1)

    assert Slots(make_project(), RunContext(api=api), "fit").acquire(TRAINING, request_for(5)) is False
    assert taken(api) == 0


def test_more_hosts_than_slots_is_an_error(make_project, api):
    """More hosts than slots is an error: such a job would wait forever."""
    api.upsert_global_concurrency_limit_by_name(LIMIT, 2)
    slots = Slots(make_project(use_concurrency_limits=True), RunContext(api=api), "fit")
    with pytest.raises(QuotaExceeded, match=r"asks for 3 instance\(s\).*\n.*ssm quotas --apply"):
        slots.acquire(TRAINING, request_for(3))

    assert taken(api) == 0


def test_a_prefect_server_that_does_not_answer_stops_no_job(make_project):
    """If the Prefect server does not answer, the job is not held up: AWS still says when a quota is used up."""
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}), get_client(sync_client=True) as nobody:
        slots = Slots(make_project(use_concurrency_limits=True), RunContext(api=nobody), "fit")
        waited = slots.acquire(TRAINING, request_for(1))
        slots.release()

    assert waited is False


def test_a_cancelled_run_waits_no_more_and_the_next_in_line_goes_on(make_project, api):
    """Three tasks want one slot: the first has it, the second is cancelled, and the third gets it when it is free."""
    api.upsert_global_concurrency_limit_by_name(LIMIT, 1)
    project, cancelled = make_project(use_concurrency_limits=True), threading.Event()
    told = Counter()

    class Run(RunContext):
        def log_status(self, task, text):
            told[task] += 1

    first, second, third = (
        Slots(project, Run(api=api, cancelled=cancelled.is_set if name == "second" else lambda: False), name)
        for name in ("first", "second", "third")
    )
    first.acquire(TRAINING, request_for(1))
    with in_background(lambda: second.acquire(TRAINING, request_for(1))) as second_waits:
        wait_until(lambda: told["second"], "the second to wait")
        with in_background(lambda: third.acquire(TRAINING, request_for(1))) as third_waits:
            wait_until(lambda: told["third"], "the third to wait")
            cancelled.set()
            with pytest.raises(RunCancelled, match=f"'second' waited for slots of '{LIMIT}'"):
                second_waits.result(PATIENCE_SECONDS)
            still_waits = not third_waits.done()
            first.release()
            had_to_wait = third_waits.result(PATIENCE_SECONDS)
    third.release()

    assert (still_waits, had_to_wait) == (True, True)
    assert taken(api) == 0


# -- the command ---------------------------------------------------------------------------------------------------


def test_the_command_shows_quotas_beside_limits(capsys, block, set_quotas, api):
    """The table has a row for each use of the block's instance type, with its quota and its limit."""
    set_quotas({ON_DEMAND: 2, SPOT: 0})
    api.upsert_global_concurrency_limit_by_name(LIMIT, 5)
    name = block()
    code, said = ssm(capsys, "quotas", "--block", name)
    rows = [line.split() for line in said.splitlines() if " for " in line and "job usage" in line]

    assert code == 0, said
    assert [row[-1] for row in rows] == ["5", "training", "processing"]
    assert [row[row.index("usage") + 1] for row in rows] == ["2", "0", TYPE]
    assert said.endswith(f"Next: ssm quotas --block {name} --apply\n")


def test_apply_makes_limits_of_quotas_above_zero(capsys, block, set_quotas, api):
    """Limits are made, kept or changed to match the account's quotas, only for the named types."""
    set_quotas({ON_DEMAND: 2, SPOT: 0, PROCESSING: 3, "ml.c5.xlarge for training job usage": 7})
    apply = ("quotas", "--block", block(), "--apply")
    first, second = ssm(capsys, *apply), ssm(capsys, *apply)
    set_quotas({ON_DEMAND: 4, PROCESSING: 3})
    third = ssm(capsys, *apply, "--instance-type", TYPE)

    assert [code for code, _ in (first, second, third)] == [0, 0, 0]
    assert f"Made '{LIMIT}' with 2 slots." in first[1]
    assert "Kept 2 limit(s)" in second[1]
    assert f"Changed '{LIMIT}' from 2 to 4 slots." in third[1]
    assert limits_of_quotas(api) == {LIMIT: 4, limit_name("123456789012", "us-east-1", PROCESSING): 3}


def test_limits_need_a_prefect_server(capsys, make_project, monkeypatch, backend, set_quotas):
    """Without a Prefect server the quotas are shown, and `--apply` is refused."""
    monkeypatch.setenv("LOCAL_SAGEMAKER_HOME", str(backend.home))
    set_quotas({ON_DEMAND: 2})
    with temporary_settings({PREFECT_API_URL: None}):
        shown = ssm(capsys, "quotas")
        refused = ssm(capsys, "quotas", "--apply")

    assert (shown[0], refused[0]) == (0, 1)
    assert ON_DEMAND in shown[1]
    assert "prefect config set PREFECT_API_URL" in refused[1]


def test_quotas_that_cannot_be_read_are_an_error_of_the_command(capsys, block, backend):
    """If the quotas cannot be read, the command ends with an error that says why."""
    faults, name = backend.faults, block()
    faults.set({"requests": [{"kind": "error", "service": "servicequotas", "code": "AccessDeniedException"}]})
    try:
        code, said = ssm(capsys, "quotas", "--block", name)
    finally:
        faults.clear()

    assert code == 1
    assert "AccessDeniedException" in said
