"""SageMaker jobs as Prefect tasks; a task whose result is already in S3 is skipped.

A name is imported on first access (PEP 562). Importing all of them loads Prefect and takes 1.5 s, and `ssm --help`
needs none of them. Flows and users may import this package. It imports `blocks` and the contract in `worker_toolkit`,
and it sends `worker_toolkit` into each job as files.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from tasks_lib.shadowing import check_packages_are_ours

if TYPE_CHECKING:
    from tasks_lib.dry_run.plan import Plan, plan
    from tasks_lib.functions.file_output import FileOutput
    from tasks_lib.functions.task import sagemaker_task
    from tasks_lib.jobs.channels import Channel, TaskOutput, output_of
    from tasks_lib.results.comparison import best
    from tasks_lib.results.explanation import Explanation
    from tasks_lib.results.job_result import JobResult
    from tasks_lib.results.output import Output
    from tasks_lib.tables import Table
    from tasks_lib.tasks import SageMakerTasks, sagemaker_tasks

__all__ = [
    "Channel",
    "Explanation",
    "FileOutput",
    "JobResult",
    "Output",
    "Plan",
    "SageMakerTasks",
    "Table",
    "TaskOutput",
    "best",
    "output_of",
    "plan",
    "sagemaker_task",
    "sagemaker_tasks",
]

_MODULES = {
    "Channel": "jobs.channels",
    "Explanation": "results.explanation",
    "FileOutput": "functions.file_output",
    "JobResult": "results.job_result",
    "Output": "results.output",
    "Plan": "dry_run.plan",
    "SageMakerTasks": "tasks",
    "Table": "tables",
    "TaskOutput": "jobs.channels",
    "best": "results.comparison",
    "output_of": "jobs.channels",
    "plan": "dry_run.plan",
    "sagemaker_task": "functions.task",
    "sagemaker_tasks": "tasks",
}
"""Module by name. A test compares the three lists."""


if not TYPE_CHECKING:  # a type checker that sees `__getattr__` accepts every name

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
        globals()[name] = value  # the next access does not call `__getattr__`
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


check_packages_are_ours()
