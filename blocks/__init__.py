"""The project block, which configures where a project lives on AWS or on this machine, and its errors.

The block is imported on first access, because Prefect and boto3 take a second to import. The errors need neither.
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


if not TYPE_CHECKING:  # with `__getattr__` in sight, a type checker would accept every name

    def __getattr__(name: str) -> object:
        if name != "SageMakerProject":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found: object = import_module("blocks.project").SageMakerProject
        globals()[name] = found  # the next access does not call `__getattr__`
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
