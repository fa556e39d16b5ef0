"""Decides whether a fault rule fires for a request or a job.

A draw is a hash, not a random generator with a state. So the same seed selects the same requests after a restart of the
server and in whatever order other requests arrive between them. Pure functions on the standard library, because
supervisors import the module too.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from local_sagemaker.faults.rules import JobRule, RequestRule


@dataclass(frozen=True)
class MatchedRequest:
    """The parts of a request that rules match: botocore's service and operation names, and the decoded path."""

    service: str
    operation: str
    path: str


@dataclass(frozen=True)
class Count:
    """How many requests or jobs a rule has matched so far, and how often it has fired."""

    matched: int = 0
    fired: int = 0


def rule_for(
    rules: Sequence[RequestRule], counts: Sequence[Count], asked: MatchedRequest
) -> tuple[int | None, dict[int, Count]]:
    """Return the position of the rule that fires for the next request, and the changed counts by position.

    Only the first rule that can fire does. Every rule counts each request that it matches, even if an earlier rule
    fires for it. So a rule depends on other rules only in that an earlier one may fire instead.
    """
    fires: int | None = None
    changed: dict[int, Count] = {}
    for position, (rule, count) in enumerate(zip(rules, counts, strict=True)):
        if not _matches(rule, asked):
            continue
        matched = count.matched + 1
        is_it = fires is None and _wants(rule, position, matched, count.fired)
        fires = position if is_it else fires
        changed[position] = Count(matched, count.fired + is_it)
    return fires, changed


def _matches(rule: RequestRule, asked: MatchedRequest) -> bool:
    return (
        fnmatchcase(asked.service, rule.service)
        and fnmatchcase(asked.operation, rule.operation)
        and fnmatchcase(asked.path, rule.path)
    )


def _wants(rule: RequestRule, position: int, ordinal: int, fired: int) -> bool:
    if rule.times is not None and fired >= rule.times:
        return False
    if rule.nth and ordinal not in rule.nth:
        return False
    return _draw(rule.seed, position, ordinal) < rule.probability


def applies_to(rule: JobRule, position: int, name: str, instance_type: str) -> bool:
    """Return whether a rule applies to a job on an instance type; the caller checks `times`."""
    return (
        fnmatchcase(name, rule.name)
        and fnmatchcase(instance_type, rule.instance_type)
        and _draw(rule.seed, position, name) < rule.probability
    )


def _draw(*given: object) -> float:
    """Return a number from 0 up to but not including 1 that depends only on the arguments."""
    digest = hashlib.sha256(repr(given).encode()).digest()
    return int.from_bytes(digest[:6], "big") / (1 << 48)
