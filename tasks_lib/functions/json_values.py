"""The values of a function task on the caller's side: written as JSON, map_leaves, compared. Pure.

The job's side writes JSON with the same function, `worker_toolkit.typed_values.encode`. Not
`pydantic_core.to_jsonable_python`: it writes a set in another order in every process, and the order of a set must not
run a job again.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

from tasks_lib.functions.file_output import FileOutput
from worker_toolkit.typed_values import encode

Leaf = Callable[[Any], Any]


def map_leaves(value: Any, leaf: Leaf) -> Any:
    """Return a value with all leaves replaced in lists, tuples, dicts and dataclasses.

    Args:
        value: The value.
        leaf: Returns the replacement of a leaf.
    """
    value = leaf(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_leaves(each, leaf) for each in value))
    if type(value) in (list, tuple):
        return type(value)(map_leaves(each, leaf) for each in value)
    if type(value) is dict:
        return {key: map_leaves(each, leaf) for key, each in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, (type, FileOutput)):
        fields = {each.name: getattr(value, each.name) for each in dataclasses.fields(value) if each.init}
        new = {name: map_leaves(each, leaf) for name, each in fields.items()}
        changed = {name: each for name, each in new.items() if each is not fields[name]}
        return dataclasses.replace(value, **changed) if changed else value
    return value


def plain_value(value: Any) -> Any:
    """Return a value as plain JSON values, as the job writes its own; a path becomes its POSIX form.

    Raises:
        TypeError: JSON cannot carry the value.
    """
    return encode(value, PurePath.as_posix)


def plain_scalar(value: Any) -> Any:
    """Return the number in a scalar of numpy or torch; any other value as it is."""
    is_scalar = getattr(value, "shape", None) == () and callable(getattr(value, "item", None))
    return value.item() if is_scalar else value


def same(one: Any, other: Any) -> bool:
    """Return whether two values are equal and of the same types, at any depth. NaN is equal to itself."""
    if type(one) is not type(other):
        return False
    if dataclasses.is_dataclass(one):
        return all(same(getattr(one, each.name), getattr(other, each.name)) for each in dataclasses.fields(one))
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, (set, frozenset)):
        mine, theirs = one - other, other - one  # NaN is in both, since it equals no member of the other set
        return len(mine) == len(theirs) and all(any(same(each, its) for its in theirs) for each in mine)
    return _equal(one, other)


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, dt.datetime):  # in an hour that a clock repeats or skips, `==` is false for two time zones
        return bool(one.isoformat() == other.isoformat())
    return bool(one == other) or (one != one and other != other)  # noqa: PLR0124  only NaN differs from itself
