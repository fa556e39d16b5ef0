"""One watcher per process and account: it polls SageMaker about all jobs that this process waits for.

Few jobs are described one by one. Many are listed by kind, and each one's end is confirmed by one Describe. If the
project names a queue of SageMaker's events (`events.py`), a job is described when an event names it, and apart from
that only once a minute.

Throttling, lost answers and expired credentials never fail a job. Any other error is raised to the waiters of the job
that was asked about. If listing is not allowed, each job is described.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone

from blocks import SageMakerProject
from tasks_lib.aws.events import EventListener, StateChange
from tasks_lib.aws.jobs import Jobs
from tasks_lib.aws.rate_limit import TokenBucket, account_key, poll_interval
from tasks_lib.errors import CredentialsExpired, PrefectSageMakerError, ServiceFault, Throttled
from tasks_lib.jobs.job import Job
from tasks_lib.jobs.kind import JobKind

JobKey = tuple[JobKind, str]
"""A job's kind and name."""

MAX_DESCRIBED = 10
"""Up to this number, jobs are described one by one; more are listed."""

# Seconds. The account's quota of listings is shared by all callers: 2 a second, which AWS does not raise, users report.
_LISTING_EVERY = 2.0
_LISTING_MARGIN = 60.0  # seconds
_WITH_EVENTS_EVERY = 60.0  # seconds; an event may be lost, or received by another process that waits for the job
_JOBS_A_PAGE = 20  # as many as can be described while one listing waits for its turn
# AWS publishes no quota for Describe, so `TokenBucket` probes for it: calls a second at first, at once, and at most.
_DESCRIBES, _DESCRIBES_AT_ONCE, _MOST_DESCRIBES = 10.0, 20, 50.0
_MAX_DESCRIBERS = 8  # threads, since a Describe takes a tenth of a second
_BACK_OFF, _LONGEST_BACK_OFF = 1.0, 30.0
_SWEPT = object()
_JITTER = random.Random()  # noqa: S311 - not a secret; of its own, since a program may seed the shared one


class WatchedJob:
    """A job that is waited for, with its latest description. All its waiters share one."""

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
        """The job's kind and name."""
        return self.job.kind, self.job.name

    @property
    def created(self) -> float:
        """When the job was created, in epoch seconds; a guess until SageMaker has answered."""
        return self.job.created or self._created

    @property
    def over(self) -> bool:
        """Whether there is nothing left to wait for."""
        return self.error is not None or (self.known and self.job.phase.terminal)

    def wait(self, seconds: float) -> bool:
        """Wait up to `seconds` for the job's end; return whether it is over. Raise the error that ended watching."""
        with self._news:
            self._news.wait_for(lambda: self.over, timeout=seconds)
        if self.error is not None:
            raise self.error
        return self.over

    def update(self, job: Job) -> None:
        """Take in a description. One that arrives after the description of the job's end is ignored, as it is older."""
        with self._news:
            if self.known and self.job.phase.terminal:
                return
            self.job, self.known = job, True
            self.due = self._clock() + poll_interval(self._clock() - self._since)
            self._news.notify_all()

    def postpone(self, seconds: float) -> None:
        """Be due again in `seconds` at the earliest."""
        with self._news:
            self.due = max(self.due, self._clock() + seconds)

    def make_due(self) -> None:
        """Be due now."""
        with self._news:
            self.due = self._clock()

    def fail(self, error: PrefectSageMakerError) -> None:
        """Note that the job cannot be watched, and why."""
        with self._news:
            self.error = error
            self._news.notify_all()


