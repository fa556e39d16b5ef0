"""The quickstart flow: prepare -> two parallel fits -> evaluate, on scikit-learn's breast cancer data.

Each step is a SageMaker job; a step whose result already exists is skipped. The jobs run on this machine by default.
With the name of another project block they run on AWS, without a change to this file.

    make quickstart                              or  python -m flows.quickstart [--plan] [--json] [--Cs 0.1 10]
    prefect deployment run quickstart/quickstart
"""

from __future__ import annotations

from flows.own_home import own_directory, use_own_home, use_own_server

if __name__ == "__main__":  # before Prefect is imported, because it reads its settings once
    import sys

    HOME = use_own_home()
    # A plan needs a Prefect server only to load a saved block.
    SERVER = None if "--plan" in sys.argv and "--project" not in sys.argv else use_own_server(HOME)

from collections.abc import Sequence
from pathlib import Path

from prefect import flow

from flows.quickstart_data import write_shards
from tasks_lib import Channel, JobResult, output_of, sagemaker_tasks

CHECKOUT = Path(__file__).resolve().parent.parent
CODE = CHECKOUT / "flows" / "quickstart_code"
METRICS = {"loss": "loss=", "auc": "auc="}


@flow(name="quickstart")
def quickstart(
    project: str = "local",
    Cs: Sequence[float] = (0.1, 1.0),  # noqa: N803 - scikit-learn's name
    epochs: int = 12,
    data: str | None = None,
) -> list[JobResult]:
    """Train a classifier with each regularisation strength and compare them.

    Args:
        project: Name of a `SageMakerProject` block; `local` runs on this machine.
        Cs: Inverse strengths of the regularisation, one training job each.
        epochs: Steps of each training.
        data: Directory of CSV files; by default scikit-learn's breast cancer data, written out.

    Returns:
        The result of each step.
    """
    sm = sagemaker_tasks(project)
    raw = data or write_shards(own_directory() / "quickstart" / "raw")
    prepare = sm.process.submit(
        "prepare",
        code=str(CODE / "prepare.py"),
        inputs={"raw": Channel(raw, distribution="ShardedByS3Key")},
        instance_count=2,
        state="none",
    )
    fits = [
        sm.train.submit(
            f"fit-C{C}",
            entry_point=str(CODE / "fit.py"),
            inputs={"train": output_of(prepare, subdir="train")},
            hyperparameters={"C": C, "epochs": epochs},
            metrics=METRICS,
        )
        for C in Cs
    ]
    evaluate = sm.process.submit(
        "evaluate",
        code=str(CODE / "evaluate.py"),
        inputs={
            "test": output_of(prepare, subdir="test"),
            **{f"model_{number}": output_of(fit, extract=True) for number, fit in enumerate(fits)},
        },
        state="none",
    )
    return [step.result() for step in (prepare, *fits, evaluate)]


if __name__ == "__main__":
    from flows.quickstart_command import main

    raise SystemExit(main(quickstart, SERVER))
