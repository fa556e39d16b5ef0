"""The reaper: lists a project's live jobs, finds the orphans among them, and stops those.

`policy.py` decides what an orphan is. This module asks SageMaker, S3 and Prefect, and acts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Literal
from uuid import UUID, uuid4

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.exceptions import ObjectNotFound

from blocks import SageMakerProject
from tasks_lib.aws.jobs import Jobs
from tasks_lib.aws.objects import Objects
from tasks_lib.aws.rate_limit import TokenBucket
from tasks_lib.errors import PrefectSageMakerError
from tasks_lib.jobs.job import Job, cost_of, shown_cost
from tasks_lib.jobs.kind import Phase
from tasks_lib.jobs.kinds import KINDS, JobKind
from tasks_lib.jobs.naming import is_job_of, job_name
from tasks_lib.jobs.s3_layout import LEFT, ProjectFolder
from tasks_lib.ledger.heartbeats import Heartbeat
from tasks_lib.orphans.policy import Assessment, JobActivity, Rules, RunState, assess, duration_text, needs_runs, run_of
from tasks_lib.prefect_runtime.run_context import NO_FLOW
from tasks_lib.tables import Table

RunStates = Callable[[str], RunState]
"""Returns the state of a flow run."""

Action = Literal["kept", "would stop", "stopped", "had ended", "not assessed"]

_OLDEST = timedelta(days=60)
"""No live job is older: it may run for 28 days, after it was pending for as many (`StoppingCondition`)."""

_LOOK_FOR_A_TURN = 0.25
_COLUMNS = ("task", "job", "age", "instances", "cost so far", "last waiter", "verdict", "why")


@dataclass(frozen=True)
class Row:
    """What the reaper found out about one live job, and what it did.

    Args:
        job: The job's name.
        action: What was done.
        why: Why.
        seen: The job as it was found; None if it could not be described.
        cost: Its cost so far, by the project's `hourly_prices`; None if unknown.
    """

    job: str
    action: Action
    why: str
    seen: JobActivity | None = None
    cost: float | None = None

    @property
    def cells(self) -> tuple[str | None, ...]:
        """The row's cells as text."""
        if self.seen is None:
            return (None, self.job, None, None, None, None, self.action, self.why)
        job, last = self.seen.job, self.seen.last
        return (
            self.seen.task,
            self.job,
            duration_text(self.seen.age),
            f"{job.instance_count} x {job.instance_type}" if job.instance_type else None,
            shown_cost(self.cost),
            f"{run_of(last[0])}, {duration_text(last[1])} ago" if last else "none",
            self.action,
            self.why,
        )


@dataclass(frozen=True)
class ReapReport:
    """What one run of the reaper found in one project.

    Args:
        project: The project's name.
        rows: A row for each live job.
        errors: Errors that kept jobs from being described or stopped.
    """

    project: str
    rows: tuple[Row, ...]
    errors: tuple[PrefectSageMakerError, ...] = ()

    def count(self, action: Action) -> int:
        """Return the number of jobs with this action."""
        return sum(row.action == action for row in self.rows)

    @property
    def table(self) -> Table:
        """All jobs as a table."""
        deeds = {row.action: self.count(row.action) for row in self.rows}
        counted = ", ".join(f"{number} {action}" for action, number in sorted(deeds.items())) or "none"
        return Table(_COLUMNS, tuple(row.cells for row in self.rows), title=f"Live jobs of {self.project}: {counted}")


