"""The base class of all errors of prefect-sagemaker, and the errors of blocks.

The docstring of `tasks_lib/errors.py` shows the whole class tree. The base class is here because imports run downwards
only.
"""

from __future__ import annotations

import sys
import traceback
from typing import Any

LONGEST_SUMMARY = 140
"""Characters of a summary: Prefect adds up to 59 before it, and the message of a state should have at most 200."""

_MACHINERY = {"prefect", "blocks", "tasks_lib", "anyio", "IPython", "ipykernel", *sys.stdlib_module_names}
"""Packages whose frames `traceback_lines` leaves out: they call the user's code, or are called by it."""


class PrefectSageMakerError(Exception):
    """Root of all our errors: what happened, and how to fix it.

    `str(error)` is the whole text. `f"{error}"` is only the summary, because Prefect formats an error so for the
    message of a state, which becomes the text of a notification.

    Args:
        message: What happened, to which task or job, in one or two sentences.
        fix: What the reader should do now; shown after "To resolve this:".

    Attributes:
        told: Whether a log already has the whole text, so that a traceback needs only the summary.
    """

    told = False

    def __init__(self, message: str, *, fix: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix

    @property
    def summary(self) -> str:
        """What happened, in one line of at most 140 characters."""
        return shortened(self.message, LONGEST_SUMMARY)

    @property
    def report(self) -> str:
        """The text for the log of the run in which the error happened; a subclass leaves out what that log has."""
        return str(self)

    def traceback_lines(self) -> list[str]:
        """Return the traceback for a terminal or a notebook: only the user's own frames, and the error's text."""
        frames = [
            summary
            for (frame, _), summary in zip(
                traceback.walk_tb(self.__traceback__), traceback.extract_tb(self.__traceback__), strict=True
            )
            if str(frame.f_globals.get("__name__")).partition(".")[0] not in _MACHINERY
        ]
        name = f"{type(self).__module__}.{type(self).__qualname__}"
        head = ["Traceback (most recent call last):\n", *traceback.format_list(frames)] if frames else []
        lines = "".join([*head, f"{name}: {self.summary if self.told else str(self)}"])
        return lines.splitlines()

    def _render_traceback_(self) -> list[str]:
        """Return the traceback for IPython and Jupyter, which call this method if an exception has it."""
        return self.traceback_lines()

    def __str__(self) -> str:
        return f"{self.message}\nTo resolve this: {self.fix}" if self.fix else self.message

    def __format__(self, spec: str) -> str:
        return format(self.summary, spec)

    def __reduce__(self) -> tuple[Any, ...]:
        # Prefect may pickle an error for another process, and the default protocol loses keyword arguments.
        return (_rebuild, (type(self), self.args, self.__dict__))


def shortened(text: str, size: int) -> str:
    """Return a text as one line of at most `size` characters."""
    line = " ".join(text.split())
    return line if len(line) <= size else f"{line[: size - 1].rstrip()}…"


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
    """The block that is saved under the name that a flow gave is not a valid `SageMakerProject`."""


class LoopbackOnly(PrefectSageMakerError):
    """A client of a local project was about to call a host that is not this machine."""
