"""What happens to a job if its flow run is cancelled, timed out, interrupted, retried or killed.

The flows run with a real Prefect server and a real worker, or in a process of their own. Most jobs would run for an
hour, so a job that has ended was stopped.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import uuid
from contextlib import suppress

import pytest
from application_programs import Program, flow_runs, recorded_states, task_states
from waiting import wait_until
from worker_runs import FLOWS, WorkerRuns

# Flows that are cancelled, killed or timed out log errors, and a worker repeats its flows' logs.
pytestmark = pytest.mark.logs_errors(r"\| (Task|Flow) run '")

BUCKET = "local-sagemaker"
OVER = {"Stopping", "Stopped"}
TOLD_OF_A_KILL = "Check whether the flow run exceeded its memory allocation"  # the worker's last word on a SIGKILL


class Stage:
    """A local SageMaker, and flows of `stopped_flow.py` on it, whose tasks' names begin with the stem.

    Args:
        backend: The local SageMaker.
        start: Starts a program.
        variables: The flows' environment.
    """

    def __init__(self, backend, start, variables: dict[str, str]) -> None:
        self.stem = f"stop-{uuid.uuid4().hex[:8]}"
        self._backend, self._start, self._variables = backend, start, variables
        self.faults = backend.faults

    def flow(self, name: str, *, level: str = "INFO", **arguments) -> Program:
        """Start a flow in its own process, with this log level."""
        given = [f"{key}={json.dumps(value)}" for key, value in arguments.items()]
        variables = {**self._variables, "PREFECT_LOGGING_LEVEL": level}
        return self._start(str(FLOWS), name, self.stem, *given, cwd=FLOWS.parent, **variables)

    def jobs(self) -> dict[str, str]:
        """Return the status of each job by task and attempt: its name without the stem and the hash."""
        client = self._backend.client("sagemaker")
        trained = client.list_training_jobs(NameContains=self.stem, MaxResults=100)["TrainingJobSummaries"]
        processed = client.list_processing_jobs(NameContains=self.stem, MaxResults=100)["ProcessingJobSummaries"]
        return {
            **{_short(row["TrainingJobName"], self.stem): row["TrainingJobStatus"] for row in trained},
            **{_short(row["ProcessingJobName"], self.stem): row["ProcessingJobStatus"] for row in processed},
        }

    def wait_for_jobs(self, *names: str) -> None:
        """Wait until these jobs run."""
        wait_until(lambda: all(self.jobs().get(name) == "InProgress" for name in names), f"{names} to run")

    def waiters(self) -> list[str]:
        """Return the keys of the heartbeats of these tasks' jobs, without the marks of jobs that were left running."""
        listed = self._backend.client("s3").list_objects_v2(Bucket=BUCKET, Prefix=f"local/{self.stem}")
        keys = [row["Key"] for row in listed.get("Contents", []) if "/_ledger/interest/" in row["Key"]]
        return [key for key in keys if "/left/" not in key]


def _states(prefect_api: str, stage: Stage) -> list[str]:
    """Return the states of a stage's flow runs, with those of flows that they call."""
    return [run["state_name"] for run in flow_runs(prefect_api) if stage.stem in str(run["parameters"])]


def _short(name: str, stem: str) -> str:
    task, _, attempt = name.removeprefix(stem).rpartition("-")
    return f"{task.rpartition('-')[0].removeprefix('-')}-{attempt}".removeprefix("-")


@pytest.fixture(scope="module")
def stopped_backend(tmp_path_factory, make_backend):
    """One local SageMaker for these tests alone: its faults must not affect other tests."""
    backend = make_backend(tmp_path_factory.mktemp("stopped") / "home")
    backend.up()
    backend.client("s3").create_bucket(Bucket=BUCKET)
    return backend


@pytest.fixture(scope="module")
def variables(stopped_backend, prefect_api, tmp_path_factory):
    """The environment of all flows here."""
    return {
        "PREFECT_API_URL": prefect_api,
        "PREFECT_HOME": str(tmp_path_factory.mktemp("stopped_prefect")),
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "LOCAL_SAGEMAKER_HOME": str(stopped_backend.home),
    }


@pytest.fixture(scope="module")
def runs(start, prefect_api, variables):
    """A worker and its runs."""
    runs = WorkerRuns(prefect_api, start, variables)
    yield runs
    runs.worker.end()


