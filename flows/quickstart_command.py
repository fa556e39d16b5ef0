"""The command line of the quickstart: starts the servers, runs the flow, and shows its results.

It is not part of the flow's module, because workers import that module, and the flow must not print.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
from prefect.logging.handlers import PrefectConsoleHandler

from blocks import PrefectSageMakerError, SageMakerProject
from flows.console import JobLogHandler, QuickstartConsole
from flows.own_home import own_directory
from flows.prefect_server import PrefectServer
from tasks_lib import JobResult, plan
from tasks_lib.errors import PrefectServerLost

Flow = Callable[..., list[JobResult]]


def main(flow: Flow, server: PrefectServer | None, arguments: Sequence[str] | None = None) -> int:
    """Run the quickstart and return the exit code.

    Args:
        flow: The quickstart flow.
        server: The Prefect server that was started for it, or None; it ends with this process.
        arguments: The command-line arguments; by default those of this process.
    """
    wanted = _parser().parse_args(arguments)
    console = QuickstartConsole()
    _show_only_jobs(console)
    try:
        _start(console, wanted.project, server)
        parameters = {"project": wanted.project, "Cs": wanted.Cs, "epochs": wanted.epochs, "data": wanted.data}
        if wanted.plan:
            planned = plan(flow, **parameters)
            console.show_plan(str(planned), sys.argv[1:] if arguments is None else arguments)
            if wanted.json:
                print(json.dumps(planned.to_dict()), flush=True)
            return 0
        console.show_steps(wanted.Cs)
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
    console.show_results(results, report=_fetch_report(results[-1]))
    if wanted.json:
        print(json.dumps(console.summary(results)), flush=True)
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


def _show_only_jobs(console: QuickstartConsole) -> None:
    """Replace Prefect's console log by the logs of the jobs; warnings of all loggers still appear."""
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, PrefectConsoleHandler)]:
        root.removeHandler(handler)
    root.addHandler(JobLogHandler(console))


def _start(console: QuickstartConsole, project: str, server: PrefectServer | None) -> None:
    """Start the servers that the run needs; print a line with the seconds for each."""
    if project == "local":
        with _phase(console, "local SageMaker"):
            SageMakerProject.local().client("s3")
    if server:
        with _phase(console, "Prefect server"):
            server.wait_until_up()


@contextmanager
def _phase(console: QuickstartConsole, name: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    console.show_phase(name, time.monotonic() - began)


if __name__ == "__main__":
    sys.exit("run `python -m flows.quickstart`")
