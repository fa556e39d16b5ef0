"""Rules of the request fields that `overrides` may name: merged, replaced, passed on or refused."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class How(Enum):
    """How an override of a field is treated."""

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
        how: How an override of it is treated.
        advice: What to do instead of a refused field, or what to know about an allowed one.
        removable: Whether None may remove the value that we write; by default False.
        key: The member that names an entry of a list; empty for a field that is not such a list.
        own: Names of the entries that we write; if empty, the names of the task's inputs.
        instead_of: Members beside it that it excludes, and that are removed.
        with_code: Whether to refuse it only if our bootstrap starts the job; by default False.
    """

    how: How
    advice: str = ""
    removable: bool = False
    key: str = ""
    own: frozenset[str] = frozenset()
    instead_of: tuple[str, ...] = ()
    with_code: bool = False
