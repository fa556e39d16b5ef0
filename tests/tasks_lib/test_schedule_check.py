"""Schedules without a next run, and the versions with which Prefect's scheduler fails."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import DeploymentSchedule, Flow, FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import construct_schedule
from prefect.server.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule
from prefect.settings import PREFECT_API_URL, temporary_settings

from tasks_lib.cli import main
from tasks_lib.prefect_runtime.schedules import HORIZON, ScheduledDeployment, await_runs, scheduled_deployments
from tasks_lib.prefect_runtime.sqlalchemy_bound import sqlalchemy_warning

NOW = datetime(2026, 11, 28, 20, 0, tzinfo=timezone.utc)
NIGHTLY = CronSchedule(cron="0 2 * * *", timezone="Europe/Berlin")
YEARLY = CronSchedule(cron="0 0 1 6 *")
NEVER = CronSchedule(cron="0 0 30 2 *")
ENDED = RRuleSchedule(rrule="DTSTART:20200101T000000\nRRULE:FREQ=DAILY;COUNT=3")
HOURLY = IntervalSchedule(interval=timedelta(hours=1), anchor_date=NOW - timedelta(minutes=10))


def deployment(*schedules, next_run=None) -> ScheduledDeployment:
    return ScheduledDeployment(uuid4(), "churn/nightly", schedules, next_run=next_run)


# -- versions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sqlalchemy", ["2.1.9", "2.1.0b2", "2.10", "3"])
@pytest.mark.parametrize("prefect", ["3.8.8", "3.9.0"])
def test_versions_with_which_no_schedule_fires(sqlalchemy, prefect):
    """SQLAlchemy from 2.1 with a Prefect before 3.9.1 causes a one-line warning with both versions and the fix."""
    told = sqlalchemy_warning(sqlalchemy, prefect)

    assert told
    assert "\n" not in told
    assert all(word in told for word in (sqlalchemy, prefect, "pip install 'sqlalchemy<2.1'"))


@pytest.mark.parametrize(
    ("sqlalchemy", "prefect"),
    [("2.0.58", "3.8.8"), ("2.0.58", "3.9.1"), ("1.4.54", "3.9.0"), ("2.1.9", "3.9.1"), ("2.1.9", "3.10.0")],
)
def test_versions_with_which_schedules_fire(sqlalchemy, prefect):
    """An older SQLAlchemy, or a Prefect from 3.9.1, causes no warning."""
    assert sqlalchemy_warning(sqlalchemy, prefect) is None


def test_the_versions_that_are_installed():
    """The default versions are the installed ones, which `pyproject.toml` restricts to working ones."""
    assert sqlalchemy_warning() is None


# -- values --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedules", "expected"),
    [
        ([NIGHTLY], datetime(2026, 11, 29, 1, 0, tzinfo=timezone.utc)),
        ([HOURLY], NOW + timedelta(minutes=50)),
        ([NIGHTLY, HOURLY, ENDED], NOW + timedelta(minutes=50)),
        ([NEVER, NIGHTLY], datetime(2026, 11, 29, 1, 0, tzinfo=timezone.utc)),
        ([YEARLY], None),
        ([ENDED], None),
        ([NEVER], None),
    ],
)
def test_next_date(schedules, expected):
    """The next date is the first of any schedule within Prefect's horizon.

    A schedule that is too far away, has ended or never fires has none.
    """
    assert deployment(*schedules).next_date(NOW) == expected


def test_the_horizon_is_prefects():
    """The horizon equals the default of Prefect's own server setting."""
    from prefect.settings.models.server.services import ServerServicesSchedulerSettings

    assert ServerServicesSchedulerSettings.model_fields["max_scheduled_time"].default == HORIZON


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (deployment(NIGHTLY), True),
        (deployment(YEARLY, HOURLY), True),
        (deployment(NIGHTLY, next_run=NOW + timedelta(hours=5)), False),
        (deployment(YEARLY), False),
        (deployment(ENDED), False),
    ],
)
def test_deployments_that_lack_a_run(found, expected):
    """A deployment lacks a run if its schedule has a next date and no run exists."""
    assert found.lacks_run(NOW) is expected


def test_a_schedule_in_words():
    """A schedule is described as in `prefect.yaml`, with its time zone."""
    assert deployment(NIGHTLY, HOURLY).schedule == "cron 0 2 * * * (Europe/Berlin); every 1:00:00"


# -- a Prefect server ----------------------------------------------------------------------------------------------


