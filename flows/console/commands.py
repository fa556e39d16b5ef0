"""The commands that the quickstart suggests after a run or a plan. Pure functions."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from rich.text import Text

from flows.console.results import folded

_COMMANDS = (
    ("run again", "make quickstart", "every step is skipped"),
    ("change a parameter", 'make quickstart ARGS="--Cs 0.1 10"', "only new work runs"),
    ("see it in the UI", "make ui", ""),
)
_LABEL = 18


def next_commands(report: str, width: int | None) -> list[Text]:
    """Return the commands to try after a run.

    Args:
        report: Path or URI of the last step's report.
        width: Columns of the terminal; None folds nothing.
    """
    room = max(len(command) for _, command, _ in _COMMANDS)
    lines = [Text("  next", "dim")]
    lines += [_line(label, command.ljust(room), effect) for label, command, effect in _COMMANDS]
    pieces = folded(report, width and width - _LABEL - 4)
    return lines + [_line("" if number else "see the report", piece, "") for number, piece in enumerate(pieces)]


def plan_commands(arguments: Sequence[str]) -> list[Text]:
    """Return the command that runs what a plan shows.

    Args:
        arguments: The arguments of the command that made the plan.
    """
    kept = [word for word in arguments if word != "--plan"]
    words = shlex.join(kept)
    quoted = shlex.quote(words) if set(words) & set("'\"\\$`") else f'"{words}"'
    command = f"make quickstart ARGS={quoted}" if kept else _COMMANDS[0][1]
    return [Text("  nothing was run", "bold"), Text("  next", "dim"), _line("run it", command, "")]


def _line(label: str, command: str, effect: str) -> Text:
    line = Text.assemble(f"  {label:<{_LABEL}}  ", (command, "bold"), "  ", (effect, "dim"))
    line.rstrip()
    return line
