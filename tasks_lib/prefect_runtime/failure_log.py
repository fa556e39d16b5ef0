"""Log an error of ours once, without the frames of Prefect's engine.

The engine logs the exception of a task with its traceback, logs it again for the flow run, and raises it. A worker logs
it once more. The first of these records becomes the whole text of the error. The later ones are dropped, since the
message of the state says the same in one line. Other exceptions are not changed.
"""

from __future__ import annotations

import logging
import sys
from types import TracebackType

from blocks import PrefectSageMakerError

ENGINE_LOGGERS = ("prefect.task_runs", "prefect.flow_runs", "prefect.engine")
"""The loggers to which Prefect's engine and its workers write the exceptions of runs."""


class LogErrorOnce(logging.Filter):
    """A filter that turns the first record of an error of ours into the error's text, and drops later ones."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to log the record."""
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, PrefectSageMakerError):
            return True
        if error.told:
            return False
        error.told = True
        record.msg, record.args = f"{type(error).__name__}: {error.report}", ()
        record.exc_info = record.exc_text = None
        return True


def install_error_logging() -> None:
    """Make Prefect's engine and this Python show each error of ours once; a second call changes nothing."""
    for name in ENGINE_LOGGERS:
        logging.getLogger(name).addFilter(_FILTER)
    if not isinstance(sys.excepthook, _ShortTraceback):
        sys.excepthook = _ShortTraceback()


class _ShortTraceback:
    """Prints an error of ours that ends the program; passes all other exceptions to the previous `sys.excepthook`."""

    def __init__(self) -> None:
        self._before = sys.excepthook

    def __call__(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, PrefectSageMakerError):
            sys.stderr.write("\n".join(error.traceback_lines()) + "\n")
        else:
            self._before(kind, error, trace)


_FILTER = LogErrorOnce()
