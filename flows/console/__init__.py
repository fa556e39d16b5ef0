"""The quickstart's terminal output.

`steps.py`, `results.py` and `commands.py` are pure functions that return lines. `screen.py` prints the lines, and
`logs.py` shows the jobs' logs on the same screen.
"""

from flows.console.commands import next_commands
from flows.console.logs import JobLogHandler
from flows.console.results import TaskResult, results_table, summary
from flows.console.screen import QuickstartConsole
from flows.console.steps import Step, quickstart_steps, steps_drawing

__all__ = [
    "JobLogHandler",
    "QuickstartConsole",
    "Step",
    "TaskResult",
    "next_commands",
    "quickstart_steps",
    "results_table",
    "steps_drawing",
    "summary",
]
