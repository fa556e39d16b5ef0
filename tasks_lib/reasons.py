"""Why a task has something to run, in words for the one who pays."""

from __future__ import annotations

from tasks_lib.jobs.fingerprint import Ingredients, differences
from tasks_lib.jobs.spec import ResolvedChannel
from tasks_lib.ledger.records import Entry, Ledger, SpentBecause

_MOST = 3

SPENT: dict[SpentBecause, str] = {
    "failed": "the previous attempt failed",
    "stopped": "the previous attempt was stopped",
    "capacity": "AWS had no capacity for the previous attempt",
    "service fault": "the previous attempt failed by a fault of SageMaker's",
    "forced": "it was asked to run in any case",
    "clean_state": "its state was cleaned",
    "outputs gone": "its outputs were changed or deleted",
    "state changed": "its state was changed by other work",
    "inputs changed": "an input had changed while it ran",
    "foreign job": "another job had taken its name",
    "superseded": "a later attempt was there",
}


def why(entry: Entry, ledger: Ledger, now: Ingredients, channels: tuple[ResolvedChannel, ...]) -> str:
    """Return why there is something to run."""
    if entry.spent:
        return SPENT[entry.spent[-1].because]
    latest = ledger.latest()
    if latest is None:
        return "first run"
    changes = [
        _with_count(change, latest.ingredients, ledger, channels) for change in differences(latest.ingredients, now)
    ]
    more = f"; and {len(changes) - _MOST} more" if len(changes) > _MOST else ""
    return ("; ".join(changes[:_MOST]) + more) or "it never completed"


def _with_count(change: str, before: Ingredients, ledger: Ledger, channels: tuple[ResolvedChannel, ...]) -> str:
    """Add to `input "x" changed` how many of its objects did, where both listings are known."""
    for channel in channels:
        if change == f'input "{channel.name}" changed' and channel.manifest is not None:
            digest = before.get("inputs", {}).get(channel.name, {}).get("digest")
            earlier = ledger.manifest(digest) if digest else None
            if earlier is not None:
                objects = channel.manifest.items.keys() | earlier.items.keys()
                changed = len(channel.manifest.changed(earlier))
                return f"{change} ({changed} of {len(objects)} object{'s' * (len(objects) != 1)})"
    return change
