"""The rule of a request field that `overrides` may name: what is merged, replaced, passed on or refused."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class How(Enum):
    """What happens to a field that `overrides` has."""

    MEMBERS = "merged member by member"
    ENTRIES = "merged entry by entry, which are found by their names"
    REPLACED = "replaces ours"
    INSTEAD = "replaces several of ours"
    FREE = "passed on"
    REFUSED = "refused"


@dataclass(frozen=True)
class Rule:
    """The rule of one field.

    Args:
        how: What happens to it.
        advice: What to do instead of a refused field, or what there is to know.
        removable: Whether `None` may remove what we write there.
        key: The member that names an entry of a list.
        own: Names of the entries that are ours; if empty, the names of the task's inputs.
        instead_of: Members beside it that it excludes, and which are removed.
        with_code: Refuse it only where our bootstrap starts the job.
    """

    how: How
    advice: str = ""
    removable: bool = False
    key: str = ""
    own: frozenset[str] = frozenset()
    instead_of: tuple[str, ...] = ()
    with_code: bool = False