@pytest.fixture
def stage(stopped_backend, start, variables):
    """A stage of this test alone; its faults are cleared afterwards."""
    stage = Stage(stopped_backend, start, variables)
    yield stage
    stage.faults.clear()


@pytest.fixture
def gate(tmp_path):
    """A directory in which a job writes `started` and waits for `gate`; after the test, `gate` exists in any case."""
    yield tmp_path
    (tmp_path / "gate").touch()


EVERYTHING = ("submitted", "process", "map-0", "map-1", "map-2", "inside", "thread-submitted", "thread-direct")
BELOW = ("below-submitted", "below-direct")


def test_cancel_in_the_ui_stops_every_job(runs, stage):
    """If a worker's run is cancelled in the UI, it ends Cancelled, and each job was stopped before that.

    The tasks are submitted, mapped, called from another task or from a flow in one, or called and submitted by a called
    flow. A task that waits for its retry starts no second job.
    """
    run = runs.run("everything", stem=stage.stem)
    names = [f"{name}-1" for name in (*EVERYTHING, *BELOW)]
    stage.wait_for_jobs(*names)
    wait_until(lambda: stage.jobs().get("retried-1") == "Failed", "a task to wait for its next try")
    run.cancel()
    state = run.wait_for("Cancelled", "Crashed", "Failed", "Completed")
    jobs = stage.jobs()

    assert state == "Cancelled"
    assert {name: jobs[name] for name in names} == dict.fromkeys(names, "Stopped")
    assert stage.waiters() == []
    assert run.process() is None
    cancelled = dict.fromkeys((f"{stage.stem}-{name}" for name in EVERYTHING[:5]), "Cancelled").items()
    wait_until(lambda: cancelled <= task_states(runs.api, run.number).items(), "its task runs to be Cancelled")


@pytest.mark.exhaustive
def test_cancel_by_the_command_line(runs, stage):
    """`prefect flow-run cancel` stops the job of a task that blocks the event loop of an asynchronous flow."""
    run = runs.run("asynchronous", stem=stage.stem, call="direct")
    stage.wait_for_jobs("1")
    done = runs.prefect("flow-run", "cancel", run.number).done()
    state = run.wait_for("Cancelled", "Crashed", "Failed", "Completed")

    assert done.code == 0, done.out + done.err
    assert state == "Cancelled"
    assert stage.jobs() == {"1": "Stopped"}
    assert recorded_states(runs.api, run.number, {stage.stem: "Cancelled"})


@pytest.mark.exhaustive
def test_left_killed_and_tried_again(runs, stage, gate):
    """With `on_exit='leave'`, a cancel leaves the job, as a SIGKILL does, and each retry of the run attaches to it."""
    run = runs.run("one", stem=stage.stem, on_exit="leave", gate=str(gate))
    run.wait_for_log("algo-1 | started")
    run.cancel()
    first = run.wait_for("Cancelled", "Crashed", "Failed", "Completed")
    left = stage.jobs()
    run.retry()
    run.wait_for_log("attached to the job")
    told = runs.worker.said.count(TOLD_OF_A_KILL)
    run.kill()
    second = run.wait_for("Cancelled", "Crashed", "Failed", "Completed")
    # Twice: before the worker sets `Crashed`, and seconds later, when it has proposed it again, now to the retried run.
    wait_until(lambda: runs.worker.said.count(TOLD_OF_A_KILL) >= told + 2, "the worker's last word on it")
    killed = stage.jobs()
    run.retry()
    run.wait_for_log("attached to the job", times=2)
    (gate / "gate").touch()
    last = run.wait_for("Cancelled", "Crashed", "Failed", "Completed")

    assert (first, second, last) == ("Cancelled", "Crashed", "Completed")
    assert left == killed == {"1": "InProgress"}
    assert stage.jobs() == {"1": "Completed"}
    # Not from the run's log: of the last messages of a process, Prefect sends only what it can within 5 s.
    assert f"stop-training-job --training-job-name {stage.stem}" in runs.worker.said


@pytest.mark.exhaustive
def test_worker_and_flow_killed(runs, stage):
    """If worker and flow are killed, the job goes on; a retry on another worker attaches, and its cancel stops it."""
    run = runs.run("one", stem=stage.stem)
    stage.wait_for_jobs("1")
    runs.worker.kill()
    run.kill()
    left = stage.jobs()
    runs.work_again()
    run.retry()
    run.wait_for_log("attached to the job")
    run.cancel()
    state = run.wait_for("Cancelled", "Crashed", "Failed", "Completed")

    assert left == {"1": "InProgress"}
    assert state == "Cancelled"
    assert stage.jobs() == {"1": "Stopped"}


