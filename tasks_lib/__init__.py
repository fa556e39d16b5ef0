"""What does the work: SageMaker jobs as Prefect tasks, skipped when their result is already in S3.

A name is imported when it is first asked for (PEP 562): everything at once takes Prefect and 1.5 s, and `ssm --help`
needs none of it. May be imported by flows and by users; stands on `blocks`, and takes `worker_toolkit` along as files.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from tasks_lib.shadowing import check_blocks_are_ours

if TYPE_CHECKING:
    from tasks_lib.channels import Channel, TaskOutput, output_of
    from tasks_lib.explanation import Explanation
    from tasks_lib.function_task import sagemaker_task
    from tasks_lib.outputs import Output
    from tasks_lib.plan import Plan, plan
    from tasks_lib.results import JobResult
    from tasks_lib.tables import Table
    from tasks_lib.tasks import SageMakerTasks, sagemaker_tasks

__all__ = [
    "Channel",
    "Explanation",
    "JobResult",
    "Output",
    "Plan",
    "SageMakerTasks",
    "Table",
    "TaskOutput",
    "output_of",
    "plan",
    "sagemaker_task",
    "sagemaker_tasks",
]

_MODULES = {
    "Channel": "channels",
    "Explanation": "explanation",
    "JobResult": "results",
    "Output": "outputs",
    "Plan": "plan",
    "SageMakerTasks": "tasks",
    "Table": "tables",
    "TaskOutput": "channels",
    "output_of": "channels",
    "plan": "plan",
    "sagemaker_task": "function_task",
    "sagemaker_tasks": "tasks",
}
"""The module of each name; a test holds the three lists against each other."""


class _Package(ModuleType):
    """This package: whoever imports its module `plan` must not put that where its function `plan` is looked for."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _MODULES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


if not TYPE_CHECKING:  # a type checker that saw it would believe in every name

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
        globals()[name] = value  # from now on it is found without us
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


sys.modules[__name__].__class__ = _Package
check_blocks_are_ours()