class Reaper:
    """Finds and stops the orphans of one project.

    Args:
        project: The project.
        runs: Returns the state of a flow run.
        rules: When a job is an orphan; default `Rules()`.
        objects: Access to S3; by default the project's.
        listings: Says when the next page may be listed; by default every 2 s, as in `watch.py`, since the whole account
            shares the quota.
        clock: Epoch seconds.
    """

    def __init__(
        self,
        project: SageMakerProject,
        runs: RunStates,
        rules: Rules | None = None,
        *,
        objects: Objects | None = None,
        listings: TokenBucket | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._waiter = f"reaper/{uuid4().hex}"  # two reapers may run at the same time
        self._project, self._runs, self._rules = project, runs, rules or Rules()
        self._objects, self._jobs = objects or Objects(project), Jobs(project)
        self._listings = listings or TokenBucket(rate=0.5, burst=1)
        self._clock = clock

    def reap(self, *, dry_run: bool = True) -> ReapReport:
        """Look at each live job of the project, and stop the orphans.

        An error with one job is reported in its row, and the others are still looked at.

        Args:
            dry_run: Stop nothing, only say what would be stopped; default True.

        Raises:
            PrefectSageMakerError: The jobs could not be listed.
        """
        rows, errors = [], []
        for kind, name in self._live():
            try:
                row = self._handle(kind, name, dry_run)
            except PrefectSageMakerError as error:
                row = Row(name, "not assessed", error.message)
                errors.append(error)
            if row:
                rows.append(row)
        return ReapReport(self._project.project, tuple(rows), tuple(errors))

    # -- look ----------------------------------------------------------------------------------------------------------

    def _live(self) -> Iterator[tuple[JobKind, str]]:
        """Yield kind and name of each live job whose name has this package's form."""
        since = datetime.fromtimestamp(self._clock(), timezone.utc) - _OLDEST
        for kind in KINDS.values():
            token, first = "", True
            while token or first:
                while not self._listings.try_acquire():
                    time.sleep(_LOOK_FOR_A_TURN)
                # `StatusEquals` is applied after the page is cut, so an empty page may have a token.
                found, token = self._jobs.page(
                    kind, token, StatusEquals=kind.status_of(Phase.IN_PROGRESS), CreationTimeAfter=since
                )
                first = False
                yield from ((kind, name) for name in found if is_job_of(name, _stem(name)))

    def _seen(self, kind: JobKind, name: str) -> JobActivity | None:
        """Return what is known of a job; None if it is not this project's, or no longer live."""
        found = self._jobs.with_environment(kind, name)
        if found is None or found[0].phase is not Phase.IN_PROGRESS:
            return None
        job, environment = found
        task = environment.get("SSM_TASK", "")
        if environment.get("SSM_PROJECT") != self._project.project or not self._is_own(job, task):
            return None
        marks = self._heartbeat(task, name).ages()
        seen = JobActivity(
            job,
            task,
            timedelta(seconds=self._clock() - job.created),
            {name: age for name, age in marks.items() if not name.startswith(LEFT)},
            tuple(name.removeprefix(LEFT) for name in marks if name.startswith(LEFT)),
        )
        return replace(seen, runs=self._runs_of(seen)) if needs_runs(seen, self._rules) else seen

    def _is_own(self, job: Job, task: str) -> bool:
        # A job's name contains a hash of the project's folder in S3. So the jobs of a project of the same name in
        # another bucket or prefix are never touched, nor are any other jobs in the account.
        attempt = int(job.name.rpartition("-")[2])
        return bool(task) and job.name == job_name(
            task, f"{self._project.uri}{task}/", job.fingerprint, attempt, limit=job.kind.name_limit
        )

    def _runs_of(self, seen: JobActivity) -> dict[str, RunState]:
        waited = {run_of(waiter) for waiter in (*seen.waiters, seen.job.started_by)}
        return {run: self._runs(run) for run in sorted(waited - {NO_FLOW, ""})}

    def _heartbeat(self, task: str, job: str) -> Heartbeat:
        folder = ProjectFolder(self._project.bucket, self._project.key_prefix).task(task)
        return Heartbeat(self._objects, folder, job, self._waiter)

    # -- act -----------------------------------------------------------------------------------------------------------

    def _handle(self, kind: JobKind, name: str, dry_run: bool) -> Row | None:
        seen = self._seen(kind, name)
        if seen is None:
            return None
        assessed = assess(seen, self._rules)
        if not assessed.orphan:
            return self._row(seen, "kept", assessed.why)
        return self._row(seen, "would stop", assessed.why) if dry_run else self._stop(seen)

    def _stop(self, seen: JobActivity) -> Row:
        """Stop an orphan, unless a run has begun to wait for it.

        A run that attaches writes its heartbeat and then waits. The reaper announces the stop and then reads the
        heartbeats once more before it stops the job. S3 is consistent, so at least one of them sees the other: the
        reaper keeps the job, or the run finds its job stopped as announced and makes the next attempt.
        """
        heartbeat = self._heartbeat(seen.task, seen.job.name)
        heartbeat.announce_stop()
        again = self._seen(seen.job.kind, seen.job.name)
        if again is None:
            return self._row(seen, "had ended", "it ended by itself meanwhile")
        assessed = assess(again, self._rules)
        if not assessed.orphan:
            heartbeat.withdraw_stop()
            return self._row(again, "kept", assessed.why)
        self._jobs.stop(again.job)
        return self._stopped(again, assessed, heartbeat)

    def _stopped(self, seen: JobActivity, assessed: Assessment, heartbeat: Heartbeat) -> Row:
        """Return the row of a job after its stop was requested."""
        now = self._jobs.describe(seen.job.kind, seen.job.name)
        if now and now.phase in (Phase.COMPLETED, Phase.FAILED):
            return self._row(seen, "had ended", "it ended by itself meanwhile")
        late = [waiter for waiter in heartbeat.waiting() if not waiter.startswith(LEFT)]
        and_so = f"; {', '.join(late)} came at that moment, and goes on with the next attempt" if late else ""
        return self._row(seen, "stopped", assessed.why + and_so)

    def _row(self, seen: JobActivity, action: Action, why: str) -> Row:
        job, price = seen.job, self._project.hourly_prices.get(seen.job.instance_type)
        # AWS bills from `TrainingStartTime` on (API reference of DescribeTrainingJob).
        seconds = max(0.0, self._clock() - job.started) if job.started else 0.0
        return Row(job.name, action, why, seen, cost_of(price, job.instance_count, seconds))


def _stem(name: str) -> str:
    return name.rsplit("-", 2)[0]


def asking(api: SyncPrefectClient) -> RunStates:
    """Return a function that asks a Prefect server for the state of a flow run.

    A run in a state that is not final counts as live: it may await a retry, or be paused.
    """

    def state(flow_run: str) -> RunState:
        try:
            run = api.read_flow_run(UUID(flow_run))
        except (ValueError, ObjectNotFound):
            return "unknown"
        except httpx.HTTPError:
            return "unreachable"
        return "over" if run.state and run.state.is_final() else "live"

    return state