@pytest.mark.exhaustive
def test_signal_to_a_run_of_a_worker(runs, stage):
    """A SIGTERM that is not from the worker's cancel stops the job, too."""
    run = runs.run("one", stem=stage.stem)
    run.wait_for_log("algo-1 | simulated")
    os.kill(run.process(), signal.SIGTERM)
    wait_until(lambda: not run.process(), "the run's process to end")

    assert run.state == "Cancelled"
    assert set(stage.jobs().values()) <= OVER
    assert stage.waiters() == []


def test_rescheduled_run_leaves_its_job(runs, stage):
    """If `prefect flow-run execute` reschedules its run on SIGTERM, the job is left for the next run."""
    run = runs.run("one", pool=None, stem=stage.stem)
    behaviour = {"PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR": "reschedule"}
    flow = runs.prefect("flow-run", "execute", run.number, **behaviour)
    run.wait_for_log("algo-1 | simulated")
    flow.signal(signal.SIGTERM)
    flow.done()

    assert run.state == "AwaitingRetry"
    assert stage.jobs() == {"1": "InProgress"}


@pytest.mark.sampled(2, group="ends")
def test_tasks_out_of_time(stage):
    """A task's timeout stops its job, called, submitted or mapped; a task beside it completes."""
    done = stage.flow("tasks_out_of_time").done()
    names = ("direct-1", "submitted-1", "map-0-1", "map-1-1")
    wait_until(lambda: not {stage.jobs()[name] for name in names} - {"Stopped"}, "the jobs to have stopped")

    assert done.code == 0, done.err
    assert json.loads(done.out) == {"timed": "TimedOut", "patient": "ran: first run"}
    assert stage.jobs()["patient-1"] == "Completed"
    assert stage.waiters() == []


@pytest.mark.exhaustive
def test_task_out_of_time_in_an_asynchronous_flow(stage, prefect_api):
    """A task's timeout in an asynchronous flow ends only that task, and not the flow run."""
    done = stage.flow("asynchronous_task_out_of_time").done()

    assert json.loads(done.out) == "TimedOut"
    assert _states(prefect_api, stage) == ["Completed"]
    assert stage.jobs()
    assert set(stage.jobs().values()) <= OVER


@pytest.mark.exhaustive
def test_tasks_out_of_time_leave_their_jobs(stage):
    """With `on_exit='leave'`, a task's timeout leaves its job, and the log says how to stop it."""
    done = stage.flow("tasks_out_of_time", on_exit="leave").done()

    assert json.loads(done.out)["timed"] == "TimedOut"
    assert {stage.jobs()[name] for name in ("direct-1", "submitted-1", "map-0-1")} == {"InProgress"}
    assert done.err.count("aws sagemaker stop-training-job") == 4


@pytest.mark.sampled(2, group="ends")
@pytest.mark.parametrize(
    ("flow", "call"),
    [(flow, call) for flow in ("out_of_time", "asynchronous_in_time") for call in ("direct", "awaited")],
)
def test_flow_out_of_time(stage, prefect_api, flow, call):
    """A flow's timeout stops its jobs, called and submitted, and the run ends TimedOut."""
    done = stage.flow(flow, call=call).done()

    assert done.code != 0
    assert _states(prefect_api, stage) == ["TimedOut"], done.err
    assert set(stage.jobs().values()) <= OVER
    assert stage.jobs()
    assert stage.waiters() == []


@pytest.mark.sampled(2, group="ends")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_every_flow_run_cancelled(stage, prefect_api, number):
    """SIGTERM and SIGINT stop all jobs, and the flow run and the flows that it calls end Cancelled, not Crashed."""
    flow = stage.flow("everything")
    stage.wait_for_jobs(*(f"{name}-1" for name in (*EVERYTHING, *BELOW)))
    flow.signal(number)
    done = flow.done()

    assert done.code in (-number, 128 + number), done.err
    assert _states(prefect_api, stage) == ["Cancelled"] * 3
    assert {stage.jobs()[f"{name}-1"] for name in (*EVERYTHING, *BELOW)} <= OVER
    assert stage.waiters() == []


