"""Deployments with an active schedule, and the next run that Prefect has scheduled for each.

`prefect deploy` succeeds even if the server's scheduler is off or fails, and only the server's log says so. Any client
can see the effect: a schedule has a next date, but the server has no run for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import TypeAlias
from uuid import UUID
from zoneinfo import ZoneInfo

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterNextScheduledStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import DeploymentSort, FlowRunSort
from prefect.server.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule
from pydantic import TypeAdapter

HORIZON = timedelta(days=100)
"""How far ahead Prefect schedules runs (`PREFECT_SERVER_SERVICES_SCHEDULER_MAX_SCHEDULED_TIME`, its default)."""

_POLL_SECONDS = 1.0

Schedule: TypeAlias = CronSchedule | IntervalSchedule | RRuleSchedule
_SCHEDULES: TypeAdapter[Schedule] = TypeAdapter(Schedule)


@dataclass(frozen=True)
class ScheduledDeployment:
    """A deployment that is not paused and has an active schedule.

    Args:
        id: Its id.
        name: `flow/deployment`, as Prefect's commands take it.
        schedules: Its active schedules.
        work_pool: Name of its work pool; None for a served deployment.
        next_run: Start time of the next run that Prefect's scheduler made; None if there is none.
    """

    id: UUID
    name: str
    schedules: tuple[Schedule, ...]
    work_pool: str | None = None
    next_run: datetime | None = None

    def next_date(self, now: datetime) -> datetime | None:
        """Return the first date of its schedules from `now` on; None if there is none within `HORIZON`."""
        dates = [date for schedule in self.schedules if (date := _next_date(schedule, now))]
        return min(dates, default=None)

    def lacks_run(self, now: datetime) -> bool:
        """Return whether a run should be scheduled, but is not."""
        return self.next_run is None and self.next_date(now) is not None

    @property
    def schedule(self) -> str:
        """The schedules, written as in `prefect.yaml`."""
        return "; ".join(map(_described, self.schedules))

    @property
    def time_zone(self) -> ZoneInfo:
        """The time zone of the first schedule that has one, else UTC."""
        return ZoneInfo(next((each.timezone for each in self.schedules if each.timezone), "UTC"))


def _next_date(schedule: Schedule, now: datetime) -> datetime | None:
    """Return the next date by Prefect's rules, or None; its scheduler skips a schedule without computable dates."""
    try:
        dates = asyncio.run(schedule.get_dates(n=1, start=now, end=now + HORIZON))
    except ValueError:  # such as the cron of 30 February
        return None
    return dates[0] if dates else None


def _described(schedule: Schedule) -> str:
    zone = f" ({schedule.timezone})" if schedule.timezone else ""
    if isinstance(schedule, CronSchedule):
        return f"cron {schedule.cron}{zone}"
    if isinstance(schedule, RRuleSchedule):
        return f"rrule {schedule.rrule}{zone}"
    return f"every {schedule.interval}"


def await_runs(
    client: SyncPrefectClient,
    seconds: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> list[ScheduledDeployment]:
    """Wait until no scheduled deployment lacks a run or the time is over; return all of them, sorted by name.

    Prefect's scheduler looks at new deployments every 5 s, and at all deployments every 60 s.

    Args:
        client: Client of the server.
        seconds: Most seconds to wait; 0 looks once.
        clock: Returns the time in seconds.
        sleep: Waits for a number of seconds.
    """
    until = clock() + seconds
    found = list(scheduled_deployments(client))
    while any(each.lacks_run(_now()) for each in found) and clock() < until:
        sleep(_POLL_SECONDS)
        found = [_with_next_run(client, each) if each.lacks_run(_now()) else each for each in found]
    return sorted(found, key=lambda each: each.name)


def scheduled_deployments(client: SyncPrefectClient) -> Iterator[ScheduledDeployment]:
    """Yield each deployment that is not paused and has an active schedule, with its next run."""
    flows: dict[UUID, str] = {}
    for deployment in _deployments(client):
        schedules = [row.schedule for row in deployment.schedules if row.active]
        if deployment.paused or not schedules:
            continue
        flow = deployment.flow_id
        flows[flow] = flows.get(flow) or client.read_flow(flow).name
        yield _with_next_run(
            client,
            ScheduledDeployment(
                id=deployment.id,
                name=f"{flows[flow]}/{deployment.name}",
                schedules=tuple(_SCHEDULES.validate_python(each.model_dump()) for each in schedules),
                work_pool=deployment.work_pool_name,
            ),
        )


def _deployments(client: SyncPrefectClient) -> Iterator[DeploymentResponse]:
    """Yield every deployment once; the server chooses the size of a page, 200 by default.

    Pages are sorted by creation time, because names are not unique, and equal names may swap between two pages.
    """
    seen: set[UUID] = set()
    offset = 0
    while page := client.read_deployments(sort=DeploymentSort.CREATED_DESC, offset=offset):
        offset += len(page)
        yield from (each for each in page if each.id not in seen)
        seen.update(each.id for each in page)


def _with_next_run(client: SyncPrefectClient, deployment: ScheduledDeployment) -> ScheduledDeployment:
    runs = (run.next_scheduled_start_time for run in _coming_runs(client, deployment) if run.auto_scheduled)
    return replace(deployment, next_run=next(runs, None))


def _coming_runs(client: SyncPrefectClient, deployment: ScheduledDeployment) -> Iterator[FlowRun]:
    """Yield the scheduled runs, the next one first.

    Late runs are left out, since they may date from before the scheduler failed. Prefect's scheduler counts the same
    runs.
    """
    scheduled = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
        next_scheduled_start_time=FlowRunFilterNextScheduledStartTime(after_=_now()),
    )
    offset = 0
    while page := client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id])),
        flow_run_filter=scheduled,
        sort=FlowRunSort.NEXT_SCHEDULED_START_TIME_ASC,
        limit=1,  # a schedule may have 100 runs, and usually the first one is enough
        offset=offset,
    ):
        offset += len(page)
        yield from page


def _now() -> datetime:
    return datetime.now(timezone.utc)
