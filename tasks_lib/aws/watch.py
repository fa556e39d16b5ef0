"""One watcher per process and account: it asks SageMaker about all jobs that somebody here waits for.

Not a describe per waiter: the listing quota (2 a second, which AWS does not raise, as users report) is shared with
everybody in the account. Few jobs are described one by one, many are listed by kind and their end confirmed by one
Describe. AWS publishes no rate for Describe, so `TokenBucket` looks for it; and a Describe takes a tenth of a second,
so a few threads ask side by side for as long as there is a line.
Where the project names a queue of SageMaker's events (`events.py`), a job is asked about when an event names it, and
beside that only once a minute.
Throttling, lost answers and expired credentials never fail a job. What cannot pass by itself reaches the waiters of the
job that was asked about; where listing is not allowed, each job is asked about.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone

from blocks import SageMakerProject
from tasks_lib.aws.events import EventQueue, StateChange
from tasks_lib.aws.jobs import Jobs
from tasks_lib.aws.rate_limit import TokenBucket, access_of, interval
from tasks_lib.errors import CredentialsExpired, PrefectSageMakerError, ServiceFault, Throttled
from tasks_lib.jobs.job import Job
from tasks_lib.jobs.kind import JobKind

JobKey = tuple[JobKind, str]
"""Which job: its kind and its name."""

FEW = 10
"""Up to so many jobs are described one by one."""

_LISTING_EVERY = 2.0
_LISTING_MARGIN = 60.0
_WITH_EVENTS_EVERY = 60.0  # an event may be lost, or may have been taken by another process that waits for the job
_JOBS_A_PAGE = 20  # as many as can be described while one listing waits for its turn
_DESCRIBES, _DESCRIBES_AT_ONCE, _MOST_DESCRIBES = 10.0, 20, 50.0
_ASKERS = 8
_BACK_OFF, _LONGEST_BACK_OFF = 1.0, 30.0
_SWEPT = object()


class WatchedJob:
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


class Watcher:
    """Watches the jobs of one project's account in threads of its own, which live as long as there are any.

    Args:
        project: Whose account.
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
        self._askers = 0
        self._describes = TokenBucket(_DESCRIBES, _DESCRIBES_AT_ONCE, clock, ceiling=_MOST_DESCRIBES)
        self._next_listing = 0.0
        self._sweep: Iterator[None] | None = None
        self._may_list = True
        self._back_off = 0.0
        self._rests_until = 0.0
        self._events = self._queue(project.events_queue_url) if project.events_queue_url else None

    def _queue(self, url: str) -> EventQueue:
        return EventQueue(
            self._project, url, hear=self._hear, is_wanted=lambda: bool(self._watched), changed=self._look_anew
        )

    @contextmanager
    def watching(self, job: Job) -> Iterator[WatchedJob]:
        """Watch a job inside this block."""
        watched = self._come(job)
        try:
            yield watched
        finally:
            self._go(watched)

    def _come(self, job: Job) -> WatchedJob:
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

    def _go(self, watched: WatchedJob) -> None:
        with self._changed:
            watched.waiters -= 1
            if not watched.waiters:
                del self._watched[watched.key]
                self._line.pop(watched.key, None)
            self._changed.notify_all()

    # -- the watcher's own thread: who is to be asked about ---------------------------------------------------------

    def _run(self) -> None:
        while live := self._live_or_leave():
            try:
                self._round(live)
            except Exception as error:  # noqa: BLE001, PERF203 - a thread that died would leave its waiters for ever
                for watched in live:
                    watched.fail(_bug(error))

    def _round(self, live: list[WatchedJob]) -> None:
        try:
            self._look(live)
        except PrefectSageMakerError as error:
            self._bear(error)
        self._pause()

    def _live(self) -> list[WatchedJob]:
        return [watched for watched in self._watched.values() if not watched.over]

    def _live_or_leave(self) -> list[WatchedJob]:
        """Return the jobs to look at; with none left, end the thread in the same breath."""
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
                self._changed.wait(seconds * random.uniform(1.0, 1.1))  # noqa: S311 - jitter, not a secret

    def _wake(self, live: list[WatchedJob], now: float) -> float:
        """Return when to look again; whoever has asked about a job wakes us, too."""
        if self._lists(live):
            return self._next_listing
        return min((watched.due for watched in live if not self._is_asked_about(watched)), default=now + _LISTING_EVERY)

    def _look(self, live: list[WatchedJob]) -> None:
        """Ask what may be asked by now."""
        # Whoever comes or goes wakes us; that is no reason to ask more often than we may.
        now = self._clock()
        if now < self._rests_until:
            return
        if not self._lists(live):
            self._ask_about(watched for watched in live if watched.due <= now)
        elif now >= self._next_listing:
            self._list(live)

    def _lists(self, live: list[WatchedJob]) -> bool:
        return len(live) > FEW and self._may_list

    def _list(self, live: list[WatchedJob]) -> None:
        """Ask for the next page of a sweep, or begin a new one; a sweep that fails is given up."""
        self._next_listing = self._clock() + _LISTING_EVERY
        sweep, self._sweep = self._sweep or self._listings(live), None
        if next(sweep, _SWEPT) is not _SWEPT:
            self._sweep = sweep
        elif self._hears:
            self._next_listing = self._clock() + _WITH_EVENTS_EVERY
        self._back_off = 0.0

    def _listings(self, live: list[WatchedJob]) -> Iterator[None]:
        """List all kinds page by page, each page in its turn; ask about what has changed or is in no listing."""
        later = False
        for kind in sorted({watched.job.kind for watched in live}, key=str):
            unseen = {watched.job.name: watched for watched in live if watched.job.kind is kind}
            since = min(watched.created for watched in unseen.values()) - _LISTING_MARGIN
            token = ""
            # Where somebody else fills the account, asking for each is quicker than turning pages.
            for _ in range(1 + len(unseen) // _JOBS_A_PAGE):
                if later:
                    yield
                later = True
                try:
                    page, token = self._jobs.page(kind, token, CreationTimeAfter=_moment(since))
                except PrefectSageMakerError as error:
                    if _passes(error):
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
        """Ask about the jobs of a page that are not what they were, those that came since the sweep began, too."""
        with self._changed:
            ours = [(self._watched.get((kind, name)), status) for name, status in page.items()]
        self._ask_about(watched for watched, status in ours if watched and status != watched.job.status)

    # -- events -----------------------------------------------------------------------------------------------------

    @property
    def _hears(self) -> bool:
        return self._events is not None and self._events.answers

    def _hear(self, change: StateChange) -> bool:
        """Take in an event; tell whether it is about one of our jobs."""
        watched = self._watched.get((change.kind, change.name))
        if watched and change.is_end:
            with self._changed:
                if watched.key in self._asking:
                    self._heard.add(watched.key)  # what is just being answered may be older than the event
            self._ask_about([watched])
        return watched is not None

    def _look_anew(self) -> None:
        """Look at all jobs at once: the queue has ceased to answer, or has just begun to."""
        with self._changed:
            self._next_listing = min(self._next_listing, self._clock() + _LISTING_EVERY)
            for watched in self._watched.values():
                watched.hurry()
            self._changed.notify_all()

    # -- the threads that ask ---------------------------------------------------------------------------------------

    def _ask_about(self, some: Iterable[WatchedJob]) -> None:
        """Put jobs in the line of those to be described, and see that there is somebody to do it."""
        with self._changed:
            for watched in some:
                if not (watched.over or self._is_asked_about(watched)) and watched.key in self._watched:
                    self._line[watched.key] = watched
            # Whoever waits for an answer does not come to those in line before it has one.
            while self._askers < min(_ASKERS, len(self._asking) + len(self._line)):
                self._askers += 1
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
            except Exception as error:  # noqa: BLE001 - its waiters would wait for ever
                watched.fail(_bug(error))
            with self._changed:
                self._asking.discard(watched.key)
                again = again or watched.key in self._heard
                self._heard.discard(watched.key)
                self._changed.notify_all()
            if again:
                self._ask_about([watched])

    def _first_in_line(self) -> WatchedJob | None:
        """Wait until a Describe may be sent, and return whom it is about; with nobody left in line, end the thread."""
        with self._changed:
            while self._line:
                rest = self._rests_until - self._clock()
                if rest <= 0 and self._describes.allows():
                    key = next(iter(self._line))
                    self._asking.add(key)
                    return self._line.pop(key)
                self._changed.wait(max(rest, self._describes.seconds()))
            self._askers -= 1
            return None

    def _describe(self, watched: WatchedJob) -> None:
        """Describe a job; raises what passes by itself."""
        try:
            job = self._jobs.describe(watched.job.kind, watched.job.name)
        except PrefectSageMakerError as error:
            if _passes(error):
                raise
            watched.fail(error)
            return
        self._back_off = 0.0
        if job is None:
            watched.fail(_deleted(watched.job.name))
        else:
            watched.tell(job)
            if self._hears:
                watched.rest(_WITH_EVENTS_EVERY)

    def _slow_down(self, error: PrefectSageMakerError) -> None:
        if isinstance(error, Throttled):
            self._describes.throttled()
        else:
            self._bear(error)

    def _bear(self, error: PrefectSageMakerError) -> None:
        """Back off from what passes, and renew what expired."""
        with self._changed:
            if self._clock() < self._rests_until:
                return  # one fault, which several of us met
            self._back_off = min(_LONGEST_BACK_OFF, max(_BACK_OFF, self._back_off * 2))
            self._rests_until = self._clock() + self._back_off
        if isinstance(error, CredentialsExpired):
            self._project.forget_clients()  # new ones come with fresh credentials
        else:
            self._project.wake()  # a local SageMaker that is gone is started again


def _passes(error: PrefectSageMakerError) -> bool:
    return isinstance(error, (Throttled, ServiceFault, CredentialsExpired))


def _bug(error: Exception) -> ServiceFault:
    what = f"The watcher failed: {type(error).__name__}: {error}."
    return ServiceFault(what, fix="run again: what runs is attached to.")


def _deleted(name: str) -> ServiceFault:
    return ServiceFault(
        f"SageMaker no longer knows the job {name}: it was deleted while we waited.",
        fix="run again: the work is done anew.",
    )


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)


_watchers: dict[Hashable, Watcher] = {}
_watchers_lock = threading.Lock()


def watcher_of(project: SageMakerProject) -> Watcher:
    """Return the watcher of a project's account; the same for all who reach it in the same way."""
    with _watchers_lock:
        account = (access_of(project), project.events_queue_url)
        if account not in _watchers:
            _watchers[account] = Watcher(project)
        return _watchers[account]
