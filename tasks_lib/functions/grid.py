"""The points of a function task's sweep, and the check that no two are the same.

Each point has the name that `.map` over the same values would give it (`names.py`), not that of the autonamer. So a
sweep can be rewritten as `.map`, or back, without running a job again.
"""

from __future__ import annotations

import difflib
import string
from collections.abc import Mapping
from typing import Any

from tasks_lib.errors import InvalidTask
from tasks_lib.functions.names import call_name
from tasks_lib.functions.values import Signature
from tasks_lib.jobs.autonamer import check_distinct, grid


def function_points(
    signature: Signature, over: Mapping[str, Any], *, given: Mapping[str, Any], template: str | None
) -> list[dict[str, Any]]:
    """Return the arguments of each point of a grid; the last axis varies fastest.

    Args:
        signature: The function's signature.
        over: Values by parameter; a list is an axis.
        given: The arguments that are the same at each point.
        template: Template of the task's name; None for the default name.

    Raises:
        InvalidTask: A parameter does not exist or is given twice, an axis is empty or missing in the template, a point
            is there twice, or a value cannot be sent to the job.
    """
    if not isinstance(over, Mapping):
        raise InvalidTask(
            f"over= of {signature.name}() is of type {type(over).__name__}.",
            fix="give a dict of values by parameter: over={'C': [0.1, 1.0]}.",
        )
    for name in over:
        _check_parameter(signature, name, given)
    points = grid(over)
    if template is not None:
        _check_template(signature, over, template)
    check_distinct([call_name(signature, point, template=None, mapped=over.keys()) for point in points], points)
    return points


def _check_parameter(signature: Signature, name: str, given: Mapping[str, Any]) -> None:
    if name in given:
        raise InvalidTask(
            f"{signature.name}() is given {name!r} both in over= and beside it.", fix="leave one of the two out."
        )
    if name not in signature.parameters:
        words = {each.lower(): each for each in signature.parameters}
        near = [words[each] for each in difflib.get_close_matches(str(name).lower(), words, 1)]
        known = ", ".join(signature.parameters) or "none"
        raise InvalidTask(
            f"over= of {signature.name}() has {name!r}, which is none of its parameters.",
            fix=f"did you mean {near[0]!r}?" if near else f"use any of {known}.",
        )


def _check_template(signature: Signature, over: Mapping[str, Any], template: str) -> None:
    asked = {field for _, field, _, _ in string.Formatter().parse(template) if field}
    missing = [name for name, value in over.items() if isinstance(value, list) and name not in asked]
    if missing:
        whole = "-".join([template, *(f"{{{name}}}" for name in missing)])
        raise InvalidTask(
            f"The name {template!r} of {signature.name}() leaves out {', '.join(missing)}, so points would share a "
            "task.",
            fix=f"put it in: {whole!r}; or leave the name out.",
        )
