"""A retraining flow of one step, which `test_schedules.py` deploys with schedules."""

from __future__ import annotations

from prefect import flow

from tasks_lib import sagemaker_tasks


@flow
def retrain(task: str) -> str:
    """Train; the first run creates a job, later runs skip it."""
    sm = sagemaker_tasks("local")
    return str(sm.train(task, command="echo trained > $SM_MODEL_DIR/model", state="none").status)