class Watcher:
    """Watches the jobs of one project's account in its own threads, which end when no job is left.

    Args:
        project: The project whose account is asked.
        clock: Monotonic seconds.
        wall_clock: Epoch seconds.
    """

    def __init__(
        self,
        project: SageMakerProject,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._project, self._clock, self._wall_clock = project, clock, wall_clock
        self._jobs = Jobs(project)
        self._changed = threading.Condition()
        self._watched: dict[JobKey, WatchedJob] = {}
        self._thread: threading.Thread | None = None
        self._line: dict[JobKey, WatchedJob] = {}
        self._asking: set[JobKey] = set()
        self._heard: set[JobKey] = set()
        self._describers = 0
        self._describes = TokenBucket(_DESCRIBES, _DESCRIBES_AT_ONCE, clock, ceiling=_MOST_DESCRIBES)
        self._next_listing = 0.0
        self._sweep: Iterator[None] | None = None
        self._may_list = True
        self._back_off = 0.0
        self._rests_until = 0.0
        self._events = self._queue(project.events_queue_url) if project.events_queue_url else None

    def _queue(self, url: str) -> EventListener:
        return EventListener(
            self._project, url, hear=self._hear, is_wanted=lambda: bool(self._watched), changed=self._poll_all_now
        )

    @contextmanager
    def watching(self, job: Job) -> Iterator[WatchedJob]:
        """Watch a job inside this block."""
        watched = self._add_waiter(job)
        try:
            yield watched
        finally:
            self._remove_waiter(watched)

    def _add_waiter(self, job: Job) -> WatchedJob:
        with self._changed:
            new = WatchedJob(job, self._clock, self._wall_clock())
            watched = self._watched.setdefault(new.key, new)
            watched.waiters += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="sagemaker-watcher", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        if self._events:
            self._events.listen()
        return watched

    def _remove_waiter(self, watched: WatchedJob) -> None:
        with self._changed:
            watched.waiters -= 1
            if not watched.waiters:
                del self._watched[watched.key]
                self._line.pop(watched.key, None)
            self._changed.notify_all()

    # -- the watcher's own thread: chooses the jobs to ask about ----------------------------------------------------

    def _run(self) -> None:
        while live := self._live_or_leave():
            try:
                self._round(live)
            except Exception as error:  # noqa: BLE001, PERF203 - if the thread died, its waiters would wait for ever
                for watched in live:
                    watched.fail(_bug(error))

    def _round(self, live: list[WatchedJob]) -> None:
        try:
            self._look(live)
        except PrefectSageMakerError as error:
            self._back_off_after(error)
        self._pause()

    def _live(self) -> list[WatchedJob]:
        return [watched for watched in self._watched.values() if not watched.over]

    def _live_or_leave(self) -> list[WatchedJob]:
        """Return the jobs that are not over. If no job is watched any more, end the thread under the same lock."""
        with self._changed:
            while self._watched and not self._live():
                self._changed.wait()
            if not self._watched:
                self._thread = None
            return self._live()

    def _pause(self) -> None:
        with self._changed:
            live = self._live()
            if not live:
                return
            now = self._clock()
            seconds = max(self._wake(live, now), self._rests_until) - now
            if seconds > 0:
                self._changed.wait(seconds * _JITTER.uniform(1.0, 1.1))

    def _wake(self, live: list[WatchedJob], now: float) -> float:
        """Return when to look again. A thread that has described a job also wakes the watcher."""
        if self._uses_listing(live):
            return self._next_listing
        return min((watched.due for watched in live if not self._is_asked_about(watched)), default=now + _LISTING_EVERY)

    def _look(self, live: list[WatchedJob]) -> None:
        """Send the requests that are due."""
        # Each waiter that comes or goes wakes the watcher. That must not make it ask more often.
        now = self._clock()
        if now < self._rests_until:
            return
        if not self._uses_listing(live):
            self._ask_about(watched for watched in live if watched.due <= now)
        elif now >= self._next_listing:
            self._list(live)

    def _uses_listing(self, live: list[WatchedJob]) -> bool:
        return len(live) > MAX_DESCRIBED and self._may_list

    def _list(self, live: list[WatchedJob]) -> None:
        """List the next page of a sweep, or begin a new one; a sweep that fails is dropped."""
        self._next_listing = self._clock() + _LISTING_EVERY
        sweep, self._sweep = self._sweep or self._listings(live), None
        if next(sweep, _SWEPT) is not _SWEPT:
            self._sweep = sweep
        elif self._events_available:
            self._next_listing = self._clock() + _WITH_EVENTS_EVERY
        self._back_off = 0.0

    def _listings(self, live: list[WatchedJob]) -> Iterator[None]:
        """List the jobs of each kind, page by page; describe those that have changed or are on no page."""
        later = False
        for kind in sorted({watched.job.kind for watched in live}, key=str):
            unseen = {watched.job.name: watched for watched in live if watched.job.kind is kind}
            since = min(watched.created for watched in unseen.values()) - _LISTING_MARGIN
            token = ""
            # If the account is full of other jobs, describing each job is quicker than listing all pages.
            for _ in range(1 + len(unseen) // _JOBS_A_PAGE):
                if later:
                    yield
                later = True
                try:
                    page, token = self._jobs.page(kind, token, CreationTimeAfter=_moment(since))
                except PrefectSageMakerError as error:
                    if _is_transient(error):
                        raise
                    self._may_list = False
                    return
                self._compare(kind, page)
                for name in page:
                    unseen.pop(name, None)
                if not (unseen and token):
                    break
            self._ask_about(unseen.values())

    def _compare(self, kind: JobKind, page: dict[str, str]) -> None:
        """Describe the jobs of a page whose status has changed, also those that came since the sweep began."""
        with self._changed:
            ours = [(self._watched.get((kind, name)), status) for name, status in page.items()]
        self._ask_about(watched for watched, status in ours if watched and status != watched.job.status)

    # -- events -----------------------------------------------------------------------------------------------------

    @property
    def _events_available(self) -> bool:
        return self._events is not None and self._events.answers

    def _hear(self, change: StateChange) -> bool:
        """Take in an event; return whether its job is watched here."""
        watched = self._watched.get((change.kind, change.name))
        if watched and change.is_end:
            with self._changed:
                if watched.key in self._asking:
                    self._heard.add(watched.key)  # the answer that is under way may be older than the event
            self._ask_about([watched])
        return watched is not None

    def _poll_all_now(self) -> None:
        """Look at all jobs at once: the queue has just stopped or started answering."""
        with self._changed:
            self._next_listing = min(self._next_listing, self._clock() + _LISTING_EVERY)
            for watched in self._watched.values():
                watched.make_due()
            self._changed.notify_all()

    # -- the threads that send Describe requests --------------------------------------------------------------------

    def _ask_about(self, some: Iterable[WatchedJob]) -> None:
        """Queue jobs for a Describe, and start threads to send it."""
        with self._changed:
            for watched in some:
                if not (watched.over or self._is_asked_about(watched)) and watched.key in self._watched:
                    self._line[watched.key] = watched
            # A thread that waits for an answer is not free for the jobs in the queue.
            while self._describers < min(_MAX_DESCRIBERS, len(self._asking) + len(self._line)):
                self._describers += 1
                threading.Thread(target=self._ask, name="sagemaker-describe", daemon=True).start()

    def _is_asked_about(self, watched: WatchedJob) -> bool:
        return watched.key in self._line or watched.key in self._asking

    def _ask(self) -> None:
        while watched := self._first_in_line():
            again = False
            try:
                self._describe(watched)
            except PrefectSageMakerError as error:
                self._slow_down(error)
                again = True
            except Exception as error:  # noqa: BLE001 - if the thread died, its waiters would wait for ever
                watched.fail(_bug(error))
            with self._changed:
                self._asking.discard(watched.key)
                again = again or watched.key in self._heard
                self._heard.discard(watched.key)
                self._changed.notify_all()
            if again:
                self._ask_about([watched])

    def _first_in_line(self) -> WatchedJob | None:
        """Wait until a Describe may be sent, and return the job it is for. If the queue is empty, end the thread."""
        with self._changed:
            while self._line:
                rest = self._rests_until - self._clock()
                if rest <= 0 and self._describes.try_acquire():
                    key = next(iter(self._line))
                    self._asking.add(key)
                    return self._line.pop(key)
                self._changed.wait(max(rest, self._describes.seconds()))
            self._describers -= 1
            return None

    def _describe(self, watched: WatchedJob) -> None:
        """Describe a job. Raise a transient error; let any other fail the watched job."""
        try:
            job = self._jobs.describe(watched.job.kind, watched.job.name)
        except PrefectSageMakerError as error:
            if _is_transient(error):
                raise
            watched.fail(error)
            return
        self._back_off = 0.0
        if job is None:
            watched.fail(_deleted(watched.job.name))
        else:
            watched.update(job)
            if self._events_available:
                watched.postpone(_WITH_EVENTS_EVERY)

    def _slow_down(self, error: PrefectSageMakerError) -> None:
        if isinstance(error, Throttled):
            self._describes.throttled()
        else:
            self._back_off_after(error)

    def _back_off_after(self, error: PrefectSageMakerError) -> None:
        """Back off after a transient error. Replace expired credentials, or start a local SageMaker that is gone."""
        with self._changed:
            if self._clock() < self._rests_until:
                return  # another thread has met the same fault
            self._back_off = min(_LONGEST_BACK_OFF, max(_BACK_OFF, self._back_off * 2))
            self._rests_until = self._clock() + self._back_off
        if isinstance(error, CredentialsExpired):
            self._project.forget_clients()  # new clients get fresh credentials
        else:
            self._project.drop_dead_clients()  # restarts a local SageMaker that is gone


def _is_transient(error: PrefectSageMakerError) -> bool:
    return isinstance(error, (Throttled, ServiceFault, CredentialsExpired))


def _bug(error: Exception) -> ServiceFault:
    what = f"The watcher failed: {type(error).__name__}: {error}."
    return ServiceFault(what, fix="run again: what runs is attached to.")


def _deleted(name: str) -> ServiceFault:
    return ServiceFault(
        f"SageMaker no longer knows the job {name}: it was deleted while we waited.",
        fix="run again: the work is done again.",
    )


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)


_watchers: dict[Hashable, Watcher] = {}
_watchers_lock = threading.Lock()


def watcher_of(project: SageMakerProject) -> Watcher:
    """Return the watcher of a project's account; projects with the same access and queue share one."""
    with _watchers_lock:
        account = (account_key(project), project.events_queue_url)
        if account not in _watchers:
            _watchers[account] = Watcher(project)
        return _watchers[account]
