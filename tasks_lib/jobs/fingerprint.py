"""The fingerprint: SHA-256 of all that determines a job's result, and the differences between two. Pure.

Included: the toolkit's contract version, kind, image, code, entry point, command, arguments, hyperparameters,
environment, references of secrets, instance count (it decides the sharding), input mode, network isolation, state mode,
each input's identity and layout, and overrides that change the result. Not included: instance type, spot, timeouts,
tags, VPC, KMS keys, and the variables that we add.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tasks_lib.jobs.manifest import Manifest
from tasks_lib.jobs.masking import is_secret
from tasks_lib.jobs.spec import JobSpec, ResolvedChannel, encode_hyperparameters

Ingredients = dict[str, Any]

_MOST_NAMES = 3


def ingredients(
    spec: JobSpec, source: Manifest | None, channels: Sequence[ResolvedChannel], contract: int
) -> Ingredients:
    """Return what determines a job's result, by name, as plain JSON values.

    Args:
        spec: The job.
        source: The job's code; None if the image runs as it is.
        channels: The job's inputs.
        contract: `CONTRACT_VERSION` of the worker toolkit: what the job's code may rely on.
    """
    return {
        "contract": contract,
        "kind": spec.kind.name,
        "image": spec.image,
        "code": dict(_code_rows(source)),
        "entry point": spec.entry_point,
        "command": spec.command,
        "arguments": list(spec.arguments),
        "hyperparameters": encode_hyperparameters(spec.hyperparameters),
        "environment": {name: _sha(value) for name, value in spec.environment.items()},
        "instance count": spec.instance_count,
        "input mode": "File",
        "network isolation": spec.network_isolation,
        "state": spec.state,
        "inputs": {channel.name: _channel_row(channel) for channel in channels},
        # A round trip through JSON, so that it equals what the ledger returns: tuples become lists.
        "overrides": json.loads(json.dumps(_with_effect(spec), default=str)),
        # Left out if empty: work without secrets keeps the fingerprint that it had before the option existed.
        **({"secrets": dict(spec.secrets)} if spec.secrets else {}),
    }


def fingerprint(parts: Ingredients) -> str:
    """Return the SHA-256 of the ingredients, written as canonical JSON."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False, default=str)
    return _sha(text)


def differences(old: Ingredients, new: Ingredients) -> list[str]:
    """Return what changed between two sets of ingredients, in words, the most informative first."""
    found = []
    for part in _WORD:
        found += _mapping_difference(part, _members(part, old), _members(part, new))
    for part in sorted((old.keys() | new.keys()) - _WORD.keys()):
        if old.get(part) != new.get(part):
            found.append(_plain_difference(part, old.get(part), new.get(part)))
    return found


def _code_rows(source: Manifest | None) -> list[tuple[str, str]]:
    return [(name, f"{item.digest}{'+x' if item.executable else ''}") for name, item in source or ()]


def _channel_row(channel: ResolvedChannel) -> dict[str, Any]:
    laid = {"distribution": channel.distribution, "extract": channel.extract, "subdir": channel.subdir}
    return {**channel.identity, **laid}


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _with_effect(spec: JobSpec) -> dict[str, Any]:
    """Return the overrides that change what the job computes."""
    return _without(spec.kind.ignored_request_fields, spec.overrides)


def _without(ignored: frozenset[str], overrides: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, value in overrides.items():
        here = f"{path}{key}"
        if here in ignored:
            continue
        below = value
        if isinstance(value, Mapping):
            below = _without(ignored, value, f"{here}.")
        elif isinstance(value, list):
            below = [_without(ignored, one, f"{here}[].") if isinstance(one, Mapping) else one for one in value]
        if below != {} or value == {}:
            kept[key] = below
    return kept


_WORD = {
    "inputs": "input",
    "code": "code",
    "hyperparameters": "hyperparameter",
    "environment": "environment variable",
    "secrets": "secret",
    "overrides": "override",
}
"""The ingredients that have members, the most informative first, with the word for one member."""


def _members(part: str, work: Ingredients) -> Mapping[str, Any]:
    members = work.get(part) or {}
    return dict(_leaves(members)) if part == "overrides" else members


def _leaves(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each field of overrides with its dotted path."""
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", "None" if value is None else value


def _mapping_difference(part: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    changed = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
    if part == "code":
        return [f"code changed ({_few(changed)})"] if changed else []
    return [_entry_difference(part, name, old.get(name), new.get(name)) for name in changed]


def _entry_difference(part: str, name: str, old: Any, new: Any) -> str:
    what = f'{_WORD[part]} "{name}"'
    if old is None or new is None:
        return f"{what} {'added' if old is None else 'removed'}"
    if part == "secrets":
        return f"{what} is kept elsewhere ({old} -> {new})"
    if part == "hyperparameters" and not is_secret(name):
        return f"{what} changed ({old} -> {new})"
    if part == "inputs" and "job" in new and old.get("job") != new.get("job"):
        return f"{what} comes from another job ({new['job']})"
    return f"{what} changed"


def _plain_difference(part: str, old: Any, new: Any) -> str:
    short = all(isinstance(value, (str, int, bool, type(None))) for value in (old, new))
    return f"{part} changed ({old} -> {new})" if short else f"{part} changed"


def _few(names: list[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
