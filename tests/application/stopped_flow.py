"""Flows that are ended from outside while their jobs run. Run by a worker, or as a program; never imported.

    python stopped_flow.py FLOW STEM [ARGUMENT=JSON ...]

The name of each task begins with STEM. Most jobs are simulated and would run for an hour, so a job that ends earlier
was stopped. The return value of the flow is printed as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from prefect import flow, task, unmapped
from prefect.states import State

from tasks_lib import sagemaker_tasks

JOB = Path(__file__).with_name("waiting_job.sh")
LONG = {"environment": {"SIMULATED_SECONDS": "3600"}}
FAILS = {"environment": {"SIMULATED_SECONDS": "0", "SIMULATED_STATUS": "Failed"}}


def _tasks(**defaults: Any) -> Any:
    return sagemaker_tasks("local", image="local/simulated", **defaults)


@task
def inside(name: str) -> None:
    """A task that calls a SageMaker task in its own thread."""
    _tasks().train(name, **LONG)


@flow
def below(name: str) -> None:
    """A flow that submits one task and calls another."""
    submitted = _tasks().train.submit(f"{name}-submitted", **LONG)
    _tasks().train(f"{name}-direct", **LONG)
    submitted.result()


@task
def flow_inside(name: str) -> None:
    """A task that calls a flow in its own thread."""
    below(name)


@flow
def everything(stem: str) -> None:
    """Every way to start a job, at the same time; the flow's own thread waits in a flow that it calls."""
    sm = _tasks()
    sm.train.submit(f"{stem}-submitted", **LONG)
    sm.process.submit(f"{stem}-process", **LONG)
    sm.train.map([f"{stem}-map-{i}" for i in range(3)], environment=unmapped(LONG["environment"]))
    sm.train.with_options(retries=1, retry_delay_seconds=5).submit(f"{stem}-retried", **FAILS)
    inside.submit(f"{stem}-inside")
    flow_inside.submit(f"{stem}-thread")
    below(f"{stem}-below")


@flow
def one(stem: str, *, call: str = "submitted", on_exit: str = "stop", gate: str = "", value: int = 0) -> str:
    """One task, whose job waits for a gate if one is given; return the reason of its result."""
    gated: dict[str, Any] = {"entry_point": str(JOB), "arguments": [gate], "image": "local/python"}
    work = {**(gated if gate else {}), "environment": {**LONG["environment"], "VALUE": str(value)}}
    train = _tasks(on_exit=on_exit).train
    return (train(stem, **work) if call == "direct" else train.submit(stem, **work).result()).reason


@flow
async def asynchronous(stem: str, *, call: str = "submitted") -> None:
    """One task of an asynchronous flow: called, submitted and awaited in a thread, or submitted and waited for."""
    train = _tasks().train
    if call == "direct":
        train(stem, **LONG)
    elif call == "awaited":
        await asyncio.to_thread(train.submit(stem, **LONG).wait)
    else:
        train.submit(stem, **LONG).result()


@flow
async def asynchronous_task_out_of_time(stem: str) -> str:
    """An asynchronous flow that continues after the timeout of its task; return the name of the task's state."""
    timed = _tasks().train.with_options(timeout_seconds=8)
    state: State = timed(stem, return_state=True, **LONG)
    return state.name or ""


asynchronous_in_time = asynchronous.with_options(name="asynchronous_in_time", timeout_seconds=12)


@flow(timeout_seconds=12)
def out_of_time(stem: str, *, call: str) -> None:
    """A flow whose timeout passes while its tasks wait."""
    train = _tasks().train
    submitted = train.submit(f"{stem}-submitted", **LONG)
    if call == "direct":
        train(f"{stem}-direct", **LONG)
    submitted.result()


@flow
def tasks_out_of_time(stem: str, *, on_exit: str = "stop") -> dict[str, str]:
    """Tasks whose timeouts pass, beside one without; return the states of the former and the reason of the latter."""
    sm = _tasks(on_exit=on_exit)
    sm.train(f"{stem}-first", environment={"SIMULATED_SECONDS": "0"})  # so that imports take none of the others' time
    timed = sm.train.with_options(timeout_seconds=10)
    patient = sm.train.submit(f"{stem}-patient", environment={"SIMULATED_SECONDS": "16"})
    futures = timed.map([f"{stem}-map-{i}" for i in range(2)], environment=unmapped(LONG["environment"]))
    futures.append(timed.submit(f"{stem}-submitted", **LONG))
    states: list[State] = [timed(f"{stem}-direct", return_state=True, **LONG)]
    for future in futures:
        future.wait()
        states.append(future.state)
    ended = {state.name for state in states}
    return {"timed": ",".join(sorted(ended)), "patient": patient.result().reason}


@flow(retries=1)
def fails_once(stem: str, marker: str) -> str:
    """A flow that fails once after its task, and is retried by Prefect."""
    result = _tasks().train(stem, environment={"SIMULATED_SECONDS": "0"})
    if not Path(marker).exists():
        Path(marker).touch()
        raise ValueError("once")
    return result.reason


FLOWS = {
    each.name.replace("-", "_"): each
    for each in (
        *(everything, one, asynchronous, asynchronous_in_time, asynchronous_task_out_of_time),
        *(out_of_time, tasks_out_of_time, fails_once),
    )
}


def main(name: str, stem: str, *arguments: str) -> None:
    """Run one of the flows."""
    given = {key: json.loads(value) for key, _, value in (argument.partition("=") for argument in arguments)}
    result = FLOWS[name](stem, **given)
    if asyncio.iscoroutine(result):
        result = asyncio.run(result)
    sys.stdout.write(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
