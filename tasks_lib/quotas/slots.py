"""Slots of Prefect's global concurrency limits, held while a job lives: a queue in front of the account's quotas.

The limits are those that `ssm quotas --apply` creates. They avoid the refusals that many runs on many machines would
get from AWS, and Prefect's UI shows which runs wait. They guarantee nothing, since the account has other callers. So a
refusal by AWS is still retried (`run/retries.py`), and a Prefect server that does not answer stops no job.

`prefect.concurrency.sync.concurrency` is not used. It waits in a call that cancelling a submitted task does not
interrupt. Each of its leases has an HTTP client and two threads. And its warning about a missing limit does not say
what to do. Here the waiters of one process form a queue, and only the first asks the server.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import ConcurrencyLeaseHolder

from blocks import SageMakerProject
from tasks_lib.error_categories import ErrorCategory
from tasks_lib.errors import QuotaExceeded
from tasks_lib.jobs.kind import JobKind
from tasks_lib.ledger.project_file import account_of
from tasks_lib.prefect_runtime.run_context import RunContext
from tasks_lib.quotas.quota import hosts_by_quota, limit_name

_LEASE_SECONDS = 300.0
"""Seconds until slots are free again if this process dies. It is Prefect's default; Prefect's least is 60."""

_RENEW_SECONDS = 60.0
_LONGEST_ASK_SECONDS = 5.0
"""Seconds between two tries, at most.

Prefect's server suggests up to 30 s, which would leave an instance idle for as long.
"""

_TOO_MANY, _FULL, _GONE = 422, 423, 410


class _WaitingLine:
    """The waiters of this process for one limit, in the order in which they came."""

    def __init__(self) -> None:
        self._waiting: deque[object] = deque()
        self._lock = threading.Lock()
        self._rested_at = 0.0

    @contextmanager
    def joined(self) -> Iterator[Callable[[], bool]]:
        """Wait in line inside this block; yield a function that tells whether this waiter may ask now."""
        ticket = object()
        with self._lock:
            self._waiting.append(ticket)
        try:
            yield lambda: self._waiting[0] is ticket and time.monotonic() >= self._rested_at
        finally:
            with self._lock:
                self._waiting.remove(ticket)

    def rest(self, seconds: float) -> None:
        """Let no waiter ask for `seconds`."""
        self._rested_at = time.monotonic() + seconds


_lines: dict[str, _WaitingLine] = {}


def _line_of(limit: str) -> _WaitingLine:
    return _lines.setdefault(limit, _WaitingLine())  # atomic: two threads get the same line


class Slots:
    """The slots held by one call of a task, for whatever job it creates.

    Args:
        project: The project; its `use_concurrency_limits` says whether slots are used.
        run: The run that waits; cancelling it ends the wait.
        task: The task's name.
    """

    def __init__(self, project: SageMakerProject, run: RunContext, task: str) -> None:
        self._project, self._run, self._task = project, run, task
        self._asker = _SlotRequester(run, task)
        self._taken: dict[tuple[str, int], _Lease | None] = {}

    def acquire(self, kind: JobKind, request: Mapping[str, Any]) -> bool:
        """Take a slot for each host of a job, and hold them until `release`.

        Args:
            kind: Kind of job.
            request: Its create request.

        Returns:
            Whether the call had to wait, so that what was read before may be outdated.

        Raises:
            QuotaExceeded: A limit has fewer slots than the job has hosts.
            RunCancelled: The run was cancelled while it waited.
        """
        api = self._run.api
        if api is None or not self._project.use_concurrency_limits:
            return False
        account, region = account_of(self._project), self._project.region_name
        wanted = [(limit_name(account, region, quota), hosts) for quota, hosts in hosts_by_quota(kind, request).items()]
        # Slots held for the same limits and hosts are kept. If any does not fit, all are released.
        if any(each not in wanted for each in self._taken):
            self.release()

        waited = False
        # Always in order of their names, so that two jobs never wait for each other.
        for limit, hosts in sorted(set(wanted) - set(self._taken)):
            lease, had_to_wait = self._asker.wait(api, limit, hosts)
            self._taken[limit, hosts] = lease
            waited |= had_to_wait
            if lease:
                lease.keep()
        return waited

    def release(self) -> None:
        """Release all slots that are held; calling it again does nothing."""
        while self._taken:
            _, lease = self._taken.popitem()
            if lease:
                lease.end()


class _SlotRequester:
    """Asks Prefect's server for slots on behalf of one task."""

    def __init__(self, run: RunContext, task: str) -> None:
        self._run, self._task = run, task

    def wait(self, api: SyncPrefectClient, limit: str, hosts: int) -> tuple[_Lease | None, bool]:
        """Return a lease of slots and whether the call waited for it; None for the lease if there is no such limit."""
        waited, line = False, _line_of(limit)
        with line.joined() as is_our_turn:
            while True:
                if is_our_turn():
                    answer = self._ask(api, limit, hosts)
                    if answer is None or answer.status_code != _FULL:
                        return self._granted(api, answer, limit, hosts), waited
                    line.rest(_pause_of(answer))
                if not waited:
                    self._run.log_status(
                        self._task, f"waiting for {hosts} slot(s) of Prefect's concurrency limit {limit!r}"
                    )
                    waited = True
                self._run.pause(_LONGEST_ASK_SECONDS, f"task {self._task!r} waited for slots of {limit!r}")

    def _ask(self, api: SyncPrefectClient, limit: str, hosts: int) -> httpx.Response | None:
        """Ask for the slots; return None if Prefect's server does not answer."""
        holder = ConcurrencyLeaseHolder(type="task_run", id=UUID(self._run.task_run))
        try:
            return api.increment_concurrency_slots_with_lease([limit], hosts, "concurrency", _LEASE_SECONDS, holder)
        except httpx.HTTPStatusError as error:
            return error.response
        except httpx.HTTPError as error:
            self._run.logger.warning("The concurrency limit %r cannot be asked, so it is left out: %s", limit, error)
            return None

    def _granted(self, api: SyncPrefectClient, answer: httpx.Response | None, limit: str, hosts: int) -> _Lease | None:
        if answer is None:
            return None
        if answer.status_code == _TOO_MANY:
            raise QuotaExceeded(
                f"Task {self._task!r} asks for {hosts} instance(s), and Prefect's concurrency limit {limit!r} has "
                "fewer slots: such a job can never run.",
                category=ErrorCategory.USER_ERROR,
                fix="set instance_count to less; or, where the account's quota was raised, `ssm quotas --apply`.",
            )
        if answer.is_error:
            self._run.logger.warning("The concurrency limit %r is left out: %s", limit, answer.text)
            return None
        granted = answer.json()
        if not granted["limits"]:
            self._run.logger.info("There is no concurrency limit %r; `ssm quotas --apply` makes it.", limit)
            return None
        return _Lease(api, limit, UUID(granted["lease_id"]), self._run)


