"""Quotas of the account: how many instances of a type may run at a time. There are none but those of `faults`.

Used by `job_operations`.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from local_sagemaker.faults.table import FaultTable
from local_sagemaker.instances import Document, choices, cluster_of, taken
from local_sagemaker.job_table import JobTable
from local_sagemaker.jobs import Job, Kind
from local_sagemaker.wire.errors import ApiError


class Quotas:
    """The quotas of one account.

    Args:
        faults: where they are set, as rules of the kind `quota`.
        jobs: whose instances count.
    """

    def __init__(self, faults: FaultTable, jobs: JobTable) -> None:
        self._faults = faults
        self._jobs = jobs
        self._lock = threading.Lock()

    @contextmanager
    def admitting(self, kind: Kind, name: str, request: Document) -> Iterator[None]:
        """Create a job inside: nobody else can take the same instances in between.

        Raises:
            ApiError: `ResourceLimitExceeded`. The quota of every type of `InstancePreferences` must suffice (Developer
                Guide, "Instance preference lists for training jobs").
        """
        limits = self._limits(kind, name, request)
        if not limits:
            yield
            return
        with self._lock:
            running = self._running(_usage(kind, request))
            for limit, instance_type, count in limits:
                if running[instance_type] + count > limit:
                    raise _exceeded(instance_type, _usage(kind, request), limit, running[instance_type], count)
            yield

    def _limits(self, kind: Kind, name: str, request: Document) -> list[tuple[int, str, int]]:
        asked = [one for choice in choices(cluster_of(kind, request)) for one in choice.items()]
        return [
            (rule.limit, instance_type, count)
            for instance_type, count in asked
            for _, rule in self._faults.about("quota", name, instance_type)
        ]

    def _running(self, usage: str) -> Counter[str]:
        running: Counter[str] = Counter()
        for job in self._jobs.live():
            if _usage_of(job) == usage:
                running.update(taken(cluster_of(job.kind, job.described)))
        return running


def _usage_of(job: Job) -> str:
    return _usage(job.kind, job.request)


def _usage(kind: Kind, request: Document) -> str:
    """Return what the quota is for, in the words of Service Quotas; spot instances have one of their own."""
    if kind == "processing-job":
        return "processing job usage"
    return "spot training job usage" if request.get("EnableManagedSpotTraining") else "training job usage"


def _exceeded(instance_type: str, usage: str, limit: int, running: int, count: int) -> ApiError:
    """The words are AWS's (aws/amazon-sagemaker-examples issue 1543)."""
    return ApiError(
        "ResourceLimitExceeded",
        f"The account-level service limit '{instance_type} for {usage}' is {limit} Instances, with current utilization"
        f" of {running} Instances and a request delta of {count} Instances. Please contact AWS support to request an"
        " increase for this limit.",
    )