@pytest.mark.sampled(2, group="ends")
def test_signal_to_a_flow_that_leaves_its_job(stage, prefect_api):
    """With `on_exit="leave"`, a signal leaves the job, and the run is Crashed, so that an automation can restart it."""
    flow = stage.flow("one", on_exit="leave")
    stage.wait_for_jobs("1")
    flow.wait_for("started")
    flow.signal(signal.SIGTERM)
    flow.done()

    assert _states(prefect_api, stage) == ["Crashed"]
    assert stage.jobs() == {"1": "InProgress"}


@pytest.mark.sampled(2, group="ends")
@pytest.mark.parametrize("call", ["direct", "awaited", "submitted"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_to_an_asynchronous_flow(stage, prefect_api, call, number):
    """SIGTERM and SIGINT stop an asynchronous flow's job, also if the task blocks the event loop: Cancelled.

    Only if `future.result()` blocks the loop, a first Ctrl-C has no effect: Python leaves it to the loop.
    """
    flow = stage.flow("asynchronous", call=call)
    stage.wait_for_jobs("1")
    flow.wait_for("started")
    flow.signal(number)
    if (call, number) == ("submitted", signal.SIGINT):
        with suppress(subprocess.TimeoutExpired):  # two signals at once would be one
            flow.process.wait(timeout=3)
        flow.signal(number)
    done = flow.done()

    assert done.code != 0
    assert set(stage.jobs().values()) <= OVER
    assert stage.waiters() == []
    assert flow.group() == []
    assert _states(prefect_api, stage) == ["Cancelled"]


@pytest.mark.sampled(2, group="ends")
@pytest.mark.parametrize("call", ["direct", "submitted"])
def test_two_ctrl_c_in_a_row(stage, call):
    """A second Ctrl-C, while the stop request of the first is in flight, does not prevent the stop.

    It goes to the whole process group, as in a terminal; the jobs have their own session.
    """
    flow = stage.flow("one", call=call)
    stage.wait_for_jobs("1")
    flow.wait_for("started")
    stage.faults.set({"requests": [{"kind": "hold", "operation": "StopTrainingJob"}]})
    os.killpg(flow.process.pid, signal.SIGINT)
    wait_until(lambda: stage.faults.wait_for_held(20), "the request to be held")
    os.killpg(flow.process.pid, signal.SIGINT)
    stage.faults.clear()
    done = flow.done()
    wait_until(lambda: stage.jobs() == {"1": "Stopped"}, "the job to have stopped")

    assert done.code != 0
    assert stage.waiters() == []
    assert flow.group() == []


@pytest.mark.sampled(2, group="ends")
@pytest.mark.parametrize("call", ["direct", "submitted"])
def test_signal_before_a_job_is_asked_for(stage, gate, call):
    """A run that is ended before its create makes no job, and blocks no other work."""
    stage.faults.set({"requests": [{"kind": "hold", "operation": "PutObject", "path": "*/_ledger/interest/*"}]})
    flow = stage.flow("one", level="DEBUG", call=call, gate=str(gate))
    wait_until(lambda: stage.faults.wait_for_held(20), "the mark to be held")
    flow.signal(signal.SIGTERM)
    flow.wait_for("Crash detected" if call == "direct" else "Set cancel event")
    stage.faults.clear()
    done = flow.done()
    none = stage.jobs()
    (gate / "gate").touch()
    other = stage.flow("one", gate=str(gate), value=1).done()

    assert done.code != 0
    assert none == {}
    assert other.code == 0, other.err
    assert stage.jobs() == {"1": "Completed"}


@pytest.mark.exhaustive
@pytest.mark.parametrize("call", ["direct", "submitted"])
def test_signal_while_other_work_has_the_state(stage, call):
    """A run that is ended while it waits for its task's state ends at once. The job that holds the state goes on."""
    first = stage.flow("one")
    stage.wait_for_jobs("1")
    second = stage.flow("one", call=call, value=1)
    second.wait_for("waiting for job")
    second.signal(signal.SIGTERM)
    waiting = second.done()
    jobs = stage.jobs()
    first.signal(signal.SIGTERM)
    first.done()

    assert waiting.code != 0
    assert jobs == {"1": "InProgress"}
    assert set(stage.jobs().values()) <= OVER


def test_retries_of_a_flow(stage, tmp_path):
    """If a flow fails after its task and Prefect retries the flow, the task is skipped: one job."""
    done = stage.flow("fails_once", marker=str(tmp_path / "marker")).done()

    assert json.loads(done.out) == "skipped: nothing changed"
    assert stage.jobs() == {"1": "Completed"}
