"""The table of the active fault rules and their counts, in the home's database.

The rules are not only in memory. After a restart of the server a rule that may fire once must not fire again, and
supervisors, which are separate processes, read and count rules too.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from local_sagemaker.faults.decision import Count, applies_to
from local_sagemaker.faults.rules import JobRule, RequestRule, read_rule

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local_sagemaker.database import Database
    from local_sagemaker.faults.rules import Faults, JobFault


@dataclass(frozen=True)
class StoredRule:
    """A rule with its number and its counts."""

    position: int
    rule: RequestRule | JobRule
    count: Count


class FaultTable:
    """The fault rules of one home.

    Args:
        database: the home's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def replace(self, faults: Faults) -> None:
        """Replace all rules; the counts of the new ones are 0."""
        rows = [(position, json.dumps(asdict(rule))) for position, rule in enumerate(faults.rules)]
        with self._database.writing() as db:
            db.execute("DELETE FROM faults")
            db.executemany("INSERT INTO faults (position, rule, matched, fired) VALUES (?, ?, 0, 0)", rows)

    def all(self) -> list[StoredRule]:
        """Return all rules in the order of their numbers."""
        rows = self._database.query("SELECT position, rule, matched, fired FROM faults ORDER BY position")
        return [StoredRule(row[0], read_rule(json.loads(row[1])), Count(row[2], row[3])) for row in rows]

    def count(self, changed: Mapping[int, Count]) -> None:
        """Save the counts of rules for requests, by number."""
        with self._database.writing() as db:
            db.executemany(
                "UPDATE faults SET matched = ?, fired = ? WHERE position = ?",
                [(count.matched, count.fired, position) for position, count in changed.items()],
            )

    def about(self, kind: JobFault, name: str, instance_type: str) -> list[tuple[int, JobRule]]:
        """Return the rules of a kind that apply to a job on an instance type, with their numbers."""
        found = [(kept.position, kept.rule) for kept in self.all() if isinstance(kept.rule, JobRule)]
        return [one for one in found if one[1].kind == kind and applies_to(one[1], one[0], name, instance_type)]

    def fire(self, kind: JobFault, name: str, instance_type: str, ran: float = 0.0) -> JobRule | None:
        """Fire and count the first rule of a kind that applies to a job; return it, or None if no rule fires.

        Args:
            kind: the kind of the rule.
            name: the job's name.
            instance_type: the instance type.
            ran: how many seconds the job's hosts have been running, for rules with `after`.
        """
        for position, rule in self.about(kind, name, instance_type):
            if ran >= rule.after and self._fire(position, rule):
                return rule
        return None

    def _fire(self, position: int, rule: JobRule) -> bool:
        with self._database.writing() as db:
            done = db.execute(
                "UPDATE faults SET matched = matched + 1, fired = fired + 1"
                " WHERE position = ? AND fired < coalesce(?, fired + 1)",
                (position, rule.times),
            )
            return done.rowcount > 0
