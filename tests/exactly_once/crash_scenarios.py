"""The flows that are killed, and the process that runs them: it imports everything once, and forks for each flow.

`crash_processes.py` runs this module as a program, with the local SageMaker's home as its argument. The program reads
orders, one JSON object a line. It forks for each order, and prints the child's process id and later its exit code.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CODE = Path(__file__).with_name("crash_code")
SERVICES = ("s3", "sagemaker", "logs")


@dataclass(frozen=True)
class Scenario:
    """A flow to be killed.

    Args:
        name: Its name.
        tasks: Its tasks, in the order in which their jobs are created.
        killed: More arguments of its tasks, in the run that is killed and in the runs after it.
        prepared: Whether the flow has completed once before, without these arguments; default False.
        again: What follows the kill: a `new` flow run (the default), or a `retry` of the same one.
        jobs: The number of jobs of each task at the end; default 1.
    """

    name: str
    tasks: tuple[str, ...]
    killed: tuple[tuple[str, Any], ...] = ()
    prepared: bool = False
    again: str = "new"
    jobs: int = 1


ONE, CHAIN = ("fit",), ("clean", "fit", "evaluate")
SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("one", ONE),
        Scenario("one, retried", ONE, again="retry"),
        Scenario("forced", ONE, (("rerun", "always"),), prepared=True, again="retry", jobs=2),
        Scenario("forced at first", ONE, (("rerun", "always"),), again="retry"),
        Scenario("clean state", ONE, (("clean_state", True),), prepared=True, again="retry", jobs=2),
        Scenario("chain", CHAIN),
        Scenario("chain, retried", CHAIN, again="retry"),
    )
}


def _flows(first: Any) -> dict[tuple[str, ...], Any]:
    """Return the flows by the names of their tasks; `first` is a project whose clients are made."""
    from prefect import flow

    from tasks_lib import output_of, sagemaker_tasks

    def tasks_of(project: str, gates: str) -> Any:
        place = first.model_copy(update={"project": project})
        return sagemaker_tasks(place, environment={"GATES": gates})

    metrics = {"loss": r"loss=([0-9.]+)", "began": r"began=(\d+)"}

    @flow
    def one(project: str, gates: str, data: str, how: dict[str, Any]) -> list[Any]:
        sm = tasks_of(project, gates)
        fit = {"source_dir": CODE, "entry_point": "fit.sh", "inputs": {"data": data}, "metrics": metrics}
        return [sm.train.submit("fit", **fit, **how).result()]

    @flow
    def chain(project: str, gates: str, data: str, how: dict[str, Any]) -> list[Any]:
        sm = tasks_of(project, gates)
        clean = sm.process.submit("clean", source_dir=CODE, code="clean.sh", inputs={"raw": data}, **how)
        fit = sm.train.submit(
            "fit",
            source_dir=CODE,
            entry_point="fit.sh",
            inputs={"data": output_of(clean)},
            metrics=metrics,
            **how,
        )
        evaluate = sm.process.submit(
            "evaluate",
            source_dir=CODE,
            code="evaluate.sh",
            inputs={"model": output_of(fit, extract=True), "data": output_of("clean")},
            metrics={"lines": r"lines=(\d+)"},
            **how,
        )
        return [clean.result(), fit.result(), evaluate.result()]

    return {ONE: one, CHAIN: chain}


def _run(flow: Any, order: dict[str, Any]) -> None:
    """Run a flow in a new flow run or in the one that the order names; write its id, then its results."""
    from prefect.context import SyncClientContext
    from prefect.flow_engine import run_flow
    from prefect.states import Crashed, Pending, Scheduled

    parameters = {name: order[name] for name in ("project", "gates", "data", "how")}
    said = Path(order["said"])
    with SyncClientContext.get_or_create() as context:
        client = context.client
        if order["flow_run"]:
            # The states that the worker of a dead process, `prefect flow-run retry` and the next worker set.
            for state in (Crashed(), Scheduled(message="Retried via CLI"), Pending()):
                client.set_flow_run_state(order["flow_run"], state, force=True)
            run = client.read_flow_run(order["flow_run"])
        else:
            run = client.create_flow_run(flow, parameters=parameters)
        said.with_suffix(".run").write_text(str(run.id))
        results = run_flow(flow, flow_run=run, parameters=parameters)
    said.write_text(json.dumps([result.model_dump(mode="json") for result in results]))


def _fork(work: Callable[[], None], log: str) -> int:
    """Run a function in a child process; return the child's process id."""
    # Not with `multiprocessing`: a process has only one fork server, and other tests use that.
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for number in (1, 2):
            os.dup2(output, number)
        work()
        code = 0
    except BaseException:  # noqa: BLE001 - the last output of this process
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def serve(home: str) -> None:
    """Handle orders until there are no more."""
    # Prefect imports these within each flow run.
    import anyio._backends._asyncio  # noqa: F401 - imported for the forks
    import prefect.utilities.visualization  # noqa: F401 - imported for the forks
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    from blocks import SageMakerProject

    # At the end of each flow run, Prefect waits a second for the thread of its heartbeat.
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        _serve(SageMakerProject.local("crash", home=home))


def _serve(first: Any) -> None:
    from tasks_lib.staging.source import toolkit

    # Make the clients before the first fork, since making one takes longer than a whole flow. Close their connections,
    # since each child must have its own: otherwise the server would not see a child die.
    for service in SERVICES:
        first.client(service)
    for service in SERVICES:
        first.client(service).close()
    flows = _flows(first)
    toolkit()
    _say({"ready": True})
    for line in sys.stdin:
        order = json.loads(line)
        work = flows[tuple(order["tasks"])]
        child = _fork(lambda work=work, order=order: _run(work, order), order["log"])
        _say({"pid": child})
        _say({"ended": os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])})


def _say(word: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(word) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    serve(sys.argv[1])
