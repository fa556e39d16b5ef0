"""The operations of the served services in botocore's models: names, REST paths, and the places of input members.

The module does no I/O except to load the models.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import unquote

from botocore.model import Shape

from local_sagemaker.services import BY_SIGNATURE
from local_sagemaker.wire.json_service import load_model


@dataclass(frozen=True)
class Members:
    """The members of an operation's input, by their place in the request.

    Attributes:
        body: the names of the members in the body; all members, unless the service is a REST service.
        query: name in the query string -> member.
        path: name in the path -> member.
    """

    body: frozenset[str]
    query: Mapping[str, str]
    path: Mapping[str, str]


@cache
def members_of(service: str, operation: str) -> Members:
    """Return the input members of an operation.

    Args:
        service: the service's name in signatures.
        operation: an operation of the service.
    """
    shape = load_model(BY_SIGNATURE[service].name).operation_model(operation).input_shape
    members = shape.members if shape else {}
    placed: dict[str, dict[str, str]] = {"": {}, "querystring": {}, "uri": {}}
    for name, member in members.items():
        place = member.serialization.get("location", "")
        placed[place][member.serialization.get("name", name) if place else name] = name
    return Members(frozenset(placed[""]), placed["querystring"], placed["uri"])


def is_typed(service: str, operation: str, document: Mapping[str, Any]) -> bool:
    """Return whether all members of a JSON or CBOR document have the types of the model, at any depth.

    The check is necessary because moto reads the keys of an object as the elements of a list.
    """
    shape = load_model(BY_SIGNATURE[service].name).operation_model(operation).input_shape
    return shape is None or _is_typed(document, shape)


def _is_typed(value: Any, shape: Shape) -> bool:
    if value is None:
        return True
    if shape.type_name == "structure":
        known = shape.members
        return isinstance(value, dict) and all(_is_typed(value[name], known[name]) for name in known if name in value)
    if shape.type_name == "list":
        return isinstance(value, list) and all(_is_typed(one, shape.member) for one in value)
    if shape.type_name == "map":
        return isinstance(value, dict) and all(_is_typed(one, shape.value) for one in value.values())
    return isinstance(value, str) if shape.type_name == "string" else not isinstance(value, (dict, list))


def has_operation(service: str, operation: str) -> bool:
    """Return whether a service, by its name in signatures, has an operation of exactly this name.

    moto also accepts `getParameter` for `GetParameter`; AWS does not.
    """
    return service in BY_SIGNATURE and operation in _names(service)


def rest_operation(service: str, method: str, path: str) -> tuple[str, Mapping[str, str]]:
    """Return the REST operation for a method and a path, and the variables of the path.

    The name of the operation is empty if none matches.
    """
    for name, wanted, form in _rest_operations(service):
        if wanted == method and (found := form.fullmatch(path)):
            return name, {variable: unquote(value) for variable, value in found.groupdict().items()}
    return "", {}


@cache
def _names(service: str) -> frozenset[str]:
    return frozenset(load_model(BY_SIGNATURE[service].name).operation_names)


@cache
def _rest_operations(service: str) -> list[tuple[str, str, re.Pattern[str]]]:
    """Return name, method and path pattern of a REST service's operations, paths with fewer variables first."""
    model = load_model(BY_SIGNATURE[service].name)
    found = []
    for name in model.operation_names:
        http = model.operation_model(name).http
        path = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(http["requestUri"].partition("?")[0]))
        found.append((name, http["method"], re.compile(path)))
    return sorted(found, key=lambda operation: operation[2].groups)
