"""A job that is waited for: what is known of it, and the news of it for all who wait."""

from __future__ import annotations

import threading
from collections.abc import Callable

from tasks_lib.aws.pace import interval
from tasks_lib.errors import PrefectSageMakerError
from tasks_lib.jobs.job import Job
from tasks_lib.jobs.kind import JobKind

JobKey = tuple[JobKind, str]
"""Which job: its kind and its name."""


class Watched:
    """A job that somebody waits for: its latest description, and the news of it. All who wait for it share one."""

    def __init__(self, job: Job, clock: Callable[[], float], created: float) -> None:
        self.job = job
        self.error: PrefectSageMakerError | None = None
        self.known = False
        self.waiters = 0
        self._news = threading.Condition()
        self._since, self._clock, self._created = clock(), clock, created
        self.due = self._since

    @property
    def key(self) -> JobKey:
        """Which job it is."""
        return self.job.kind, self.job.name

    @property
    def created(self) -> float:
        """When the job was created, in epoch seconds; a guess until SageMaker has told."""
        return self.job.created or self._created

    @property
    def over(self) -> bool:
        """Whether there is nothing left to wait for."""
        return self.error is not None or (self.known and self.job.phase.terminal)

    def wait(self, seconds: float) -> bool:
        """Wait until the job is over, at most so long; raise what made watching impossible."""
        with self._news:
            self._news.wait_for(lambda: self.over, timeout=seconds)
        if self.error is not None:
            raise self.error
        return self.over

    def tell(self, job: Job) -> None:
        """Take in a description; one that was made before the last, and came after it, is none."""
        with self._news:
            if self.known and self.job.phase.terminal:
                return
            self.job, self.known = job, True
            self.due = self._clock() + interval(self._clock() - self._since)
            self._news.notify_all()

    def rest(self, seconds: float) -> None:
        """Be due again at least so much later."""
        with self._news:
            self.due = max(self.due, self._clock() + seconds)

    def hurry(self) -> None:
        """Be due now."""
        with self._news:
            self.due = self._clock()

    def fail(self, error: PrefectSageMakerError) -> None:
        """Take in that the job cannot be watched."""
        with self._news:
            self.error = error
            self._news.notify_all()
