"""Names for the calls of a function task: one name is one piece of work and one folder in S3.

The autonamer (`autonamer.py`) sees a whole grid at once, and here each call comes alone. So by default a call is named
by its scalar arguments. Inputs, lists and objects are left out: otherwise every step after a changed one would have a
new folder and no history. What a `.map` runs over is always in the name, an input by the task's name, not by its job.
"""

from __future__ import annotations

import datetime as dt
import difflib
import hashlib
import json
import pickle
import re
import string
from collections.abc import Collection, Mapping
from pathlib import PurePath
from typing import Any

from tasks_lib.errors import InvalidTask
from tasks_lib.functions.file_output import FileOutput
from tasks_lib.functions.json_values import map_leaves, plain_value
from tasks_lib.functions.types import mentions_path
from tasks_lib.functions.values import Signature
from tasks_lib.jobs.channels import Channel, TaskOutput
from tasks_lib.results.job_result import JobResult
from tasks_lib.results.output import Output

_HASH_DIGITS = 8
_LONGEST_TEXT, _LONGEST_NAME = 24, 100
_NUMBERS = (bool, int, float, type(None))
_PLAIN = re.compile(r"[A-Za-z0-9._]+")


class _Unknown(Exception):
    """A value cannot be told from others, since it can be neither written as JSON nor pickled; the text says why."""


def check_template(template: str, function: str, parameters: Collection[str]) -> str:
    """Return the template, after checking that its fields are parameters of the function.

    Raises:
        InvalidTask: A field is not a parameter, or the template is invalid.
    """
    try:
        fields = [field for _, field, _, _ in string.Formatter().parse(template) if field is not None]
    except ValueError as error:
        raise InvalidTask(
            f"The name {template!r} of {function}() is not a valid template: {error}.", fix="correct it."
        ) from error
    for field in fields:
        if field not in parameters:
            words = {each.lower(): each for each in parameters}
            near = [words[each] for each in difflib.get_close_matches(field.lower(), words, 1)]
            raise InvalidTask(
                f"The name {template!r} of {function}() asks for {field!r}, which is none of its parameters.",
                fix=f"did you mean {{{near[0]}}}?" if near else f"use any of {', '.join(parameters) or 'none'}.",
            )
    return template


def call_name(
    signature: Signature, values: Mapping[str, Any], *, template: str | None, mapped: Collection[str] = ()
) -> str:
    """Return the task's name for one call.

    Args:
        signature: The function's signature.
        values: The given arguments, by parameter.
        template: Such as `fit-{C}`; None for the function's name and its scalar arguments that differ from the
            defaults.
        mapped: The parameters that a `.map` runs over; default none.
    """
    defaults = {name: each.default for name, each in signature.parameters.items() if each.default is not each.empty}
    if template is not None:
        asked = {field for _, field, _, _ in string.Formatter().parse(template) if field}
        given = {name: value for name, value in {**defaults, **values}.items() if name in asked}
        return template.format(**{name: _said(signature, name, value) for name, value in given.items()})
    named = [
        f"{name}{_said(signature, name, value)}"
        for name, value in values.items()
        if name in mapped or _is_said(signature, name, value, defaults)
    ]
    return _fitting("-".join([signature.name.strip("_"), *named]))


def _said(signature: Signature, name: str, value: Any) -> str:
    try:
        return _text(value)
    except _Unknown as error:
        raise _cannot_travel(signature, name, value, error) from error


def _is_said(signature: Signature, name: str, value: Any, defaults: Mapping[str, Any]) -> bool:
    try:
        return _is_scalar(signature.of(name), value) and not _is_default(name, value, defaults)
    except _Unknown as error:
        raise _cannot_travel(signature, name, value, error) from error


def _cannot_travel(signature: Signature, name: str, value: Any, error: _Unknown) -> InvalidTask:
    return InvalidTask(
        f"The argument {name!r} of {signature.name}() is of type {type(value).__name__} and cannot travel: {error}.",
        fix="pass what it is made of, or write it to a file and annotate that as Path.",
    )


def _is_scalar(hint: Any, value: Any) -> bool:
    return not mentions_path(hint) and not isinstance(_identity(value), list | dict)


def _is_default(name: str, value: Any, defaults: Mapping[str, Any]) -> bool:
    return name in defaults and type(value) is type(defaults[name]) and _identity(value) == _identity(defaults[name])


def _text(value: Any) -> str:
    """Return a value as part of a name: unchanged if it is short and plain, else with a hash."""
    held = _identity(value)
    text = held if isinstance(held, str) else str(held) if isinstance(held, _NUMBERS) else ""
    is_date = isinstance(value, dt.date) and not isinstance(value, dt.datetime)
    if isinstance(held, _NUMBERS) or is_date or (_PLAIN.fullmatch(text) and len(text) <= _LONGEST_TEXT):
        return text.replace("+", "")
    kept = re.sub(r"[^A-Za-z0-9._]+", "-", text.rstrip("/").rpartition("/")[2])[:_LONGEST_TEXT].strip("-._")
    digest = hashlib.sha256(json.dumps(held).encode()).hexdigest()[:_HASH_DIGITS]
    return f"{kept}-{digest}" if kept else digest


def _identity(value: Any) -> Any:
    """Return JSON values that tell a value from others; an input is told by its name, whichever job made it."""
    try:
        return plain_value(map_leaves(value, _called))
    except (TypeError, RecursionError):  # the task may have serializer="pickle"
        try:
            return [hashlib.sha256(pickle.dumps(value, protocol=4)).hexdigest()]
        except Exception as error:  # the value's class may raise anything when it is pickled
            raise _Unknown(str(error).partition("\n")[0].rstrip(".")) from error


def _called(value: Any) -> Any:
    if isinstance(value, FileOutput):
        return f"{value.result.task}.{value.part.rpartition('/')[2]}"
    if isinstance(value, JobResult):
        return value.task
    if isinstance(value, TaskOutput):
        return [_called(value.source), value.output, value.subdir]
    if isinstance(value, Channel):
        return [str(value.source), value.subdir]
    if isinstance(value, Output):
        return value.uri
    return value.as_posix() if isinstance(value, PurePath) else value


def _fitting(name: str) -> str:
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[:_LONGEST_NAME]}-{hashlib.sha256(name.encode()).hexdigest()[:_HASH_DIGITS]}"
