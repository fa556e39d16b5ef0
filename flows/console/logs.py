"""The jobs' logs on the terminal: a `logging.Handler` for the log records of running tasks."""

from __future__ import annotations

import logging

from rich.text import Text

from flows.console.screen import QuickstartConsole

_CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)], "?")
_CONTROLS.update({ord("\t"): "\t", ord("\n"): "\n"})

# Prefect logs here each failed run, and each later run that was `NotReady`. The error itself ends the flow, and the
# quickstart shows it then.
_RUN_LOGGERS = ("prefect.flow_runs", "prefect.task_runs")


class JobLogHandler(logging.Handler):
    """Shows only records about jobs and warnings of all loggers, without Prefect's echo of a failure.

    A record about a job has these attributes. `sagemaker_prefix` is the task (`fit-C1.0`), with the host for a line of
    a log (`fit-C1.0/algo-1`). `sagemaker_status` is the new status of the job. `sagemaker_lines` are the lines as the
    job wrote them, if the message is different; they are empty for a message that is only for Prefect's own log.

    Args:
        console: The console that shows them.
    """

    def __init__(self, console: QuickstartConsole) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Show one record."""
        try:
            self._show(record)
        except Exception:  # noqa: BLE001  as `logging` requires: an error here must not reach the code that logs
            self.handleError(record)

    def _show(self, record: logging.LogRecord) -> None:
        prefix = getattr(record, "sagemaker_prefix", None)
        status = getattr(record, "sagemaker_status", None)
        if prefix is not None and status is not None:
            self._console.show_status(prefix, status)
        elif prefix is not None:
            for line in getattr(record, "sagemaker_lines", (record.getMessage(),)):
                self._console.show_line(prefix, _as_shown(line))
        elif record.levelno >= logging.WARNING and not _is_echo(record):
            self._console.show_warning(f"{record.levelname.lower()}: {record.getMessage()}")


def _as_shown(line: str) -> Text:
    """Return a line as a terminal would finally show it.

    The job's colours and the last state of a progress bar are kept. Other control characters, which could move the
    cursor or reset the terminal, are replaced.
    """
    ends = [part.rstrip("\r").rpartition("\r")[2] for part in line.split("\n")]
    text = Text.from_ansi("\n".join(ends))
    text.plain = text.plain.translate(_CONTROLS)
    return text


def _is_echo(record: logging.LogRecord) -> bool:
    return record.name in _RUN_LOGGERS and record.levelno >= logging.ERROR
