"""The root of every error of this product, and the few that arise below the tasks.

The whole tree is drawn at the top of `tasks_lib/errors.py`; the root stands here because imports run downwards only.
"""

from __future__ import annotations

from typing import Any


class PrefectSageMakerError(Exception):
    """Root of all our errors: what happened, and how to mend it.

    Args:
        message: What happened, to which task or job, in one or two sentences.
        fix: What the reader should do now; shown after "To resolve this:".
    """

    def __init__(self, message: str, *, fix: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.message}\nTo resolve this: {self.fix}" if self.fix else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        # Prefect may carry an error to another process; keyword arguments do not survive the default protocol.
        return (_rebuild, (type(self), self.args, self.__dict__))


def _rebuild(kind: type[PrefectSageMakerError], args: tuple[Any, ...], state: dict[str, Any]) -> PrefectSageMakerError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


class BackendNotRunning(PrefectSageMakerError):
    """The local SageMaker could not be started or reached."""


class BlockNotFound(PrefectSageMakerError):
    """No `SageMakerProject` block is saved under the name that a flow gave."""


class BlockInvalid(PrefectSageMakerError):
    """What is saved under the name that a flow gave is no sound `SageMakerProject`."""


class LoopbackOnly(PrefectSageMakerError):
    """A client of a local project was about to call a host that is not this machine."""
