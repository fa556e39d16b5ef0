"""The quickstart's console: prints the lines that the other modules make.

On a terminal, lines are folded to its width. In a pipe or a file they are neither folded nor coloured, so that a URI
can be searched and copied.
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
# ASCII substitutes for terminals that cannot show line-drawing characters.
_PLAIN = str.maketrans("─│┬┼┴┐┤┘├└▶", "-|++++|'|`>")


class QuickstartConsole:
    """Prints all output of the quickstart. It is thread-safe.

    Args:
        console: The rich console; by default standard output.
    """

    summary = staticmethod(summary)

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._colours = Colours()
        self._margin = 0

    @property
    def width(self) -> int | None:
        """Columns of the terminal; None if the output is not a terminal."""
        return self._console.width if self._console.is_terminal else None

    def show_phase(self, name: str, seconds: float) -> None:
        """Show the seconds that a step of the start-up took."""
        self._print([Text(f"  {name:<16} {seconds:>6.1f} s")])

    def show_steps(self, Cs: Sequence[float]) -> None:  # noqa: N803  scikit-learn's name
        """Draw the quickstart's steps, and align the logs that follow.

        Args:
            Cs: The flow's parameter `Cs`.
        """
        steps = quickstart_steps(Cs)
        self._align(steps)
        self._print([Text(), *steps_drawing(steps, self._colours), Text()])

    def show_plan(self, plan: str, arguments: Sequence[str]) -> None:
        """Show a plan, and that nothing was run; its table is not folded.

        Args:
            plan: The plan as text.
            arguments: The arguments of the command that made it.
        """
        lines = [Text(f"  {line}".rstrip()) for line in plan.splitlines()]
        self._print([Text(), *lines, Text(), *plan_commands(arguments)])

    def show_line(self, prefix: str, message: Text) -> None:
        """Show a line of a job's log as `fit-C1.0/algo-1 | message`; fold a long one after its prefix."""
        self._show(prefix, " | ", message)

    def show_status(self, task: str, status: str) -> None:
        """Show the new status of a task's job, aligned with the logs, as `fit-C1.0 > Completed`."""
        self._show(task, " > ", Text(status, _STYLES.get(status.partition(":")[0], "")))

    def show_warning(self, message: str) -> None:
        """Show a warning."""
        self._print([Text(message, "yellow")])

    def show_failure(self, error: Exception) -> None:
        """Show the error that ended the run. The message of a prefect-sagemaker error also says how to fix it."""
        what, _, more = str(error).partition("\n")
        self._print([Text(), Text(what, "bold red"), *([Text(more)] if more else [])])

    def show_results(self, results: Sequence[TaskResult], report: str | None = None) -> None:
        """Show the table of results, its totals, and the next commands.

        Args:
            results: The results of all steps; the last step makes the report.
            report: The path of the report; by default the URI of the last step's output.
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
        """Print lines unfolded and in one call, so that the lines of two threads do not mix."""
        whole = self._encodable(Text("\n").join(lines))
        self._console.print(whole, soft_wrap=True)

    def _encodable(self, text: Text) -> Text:
        """Replace the characters that the terminal's encoding does not have: a job may log any."""
        encoding = self._console.encoding
        plain = text.plain
        try:
            plain.encode(encoding)
        except UnicodeEncodeError:
            text.plain = plain.translate(_PLAIN).encode(encoding, "replace").decode(encoding)
        return text
