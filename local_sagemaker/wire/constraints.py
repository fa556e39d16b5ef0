"""Validation of requests against the constraints of botocore's models, with AWS's error messages.

botocore's `ParamValidator` checks only types, required members and minima. This module adds patterns, enumerations,
maxima and AWS's wording ("Value '…' at '…' failed to satisfy constraint: …"). It does no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from botocore.model import Shape

# The models have Java's regular expressions. These are the character classes that Python lacks, as the content of a
# bracket. The models always combine letters, numbers and `_`, so `\w` allows nothing more than they do.
_JAVA_CLASSES = {
    r"\p{L}": r"\w",
    r"\p{N}": r"\w",
    r"\p{Z}": "\u0020\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000",
    r"\p{Alnum}": "a-zA-Z0-9",
    r"\uD800\uDC00-\uDBFF\uDFFF": "\U00010000-\U0010ffff",  # a range of surrogate pairs
}
_LENGTHS = frozenset({"string", "list", "map", "blob"})
_NUMBERS = frozenset({"integer", "long", "float", "double"})


def violations(value: Any, shape: Shape, path: str = "") -> list[str]:
    """Return AWS's message for each violated constraint, at any depth, in the order of the model.

    Values of a wrong type are skipped; `ParamValidator` reports them.

    Args:
        value: the request, parsed from JSON.
        shape: the shape of `value`.
        path: the path of `value` as AWS writes it (`inputDataConfig.1.member.channelName`); empty for the request.
    """
    own = [_sentence(value, path, shape, constraint) for constraint in _broken(value, shape)]
    return own + list(_below(value, shape, path))


def _below(value: Any, shape: Shape, path: str) -> Iterator[str]:
    if shape.type_name == "structure" and isinstance(value, dict):
        yield from _of_structure(value, shape, path)
    elif shape.type_name == "map" and isinstance(value, dict):
        yield from _of_scalars(value, value.keys(), shape.key, path, "Map keys must satisfy constraint")
        yield from _of_scalars(value, value.values(), shape.value, path, "Map value must satisfy constraint")
    elif shape.type_name == "list" and isinstance(value, list):
        yield from _of_scalars(value, value, shape.member, path, "Member must satisfy constraint")
        if not _is_scalar(shape.member):
            for number, one in enumerate(value, 1):
                yield from violations(one, shape.member, f"{path}.{number}.member")


def _of_structure(value: dict[str, Any], shape: Shape, path: str) -> Iterator[str]:
    for name, member in shape.members.items():
        where = ".".join(filter(None, (path, name[0].lower() + name[1:])))
        if name in value:
            yield from violations(value[name], member, where)
        elif name in shape.required_members:
            yield f"Value null at '{where}' failed to satisfy constraint: Member must not be null"


def _of_scalars(value: Any, members: Iterable[Any], member: Shape, path: str, what: str) -> Iterator[str]:
    """Yield one message for a container if a scalar in it breaks a rule; it names all rules, as AWS's does."""
    if _is_scalar(member) and any(_broken(one, member) for one in members):
        yield _sentence(value, path, member, f"{what}: [{', '.join(_rules(member))}]")


def _sentence(value: Any, path: str, shape: Shape, constraint: str) -> str:
    shown = "" if shape.metadata.get("sensitive") else f" '{_java(value)}'"
    return f"Value{shown} at '{path}' failed to satisfy constraint: {constraint}"


def _is_scalar(shape: Shape) -> bool:
    return shape.type_name not in {"structure", "list", "map"}


def _java(value: Any) -> str:
    """Return a value as Java prints it: `[a, b]`, `{k=v}`, `true`."""
    if isinstance(value, list):
        return f"[{', '.join(map(_java, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}={_java(one)}" for key, one in value.items()) + "}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _broken(value: Any, shape: Shape) -> list[str]:
    """Return the constraints of the shape itself, not of its members, that `value` breaks."""
    rules = shape.metadata
    found = _out_of_range(value, shape)
    if isinstance(value, str) and "enum" in rules and value not in rules["enum"]:
        found.append(_enum_rule(shape))
    if isinstance(value, str) and "pattern" in rules and not _pattern(rules["pattern"]).fullmatch(value):
        found.append(_pattern_rule(shape))
    return found


def _out_of_range(value: Any, shape: Shape) -> list[str]:
    if shape.type_name in _LENGTHS and isinstance(value, (str, list, dict)):
        size: float = len(value)
    elif shape.type_name in _NUMBERS and isinstance(value, (int, float)) and not isinstance(value, bool):
        size = value
    else:
        return []
    found = []
    if size > shape.metadata.get("max", size):
        found.append(_range_rule(shape, "max"))
    if size < shape.metadata.get("min", size):
        found.append(_range_rule(shape, "min"))
    return found


def _rules(shape: Shape) -> list[str]:
    """Return all constraints of a scalar shape, broken or not."""
    rules = shape.metadata
    said = [_range_rule(shape, bound) for bound in ("max", "min") if bound in rules]
    if "enum" in rules:
        said.append(_enum_rule(shape))
    if "pattern" in rules:
        said.append(_pattern_rule(shape))
    return said


def _range_rule(shape: Shape, bound: str) -> str:
    quantity = "length" if shape.type_name in _LENGTHS else "value"
    relation = "less" if bound == "max" else "greater"
    return f"Member must have {quantity} {relation} than or equal to {shape.metadata[bound]}"


def _enum_rule(shape: Shape) -> str:
    return f"Member must satisfy enum value set: [{', '.join(shape.metadata['enum'])}]"


def _pattern_rule(shape: Shape) -> str:
    return f"Member must satisfy regular expression pattern: {shape.metadata['pattern']}"


@cache
def _pattern(java: str) -> re.Pattern[str]:
    """Compile a pattern of a model; as in Java, `.` does not match a line feed."""
    for theirs, ours in _JAVA_CLASSES.items():
        java = java.replace(theirs, ours)
    return re.compile(java)
