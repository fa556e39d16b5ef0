"""Flows whose jobs run until a file appears, for tests that interfere meanwhile. Run as a program, never imported.

    python waiting_flow.py one WORK [--direct] [--aws] [--barrier FILE]
    python waiting_flow.py fail_beside WORK

WORK is a directory, and its name is the task's name. The job writes `started` there, and ends when `gate` exists. The
result is printed as JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from prefect import flow

from blocks import SageMakerProject
from tasks_lib import JobResult, sagemaker_tasks

JOB = Path(__file__).with_name("waiting_job.sh")


def _job(work: Path) -> dict[str, Any]:
    """Return the arguments of a job that says when it has started, and ends when the gate is open."""
    return {"entry_point": str(JOB), "arguments": [str(work)], "metrics": {"value": r"value=(\d+)"}}


def _on_aws() -> SageMakerProject:
    role = "arn:aws:iam::123456789012:role/local-sagemaker"
    return SageMakerProject(
        project="aws", bucket="local-sagemaker", region="us-east-1", role=role, image="local/python", spot=False
    )


def _wait_for(file: Path) -> None:
    while not file.exists():
        time.sleep(0.01)


@flow
def one(work: str, *, direct: bool = False, aws: bool = False) -> JobResult:
    """One task, submitted or called, on this machine or on the AWS that the environment defines."""
    train, place = sagemaker_tasks(_on_aws() if aws else "local").train, Path(work)
    return train(place.name, **_job(place)) if direct else train.submit(place.name, **_job(place)).result()


@flow
def fail_beside(work: str) -> None:
    """Two submitted tasks: one waits for its gate, and the other fails once the first one's job runs."""
    train, place = sagemaker_tasks().train, Path(work)
    train.submit(place.name, **_job(place))
    train.submit(f"{place.name}-wrong", command=f"until [ -e {work}/started ]; do sleep 0.05; done; exit 3").result()


def main() -> None:
    """Run one of the flows."""
    parser = argparse.ArgumentParser()
    parser.add_argument("flow", choices=["one", "fail_beside"])
    parser.add_argument("work", type=Path)
    parser.add_argument("--direct", action="store_true")
    parser.add_argument("--aws", action="store_true")
    parser.add_argument("--barrier", type=Path, help="say `ready` by this file, then wait for `go` beside it")
    wanted = parser.parse_args()
    if wanted.barrier:
        wanted.barrier.touch()
        _wait_for(wanted.barrier.with_name("go"))
    if wanted.flow == "fail_beside":
        fail_beside(str(wanted.work))
    else:
        result = one(str(wanted.work), direct=wanted.direct, aws=wanted.aws)
        shown = ("job", "cached", "reason", "metrics", "outputs")
        sys.stdout.write(json.dumps({name: getattr(result, name) for name in shown}, default=dict))


if __name__ == "__main__":
    main()
