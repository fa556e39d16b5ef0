"""What you configure once: the project's place on AWS, or on this machine.

The block needs Prefect and boto3, which take a second to import; the errors need neither. So it is imported late.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from blocks.errors import BackendNotRunning, BlockInvalid, BlockNotFound, LoopbackOnly, PrefectSageMakerError

if TYPE_CHECKING:
    from blocks.project import SageMakerProject

__all__ = [
    "BackendNotRunning",
    "BlockInvalid",
    "BlockNotFound",
    "LoopbackOnly",
    "PrefectSageMakerError",
    "SageMakerProject",
]


if not TYPE_CHECKING:  # a type checker that saw it would believe in every name

    def __getattr__(name: str) -> object:
        if name != "SageMakerProject":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found: object = import_module("blocks.project").SageMakerProject
        globals()[name] = found  # from now on it is found without us
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
