"""Conversion of a function's arguments and result to JSON, and back by their annotations.

The JSON has the form that pydantic reads, so that the caller can decode it with pydantic. This module needs only the
standard library. Dates, `Decimal` and `UUID` are texts, `timedelta` is a number of seconds, and an enum is its value.
Tuples and sets are lists, and dataclasses are objects.

With pickle, every principal that may write to the bucket could run code in the job.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import json
import types
import typing
import uuid
from collections import abc
from pathlib import Path, PurePath
from typing import Any, Callable, Mapping, Union

ToPath = Callable[[str], Path]
FromPath = Callable[[Any], str]

_UNIONS = (Union, getattr(types, "UnionType", Union))  # `X | Y` came with Python 3.10
ARRAYS: dict[Any, Callable[[Any], Any]] = {  # and `tuple`
    list: list,
    set: set,
    frozenset: frozenset,
    abc.Sequence: list,
    abc.MutableSequence: list,
    abc.Iterable: list,
    abc.Collection: list,
    abc.Set: frozenset,
    abc.MutableSet: set,
}
OBJECTS = (dict, abc.Mapping, abc.MutableMapping)
"""Types to which a JSON object is decoded, besides dataclasses, `TypedDict` and pydantic models."""
_PLAIN = (str, bool, type(None))


class ValueMismatchError(TypeError):
    """A value does not fit its annotation, or JSON cannot represent it."""


def decode(annotation: Any, value: Any, to_path: ToPath = Path) -> Any:
    """Decode parsed JSON to a value of an annotated type.

    Args:
        annotation: The type, with its names resolved.
        value: Parsed JSON.
        to_path: Returns the path for a text; default `Path`.

    Raises:
        ValueMismatchError: The value does not fit the annotation, or such a type cannot be decoded.
    """
    if annotation in (Any, object):
        return value
    if annotation is None:
        annotation = type(None)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if hasattr(annotation, "__metadata__") or hasattr(annotation, "__supertype__"):  # Annotated, NewType
        return decode(getattr(annotation, "__supertype__", None) or arguments[0], value, to_path)
    if origin in _UNIONS:
        return _first_that_fits(arguments, value, to_path)
    if origin is typing.Literal:
        return _literal(arguments, value)
    return _container(annotation, origin or annotation, arguments, value, to_path)


def encode(value: Any, from_path: FromPath) -> Any:
    """Return a value as plain JSON values.

    Args:
        value: The value.
        from_path: Returns the text for a path, and makes sure that the file is sent.

    Raises:
        ValueMismatchError: JSON cannot represent the value.
    """

    def below(each: Any) -> Any:
        return encode(each, from_path)

    if isinstance(value, enum.Enum):
        return below(value.value)
    if isinstance(value, PurePath):
        return from_path(value)
    fields = _fields(value)
    if fields is not None:
        return {_key(each, from_path): below(held) for each, held in fields.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(map(below, value), key=json.dumps)  # the order of a set of texts differs from process to process
    if isinstance(value, (list, tuple)):
        return list(map(below, value))
    return _scalar(value)


def _fields(value: Any) -> Mapping[Any, Any] | None:
    if hasattr(value, "model_dump"):  # a pydantic model; the image may have no pydantic
        model: Mapping[Any, Any] = value.model_dump(by_alias=True)
        return model
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: getattr(value, each.name) for each in dataclasses.fields(value) if each.init}
    return value if isinstance(value, Mapping) else None


def _scalar(value: Any) -> Any:
    if isinstance(value, (*_PLAIN, int, float)):
        return value
    if isinstance(value, (dt.date, dt.time)):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    if isinstance(value, (decimal.Decimal, uuid.UUID)):
        return str(value)
    if callable(getattr(value, "item", None)) and getattr(value, "shape", None) == ():  # numpy's and torch's scalars
        return value.item()
    raise ValueMismatchError(f"JSON cannot carry a {type(value).__name__}")


def _key(value: Any, from_path: FromPath) -> str:
    plain = encode(value, from_path)
    return plain if isinstance(plain, str) else json.dumps(plain)


def _container(annotation: Any, kind: Any, arguments: Any, value: Any, to_path: ToPath) -> Any:
    if kind is tuple:
        return _tuple(arguments, _checked(value, list, annotation), to_path)
    if kind in ARRAYS:
        held = arguments[0] if arguments else Any
        return ARRAYS[kind](decode(held, each, to_path) for each in _checked(value, list, annotation))
    if kind in OBJECTS:
        of_key, of_value = arguments or (Any, Any)
        found = _checked(value, dict, annotation).items()
        return {_decoded_key(of_key, key): decode(of_value, each, to_path) for key, each in found}
    if isinstance(kind, type):
        return _instance(kind, value, to_path)
    raise ValueMismatchError(f"nothing of the type {_name(annotation)} can be read from JSON")


def _instance(kind: Any, value: Any, to_path: ToPath) -> Any:
    if issubclass(kind, enum.Enum):
        return _member(kind, value)
    if hasattr(kind, "model_validate_json"):
        return _read(kind, lambda plain: kind.model_validate_json(json.dumps(plain)), value)
    known = _known_fields(kind)
    if known is not None:
        is_tuple = issubclass(kind, tuple)
        values = dict(zip(known, _checked(value, list, kind))) if is_tuple else _checked(value, dict, kind)
        return _from_fields(kind, known, values, to_path)
    if issubclass(kind, Path):
        return to_path(_checked(value, str, kind))
    if kind not in _READERS:
        raise ValueMismatchError(f"nothing of the type {_name(kind)} can be read from JSON")
    return _read(kind, _READERS[kind], value)


def _known_fields(kind: Any) -> list[str] | None:
    """Return the fields of a dataclass, a TypedDict or a NamedTuple, in their order; None for any other class."""
    if dataclasses.is_dataclass(kind):
        return [each.name for each in dataclasses.fields(kind) if each.init]
    if issubclass(kind, dict):
        return [*kind.__annotations__]
    return [*kind._fields] if hasattr(kind, "_fields") else None


def _from_fields(kind: Any, known: list[str], values: dict[str, Any], to_path: ToPath) -> Any:
    hints = typing.get_type_hints(kind)
    unknown = sorted(values.keys() - {*known})
    if unknown:
        raise ValueMismatchError(f"{_name(kind)} has no {unknown[0]!r}")
    try:
        return kind(**{name: decode(hints.get(name, Any), each, to_path) for name, each in values.items()})
    except TypeError as error:
        raise ValueMismatchError(f"{_name(kind)} cannot be made of {sorted(values)}: {error}") from error


def _read(kind: Any, read: Callable[[Any], Any], value: Any) -> Any:
    try:
        return read(value)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise _mismatch(kind, value) from error


def _member(kind: Any, value: Any) -> Any:
    if issubclass(kind, enum.Flag) and type(value) is int:
        return _read(kind, kind, value)  # a combination of flags is not one of the members
    for member in kind:
        if _same(encode(member.value, str), value):
            return member
    raise _mismatch(kind, value)


def _literal(choices: tuple[Any, ...], value: Any) -> Any:
    for choice in choices:
        if _same(encode(choice, str), value):
            return choice
    raise ValueMismatchError(f"{value!r} is none of {', '.join(map(repr, choices))}")


def _first_that_fits(kinds: tuple[Any, ...], value: Any, to_path: ToPath) -> Any:
    found = []
    for kind in kinds:
        try:
            found.append(decode(kind, value, to_path))
        except ValueMismatchError:
            continue
        if _same(found[-1], value):  # 1 of `Union[float, int]` is an int
            return found[-1]
    if found:
        return found[0]
    raise ValueMismatchError(f"{_shown(value)} is none of {', '.join(map(_name, kinds))}")


def _tuple(kinds: tuple[Any, ...], values: list[Any], to_path: ToPath) -> Any:
    if not kinds or kinds[-1:] == (...,):
        return tuple(decode(kinds[0] if kinds else Any, each, to_path) for each in values)
    kinds = () if kinds == ((),) else kinds  # `Tuple[()]` before Python 3.11
    if len(kinds) != len(values):
        raise ValueMismatchError(f"{len(values)} values are not a tuple of {len(kinds)}")
    return tuple(decode(kind, each, to_path) for kind, each in zip(kinds, values))


def _decoded_key(kind: Any, key: str) -> Any:
    try:
        return decode(kind, key)
    except ValueMismatchError:
        return decode(kind, _read(kind, json.loads, key))


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)


def _checked(value: Any, wanted: type, annotation: Any) -> Any:
    if not isinstance(value, wanted):
        raise _mismatch(annotation, value)
    return value


def _mismatch(annotation: Any, value: Any) -> ValueMismatchError:
    return ValueMismatchError(f"{_shown(value)} is not of the type {_name(annotation)}")


def _name(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")


def _shown(value: Any, most: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}…"


def _exactly(*kinds: type) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if type(value) not in kinds:
            raise TypeError(value)
        return value

    return read


def _float(value: Any) -> float:
    return float(_exactly(int, float)(value))


def _iso(value: Any) -> str:
    """Return a time stamp in the form that Python before 3.11 reads."""
    text: str = _exactly(str)(value)
    return f"{text[:-1]}+00:00" if text.endswith("Z") else text


_READERS: dict[Any, Callable[[Any], Any]] = {
    **{kind: _exactly(kind) for kind in _PLAIN},
    int: _exactly(int),
    float: _float,
    dt.datetime: lambda value: dt.datetime.fromisoformat(_iso(value)),
    dt.date: dt.date.fromisoformat,
    dt.time: lambda value: dt.time.fromisoformat(_iso(value)),
    dt.timedelta: lambda value: dt.timedelta(seconds=_float(value)),
    decimal.Decimal: lambda value: decimal.Decimal(_exactly(str)(value)),
    uuid.UUID: lambda value: uuid.UUID(_exactly(str)(value)),
}

SCALARS = (*_READERS, Path)
"""Types to which a JSON text, number, `true`, `false` or `null` is decoded, besides enums."""
