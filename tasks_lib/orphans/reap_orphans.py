"""The flow that reaps orphaned jobs: it finds live jobs that no live run needs, and stops them if told to.

By default it is a dry run that says what it would stop. As a deployment it runs every hour (`prefect.yaml`).

    python -m tasks_lib.orphans.reap_orphans [--no-dry-run] [--project BLOCK]
    prefect deployment run reap-orphans/reap-orphans -p dry_run=false

It asks the Prefect server of the user's profile. `flows/reap_orphans.py` does the same with a checkout's own Prefect.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import timedelta

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.client.orchestration import get_client
from prefect.logging import get_run_logger

from blocks import SageMakerProject
from tasks_lib.errors import PrefectSageMakerError
from tasks_lib.jobs.naming import slug
from tasks_lib.orphans.policy import Rules
from tasks_lib.orphans.reaper import Reaper, ReapReport, asking
from tasks_lib.tables import Table


@flow(name="reap-orphans")
def reap_orphans(
    project: str = "local",
    dry_run: bool = True,
    grace_minutes: float = 15,
    include_left: bool = False,
    silent_hours: float = 12,
) -> Table:
    """Find a project's orphaned jobs, and stop them unless this is a dry run.

    Args:
        project: Name of a `SageMakerProject` block; `local` runs on this machine.
        dry_run: Stop nothing, and say what would be stopped.
        grace_minutes: A job younger than this is none.
        include_left: Also stop jobs that were left on purpose (`on_exit="leave"`).
        silent_hours: A flow run that Prefect calls live is believed for so long after it was last heard of.

    Returns:
        All live jobs of the project and what became of each; also an artifact, `orphans-<project>`.

    Raises:
        PrefectSageMakerError: Jobs could not be listed, looked at or stopped; all others were dealt with before.
    """
    block = SageMakerProject.named(project)
    rules = Rules(timedelta(minutes=grace_minutes), timedelta(hours=silent_hours), include_left)
    with get_client(sync_client=True) as api:
        harvest = Reaper(block, asking(api), rules).reap(dry_run=dry_run)
    table = harvest.table
    get_run_logger().info("%s\n%s", table, _next_command(harvest))
    create_table_artifact(table.to_dicts(), key=f"orphans-{slug(block.project).lower()}", description=table.title)
    if harvest.errors:
        raise harvest.errors[0]
    return table


def _next_command(harvest: ReapReport) -> str:
    if harvest.count("would stop"):
        return "To stop them: the same with dry_run=false (`--no-dry-run` on the command line)."
    return "Nothing is left to stop."


def main(arguments: Sequence[str] | None = None, *, program: str = "python -m tasks_lib.orphans.reap_orphans") -> int:
    """Run the flow from a command line; return the exit code.

    Args:
        arguments: The command line's arguments; default `sys.argv`.
        program: The command's name in its help.
    """
    wanted = _parser(program).parse_args(arguments)
    try:
        reap_orphans(**vars(wanted))
    except PrefectSageMakerError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program,
        description="Find live jobs that no run waits for; a dry run by default.",
        allow_abbrev=False,  # `flows/reap_orphans.py` looks for `--project` before Prefect is imported
    )
    parser.add_argument("--project", default="local", help="SageMakerProject block; default: this machine")
    parser.add_argument(
        "--dry-run", action=argparse.BooleanOptionalAction, default=True, help="stop nothing, say what would be stopped"
    )
    parser.add_argument("--grace-minutes", type=float, default=15, help="a younger job is not an orphan; default: 15")
    parser.add_argument("--include-left", action="store_true", help="also stop what was left on purpose")
    parser.add_argument(
        "--silent-hours", type=float, default=12, help="how long a silent run that Prefect calls live is believed"
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