class ClientDouble:
    """Prefect's client for deployments and runs that a test makes; `tests/application` uses a real server.

    Args:
        page: Number of rows that it returns at a time.
    """

    def __init__(self, page: int = 200) -> None:
        self.page, self.rows, self.runs, self.asked = page, [], {}, []

    def deploy(self, name="nightly", *, active=True, paused=False, cron="0 2 * * *") -> UUID:
        number = uuid4()
        schedule = DeploymentSchedule(schedule=construct_schedule(cron=cron, timezone="UTC"), active=active)
        self.rows.append(DeploymentResponse(id=number, name=name, flow_id=uuid4(), schedules=[schedule], paused=paused))
        return number

    def run(self, deployment: UUID, start: datetime, *, auto=True) -> None:
        run = FlowRun(flow_id=uuid4(), auto_scheduled=auto, next_scheduled_start_time=start)
        self.runs.setdefault(deployment, []).append(run)

    def read_deployments(self, *, sort, offset):
        return self.rows[offset : offset + self.page]

    def read_flow(self, flow_id):
        return Flow(id=flow_id, name="churn")

    def read_flow_runs(self, *, deployment_filter, flow_run_filter, sort, limit, offset):
        [number] = deployment_filter.id.any_
        self.asked.append(number)
        return self.runs.get(number, [])[offset : offset + limit]


def test_every_page_of_deployments_is_read():
    """Each deployment is read once, from all pages, also if a new one moves others to the next page."""
    prefect = ClientDouble()
    made = [prefect.deploy(f"nightly-{number}") for number in range(450)]
    prefect.rows.insert(200, prefect.rows[199])

    assert [each.id for each in scheduled_deployments(prefect)] == made


def test_what_is_not_scheduled_is_left_out():
    """A paused deployment and an inactive schedule are left out."""
    prefect = ClientDouble()
    prefect.deploy("paused", paused=True)
    prefect.deploy("inactive", active=False)
    prefect.deploy("nightly")

    assert [each.name for each in scheduled_deployments(prefect)] == ["churn/nightly"]


def test_a_run_by_hand_is_not_the_schedules():
    """Only runs that the scheduler made count, in any position among other runs."""
    prefect = ClientDouble()
    by_hand, by_both = prefect.deploy("by-hand"), prefect.deploy("by-both")
    for number in (by_hand, by_both):
        prefect.run(number, NOW, auto=False)
    prefect.run(by_both, NOW + timedelta(hours=1))

    assert [each.next_run for each in scheduled_deployments(prefect)] == [None, NOW + timedelta(hours=1)]


class Clock:
    """A clock that advances only in `sleep`.

    Args:
        events: Functions to call after so many seconds.
    """

    def __init__(self, **events) -> None:
        self.seconds, self._events = 0.0, {int(name[1:]): event for name, event in events.items()}

    def __call__(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        self._events.get(int(self.seconds), lambda: None)()


def test_the_wait_ends_with_the_last_run():
    """The wait ends when each deployment has a run, and asks again only for those without one."""
    prefect = ClientDouble()
    early, late = prefect.deploy("early"), prefect.deploy("late")
    prefect.run(early, NOW)
    clock = Clock(_4=lambda: prefect.run(late, NOW))
    found = await_runs(prefect, 60, clock=clock, sleep=clock.sleep)

    assert [each.next_run for each in found] == [NOW, NOW]
    assert clock.seconds == 4
    assert prefect.asked.count(early) == 1


@pytest.mark.parametrize(("wait", "slept"), [(60, 60), (0, 0)])
def test_the_wait_has_an_end(wait, slept):
    """After the given time the wait ends without the run; with 0 it checks once."""
    prefect, clock = ClientDouble(), Clock()
    prefect.deploy()
    [found] = await_runs(prefect, wait, clock=clock, sleep=clock.sleep)

    assert found.next_run is None
    assert clock.seconds == slept


def test_nothing_is_waited_for_where_no_run_is_due():
    """There is no wait for a deployment that has no date within the horizon, such as a yearly one."""
    prefect, clock = ClientDouble(), Clock()
    in_half_a_year = datetime.now(timezone.utc) + timedelta(days=180)
    prefect.deploy(cron=f"0 0 1 {in_half_a_year.month} *")
    [found] = await_runs(prefect, 60, clock=clock, sleep=clock.sleep)

    assert found.next_run is None
    assert clock.seconds == 0


def test_no_server_is_configured(capsys):
    """Without a configured server the command says how to set one, since a temporary server has no deployments."""
    with temporary_settings({PREFECT_API_URL: None}):
        assert main(["schedules"]) == 1

    assert "To resolve this: name one: prefect config set PREFECT_API_URL=…" in capsys.readouterr().err
