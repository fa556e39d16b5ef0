"""Which instances a job asks for and which it got, alike for both kinds of job and all ways to say it.

Pure, on the standard library. Inside `local_sagemaker` anybody may import it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Document = Mapping[str, Any]
Instances = Mapping[str, int]
"""How many instances of which type."""


def choices(cluster: Document) -> tuple[Instances, ...]:
    """Return what the job may run on, the preferred first; one choice unless there are `InstancePreferences`."""
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
    """Return what a job runs on, or before that is known, what it would like best."""
    if "SelectedInstanceType" in cluster:
        return {cluster["SelectedInstanceType"]: cluster["SelectedInstanceCount"]}
    return choices(cluster)[0]
