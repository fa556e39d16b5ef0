"""The instances that a job asks for and those that it got, for both kinds of job and all forms of a cluster.

Pure, and standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Document = Mapping[str, Any]
Instances = Mapping[str, int]
"""The number of instances by instance type."""


def choices(cluster: Document) -> tuple[Instances, ...]:
    """Return the instance choices of a job, the preferred first: several only with `InstancePreferences`."""
    if "InstanceGroups" in cluster:
        counts: dict[str, int] = {}
        for group in cluster["InstanceGroups"]:
            counts[group["InstanceType"]] = counts.get(group["InstanceType"], 0) + group["InstanceCount"]
        return (counts,)
    # 1 is the default of a processing job (API reference, ProcessingClusterConfig).
    count = cluster.get("InstanceCount", 1)
    preferences = cluster.get("InstancePreferences") or [cluster]
    return tuple({one.get("InstanceType", ""): one.get("InstanceCount", count)} for one in preferences)


def taken(cluster: Document) -> Instances:
    """Return the instances that a job runs on, or its first choice until they are known."""
    if "SelectedInstanceType" in cluster:
        return {cluster["SelectedInstanceType"]: cluster["SelectedInstanceCount"]}
    return choices(cluster)[0]
