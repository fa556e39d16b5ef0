"""What the quickstart shows on a terminal.

`steps.py`, `results.py` and `commands.py` are functions of values that give lines; `screen.py` prints them, `logs.py`
brings the jobs' logs there.
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
