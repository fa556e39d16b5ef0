"""Readable names for the points of a grid: `fit-LR01-NS10-5`. Pure.

The rules are those of Training Grounds' `Autonamer` (tg.common.delivery): abbreviated parameter, shortened value. They
are lossy: 1001 and 1500 both give `1K`, 1.0 and 10 both give `10`. A task's name is its folder and must be unique. So
if points share a plain name, or it is not a valid task name, a hash of the name and the point's values is added.

When a sweep grows, names stay: a name depends on the stem and the point, not on its position in the grid. The exception
is a plain name that comes to be shared: then both points get the hash. If the first point kept the plain name, names
would depend on the order of the points. After a swap, each point would find the other's state in its folder.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import product
from typing import Any, Literal, get_args

from tasks_lib.errors import InvalidName, InvalidTask
from tasks_lib.jobs.naming import check_task_name

NameStyle = Literal["seed", "latest"]
"""How values are spelled. `seed` joins the items of a list by `-` and shortens integers above 1,000 and 1,000,000.
`latest`, as that library does since 2023, joins by `x`, shortens also 1,000 and 1,000,000 themselves, and keeps only
the capitals and digits of an `Enum`'s name."""

_HASH_DIGITS = 8
_LONGEST_KEPT = 100  # characters kept before a hash, so that the whole is a valid task name for any stem
_THOUSAND, _MILLION = 1_000, 1_000_000


@dataclass(frozen=True)
class Point:
    """One point of a grid.

    Args:
        name: The task's name.
        values: Value by parameter.
    """

    name: str
    values: dict[str, Any]


def named_points(stem: str, over: Mapping[str, Any], *, style: NameStyle = "seed") -> list[Point]:
    """Return the named points of a grid; the last axis varies fastest.

    Args:
        stem: Beginning of every name.
        over: By parameter, a list of values (an axis) or a single value. A value that is not a list, also a tuple, is
            the same at each point; it is part of the names, after the axes.
        style: How values are spelled; by default `seed`.

    Raises:
        InvalidTask: An axis has no values, a point occurs twice, a value is another iterable than a list, tuple, text
            or mapping, or the style is unknown.
        InvalidName: The stem is not a valid task name.
    """
    if style not in get_args(NameStyle):
        raise InvalidTask(f"style is {style!r}.", fix=f"use one of {', '.join(get_args(NameStyle))}.")
    check_task_name(stem)
    points = grid(over)
    plain = ["-".join(filter(None, (stem, autoname(values, style)))) for values in points]
    shared = Counter(plain)
    names = [
        name if shared[name] == 1 and _is_task_name(name) else _with_hash(name, values)
        for name, values in zip(plain, points, strict=True)
    ]
    check_distinct(names, points)
    return [Point(name, values) for name, values in zip(names, points, strict=True)]


def grid(over: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the points of a grid: the product of its axes, each with the fixed values after it."""
    for name, value in over.items():
        _check_axis(name, value)
    axes = {name: value for name, value in over.items() if isinstance(value, list)}
    fixed = {name: value for name, value in over.items() if name not in axes}
    return [dict(zip(axes, values, strict=True)) | fixed for values in product(*axes.values())]


def autoname(values: Mapping[str, Any], style: NameStyle = "seed") -> str:
    """Return the plain name of a point: `LR01-NS10-5`. It may be shared, or not a valid task name."""
    return "-".join(f"{_abbreviation(name)}{_spelled(value, style)}" for name, value in values.items())


def _abbreviation(name: str) -> str:
    return "".join(word[0].upper() for word in str(name).split("_") if word)


def _spelled(value: Any, style: NameStyle) -> str:
    value = _unpacked(value)
    if isinstance(value, Enum):
        return value.name if style == "seed" else re.sub(r"[^A-Z0-9]", "", value.name)
    if isinstance(value, int):
        return _shortened(value, style)
    if isinstance(value, float):
        return str(value).replace(".", "")
    if isinstance(value, (list, tuple)):
        return ("-" if style == "seed" else "x").join(map(str, value))
    return _canonical(value) if isinstance(value, Mapping) else str(value)


def _unpacked(value: Any) -> Any:
    """Return the Python value of a numpy or torch scalar; any other value as it is."""
    try:
        return value.item() if callable(getattr(value, "item", None)) else value
    except (ValueError, RuntimeError):  # raised by an array or tensor of more than one number
        return value


def _shortened(number: int, style: NameStyle) -> str:
    """Return a number in thousands or millions: 20000 as `20K`; 1000 itself is `1K` only in the style `latest`."""
    above = 1 if style == "seed" else 0
    if number >= _MILLION + above:
        return f"{number // _MILLION}M"
    if number >= _THOUSAND + above:
        return f"{number // _THOUSAND}K"
    return str(number)


def _is_task_name(name: str) -> bool:
    try:
        check_task_name(name)
    except InvalidName:
        return False
    return True


def _with_hash(name: str, values: Mapping[str, Any]) -> str:
    """Return a unique task name: the valid characters of the plain name, and a hash.

    Other characters become `_` and not `-`, so that 1e+20 does not read as 1e-20.
    """
    kept = re.sub(r"[^A-Za-z0-9._\-]+", "_", name)[:_LONGEST_KEPT].rstrip("._-")
    digest = hashlib.sha256(f"{name}\n{_canonical(values)}".encode()).hexdigest()
    return f"{kept}-{digest[:_HASH_DIGITS]}"


def _canonical(values: Mapping[str, Any]) -> str:
    """Return values as JSON, in which 1, 1.0 and "1" differ and the order of names does not matter."""
    return json.dumps(values, sort_keys=True, default=_json_value)


def _json_value(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.name
    held = _unpacked(value)
    return str(held) if held is value else held


def _check_axis(name: str, value: Any) -> None:
    if isinstance(value, list) and not value:
        raise InvalidTask(f"The axis {name!r} has no values.", fix="give at least one, or leave the axis out.")
    plain = isinstance(value, (str, list, tuple, Mapping)) or not isinstance(value, Iterable)
    if not plain:
        raise InvalidTask(
            f"{name!r} is a {type(value).__name__}, neither an axis nor a value.",
            fix=f"give a list: {{{name!r}: list(…)}}; a numpy array has .tolist().",
        )


def check_distinct(names: list[str], points: list[dict[str, Any]]) -> None:
    """Check that no two points of a grid share a name.

    Raises:
        InvalidTask: Two points share a name, even with a hash: they are the same point.
    """
    count = Counter(names)
    twice = next((values for name, values in zip(names, points, strict=True) if count[name] > 1), None)
    if twice is not None:
        raise InvalidTask(f"The point {_canonical(twice)} is there twice.", fix="leave one of the two out.")
