"""Parses the options of `ssm`, runs a command, prints its result, and turns errors into exit codes.

`--help` must answer at once, so this module needs only argparse and the standard library. A command's module, which
imports Prefect, is imported when that command runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_EXIT_FAILED = 1
_EXIT_INTERRUPTED = 130
_EPILOG = "exit codes: 0 done; 1 it failed, the message says why and what to do; 2 wrong usage."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code.

    Args:
        arguments: The command line's arguments; default `sys.argv`.
    """
    options = _parser().parse_args(arguments)
    try:
        sys.stdout.write(_run(options) + "\n")
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted.\n")
        return _EXIT_INTERRUPTED
    except Exception as error:
        if not _is_explained(error):
            raise
        sys.stderr.write(str(error) + "\n")
        return _EXIT_FAILED
    return 0


def _run(options: argparse.Namespace) -> str:
    if options.command == "init":
        from tasks_lib.cli.init import init  # noqa: PLC0415 - see the module's docstring

        return init(options)
    if options.command == "quotas":
        from tasks_lib.cli.quotas import quotas  # noqa: PLC0415 - the same

        return quotas(options)
    if options.command == "schedules":
        from tasks_lib.cli.schedules import schedules  # noqa: PLC0415 - the same

        return schedules(options)
    from tasks_lib.cli.policy import policy  # noqa: PLC0415 - the same

    return policy(options)


def _is_explained(error: Exception) -> bool:
    from blocks import PrefectSageMakerError  # noqa: PLC0415 - the same

    return isinstance(error, (PrefectSageMakerError, OSError))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ssm",
        description="Prefect flows whose steps are SageMaker jobs, in a repository of your own.",
        epilog=_EPILOG,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version of prefect-sagemaker")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_init(commands)
    _add_policy(commands)
    _add_quotas(commands)
    _add_schedules(commands)
    return parser


class _Version(argparse.Action):
    """Prints the installed version, which is read from the wheel's metadata only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version  # noqa: PLC0415 - see the module's docstring

        sys.stdout.write(f"prefect-sagemaker {version('prefect-sagemaker')}\n")
        parser.exit()


def _add_init(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    summary = "Make a repository with a flow of two steps that runs at once on this machine."
    init = commands.add_parser(
        "init",
        help=summary,
        description=f"{summary} Nothing that is there is overwritten. The block is saved where a Prefect server is "
        "configured. Without --bucket it stands for this machine.",
    )
    init.add_argument("directory", nargs="?", type=Path, default=Path(), help="made where it is missing (default: .)")
    init.add_argument("--project", metavar="NAME", help="name of the project (default: the directory's)")
    init.add_argument("--block", metavar="NAME", help="name of its Prefect block (default: the project's)")
    _add_place(init)
    init.add_argument("--image", metavar="URI", help="image of the jobs (default: AWS's own for scikit-learn)")


def _add_policy(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    summary = "Print the least-privilege IAM policies that a project needs, as JSON."
    policy = commands.add_parser(
        "policy",
        help=summary,
        description=f"{summary} caller: the user who starts the flow; job: the role of its jobs; trust: the services "
        "that may assume that role. Without a name all three, by name.",
    )
    policy.add_argument("part", nargs="?", choices=("caller", "job", "trust"), help="print this one alone")
    which = policy.add_mutually_exclusive_group(required=True)
    which.add_argument("--block", metavar="NAME", help="the project of a saved Prefect block")
    which.add_argument("--project", metavar="NAME", help="or of this name, with --bucket")
    _add_place(policy)
    policy.add_argument(
        "--prefix", metavar="PATH", default="", help="path inside the bucket, before the project's name"
    )
    policy.add_argument(
        "--read",
        metavar="S3URI",
        action="append",
        default=[],
        help="an input outside the project's folder; may be given several times",
    )
    policy.add_argument(
        "--secret",
        metavar="REFERENCE",
        action="append",
        default=[],
        help="a secret that a task refers to, as it does; may be given several times",
    )


def _add_quotas(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    summary = "Print how many instances the account may run at a time, beside Prefect's limits for them."
    quotas = commands.add_parser(
        "quotas",
        help=summary,
        description=f"{summary} With --apply the limits are made from the quotas; jobs of a block with "
        "use_concurrency_limits then wait for their slots in Prefect and not at AWS.",
    )
    quotas.add_argument(
        "--block", metavar="NAME", default="local", help="the project of a saved Prefect block (default: this machine)"
    )
    quotas.add_argument(
        "--instance-type",
        metavar="TYPE",
        action="append",
        help="of this type; may be given several times (default: the block's)",
    )
    quotas.add_argument("--apply", action="store_true", help="make or change Prefect's limits for quotas above 0")


def _add_schedules(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    summary = "Check that Prefect has a run scheduled for each deployment with an active schedule."
    schedules = commands.add_parser(
        "schedules",
        help=summary,
        description=f"{summary} Prints each with its next run. Exit code 1 means that a schedule does not fire.",
    )
    schedules.add_argument(
        "--wait",
        type=float,
        default=60,
        metavar="SECONDS",
        help="how long to wait for the runs of a new deployment (default: 60)",
    )


def _add_place(command: argparse.ArgumentParser) -> None:
    command.add_argument("--bucket", metavar="NAME", help="S3 bucket of the project on AWS")
    command.add_argument("--region", metavar="NAME", help="AWS region (default: that of your AWS configuration)")
    command.add_argument(
        "--role", metavar="ROLE", help="IAM role of the jobs, by name or ARN (default: the first job makes one)"
    )
