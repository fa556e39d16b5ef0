"""The root of every error of this product, and the few that arise below the tasks.

The whole tree is drawn at the top of `tasks_lib/errors.py`; the root stands here because imports run downwards only.
"""

from __future__ import annotations

import sys
import traceback
from typing import Any

LONGEST_SUMMARY = 140
"""Characters of a summary. Prefect puts up to 59 before it, and the message of a state is to have at most 200."""

_MACHINERY = {"prefect", "blocks", "tasks_lib", "anyio", "IPython", "ipykernel", *sys.stdlib_module_names}
"""Packages whose frames a traceback of ours leaves out: they call the user's code, or are called by it."""


class PrefectSageMakerError(Exception):
    """Root of all our errors: what happened, and how to fix it.

    `str(error)` is the whole text. `f"{error}"` is its summary, since Prefect formats an error so for the message of a
    state, which becomes the text of a notification.

    Args:
        message: What happened, to which task or job, in one or two sentences.
        fix: What the reader should do now; shown after "To resolve this:".

    Attributes:
        told: Whether a log has the whole text already, so that a traceback needs the summary only.
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
        """The text for the log of the run in which it happened: without what that log has already."""
        return str(self)

    def traceback_lines(self) -> list[str]:
        """Return the traceback as a terminal or a notebook shows it: the user's own frames, and what happened."""
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
        """Return what IPython and Jupyter show of an exception that has this method."""
        return self.traceback_lines()

    def __str__(self) -> str:
        return f"{self.message}\nTo resolve this: {self.fix}" if self.fix else self.message

    def __format__(self, spec: str) -> str:
        return format(self.summary, spec)

    def __reduce__(self) -> tuple[Any, ...]:
        # Prefect may carry an error to another process; keyword arguments do not survive the default protocol.
        return (_rebuild, (type(self), self.args, self.__dict__))


def shortened(text: str, size: int) -> str:
    """Return a text as one line of at most so many characters."""
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
    """What is saved under the name that a flow gave is no sound `SageMakerProject`."""


class LoopbackOnly(PrefectSageMakerError):
    """A client of a local project was about to call a host that is not this machine."""
