"""The account's quotas, enforced: how many instances of a type may run at the same time.

A quota is set in the home's `settings.json`, and then Service Quotas lists it. Or it is a rule of `faults`, which is
temporary and not listed. There are no quotas by default.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from local_sagemaker.instances import Document, choices, taken
from local_sagemaker.job_faults import JobFaults
from local_sagemaker.job_table import JobTable
from local_sagemaker.kind import JobKind
from local_sagemaker.kinds import KINDS
from local_sagemaker.wire.errors import ApiError


@dataclass(frozen=True)
class _Limit:
    """A quota, and the number of instances that a job needs of it."""

    instance_type: str
    usage: str
    value: int
    wanted: int


class Quotas:
    """The quotas of one account.

    Args:
        faults: the rules of faults; those of the kind `quota` are quotas.
        settings: returns the quotas that the user set, by name.
        jobs: the table of jobs, whose live jobs use instances.
    """

    def __init__(self, faults: JobFaults, settings: Callable[[], Mapping[str, int]], jobs: JobTable) -> None:
        self._faults = faults
        self._settings = settings
        self._jobs = jobs
        self._lock = threading.Lock()

    @contextmanager
    def reserved(self, kind: JobKind, name: str, request: Document) -> Iterator[None]:
        """Check the quotas, and lock them while the caller creates the job, so that no other job takes the instances.

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
    """Return the error with AWS's message.

    Source: aws/amazon-sagemaker-examples issue 1543; the end of the message as users quote it since 2023.
    """
    return ApiError(
        "ResourceLimitExceeded",
        f"The account-level service limit '{limit.instance_type} for {limit.usage}' is {limit.value} Instances, with"
        f" current utilization of {running} Instances and a request delta of {limit.wanted} Instances. Please use AWS"
        " Service Quotas to request an increase for this quota. If AWS Service Quotas is not available, contact AWS"
        " support to request an increase for this quota.",
    )
