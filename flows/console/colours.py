"""One colour for each task, the same in the drawing, in the logs and in the table."""

from __future__ import annotations

from collections.abc import Iterable

# The named colours of the terminal, which its theme makes readable. Red means failure, so no task gets it.
_WHEEL = ("cyan", "magenta", "green", "blue", "yellow", "bright_magenta", "bright_cyan", "bright_green")


class Colours:
    """Assigns colours in the order in which tasks appear, so that neighbours differ.

    Args:
        tasks: Tasks that get their colours first; none by default.
    """

    def __init__(self, tasks: Iterable[str] = ()) -> None:
        self._of: dict[str, str] = {}
        for task in tasks:
            self.of(task)

    def of(self, task: str) -> str:
        """Return the colour of a task, which stays the same."""
        return self._of.setdefault(task, _WHEEL[len(self._of) % len(_WHEEL)])
