"""Names for the points of a grid, as one reads them: `fit-LR01-NS10-5`. Pure.

The rules are those of Training Grounds' `Autonamer` (tg.common.delivery): abbreviated parameter, shortened value. They
lose something (1001 and 1500 are both `1K`, 1.0 and 10 both `10`), and a task's name is its folder. So wherever a name
would be shared or is no task name, a hash of the point's own values is added.

Which names stay when a sweep grows: a name depends on the stem and the point alone, never on its place in the grid,
except that a point which comes to share its plain name gets the hash from then on, and so does the one that it shares
it with. Letting the earlier of the two keep the plain name would make names depend on the order of the points: after
an exchange of the two, each would find the other's state in its folder.
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
"""`seed` joins the items of a list by `-` and shortens numbers above 1,000 and 1,000,000; `latest`, as that library
does since 2023, joins by `x`, shortens from those numbers on, and keeps of an `Enum` its capitals and digits."""

_HASH_DIGITS = 8
_LONGEST_KEPT = 100  # characters of a name that gets a hash; with it a task name whatever the stem
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
    """Return all points of a grid with their names; the last axis varies fastest.

    Args:
        stem: What every name begins with.
        over: By parameter: a list is an axis; any other value, a tuple too, is the same at each point, and is part of
            the names, behind those of the axes.
        style: How values are spelled.

    Raises:
        InvalidTask: An axis without values, a point that is there twice, or something that is neither list nor value.
        InvalidName: The stem is no task name.
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
    """Return the points of a grid: the product of its axes, then the values that are the same everywhere."""
    for name, value in over.items():
        _check_axis(name, value)
    axes = {name: value for name, value in over.items() if isinstance(value, list)}
    fixed = {name: value for name, value in over.items() if name not in axes}
    return [dict(zip(axes, values, strict=True)) | fixed for values in product(*axes.values())]


def autoname(values: Mapping[str, Any], style: NameStyle = "seed") -> str:
    """Return the seed's name of a point: `LR01-NS10-5`. Not always unique, nor always a task name."""
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
    """Return what a scalar of numpy or torch holds; anything else as it is."""
    try:
        return value.item() if callable(getattr(value, "item", None)) else value
    except (ValueError, RuntimeError):  # their words for "more than one number"
        return value


def _shortened(number: int, style: NameStyle) -> str:
    """Return 20000 as `20K`; the seed shortens above a limit, the latest version from it on."""
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
    """Return a task name that only these values have: what can be kept of the plain one, and a hash.

    What a folder cannot be called becomes `_`, which no rule makes: 1e+20 must not be read as 1e-20.
    """
    kept = re.sub(r"[^A-Za-z0-9._\-]+", "_", name)[:_LONGEST_KEPT].rstrip("._-")
    digest = hashlib.sha256(f"{name}\n{_canonical(values)}".encode()).hexdigest()
    return f"{kept}-{digest[:_HASH_DIGITS]}"


def _canonical(values: Mapping[str, Any]) -> str:
    """Return what tells points apart: JSON, in which 1, 1.0 and "1" differ and the order of names does not count."""
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
    """See that no two points of a grid share a name.

    Raises:
        InvalidTask: Two do, so that they are the same point.
    """
    count = Counter(names)
    twice = next((values for name, values in zip(names, points, strict=True) if count[name] > 1), None)
    if twice is not None:
        raise InvalidTask(f"The point {_canonical(twice)} is there twice.", fix="leave one of the two out.")
