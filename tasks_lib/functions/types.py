"""Which annotations a job can read: those that `worker_toolkit.typed_values` decodes. Pure.

pydantic, which the caller uses, knows more types than the job, which has only the standard library. Types that the job
cannot read are refused here, before anything is paid.
"""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from pathlib import PurePath
from typing import Any, Literal, Union

from pydantic import BaseModel
from typing_extensions import is_typeddict

from worker_toolkit.typed_values import ARRAYS, OBJECTS, SCALARS

_SETS = tuple(kind for kind, factory in ARRAYS.items() if factory in (set, frozenset))
_LISTS = (tuple, *(kind for kind in ARRAYS if kind not in _SETS))


def check_annotation(hint: Any, above: tuple[Any, ...] = ()) -> None:
    """Check that a job can read values of an annotation.

    Args:
        hint: The annotation, with its names resolved.
        above: The classes around it, which may contain themselves; default none.

    Raises:
        TypeError: It cannot; the message names the part.
    """
    if hint in (Any, object, None, ...) or hint in above:
        return
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if hasattr(hint, "__metadata__") or hasattr(hint, "__supertype__"):  # Annotated, NewType
        check_annotation(getattr(hint, "__supertype__", None) or parts[0], above)
    elif origin is Literal or origin in _LISTS or hint in _LISTS:
        _check_all(() if origin is Literal else parts, above)
    elif origin in (Union, types.UnionType):
        if mentions_path(hint) and str in parts:
            raise TypeError(f"{shown(hint)} is either a text or an input, and the job could not tell which")
        _check_all(parts, above)
    elif origin in _SETS or hint in _SETS or origin in OBJECTS or hint in OBJECTS:
        if any(map(mentions_path, parts if origin in _SETS else parts[:1])):
            raise TypeError(f"{shown(hint)} has paths where only values can be")
        _check_all(parts, above)
    else:
        _check_class(origin or hint, above)


def _check_all(hints: tuple[Any, ...], above: tuple[Any, ...]) -> None:
    for each in hints:
        check_annotation(each, above)


def _check_class(kind: Any, above: tuple[Any, ...]) -> None:
    if not isinstance(kind, type):
        raise TypeError(f"JSON has nothing for {shown(kind)}")
    if kind in SCALARS:
        return
    if issubclass(kind, enum.Enum):
        if not all(isinstance(member.value, (str, int, float, type(None))) for member in kind):
            raise TypeError(f"{kind.__name__} has members whose values are neither texts nor numbers")
    elif issubclass(kind, BaseModel):
        if any(mentions_path(field.annotation) for field in kind.model_fields.values()):
            raise TypeError(f"the model {kind.__name__} has a path in it; a dataclass may, or pass the path by itself")
    elif dataclasses.is_dataclass(kind) or hasattr(kind, "_fields") or is_typeddict(kind):
        for each in typing.get_type_hints(kind, include_extras=True).values():
            check_annotation(each, (*above, kind))
    else:
        raise TypeError(f"JSON has nothing for {shown(kind)}")


def mentions_path(hint: Any) -> bool:
    """Return whether an annotation names a path; the fields of classes are not checked."""
    return (isinstance(hint, type) and issubclass(hint, PurePath)) or any(map(mentions_path, typing.get_args(hint)))


def shown(hint: Any) -> str:
    """Return an annotation as its author wrote it."""
    return hint.__name__ if type(hint) is type else str(hint).replace("typing.", "")
