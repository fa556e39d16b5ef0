"""Checks a request against AWS's API model before it is sent.

botocore's validator checks names, types and required members, but not patterns, upper bounds and enums. These are in
the same model, and this module reads them from there. It adds no limits of its own. So a request that AWS would refuse
is refused before anything is written to S3 and before a job is created.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from botocore.validate import ParamValidator

from tasks_lib.errors import InvalidRequest

_UNICODE = {r"\p{L}": r"\w", r"\p{N}": r"\w", r"\p{Z}": r"\s", r"\p{Alnum}": "A-Za-z0-9"}


def check_request(model: Any, operation: str, request: dict[str, Any]) -> None:
    """Check a request against AWS's API model.

    Args:
        model: The client's `meta.service_model`.
        operation: AWS's name of the operation.
        request: Its arguments.

    Raises:
        InvalidRequest: With every violation, one a line.
    """
    shape = model.operation_model(operation).input_shape
    report = ParamValidator().validate(request, shape)
    found = [report.generate_report()] if report.has_errors() else list(_violations(shape, request, ""))
    if found:
        raise InvalidRequest(
            f"SageMaker would refuse this {operation}:\n" + "\n".join(f"    {line}" for line in found),
            fix="correct the argument or the entry of `overrides` that is named; "
            "larger values belong in a file that the job reads as an input.",
        )


def _violations(shape: Any, value: Any, path: str) -> Iterator[str]:
    if shape.type_name == "structure":
        for name, below in value.items():
            yield from _violations(shape.members[name], below, f"{path}.{name}".lstrip("."))
    elif shape.type_name == "list":
        yield from _bounds(shape, len(value), path, "entries")
        for index, below in enumerate(value):
            yield from _violations(shape.member, below, f"{path}[{index}]")
    elif shape.type_name == "map":
        yield from _bounds(shape, len(value), path, "entries")
        for key, below in value.items():
            yield from _violations(shape.key, key, f"{path} (key {_short(key)})")
            yield from _violations(shape.value, below, f"{path}.{_short(key)}")
    elif shape.type_name == "string":
        yield from _text(shape, value, path)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield from _bounds(shape, value, path, "")


def _text(shape: Any, value: str, path: str) -> Iterator[str]:
    yield from _bounds(shape, len(value), path, "characters")
    pattern = shape.metadata.get("pattern")
    if pattern and (rule := _compiled(pattern)) and not rule.fullmatch(value):
        yield f"{path}: {_short(value)} does not match {pattern}"
    choices = shape.metadata.get("enum")
    if choices and value not in choices:
        yield f"{path}: {_short(value)} is not one of {', '.join(choices[:12])}{' …' if len(choices) > 12 else ''}"  # noqa: PLR2004 - a line's worth


@cache
def _compiled(pattern: str) -> re.Pattern[str] | None:
    """Return AWS's pattern as one of Python's, or None if Python cannot express it.

    AWS's patterns are in Java's dialect, which differs in its Unicode classes.
    """
    for theirs, ours in _UNICODE.items():
        pattern = pattern.replace(theirs, ours)
    try:
        return re.compile(pattern)  # as in Java, `.` does not match a line break
    except re.error:
        return None  # `AthenaCatalog` has a range of UTF-16 surrogates, which Python's strings lack; AWS checks it


def _bounds(shape: Any, amount: float, path: str, unit: str) -> Iterator[str]:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if most is not None and amount > most:
        yield f"{path}: {amount} {unit}".rstrip() + f", at most {most} allowed"
    if least is not None and amount < least:
        yield f"{path}: {amount} {unit}".rstrip() + f", at least {least} needed"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}… ({len(text)} characters)"  # noqa: PLR2004 - a line's worth
