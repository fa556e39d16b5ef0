"""The command line of the quickstart: starts the servers, runs the flow, and shows its results.

It is not part of the flow's module, because workers import that module, and the flow must not print.
"""

from __future__ import annotations

import argparse
import json
import logging
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
from prefect.logging.handlers import PrefectConsoleHandler
from rich.table import Table
from rich.text import Text

from blocks import PrefectSageMakerError, SageMakerProject
from flows.own_home import own_directory
from flows.prefect_server import PrefectServer
from tasks_lib import JobResult, plan
from tasks_lib.console import JobConsole, JobLogHandler, summary
from tasks_lib.errors import PrefectServerLost

Flow = Callable[..., list[JobResult]]

_COMMANDS = (
    ("run again", "make quickstart", "every step is skipped"),
    ("change a parameter", 'make quickstart ARGS="--Cs 0.1 10"', "only new work runs"),
    ("see it in the UI", "make ui", ""),
)


def main(flow: Flow, server: PrefectServer | None, arguments: Sequence[str] | None = None) -> int:
    """Run the quickstart and return the exit code.

    Args:
        flow: The quickstart flow.
        server: The Prefect server that was started for it, or None; it ends with this process.
        arguments: The command-line arguments; by default those of this process.
    """
    wanted = _parser().parse_args(arguments)
    console = JobConsole()
    _show_only_jobs(console)
    try:
        _start(console, wanted.project, server)
        parameters = {"project": wanted.project, "Cs": wanted.Cs, "epochs": wanted.epochs, "data": wanted.data}
        if wanted.plan:
            planned = plan(flow, **parameters)
            _show_plan(console, str(planned), sys.argv[1:] if arguments is None else arguments)
            if wanted.json:
                print(json.dumps(planned.to_dict()), flush=True)
            return 0
        _show_steps(console, wanted.Cs)
        results = flow(**parameters)
    except PrefectSageMakerError as error:
        console.show_failure(error)
        return 1
    except httpx.ConnectError:  # Prefect raises it if it could not write the final state of the flow run
        console.show_failure(
            PrefectServerLost(
                "The Prefect server of the quickstart died, and the running jobs go on.",
                fix="make quickstart attaches to them; finished steps are skipped.",
            )
        )
        return 1
    except KeyboardInterrupt:
        console.show_warning("\nInterrupted, and the running jobs stopped. Finished steps are kept: make quickstart")
        return 130
    console.show_results(results)
    console.show_commands([*_COMMANDS, ("see the report", _fetch_report(results[-1]), "")])
    if wanted.json:
        print(json.dumps(summary(results)), flush=True)
    return 0


def _fetch_report(evaluate: JobResult) -> str:
    """Download the report; return the path of the plot, relative to the working directory if it is below it."""
    files = evaluate.output.download(own_directory() / "quickstart" / "report")
    plot = next(file for file in files if file.suffix == ".png")
    return str(plot.relative_to(Path.cwd())) if plot.is_relative_to(Path.cwd()) else str(plot)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows.quickstart", description="prepare -> fits side by side -> evaluate; skipped where done."
    )
    parser.add_argument("--project", default="local", help="SageMakerProject block; default: this machine")
    parser.add_argument(
        "--Cs", type=float, nargs="+", default=[0.1, 1.0], help="one training job each; default: 0.1 1.0"
    )
    parser.add_argument("--epochs", type=int, default=12, help="steps of each training; default: 12")
    parser.add_argument("--data", help="directory of CSV files; default: scikit-learn's breast cancer data")
    parser.add_argument("--plan", action="store_true", help="show what would run and why, and run nothing")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    return parser


def _show_steps(console: JobConsole, Cs: Sequence[float]) -> None:  # noqa: N803  scikit-learn's name
    """Show the stages of the flow from left to right, and align the logs that follow."""
    fits = {f"fit-C{C}": ["training, 1 host"] for C in Cs}
    stages = [
        {"prepare": ["processing, 2 hosts", "split, scale"]},
        fits,
        {"evaluate": ["processing, 1 host", "report, plot"]},
    ]
    drawing = Table(box=None, show_header=False, padding=(0, 0, 0, 2), pad_edge=True)
    cells: list[Text] = []
    for number, stage in enumerate(stages):
        lines = [
            line
            for name, details in stage.items()
            for line in (Text(name, f"bold {console.colour(name)}"), *(Text(detail, "dim") for detail in details))
        ]
        cells += [*([Text("->", "dim")] if number else []), Text("\n").join(lines)]
    drawing.add_row(*cells)
    console.align([*(f"{fit}/algo-1" for fit in fits), "prepare/algo-2", "evaluate/algo-1"])
    console.show("", drawing, "")


def _show_plan(console: JobConsole, planned: str, arguments: Sequence[str]) -> None:
    """Show a plan, and the command that runs it."""
    kept = shlex.join(word for word in arguments if word != "--plan")
    quoted = shlex.quote(kept) if set(kept) & set("'\"\\$`") else f'"{kept}"'
    console.show("", *(f"  {line}".rstrip() for line in planned.splitlines()), "", Text("  nothing was run", "bold"))
    console.show_commands([("run it", f"make quickstart ARGS={quoted}" if kept else "make quickstart", "")])


def _show_only_jobs(console: JobConsole) -> None:
    """Replace Prefect's console log by the logs of the jobs; warnings of all loggers still appear."""
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, PrefectConsoleHandler)]:
        root.removeHandler(handler)
    root.addHandler(JobLogHandler(console))


def _start(console: JobConsole, project: str, server: PrefectServer | None) -> None:
    """Start the servers that the run needs; print a line with the seconds for each."""
    if project == "local":
        with _phase(console, "local SageMaker"):
            SageMakerProject.local().client("s3")
    if server:
        with _phase(console, "Prefect server"):
            server.wait_until_up()


@contextmanager
def _phase(console: JobConsole, name: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    console.show(f"  {name:<16} {time.monotonic() - began:>6.1f} s")


if __name__ == "__main__":
    sys.exit("run `python -m flows.quickstart`")
