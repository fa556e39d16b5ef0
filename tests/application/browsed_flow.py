"""A small flow, run twice, and a flow that fails, for the tests in a browser. Run as a program, never imported.

    python browsed_flow.py run
    python browsed_flow.py load NAME …

`run` also registers the block's type, so that Prefect shows its form. `load` prints what each saved block gives when a
flow names it. The output is JSON.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from prefect import flow

from blocks import SageMakerProject
from tasks_lib import JobResult, output_of, sagemaker_tasks
from tasks_lib.errors import PrefectSageMakerError

METRICS = {"auc": r"auc=([0-9.]+)"}


@flow
def browsed() -> list[JobResult]:
    """One step, and two steps that read its output and print a metric three times."""
    sm = sagemaker_tasks(SageMakerProject.local("browsed"))
    prepare = sm.process.submit("prepare", command='echo 1,2 > "$SM_OUTPUT_DATA_DIR/rows.csv"')
    fits = [
        sm.train.submit(
            f"fit-C{C}",
            command="for auc in 0.5 0.75 0.7; do echo auc=$auc; done",
            hyperparameters={"C": C},
            inputs={"train": output_of(prepare)},
            metrics=METRICS,
        )
        for C in (0.1, 1.0)
    ]
    return [step.result() for step in (prepare, *fits)]


@flow
def failing() -> None:
    """A step whose command fails."""
    sm = sagemaker_tasks(SageMakerProject.local("browsed"))
    sm.train("broken", command="echo reading part-7; exit 3")


def _run() -> dict[str, Any]:
    SageMakerProject.register_type_and_schema()
    first, second, failed = browsed(return_state=True), browsed(return_state=True), failing(return_state=True)
    return {
        "first": str(first.state_details.flow_run_id),
        "second": str(second.state_details.flow_run_id),
        "failed": str(failed.state_details.flow_run_id),
        "results": {result.task: {"job": result.job, "reason": result.reason} for result in first.result()},
    }


def _load(name: str) -> dict[str, Any]:
    try:
        project = SageMakerProject.named(name)
    except PrefectSageMakerError as error:
        return {"refused": str(error)}
    return {"project": project.project, "bucket": project.bucket, "role": project.role}


def main() -> None:
    """Run the command line."""
    mode, *names = sys.argv[1:]
    sys.stdout.write(json.dumps(_run() if mode == "run" else {name: _load(name) for name in names}) + "\n")


if __name__ == "__main__":
    main()
