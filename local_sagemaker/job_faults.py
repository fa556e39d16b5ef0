"""The fault rules for jobs, without loading the package `faults` while there are no rules.

Most jobs never see a rule. The rules are in the home's database, because supervisors are processes of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from local_sagemaker.database import Database
    from local_sagemaker.faults.rules import JobFault, JobRule
    from local_sagemaker.faults.table import FaultTable


def has_rules(database: Database) -> bool:
    """Return whether any fault rule is on."""
    return bool(database.query("SELECT 1 FROM faults LIMIT 1"))


class JobFaults:
    """The fault rules for jobs.

    Args:
        database: the home's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def fire(self, kind: JobFault, name: str, instance_type: str, ran: float = 0.0) -> JobRule | None:
        """Fire the first rule of a kind that applies to a job; see `FaultTable.fire`."""
        table = self._table()
        return table.fire(kind, name, instance_type, ran) if table else None

    def about(self, kind: JobFault, name: str, instance_type: str) -> Sequence[tuple[int, JobRule]]:
        """Return the rules of a kind that apply to a job on an instance type, with their numbers."""
        table = self._table()
        return table.about(kind, name, instance_type) if table else ()

    def _table(self) -> FaultTable | None:
        if not has_rules(self._database):
            return None
        from local_sagemaker.faults.table import FaultTable  # noqa: PLC0415 - see above

        return FaultTable(self._database)
