"""`ssm schedules`: checks that Prefect has scheduled the next run of each deployment with an active schedule."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from datetime import datetime, timezone

import httpx
from prefect.client.orchestration import get_client
from prefect.settings import get_current_settings

from tasks_lib.errors import PrefectSageMakerError, ProjectError
from tasks_lib.prefect_runtime.schedules import HORIZON, ScheduledDeployment, await_runs
from tasks_lib.prefect_runtime.sqlalchemy_bound import FIX
from tasks_lib.tables import Table

_NAMED_AT_MOST = 3


def schedules(options: argparse.Namespace) -> str:
    """Return the text to print.

    Raises:
        ProjectError: No Prefect server is configured, or it does not answer.
        PrefectSageMakerError: Prefect has scheduled no run for a deployment whose schedule has a next date.
    """
    api = get_current_settings().api.url
    if api is None:
        raise ProjectError(
            "No Prefect server is configured that could have schedules.",
            fix="name one: prefect config set PREFECT_API_URL=…",
        )
    try:
        with get_client(sync_client=True) as client:
            found = await_runs(client, options.wait)
    except httpx.HTTPError as error:
        raise ProjectError(
            f"The Prefect server at {api} does not answer ({error}).",
            fix="start it, or name another: prefect config set PREFECT_API_URL=…",
        ) from error
    return _report(found, api, datetime.now(timezone.utc))


def _report(found: Sequence[ScheduledDeployment], api: str, now: datetime) -> str:
    if not found:
        return f"No deployment at {api} has an active schedule, or it is paused.\n\nNext: prefect deploy --all"
    table = f"{_table(found, now)}\n\n"
    lost = [each.name for each in found if each.lacks_run(now)]
    if not lost:
        return f"{table}{_next(found)}"
    sys.stdout.write(table)
    raise PrefectSageMakerError(
        f"The Prefect server at {api} has scheduled no run of {_listed(lost)}: its scheduler is off, or fails because "
        "Prefect before 3.9.1 does not work with SQLAlchemy 2.1.",
        fix=f"where the server runs, `{FIX}`, unset PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED, and restart it.",
    )


def _table(found: Sequence[ScheduledDeployment], now: datetime) -> Table:
    rows = tuple((each.name, each.schedule, _next_run(each, now)) for each in found)
    return Table(("deployment", "schedule", "next run"), rows)


def _next_run(deployment: ScheduledDeployment, now: datetime) -> str:
    if deployment.next_run:
        return f"{deployment.next_run.astimezone(deployment.time_zone):%Y-%m-%d %H:%M %Z}"
    return "none" if deployment.lacks_run(now) else f"not in the next {HORIZON.days} days"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED_AT_MOST
    listed = ", ".join(map(repr, names[:_NAMED_AT_MOST]))
    return f"{listed} and {more} more" if more > 0 else listed


def _next(found: Sequence[ScheduledDeployment]) -> str:
    pools = sorted({each.work_pool for each in found if each.work_pool})
    if not pools:
        return "Next: nothing is to be done; the processes that serve these deployments run what is due."
    return "\n".join(f"Next: prefect worker start --pool {shlex.quote(pool)}" for pool in pools)
