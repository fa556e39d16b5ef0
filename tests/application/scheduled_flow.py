"""A retraining of one step, to be deployed with schedules by `test_schedules.py`."""

from __future__ import annotations

from prefect import flow

from tasks_lib import sagemaker_tasks


@flow
def retrain(task: str) -> str:
    """Train; the first run makes a job, the next ones skip it."""
    sm = sagemaker_tasks("local")
    return str(sm.train(task, command="echo trained > $SM_MODEL_DIR/model", state="none").status)
