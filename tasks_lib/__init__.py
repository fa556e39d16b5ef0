"""What does the work: SageMaker jobs as Prefect tasks, skipped when their result is already in S3.

A name is imported when it is first asked for (PEP 562): everything at once takes Prefect and 1.5 s, and `ssm --help`
needs none of it. May be imported by flows and by users; stands on `blocks`, and takes `worker_toolkit` along as files.
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
"""The module of each name; a test holds the three lists against each other."""


if not TYPE_CHECKING:  # a type checker that saw it would believe in every name

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
        globals()[name] = value  # from now on it is found without us
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


check_packages_are_ours()
