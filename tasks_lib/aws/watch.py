"""One watcher per process and account: it asks SageMaker about all jobs that somebody here waits for.

Not a describe per waiter: the listing quota (2 a second by the account of one who asked) is shared with everybody in
the account. Few jobs are described one by one, many are listed by kind and their end confirmed by one Describe.
Throttling, lost answers and expired credentials never fail a job. What cannot pass by itself reaches the waiter of the
job that was asked about; where listing is not allowed, each job is asked about.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone

from blocks import SageMakerProject
from tasks_lib.aws.jobs import Job, Jobs
from tasks_lib.aws.pace import Pace, interval
from tasks_lib.errors import AccessDenied, PrefectSageMakerError, ServiceFault, Throttled

FEW = 10
"""Up to so many jobs are described one by one."""

_LISTING_EVERY = 2.0
_LISTING_MARGIN = 60.0
_JOBS_A_PAGE = 20  # as many as can be described while one listing waits for its turn
_BACK_OFF, _LONGEST_BACK_OFF = 1.0, 30.0
_SWEPT = object()
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired"}


class Watched:
    """A job that somebody waits for: its latest description, and the news of it."""

    def __init__(self, job: Job, clock: Callable[[], float]) -> None:
        self.job = job
        self.error: PrefectSageMakerError | None = None
        self.known = False
        self._news = threading.Condition()
        self._since, self._clock = clock(), clock
        self.due = self._since

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
        """Take in a description."""
        with self._news:
            self.job, self.known = job, True
            self.due = self._clock() + interval(self._clock() - self._since)
            self._news.notify_all()

    def fail(self, error: PrefectSageMakerError) -> None:
        """Take in that the job cannot be watched."""
        with self._news:
            self.error = error
            self._news.notify_all()


class Watcher:
    """Watches the jobs of one project's account in a thread of its own, which lives as long as there are any.

    Args:
        project: Whose account.
        clock: Monotonic seconds.
    """

    def __init__(self, project: SageMakerProject, clock: Callable[[], float] = time.monotonic) -> None:
        self._project, self._clock = project, clock
        self._jobs = Jobs(project)
        self._watched: list[Watched] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._describes = Pace(rate=10, burst=20, clock=clock)
        self._next_listing = 0.0
        self._sweep: Iterator[None] | None = None
        self._may_list = True
        self._back_off = 0.0
        self._rests_until = 0.0

    @contextmanager
    def watching(self, job: Job) -> Iterator[Watched]:
        """Watch a job inside this block."""
        watched = Watched(job, self._clock)
        with self._changed:
            self._watched.append(watched)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="sagemaker-watcher", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        try:
            yield watched
        finally:
            with self._changed:
                self._watched.remove(watched)
                self._changed.notify_all()

    def _run(self) -> None:
        while live := self._live_or_leave():
            try:
                self._round(live)
            except Exception as error:  # noqa: BLE001, PERF203 - a thread that died would leave its waiters for ever
                fault = f"The watcher failed: {type(error).__name__}: {error}."
                self._give_up(ServiceFault(fault, fix="run again: what runs is attached to."), live)

    def _round(self, live: list[Watched]) -> None:
        try:
            if self._look(live):
                self._back_off = 0.0
        except PrefectSageMakerError as error:
            self._bear(error)
        self._pause()

    def _live_or_leave(self) -> list[Watched]:
        """Return the jobs to look at; with none left, end the thread in the same breath."""
        with self._changed:
            while self._watched and not any(not watched.over for watched in self._watched):
                self._changed.wait()
            if not self._watched:
                self._thread = None
            return [watched for watched in self._watched if not watched.over]

    def _pause(self) -> None:
        with self._changed:
            live = [watched for watched in self._watched if not watched.over]
            if not live:
                return
            wake = self._next_listing if self._lists(live) else min(watched.due for watched in live)
            seconds = max(wake, self._rests_until) - self._clock()
            if seconds > 0:
                self._changed.wait(seconds * random.uniform(1.0, 1.1))  # noqa: S311 - jitter, not a secret

    def _look(self, live: list[Watched]) -> bool:
        """Ask what may be asked by now; tell whether we are through with an earlier trouble."""
        # Whoever comes or goes wakes us; that is no reason to ask more often than we may.
        now = self._clock()
        if now < self._rests_until:
            return False
        if self._lists(live):
            if now >= self._next_listing:
                self._list(live)
            return True
        for watched in live:
            if watched.due <= now:
                self._describe(watched)
        return True

    def _lists(self, live: list[Watched]) -> bool:
        return len(live) > FEW and self._may_list

    def _describe(self, watched: Watched) -> None:
        if not self._describes.allows():
            watched.due = self._clock() + interval(0.0)
            return
        try:
            job = self._jobs.describe(watched.job.kind, watched.job.name)
        except PrefectSageMakerError as error:
            if _passes(error):
                raise
            watched.fail(error)
            return
        if job is None:
            watched.fail(
                ServiceFault(
                    f"SageMaker no longer knows the job {watched.job.name}: it was deleted while we waited.",
                    fix="run again: the work is done anew.",
                )
            )
            return
        watched.tell(job)

    def _list(self, live: list[Watched]) -> None:
        """Ask for the next page of a sweep, or begin a new one; a sweep that fails is given up."""
        self._next_listing = self._clock() + _LISTING_EVERY
        sweep, self._sweep = self._sweep or self._listings(live), None
        if next(sweep, _SWEPT) is not _SWEPT:
            self._sweep = sweep

    def _listings(self, live: list[Watched]) -> Iterator[None]:
        """List all kinds page by page, each page in its turn, and describe what has changed or is in no listing."""
        for watched in live:
            if not watched.job.created:
                self._describe(watched)
        later = False
        for kind in sorted({watched.job.kind for watched in live}):
            unseen = {watched.job.name: watched for watched in live if watched.job.kind == kind}
            since = min((watched.job.created for watched in unseen.values() if watched.job.created), default=0.0)
            token = ""
            # Where somebody else fills the account, asking for each is quicker than turning pages.
            for _ in range(1 + len(unseen) // _JOBS_A_PAGE if since else 0):
                if later:
                    yield
                later = True
                try:
                    page, token = self._jobs.page(kind, token, CreationTimeAfter=_moment(since - _LISTING_MARGIN))
                except PrefectSageMakerError as error:
                    if _passes(error):
                        raise
                    self._may_list = False
                    return
                self._compare(page, unseen)
                if not (unseen and token):
                    break
            for watched in unseen.values():
                self._describe(watched)

    def _compare(self, page: dict[str, str], unseen: dict[str, Watched]) -> None:
        """Take the jobs of a page off the list, and describe those that are not what they were."""
        for name in page.keys() & unseen.keys():
            watched = unseen.pop(name)
            if page[name] != watched.job.status:
                self._describe(watched)

    def _bear(self, error: PrefectSageMakerError) -> None:
        """Back off from what passes, and renew what expired."""
        if _has_expired(error) or self._project.is_local:
            self._project.forget_clients()  # new ones come with fresh credentials, or start the local SageMaker again
        self._back_off = min(_LONGEST_BACK_OFF, max(_BACK_OFF, self._back_off * 2))
        self._rests_until = self._clock() + self._back_off

    def _give_up(self, error: PrefectSageMakerError, live: list[Watched]) -> None:
        for watched in live:
            watched.fail(error)


def _passes(error: PrefectSageMakerError) -> bool:
    return isinstance(error, (Throttled, ServiceFault)) or _has_expired(error)


def _has_expired(error: PrefectSageMakerError) -> bool:
    return isinstance(error, AccessDenied) and error.code in _EXPIRED


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)


_watchers: dict[Hashable, Watcher] = {}
_watchers_lock = threading.Lock()


def watcher_of(project: SageMakerProject) -> Watcher:
    """Return the watcher of a project's account; the same for all who reach it in the same way."""
    with _watchers_lock:
        account = (project.local_home, project.region, project.credentials)
        if account not in _watchers:
            _watchers[account] = Watcher(project)
        return _watchers[account]
