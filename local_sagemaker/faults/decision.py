"""Whether a rule fires: for a request, and for a job. Pure, on the standard library.

A draw is a hash and not a generator with a state, so that the same seed picks the same requests in whatever order
others come in between, and after a restart of the server. The edge in the server, the supervisors and the simulator
ask it.
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
class Asked:
    """What rules see of a request: service and operation in botocore's words, and the decoded path."""

    service: str
    operation: str
    path: str


@dataclass(frozen=True)
class Count:
    """How many requests or jobs a rule matched so far, and how often it fired."""

    matched: int = 0
    fired: int = 0


def fault_for(
    rules: Sequence[RequestRule], counts: Sequence[Count], asked: Asked
) -> tuple[int | None, dict[int, Count]]:
    """Return which rule fires for the next request, and the counts that change by it, both by the rules' positions.

    The first rule that wants to fire does, alone. Every rule counts each request that it matches, also one that an
    earlier rule fires for: what a rule does depends on no other rule but for that.
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


def _matches(rule: RequestRule, asked: Asked) -> bool:
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


def concerns(rule: JobRule, position: int, name: str, instance_type: str) -> bool:
    """Whether a rule is about a job on an instance type; `times` is up to whoever keeps the count."""
    return (
        fnmatchcase(name, rule.name)
        and fnmatchcase(instance_type, rule.instance_type)
        and _draw(rule.seed, position, name) < rule.probability
    )


def _draw(*given: object) -> float:
    """Return a number from 0 up to, not including, 1 that depends on nothing but what is given."""
    digest = hashlib.sha256(repr(given).encode()).digest()
    return int.from_bytes(digest[:6], "big") / (1 << 48)
