"""Warning about an SQLAlchemy version with which Prefect's scheduler fails.

`pyproject.toml` bounds SQLAlchemy, but an install may ignore that, and Prefect itself allows 2.1. The module uses the
standard library only, because `flows` calls it before it imports Prefect.
"""

from __future__ import annotations

import re
from importlib import metadata

FIX = "pip install 'sqlalchemy<2.1'"
_SQLALCHEMY_FAILS_FROM = (2, 1)
_PREFECT_WORKS_FROM = (3, 9, 1)


def sqlalchemy_warning(sqlalchemy: str | None = None, prefect: str | None = None) -> str | None:
    """Return a warning with the fix if a Prefect server of this Python fires no schedules, else None.

    The schedulers of Prefect 3.8.8 and 3.9.0 fail with SQLAlchemy 2.1.9 in every loop: "Can't evaluate bulk DML
    statement". Only the server's log says so. Prefect 3.9.1 works with it (decision 0012).

    Args:
        sqlalchemy: Version of SQLAlchemy; by default the installed one.
        prefect: Version of Prefect; by default the installed one.
    """
    sqlalchemy = sqlalchemy or metadata.version("sqlalchemy")
    prefect = prefect or metadata.version("prefect")
    if _release(sqlalchemy) < _SQLALCHEMY_FAILS_FROM or _release(prefect) >= _PREFECT_WORKS_FROM:
        return None
    return (
        f"A Prefect server of this Python fires no schedule, because the scheduler of Prefect {prefect} fails with "
        f"SQLAlchemy {sqlalchemy}: run `{FIX}` and restart the server."
    )


def _release(version: str) -> tuple[int, ...]:
    """Return the numbers at the beginning of a version: (2, 1, 0) of `2.1.0b1`."""
    numbers = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(number) for number in numbers[0].split(".")) if numbers else ()
