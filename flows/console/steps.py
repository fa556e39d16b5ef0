"""The steps before they run, as a drawing of what waits for what.

Not a list: that two fits run side by side and one job reads both is what a reader should see first. Pure; used by
`screen.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from rich.text import Text

from flows.console.colours import Colours

_CONNECTOR = 6  # "──┬─▶ "
# What a line of a connector shows where its bus is: (from the left, to the right, upwards, downwards).
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
        hosts: Number of hosts of its job.
        note: What it does, in a few words.
        after: The steps whose outputs it reads.
    """

    name: str
    kind: Literal["processing", "training"]
    hosts: int = 1
    note: str = ""
    after: tuple[str, ...] = ()

    @property
    def prefixes(self) -> list[str]:
        """What stands before the lines of its hosts' logs."""
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
    """Draw the steps from left to right: a step starts when all that a line leads to it from are done.

    Args:
        steps: In an order in which each follows those it reads.
        colours: Each step's name has its task's.

    Raises:
        ValueError: Neighbouring stages are not all joined to all, which is what such a drawing says.
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
    """Group the steps by the number of steps on the longest way to them."""
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
    """Return the line on which each step's name stands."""
    return [sum(map(_height, stage[:number])) for number in range(len(stage))]


def _add_stage(lines: Sequence[Text], stage: Sequence[Step], colours: Colours) -> None:
    """Append a column: names in their colour, details under them."""
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
    """Append the lines that lead from each step of one column to each of the next."""
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
    """Turn the blanks behind a name into the line that leaves it, all but the first."""
    column = len(line)
    line.rstrip()
    line.append(" ")
    line.append("─" * (column - len(line)), "dim")
