"""The terminal, or what stands in for it: prints the lines that the other modules make.

On a terminal lines are folded to its width. Into a pipe or a file each goes whole and without colour, so that a URI can
be found and copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.text import Text

from flows.console.colours import Colours
from flows.console.commands import next_commands, plan_commands
from flows.console.results import TaskResult, results_table, summary
from flows.console.steps import Step, quickstart_steps, steps_drawing

_LEAST_MESSAGE = 24
_STYLES = {"Completed": "green", "skipped": "green", "Failed": "bold red", "Stopped": "yellow"}
# For terminals that cannot show the left side.
_PLAIN = str.maketrans("─│┬┼┴┐┤┘├└▶", "-|++++|'|`>")


class QuickstartConsole:
    """All that the quickstart prints. Any thread may call it.

    Args:
        console: Where to; by default standard output.
    """

    summary = staticmethod(summary)

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._colours = Colours()
        self._margin = 0

    @property
    def width(self) -> int | None:
        """Columns of the terminal; none where nothing needs to be folded."""
        return self._console.width if self._console.is_terminal else None

    def show_phase(self, name: str, seconds: float) -> None:
        """Show how long something took that had to be done first."""
        self._print([Text(f"  {name:<16} {seconds:>6.1f} s")])

    def show_steps(self, Cs: Sequence[float]) -> None:  # noqa: N803  scikit-learn's name
        """Draw the quickstart's steps; from now on their logs are aligned.

        Args:
            Cs: As the flow has them.
        """
        steps = quickstart_steps(Cs)
        self._align(steps)
        self._print([Text(), *steps_drawing(steps, self._colours), Text()])

    def show_plan(self, plan: str, arguments: Sequence[str]) -> None:
        """Show what would run, and that nothing did; its table goes whole, whatever the width.

        Args:
            plan: The plan as text.
            arguments: Of the command that made it.
        """
        lines = [Text(f"  {line}".rstrip()) for line in plan.splitlines()]
        self._print([Text(), *lines, Text(), *plan_commands(arguments)])

    def show_line(self, prefix: str, message: Text) -> None:
        """Show a line of a job's log as `fit-C1.0/algo-1 | message`; a long one is folded behind its prefix."""
        self._show(prefix, " | ", message)

    def show_status(self, task: str, status: str) -> None:
        """Show what has become of a task's job, in the logs' column but without their bar."""
        self._show(task, " > ", Text(status, _STYLES.get(status.partition(":")[0], "")))

    def show_warning(self, message: str) -> None:
        """Show what somebody warns of, whoever it is."""
        self._print([Text(message, "yellow")])

    def show_failure(self, error: Exception) -> None:
        """Show why the run ended early, and what to do: our errors say it themselves."""
        what, _, more = str(error).partition("\n")
        self._print([Text(), Text(what, "bold red"), *([Text(more)] if more else [])])

    def show_results(self, results: Sequence[TaskResult], report: str | None = None) -> None:
        """Show the table, its sum, and what to type next.

        Args:
            results: Of all steps, the last one's being the report.
            report: Where the report can be looked at; by default the last output's URI.
        """
        counts = summary(results)
        attached = f", {counts['attached']} attached" if counts["attached"] else ""
        self._print(
            [
                Text(),
                *results_table(results, self.width, self._colours),
                Text(),
                Text(f"  {counts['ran']} ran, {counts['skipped']} skipped{attached}", "bold"),
                Text(),
                *next_commands(report or results[-1].outputs["output"], self.width),
            ]
        )

    def _align(self, steps: Iterable[Step]) -> None:
        self._margin = max(len(prefix) for step in steps for prefix in step.prefixes)

    def _show(self, prefix: str, mark: str, message: Text) -> None:
        self._margin = max(self._margin, len(prefix))
        room = None if self.width is None else max(self.width - self._margin - len(mark), _LEAST_MESSAGE)
        lines = message.split(allow_blank=True) if room is None else message.wrap(self._console, room)
        colour = self._colours.of(prefix.partition("/")[0])
        start = Text.assemble((prefix.ljust(self._margin), colour), (mark, "dim"))
        self._print([start + line for line in lines])

    def _print(self, lines: Iterable[Text]) -> None:
        """Print lines as they are, at once, so that two threads' lines do not mix."""
        whole = self._encodable(Text("\n").join(lines))
        self._console.print(whole, soft_wrap=True)

    def _encodable(self, text: Text) -> Text:
        """Return the text without what the terminal's encoding cannot carry: a job may log anything."""
        encoding = self._console.encoding
        plain = text.plain
        try:
            plain.encode(encoding)
        except UnicodeEncodeError:
            text.plain = plain.translate(_PLAIN).encode(encoding, "replace").decode(encoding)
        return text