class _Lease:
    """Slots of one limit, renewed by a thread of its own.

    There are at most as many threads as hosts, and no further connections. The thread starts with `keep`, when `Slots`
    has recorded the lease and will end it. If a signal interrupts before that, the lease expires.
    """

    def __init__(self, api: SyncPrefectClient, limit: str, lease: UUID, run: RunContext) -> None:
        self._api, self._limit, self._lease, self._run = api, limit, lease, run
        self._over = threading.Event()

    def keep(self) -> None:
        """Renew the lease from now on."""
        threading.Thread(target=self._renew, name=f"slots-{self._lease}", daemon=True).start()

    def end(self) -> None:
        """Release the slots, and let the next waiter of this process ask at once."""
        self._over.set()
        try:
            self._api.release_concurrency_slots_with_lease(self._lease)
        except httpx.HTTPError as error:
            minutes = _LEASE_SECONDS / 60
            self._run.logger.warning("Slots of %r are free only in %.0f minutes: %s", self._limit, minutes, error)
        _line_of(self._limit).rest(0.0)

    def _renew(self) -> None:
        kept = True
        while kept and not self._over.wait(_RENEW_SECONDS):
            kept = self._renewed()

    def _renewed(self) -> bool:
        """Renew the lease; return False only if the server says that it is gone."""
        try:
            self._api.renew_concurrency_lease(self._lease, _LEASE_SECONDS)
        except httpx.HTTPError as error:
            if not self._over.is_set():
                self._run.logger.warning("The slots of %r could not be kept: %s", self._limit, error)
            return not (isinstance(error, httpx.HTTPStatusError) and error.response.status_code == _GONE)
        return True


def _pause_of(answer: httpx.Response) -> float:
    """Return the seconds until the next try: what the server says, between 1 and 5. The server varies it."""
    return min(max(float(answer.headers.get("Retry-After", _LONGEST_ASK_SECONDS)), 1.0), _LONGEST_ASK_SECONDS)
