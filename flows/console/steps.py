"""A drawing of the steps and their dependencies. Pure functions.

It is a drawing, not a list, so that a reader sees at once that two fits run in parallel and one job reads both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from rich.text import Text

from flows.console.colours import Colours

_CONNECTOR = 6  # "──┬─▶ "
# The character at the vertical bus of a connector, by its connections: (left, right, up, down).
_JOINTS = {
    (True, True, False, False): "─",
    (True, True, False, True): "┬",
    (True, True, True, True): "┼",
    (True, True, True, False): "┴",
    (True, False, False, True): "┐",
    (True, False, True, True): "┤",
    (True, False, True, False): "┘",
    (False, True, True, True): "├",
    (False, True, True, False): "└",
    (False, False, True, True): "│",
}


@dataclass(frozen=True)
class Step:
    """One step of a flow.

    Args:
        name: The task's name.
        kind: `processing` or `training`.
        hosts: Number of hosts of its job; default 1.
        note: What it does, in a few words; default none.
        after: The steps whose outputs it reads; default none.
    """

    name: str
    kind: Literal["processing", "training"]
    hosts: int = 1
    note: str = ""
    after: tuple[str, ...] = ()

    @property
    def prefixes(self) -> list[str]:
        """The prefixes of the log lines of its hosts."""
        return [f"{self.name}/algo-{number}" for number in range(1, self.hosts + 1)]


def quickstart_steps(Cs: Sequence[float]) -> list[Step]:  # noqa: N803  scikit-learn's name
    """Return the steps of `flows.quickstart`."""
    fits = tuple(f"fit-C{C}" for C in Cs)
    return [
        Step("prepare", "processing", hosts=2, note="split, scale"),
        *(Step(fit, "training", after=("prepare",)) for fit in fits),
        Step("evaluate", "processing", note="report, plot", after=("prepare", *fits)),
    ]


def steps_drawing(steps: Sequence[Step], colours: Colours) -> list[Text]:
    """Draw the steps from left to right; lines lead to each step from the steps that must finish before it.

    Args:
        steps: The steps, each after those whose outputs it reads.
        colours: The colours of the steps' names.

    Raises:
        ValueError: A step does not depend on every step of the stage before, as the drawing would show it.
    """
    stages = _stages(steps)
    lines = [Text("  ") for _ in range(max(sum(map(_height, stage)) for stage in stages))]
    for stage, following in zip(stages, [*stages[1:], []], strict=True):
        _add_stage(lines, stage, colours)
        if following:
            _add_connector(lines, _tops(stage), _tops(following))
    for line in lines:
        line.rstrip()
    return lines


def _stages(steps: Iterable[Step]) -> list[list[Step]]:
    """Group the steps by the length of the longest path to them."""
    depth: dict[str, int] = {}
    for step in steps:
        depth[step.name] = max((depth[name] + 1 for name in step.after), default=0)
    stages = [[step for step in steps if depth[step.name] == level] for level in range(max(depth.values()) + 1)]
    for before, stage in pairwise(stages):
        missing = [(a.name, b.name) for a in before for b in stage if a.name not in b.after]
        if missing:
            raise ValueError(f"These steps would look joined and are not: {missing}.")
    return stages


def _details(step: Step) -> list[str]:
    hosts = "1 host" if step.hosts == 1 else f"{step.hosts} hosts"
    return [f"{step.kind}, {hosts}", *([step.note] if step.note else [])]


def _height(step: Step) -> int:
    return 1 + len(_details(step))


def _tops(stage: Sequence[Step]) -> list[int]:
    """Return the number of the line with each step's name."""
    return [sum(map(_height, stage[:number])) for number in range(len(stage))]


def _add_stage(lines: Sequence[Text], stage: Sequence[Step], colours: Colours) -> None:
    """Append a column of steps: coloured names, with details below them."""
    cells = [
        cell
        for step in stage
        for cell in ((step.name, f"bold {colours.of(step.name)}"), *((text, "dim") for text in _details(step)))
    ]
    width = max(len(text) for text, _ in cells) + 1
    for number, line in enumerate(lines):
        text, style = cells[number] if number < len(cells) else ("", "")
        line.append(text, style)
        line.append(" " * (width - len(text)))


def _add_connector(lines: Sequence[Text], left: Sequence[int], right: Sequence[int]) -> None:
    """Append the lines from each step of one column to each step of the next."""
    last = max(*left, *right)
    for number, line in enumerate(lines):
        if number > last:
            line.append(" " * _CONNECTOR)
            continue
        comes, goes = number in left, number in right
        if comes:
            _extend(line)
        joint = _JOINTS[comes, goes, number > 0, number < last]
        line.append(("──" if comes else "  ") + joint + ("─▶ " if goes else "   "), "dim")


def _extend(line: Text) -> None:
    """Replace the blanks after a name, except the first, by a horizontal line."""
    column = len(line)
    line.rstrip()
    line.append(" ")
    line.append("─" * (column - len(line)), "dim")
