"""What a run shows on a terminal: the jobs' statuses and logs while it goes on, then a table of results. By rich.

On a terminal, lines are folded to its width. In a pipe or a file they are neither folded nor coloured, so that a URI
can be searched and copied.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from tasks_lib.results.job_result import JobResult
from tasks_lib.tables import strict

_STATUS_STYLES = {"Completed": "green", "skipped": "green", "Failed": "bold red", "Stopped": "yellow"}
_RESULT_STYLES = {"ran": "bold", "attached": "bold", "skipped": "green"}
# The named colours of the terminal, which its theme makes readable. Red means failure, so no task gets it.
_TASK_COLOURS = ("cyan", "magenta", "green", "blue", "yellow", "bright_magenta", "bright_cyan", "bright_green")
_SHORTEST_MESSAGE = 24
_WIDTH_OF_A_PIPE = 10_000
_CONTROLS = {code: "?" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\t\n"}
# Prefect logs each failed run here. The error itself ends the flow, and is shown then.
_RUN_LOGGERS = ("prefect.flow_runs", "prefect.task_runs")


class JobConsole:
    """Prints what a run shows. It is thread-safe.

    Args:
        console: The rich console; by default standard output.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        if not self._console.is_terminal:
            self._console.width = _WIDTH_OF_A_PIPE
        self._colours: dict[str, str] = {}
        self._margin = 0

    def colour(self, task: str) -> str:
        """Return the colour of a task: the same everywhere, and not that of the tasks that appear beside it."""
        return self._colours.setdefault(task, _TASK_COLOURS[len(self._colours) % len(_TASK_COLOURS)])

    def align(self, prefixes: Iterable[str]) -> None:
        """Make the column of prefixes wide enough for these."""
        self._margin = max(self._margin, *map(len, prefixes))

    def show(self, *things: RenderableType) -> None:
        """Print texts and tables, one below the other."""
        for thing in things:
            if isinstance(thing, (str, Text)):
                # Unfolded: a URI that the terminal folds can be copied as a whole.
                self._console.print(self._encodable(Text(thing) if isinstance(thing, str) else thing), soft_wrap=True)
            else:
                self._console.print(thing)

    def show_line(self, prefix: str, message: Text) -> None:
        """Show a line of a job's log as `fit-C1.0/algo-1 | message`; fold a long one after its prefix."""
        self._show_behind(prefix, " | ", message)

    def show_status(self, task: str, status: str) -> None:
        """Show the new status of a task's job, aligned with the logs, as `fit-C1.0 > Completed`."""
        self._show_behind(task, " > ", Text(status, _STATUS_STYLES.get(status.partition(":")[0], "")))

    def show_warning(self, message: str) -> None:
        """Show a warning."""
        self.show(Text(message, "yellow"))

    def show_failure(self, error: Exception) -> None:
        """Show the error that ended the run. The message of a prefect-sagemaker error also says how to fix it."""
        what, _, more = str(error).partition("\n")
        self.show("", Text(what, "bold red"), *([more] if more else []))

    def show_results(self, results: Sequence[JobResult]) -> None:
        """Show a table of results, their totals, and the name of each job with the URIs of its outputs."""
        counts = summary(results)
        attached = f", {counts['attached']} attached" if counts["attached"] else ""
        totals = Text(f"  {counts['ran']} ran, {counts['skipped']} skipped{attached}", "bold")
        self.show("", self._table(results), "", totals, "", *self._locations(results))

    def show_commands(self, commands: Sequence[tuple[str, str, str]]) -> None:
        """Show what to type next: a label, the command, and its effect, for each."""
        label, command = (max(len(row[column]) for row in commands) for column in (0, 1))
        self.show("", Text("  next", "dim"))
        for name, typed, effect in commands:
            line = Text.assemble(f"  {name:<{label}}  ", (f"{typed:<{command}}", "bold"), "  ", (effect, "dim"))
            line.rstrip()
            self.show(line)

    def _table(self, results: Sequence[JobResult]) -> Table:
        table = Table(box=None, header_style="dim", pad_edge=True, padding=(0, 0, 0, 2))
        table.add_column("task", no_wrap=True)
        table.add_column("result", no_wrap=True)
        table.add_column("why", overflow="fold")
        table.add_column("seconds", no_wrap=True, justify="right")
        table.add_column("metrics", overflow="fold")
        for result in results:
            word = outcome(result)
            metrics = "  ".join(f"{name} {value:.4g}" for name, value in result.metrics.items())
            table.add_row(
                self._encodable(Text(result.task, f"bold {self.colour(result.task)}")),
                Text(word, _RESULT_STYLES[word]),
                self._encodable(Text(result.reason.removeprefix(f"{word}: "))),
                f"{result.seconds:.1f}",
                self._encodable(Text(metrics)),
            )
        return table

    def _locations(self, results: Sequence[JobResult]) -> list[Text]:
        """Return a line for the name of each job, and for each output; the source bundle is not one of the job's."""
        named = {
            result.task: {"job": result.job} | {name: uri for name, uri in result.outputs.items() if name != "source"}
            for result in results
        }
        task, name = max(map(len, named)), max(len(name) for places in named.values() for name in places)
        return [
            Text.assemble(
                (f"  {'' if number else title:<{task}}", self.colour(title)), (f"  {each:<{name}}  {place}", "dim")
            )
            for title, places in named.items()
            for number, (each, place) in enumerate(places.items())
        ]

    def _show_behind(self, prefix: str, mark: str, message: Text) -> None:
        self._margin = max(self._margin, len(prefix))
        lines = message.split(allow_blank=True)
        if self._console.is_terminal:
            room = max(self._console.width - self._margin - len(mark), _SHORTEST_MESSAGE)
            lines = message.wrap(self._console, room)
        start = Text.assemble((prefix.ljust(self._margin), self.colour(prefix.partition("/")[0])), (mark, "dim"))
        self.show(Text("\n").join(start + line for line in lines))  # in one call: lines of two threads do not mix

    def _encodable(self, text: Text) -> Text:
        """Replace the characters that the terminal's encoding does not have: a job may log any."""
        encoding = self._console.encoding
        text.plain = text.plain.encode(encoding, "replace").decode(encoding)
        return text


class JobLogHandler(logging.Handler):
    """Shows only records about jobs and warnings of all loggers, without Prefect's echo of a failure.

    A record about a job has these attributes. `sagemaker_prefix` is the task (`fit-C1.0`), with the host for a line of
    a log (`fit-C1.0/algo-1`). `sagemaker_status` is the new status of the job. `sagemaker_lines` are the lines as the
    job wrote them, if the message is different; they are empty for a message that is only for Prefect's own log.

    Args:
        console: The console that shows them.
    """

    def __init__(self, console: JobConsole) -> None:
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


def outcome(result: JobResult) -> str:
    """Return `ran`, `attached` or `skipped`.

    A task is `attached` if another run had created its job, so that of two concurrent runs only one counts the job.
    """
    if result.cached:
        return "skipped"
    return "ran" if result.reason.startswith("ran: ") else "attached"


def summary(results: Sequence[JobResult]) -> dict[str, Any]:
    """Return the results for a program: the fields of each, and the number of tasks that ran, attached or skipped."""
    fields = ("task", "job", "cached", "reason", "seconds", "outputs")
    tasks = [
        {name: getattr(result, name) for name in fields}
        | {"metrics": {name: strict(value) for name, value in result.metrics.items()}}
        for result in results
    ]
    words = [outcome(result) for result in results]
    return {"tasks": tasks, **{word: words.count(word) for word in _RESULT_STYLES}}


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
