"""Quotas of the account, enforced: how many instances of a type may run at a time.

A quota stands in the home's `settings.json`, where `service_quotas` reads it, too; or it is a rule of `faults`, which
comes and goes and is told to nobody. There are none by default.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from local_sagemaker.faults.table import FaultTable
from local_sagemaker.instances import Document, choices, taken
from local_sagemaker.job_table import JobTable
from local_sagemaker.kind import JobKind
from local_sagemaker.kinds import KINDS
from local_sagemaker.wire.errors import ApiError


@dataclass(frozen=True)
class _Limit:
    """A quota, and what a job asks of it."""

    instance_type: str
    usage: str
    value: int
    wanted: int


class Quotas:
    """The quotas of one account.

    Args:
        faults: where some are set, as rules of the kind `quota`.
        settings: tells those that the user set, by name.
        jobs: whose instances count.
    """

    def __init__(self, faults: FaultTable, settings: Callable[[], Mapping[str, int]], jobs: JobTable) -> None:
        self._faults = faults
        self._settings = settings
        self._jobs = jobs
        self._lock = threading.Lock()

    @contextmanager
    def admitting(self, kind: JobKind, name: str, request: Document) -> Iterator[None]:
        """Create a job inside: nobody else can take the same instances in between.

        Raises:
            ApiError: `ResourceLimitExceeded`. The quota of every type of `InstancePreferences` must suffice (Developer
                Guide, "Instance preference lists for training jobs").
        """
        limits = list(self._limits(kind, name, request))
        if not limits:
            yield
            return
        with self._lock:
            running = self._running(kind.quota(request))
            for limit in limits:
                if running[limit.instance_type] + limit.wanted > limit.value:
                    raise _exceeded(limit, running[limit.instance_type])
            yield

    def _limits(self, kind: JobKind, name: str, request: Document) -> Iterator[_Limit]:
        usage, settings = kind.quota(request), self._settings()
        asked = [one for choice in choices(kind.cluster_of(request)) for one in choice.items()]
        for instance_type, count in asked:
            values = [rule.limit for _, rule in self._faults.about("quota", name, instance_type)]
            set_by_user = settings.get(f"{instance_type} for {usage}")
            for value in values if set_by_user is None else [*values, set_by_user]:
                yield _Limit(instance_type, usage, value, count)

    def _running(self, usage: str) -> Counter[str]:
        running: Counter[str] = Counter()
        for job in self._jobs.live():
            kind = KINDS[job.kind]
            if kind.quota(job.request) == usage:
                running.update(taken(kind.cluster_of(job.described)))
        return running


def _exceeded(limit: _Limit, running: int) -> ApiError:
    """The words are AWS's (aws/amazon-sagemaker-examples issue 1543; the newer end as users quote it since 2023)."""
    return ApiError(
        "ResourceLimitExceeded",
        f"The account-level service limit '{limit.instance_type} for {limit.usage}' is {limit.value} Instances, with"
        f" current utilization of {running} Instances and a request delta of {limit.wanted} Instances. Please use AWS"
        " Service Quotas to request an increase for this quota. If AWS Service Quotas is not available, contact AWS"
        " support to request an increase for this quota.",
    )
