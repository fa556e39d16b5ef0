"""One colour per task, the same in the drawing, in the logs and in the table. Used inside `flows.console` only."""

from __future__ import annotations

from collections.abc import Iterable

# The terminal's own colours, which its owner made readable. Red means failure, so no task has it.
_WHEEL = ("cyan", "magenta", "green", "blue", "yellow", "bright_magenta", "bright_cyan", "bright_green")


class Colours:
    """Hands out the colours in the order in which tasks are met, so that neighbours differ.

    Args:
        tasks: Tasks known from the start.
    """

    def __init__(self, tasks: Iterable[str] = ()) -> None:
        self._of: dict[str, str] = {}
        for task in tasks:
            self.of(task)

    def of(self, task: str) -> str:
        """Return the task's colour; a task keeps the one it was given first."""
        return self._of.setdefault(task, _WHEEL[len(self._of) % len(_WHEEL)])
