"""The job of a run that is being ended: it is stopped, left to other waiters, or left running.

A cancellation, a signal or a timeout ends a run. The requests that remain have only seconds, and transient errors are
retried for that long. A crash does not reach this code, so its job keeps running.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from tasks_lib.backend import Backend
from tasks_lib.errors import PrefectSageMakerError, ServiceError
from tasks_lib.jobs.job import Job
from tasks_lib.jobs.kind import JobKind, Phase
from tasks_lib.ledger.heartbeats import Heartbeat
from tasks_lib.options import OnExit
from tasks_lib.prefect_runtime.run_context import RunContext
from tasks_lib.reports.artifacts import Report
from tasks_lib.run.retries import CALL_RETRIES

_T = TypeVar("_T")

PAUSES = (0.2, 0.4, 0.8, 1.6)
"""Seconds between the tries. Prefect kills a cancelled flow run 30 s after its SIGTERM."""


class Cancellation:
    """Stops or leaves the job of one call whose run is being ended.

    Args:
        backend: The backend where the job runs.
        run: The run that is being ended.
        task: The task's name.
        report: Shows in Prefect's UI what happened to the job.
        sleep: Waits for a number of seconds.
    """

    def __init__(
        self,
        backend: Backend,
        run: RunContext,
        task: str,
        *,
        report: Report,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._backend, self._run, self._task, self._report = backend, run, task, report
        self._sleep = sleep

    def stop_or_leave(
        self, kind: JobKind, heartbeat: Heartbeat, fingerprint: str, how: OnExit, *, create_uncertain: bool
    ) -> None:
        """Stop the job unless other runs wait for it, or leave it running.

        A job that has ended, is already stopping or has other work is not touched. An error is logged and not raised:
        the run is ending anyway, and must end as cancelled.

        Args:
            kind: Kind of job.
            heartbeat: This run's heartbeat for the job.
            fingerprint: The fingerprint of the work.
            how: The call's `on_exit`: `stop` or `leave`.
            create_uncertain: Whether the create request was interrupted, so that SageMaker may not know the job yet.
        """
        try:
            job = self._with_retries(lambda: self._find_job(kind, heartbeat.job, create_uncertain=create_uncertain))
            if job and job.fingerprint == fingerprint and not (job.phase.terminal or job.phase is Phase.STOPPING):
                self._stop_or_leave_live(job, heartbeat, how)
        except PrefectSageMakerError as error:  # also of credentials that are gone by now
            self._run.log_status(
                self._task,
                f"the job {heartbeat.job} could not be stopped, and may be running: {error!s}\n"
                "Stop it in SageMaker's console.",
            )

    def stop(self, job: Job, heartbeat: Heartbeat) -> None:
        """Stop a job without waiters, and announce it first, for a run that attaches at this moment."""
        heartbeat.announce_stop()
        self._backend.jobs.stop(job)

    def _stop_or_leave_live(self, job: Job, heartbeat: Heartbeat, how: OnExit) -> None:
        if how == "leave" or self._run.is_rescheduled():
            self._with_retries(heartbeat.leave_running)
            why = "its flow run goes on elsewhere" if self._run.is_rescheduled() else "on_exit='leave'"
            words = f"left job {job.name} running ({why}); the next run attaches to it"
            how_to_stop = job.kind.api.command("Stop", job.name)
            self._log_and_report(f"{words}. To stop it: {how_to_stop}", f"Left to run: {job.name}")
        elif others := self._with_retries(heartbeat.leave):
            words = f"leaving job {job.name} to the {len(others)} other run(s) that wait for it"
            self._log_and_report(words, f"Left to other runs: {job.name}")
        else:
            self._with_retries(lambda: self.stop(job, heartbeat))
            self._log_and_report(f"stopped job {job.name}", f"Stopped: {job.name}")

    def _log_and_report(self, words: str, shown: str) -> None:
        self._run.log_status(self._task, words)
        self._report.show_left_running(shown)

    def _find_job(self, kind: JobKind, name: str, *, create_uncertain: bool) -> Job | None:
        """Return the job, or None. If its create request was interrupted, ask for a moment until SageMaker knows it."""
        for pause in PAUSES if create_uncertain else ():
            if job := self._backend.jobs.describe(kind, name):
                return job
            self._sleep(pause)
        return self._backend.jobs.describe(kind, name)

    def _with_retries(self, act: Callable[[], _T]) -> _T:
        for pause in PAUSES:
            try:
                return act()
            except ServiceError as error:
                if error.category not in CALL_RETRIES:
                    raise
                self._backend.refresh_clients(error.category)
            self._sleep(pause)
        return act()
