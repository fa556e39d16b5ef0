"""The results of the steps, as a table for readers and as JSON for programs. Pure functions.

The table is not rich's `Table`. The names and URIs of jobs are longer than a column can be, and a URI that is cut, or
folded in the middle of a word, is useless.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any, Protocol

from rich.text import Text

from flows.console.colours import Colours
from tasks_lib.strict_json import strict

Cell = tuple[str, str]
"""A text and its style."""

_COLUMNS = ("task", "result", "why", "seconds", "metrics")
_STYLES = {"ran": "bold", "attached": "bold", "skipped": "green"}
"""The style of each result of a task."""

_GAP = "  "
_LEAST_REASON, _MOST_REASON = 16, 60


class TaskResult(Protocol):
    """The parts of a task's result that are shown; `tasks_lib.JobResult` has them."""

    @property
    def task(self) -> str:
        """The task's name."""

    @property
    def job(self) -> str:
        """The job's name."""

    @property
    def cached(self) -> bool:
        """Whether no job was run for it."""

    @property
    def reason(self) -> str:
        """Why the job ran, or why it did not."""

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of the call."""

    @property
    def metrics(self) -> Mapping[str, float]:
        """Last value by metric."""

    @property
    def outputs(self) -> Mapping[str, str]:
        """S3 URI by kind of output."""


def summary(results: Sequence[TaskResult]) -> dict[str, Any]:
    """Return what `--json` prints: the fields of each result, and the number of tasks that ran, attached or skipped.

    A task is `attached` if another run had created its job, so that of two concurrent runs only one counts the job.
    """
    tasks = [_told(result) for result in results]
    words = [_word(result) for result in results]
    return {"tasks": tasks, **{word: words.count(word) for word in _STYLES}}


def _told(result: TaskResult) -> dict[str, Any]:
    fields = {name: getattr(result, name) for name in ("task", "job", "cached", "reason", "seconds", "outputs")}
    return fields | {"metrics": {name: strict(value) for name, value in result.metrics.items()}}


def results_table(results: Sequence[TaskResult], width: int | None, colours: Colours) -> list[Text]:
    """Return the table: a row for each task, and below it its job and the URIs of its outputs.

    Args:
        results: The results in the order of the rows.
        width: Columns of the terminal; None folds nothing.
        colours: The colours of the tasks' names.
    """
    rows = [_row(result, colours) for result in results]
    heading = [(text, "dim") for text in _COLUMNS]
    widths = _widths([heading, *rows], width)
    label = max(len(name) for result in results for name in _named(result))
    lines = _laid_out(heading, widths)
    lines.append(Text("  " + "─" * (sum(widths) + len(_GAP) * (len(widths) - 1)), "dim"))
    for number, (row, result) in enumerate(zip(rows, results, strict=True)):
        lines += [Text()] if number else []
        lines += _laid_out(row, widths) + _places(result, width, label)
    return lines


def _word(result: TaskResult) -> str:
    if result.cached:
        return "skipped"
    return "ran" if result.reason.startswith("ran: ") else "attached"


def _row(result: TaskResult, colours: Colours) -> list[Cell]:
    word = _word(result)
    style = _STYLES[word]
    return [
        (result.task, f"bold {colours.of(result.task)}"),
        (word, style),
        (result.reason.removeprefix(f"{word}: "), ""),
        (f"{result.seconds:7.1f}", ""),
        (_GAP.join(f"{name} {value:.4g}" for name, value in result.metrics.items()), ""),
    ]


def _widths(rows: Sequence[Sequence[Cell]], width: int | None) -> list[int]:
    """Return the widths of the columns: as wide as their texts, but a long reason is folded."""
    widths = [max(len(text) for text, _ in column) for column in zip(*rows, strict=True)]
    why = _COLUMNS.index("why")
    others = sum(widths) - widths[why] + len(_GAP) * len(widths)
    room = _MOST_REASON if width is None else width - 1 - others  # some terminals add an empty line after a full one
    widths[why] = min(widths[why], max(room, _LEAST_REASON))
    return widths


def _laid_out(row: Sequence[Cell], widths: Sequence[int]) -> list[Text]:
    """Return the lines of one row."""
    columns = [_wrapped(text, width) for (text, _), width in zip(row, widths, strict=True)]
    return [_line(parts, row, widths) for parts in zip_longest(*columns, fillvalue="")]


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False)  # keeps the name of a job whole if possible


def _line(parts: Sequence[str], row: Sequence[Cell], widths: Sequence[int]) -> Text:
    line = Text()
    for column, part, (_, style), width in zip(_COLUMNS, parts, row, widths, strict=True):
        line.append(_GAP).append(part.rjust(width) if column == "seconds" else part.ljust(width), style)
    line.rstrip()
    return line


def _named(result: TaskResult) -> dict[str, str]:
    # The source bundle is not an output of the job.
    return {"job": result.job} | {kind: uri for kind, uri in result.outputs.items() if kind != "source"}


def _places(result: TaskResult, width: int | None, label: int) -> list[Text]:
    """Return the lines with the name of the job and the URI of each output."""
    indent = 4 + label + len(_GAP)
    return [
        Text(f"    {'' if number else name:<{label}}{_GAP}{piece}", "dim")
        for name, place in _named(result).items()
        for number, piece in enumerate(folded(place, width and width - indent))
    ]


def folded(uri: str, width: int | None) -> list[str]:
    """Fold a URI, if possible after a slash, so that no name in it is cut."""
    if width is None or len(uri) <= width:
        return [uri]
    cut = uri.rfind("/", 0, width) + 1
    cut = cut if cut > len("s3://") else width
    return [uri[:cut], *folded(uri[cut:], width)]
