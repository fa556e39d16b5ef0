"""The jobs' logs on the terminal: a `logging.Handler` for what the tasks report while their jobs run."""

from __future__ import annotations

import logging

from rich.text import Text

from flows.console.screen import QuickstartConsole

_CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)], "?")
_CONTROLS.update({ord("\t"): "\t", ord("\n"): "\n"})

# Where Prefect says of every run that it failed, and of those behind it that they were not ready. The error itself ends
# the flow, and is shown then.
_RUN_LOGGERS = ("prefect.flow_runs", "prefect.task_runs")


class JobLogHandler(logging.Handler):
    """Shows the records that tell of a job, and anybody's warnings, but not Prefect's echo of a failure; nothing else.

    A record tells of a job by its attributes: `sagemaker_prefix` is the task (`fit-C1.0`) and, before a line of a log,
    its host (`fit-C1.0/algo-1`); `sagemaker_status` what has become of the job; `sagemaker_lines` the lines as the job
    wrote them, where the message holds something else: of a message for Prefect's own log none.

    Args:
        console: Where to show them.
    """

    def __init__(self, console: QuickstartConsole) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Show one record."""
        try:
            self._show(record)
        except Exception:  # noqa: BLE001  `logging` asks for it: what fails here must not fail the one who logs
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
    """Return a line as a terminal would have shown it in the end.

    The job's colours are kept, and of a progress bar its last state. Whatever else would move the cursor or reset the
    terminal is made harmless.
    """
    ends = [part.rstrip("\r").rpartition("\r")[2] for part in line.split("\n")]
    text = Text.from_ansi("\n".join(ends))
    text.plain = text.plain.translate(_CONTROLS)
    return text


def _is_echo(record: logging.LogRecord) -> bool:
    return record.name in _RUN_LOGGERS and record.levelno >= logging.ERROR
