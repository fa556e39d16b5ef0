"""What a job needs of the account's quotas, and what AWS says when one is exceeded. Pure.

A quota counts hosts, not jobs, and each use of an instance type has its own. Hosts are counted in the request, not in
the spec, so that `overrides`, a list of instance types and a fallback from spot to on-demand count as they are sent.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks_lib.jobs.kind import JobKind

_EXCEEDED = re.compile(
    r"service limit '(?P<name>[^']+)' is (?P<limit>\d+) .*?"
    r"current utilization of (?P<used>\d+) .*?request delta of (?P<wanted>\d+) ",
    re.DOTALL,
)


@dataclass(frozen=True)
class Quota:
    """A quota that refused a job, as AWS's message reports it.

    Args:
        name: Its name in Service Quotas, such as `ml.m5.large for training job usage`.
        limit: How many hosts may run.
        used: How many were running.
        wanted: How many more the job asked for.
    """

    name: str
    limit: int
    used: int
    wanted: int

    @property
    def can_suffice(self) -> bool:
        """Whether the quota has room for the job once others have ended; if not, waiting does not help."""
        return self.wanted <= self.limit


def quota_of(message: str) -> Quota | None:
    """Return the quota that a `ResourceLimitExceeded` message names; None if the message has another form.

    The forms: aws/amazon-sagemaker-examples issue 1543, and data-science-on-aws issue 200 for a quota over all types.
    """
    found = _EXCEEDED.search(message)
    if found is None:
        return None
    return Quota(found["name"], *(int(found[part]) for part in ("limit", "used", "wanted")))


def quota_name(use: str, instance_type: str) -> str:
    """Return the name in Service Quotas of the quota for a use of an instance type.

    Args:
        use: One of the uses of a kind (`JobKind.quota_uses`).
        instance_type: Such as `ml.m5.large`.
    """
    return f"{instance_type} for {use} job usage"


def hosts_by_quota(kind: JobKind, request: Mapping[str, Any]) -> dict[str, int]:
    """Return how many hosts a job needs, by the name of the quota.

    Instance groups and a list of instance types need several quotas. With a list, each quota must suffice (Developer
    Guide, "Instance preference lists for training jobs").

    Args:
        kind: Kind of job.
        request: Its create request.
    """
    use, cluster, hosts = kind.quota_use(request), kind.cluster(request), Counter[str]()
    for group in cluster.get("InstanceGroups", ()):
        hosts[group["InstanceType"]] += group["InstanceCount"]
    for choice in () if hosts else cluster.get("InstancePreferences") or (cluster,):
        hosts[choice["InstanceType"]] = choice.get("InstanceCount") or cluster.get("InstanceCount", 1)
    return {quota_name(use, instance_type): count for instance_type, count in sorted(hosts.items())}


def limit_name(account: str, region: str, quota: str) -> str:
    """Return the name of Prefect's concurrency limit for a quota, ending in `:us-east-1:ml.m5.large spot training`.

    It contains account and region, since one Prefect server may serve several.
    """
    return f"sagemaker:{account}:{region}:{quota.replace(' for ', ' ').removesuffix(' job usage')}"
