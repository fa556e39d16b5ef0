"""Overrides: request fields that a user sets beside the arguments of a task, and how they are merged.

Each kind of job has a table with a rule for each field that we write or read, and for each other top-level member.
A field that a task argument sets is refused with that argument's name, since the two could contradict each other. List
entries are matched by their names, so that a further channel does not replace ours. A path without a rule is passed on:
AWS's model is newer than the table, or the path is inside a field that is passed on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tasks_lib.errors import InvalidTask
from tasks_lib.jobs.channels import Channel, TaskOutput
from tasks_lib.jobs.kind import JobKind
from tasks_lib.jobs.naming import check_channel_name, check_variables
from tasks_lib.jobs.override_rules import How, Rule
from worker_toolkit.contract import SOURCE_CHANNEL, STATE_CHANNEL

_NO_RULE = Rule(How.FREE)


# -- merging ---------------------------------------------------------------------------------------------------------


def deep_merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` merged with `over`: mappings are merged, everything else is replaced."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = deep_merge(below, value) if isinstance(below, dict) and isinstance(value, Mapping) else value
    return merged


def combined(kind: JobKind, first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return the overrides of two levels as one; the second level, the task's own, wins."""
    return _laid_over(kind.overrides, "", _plain(first), _plain(second), keeps_none=True)


def with_overrides(kind: JobKind, request: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request merged with overrides that `check_overrides` accepted; None removes a field."""
    return _laid_over(kind.overrides, "", request, overrides, keeps_none=False)


def _plain(value: Any) -> Any:
    """Return overrides with tuples as lists: boto3 accepts tuples, but the rules for lists do not match them."""
    if isinstance(value, Mapping):
        return {name: _plain(below) for name, below in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def _laid_over(
    table: Mapping[str, Rule], path: str, base: Mapping[str, Any], over: Mapping[str, Any], *, keeps_none: bool
) -> dict[str, Any]:
    merged = dict(base)
    for name, value in over.items():
        here = _join(path, name)
        rule = table.get(here, _NO_RULE)
        below = merged.get(name)
        for other in rule.instead_of if value is not None else ():
            merged.pop(other, None)
        if value is None and not keeps_none:
            merged.pop(name, None)
        elif isinstance(value, Mapping):
            merged[name] = _laid_over(
                table, here, below if isinstance(below, Mapping) else {}, value, keeps_none=keeps_none
            )
        elif rule.how is How.ENTRIES and isinstance(value, list) and isinstance(below or [], list):
            merged[name] = _entries(table, f"{here}[]", rule.key, below or [], value, keeps_none=keeps_none)
        else:
            merged[name] = value
    return merged


def _entries(
    table: Mapping[str, Rule], path: str, key: str, base: list[Any], over: list[Any], *, keeps_none: bool
) -> list[Any]:
    merged = list(base)
    places = {entry[key]: place for place, entry in enumerate(base) if _has_name(entry, key)}
    for entry in over:
        place = places.get(entry[key]) if _has_name(entry, key) else None
        if place is None:
            if _has_name(entry, key):
                places[entry[key]] = len(merged)
            merged.append(
                _laid_over(table, path, {}, entry, keeps_none=keeps_none) if isinstance(entry, Mapping) else entry
            )
        else:
            merged[place] = _laid_over(table, path, merged[place], entry, keeps_none=keeps_none)
    return merged


# -- checking --------------------------------------------------------------------------------------------------------


def check_overrides(
    kind: JobKind,
    overrides: Mapping[str, Any],
    *,
    inputs: Mapping[str, Channel | TaskOutput],
    ships_code: bool,
) -> None:
    """Refuse overrides of fields that an argument sets, or that the ledger needs to find the job and its outputs.

    Args:
        kind: Kind of job.
        overrides: The overrides, as `combined` returns them.
        inputs: The task's inputs.
        ships_code: Whether our bootstrap starts the job.

    Raises:
        InvalidTask: A field is refused. The message has each such field, and what to do instead.
        InvalidName: The name of a further channel is invalid, or shares its variable in the job with another one.
    """
    found = list(_refusals(kind.overrides, "", overrides, inputs, ships_code=ships_code))
    if found:
        raise InvalidTask(
            f"overrides cannot set {', '.join(path for path, _ in found)}.",
            fix="; ".join(f"{path}: {advice}" for path, advice in found) + ".",
        )
    key = kind.overrides[kind.inputs_field].key
    names = [entry[key] for entry in _named(overrides.get(kind.inputs_field), key)]
    for name in names:
        check_channel_name(name)
    check_variables("inputs", "SM_CHANNEL_", [*inputs, *names])


def _refusals(
    table: Mapping[str, Rule],
    path: str,
    over: Mapping[str, Any],
    inputs: Mapping[str, Channel | TaskOutput],
    *,
    ships_code: bool,
) -> Iterator[tuple[str, str]]:
    for name, value in over.items():
        here = _join(path, name)
        rule = table.get(here, _NO_RULE)
        if (
            rule.how is How.REFUSED
            and not (rule.with_code and not ships_code)
            and not (value is None and rule.removable)
        ):
            yield here, rule.advice
        elif value is None and rule.how is not How.FREE and not rule.removable:
            whole = rule.how in {How.MEMBERS, How.ENTRIES}
            yield here, "give the members to change: the job needs the others" if whole else "give a value, not None"
        elif rule.how is How.ENTRIES:
            for entry in _named(value, rule.key):
                yield from _refusals_of_entry(table, here, rule, entry, inputs)
        elif rule.how is How.MEMBERS and isinstance(value, Mapping):
            yield from _refusals(table, here, value, inputs, ships_code=ships_code)


def _refusals_of_entry(
    table: Mapping[str, Rule],
    path: str,
    rule: Rule,
    entry: Mapping[str, Any],
    inputs: Mapping[str, Channel | TaskOutput],
) -> Iterator[tuple[str, str]]:
    """Yield the refused fields of a list entry; an entry that is not ours may have any field."""
    name = entry[rule.key]
    if name in (SOURCE_CHANNEL, STATE_CHANNEL):
        yield f"{path}[{name}]", "choose another name: the task's code and state travel by this one"
        return
    if name not in (rule.own or inputs):
        return
    without_name = {below: value for below, value in entry.items() if below != rule.key}
    for below, advice in _refusals(table, f"{path}[]", without_name, inputs, ships_code=True):
        yield below.replace(f"{path}[]", f"{path}[{name}]", 1), advice
    mode = member(entry, "S3Input", "S3InputMode") or entry.get("InputMode") or "File"
    if mode != "File" and getattr(inputs.get(name), "extract", False):
        yield f"{path}[{name}] {mode}", "leave `extract` out: only in File mode the directory can be written to"


def member(tree: Mapping[str, Any], *path: str) -> Any:
    """Return the value at a path of overrides, or None; AWS's model later refuses what is wrongly not a mapping."""
    found: Any = tree
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _named(entries: Any, key: str) -> list[Mapping[str, Any]]:
    """Return the entries of a list whose name is a text; AWS's model later refuses all others."""
    rows = entries if isinstance(entries, list) else []
    return [entry for entry in rows if _has_name(entry, key)]


def _has_name(entry: Any, key: str) -> bool:
    return isinstance(entry, Mapping) and isinstance(entry.get(key), str)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
