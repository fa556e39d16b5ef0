"""What you configure once: the project's place on AWS, or on this machine.

`prefect.collections` names this package, so that `Block.load` and the Prefect UI know our block in a fresh process.
May be imported by everybody above (`tasks_lib`, `flows`); imports Prefect and prefect-aws only.
"""

from blocks.errors import BackendNotRunning, BlockInvalid, BlockNotFound, LoopbackOnly, PrefectSageMakerError
from blocks.project import SageMakerProject

__all__ = [
    "BackendNotRunning",
    "BlockInvalid",
    "BlockNotFound",
    "LoopbackOnly",
    "PrefectSageMakerError",
    "SageMakerProject",
]
