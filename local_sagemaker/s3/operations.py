"""The S3 operation that a request asks for.

Derived from botocore's model rather than from a table here: a request with an unknown sub-resource
(`PUT /bucket/key?encryption`) must answer 501, not overwrite the object.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import botocore.loaders
import botocore.model

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

UNKNOWN = "Unknown"
# Operations of other endpoints; here their requests would look like those of other operations.
_ELSEWHERE = frozenset({"ListDirectoryBuckets", "WriteGetObjectResponse"})

# botocore requires a checksum, S3 does not: minio-go, which works with AWS, sends neither a checksum nor an MD5.
_WITHOUT_CHECKSUM = frozenset({"PutBucketPolicy"})


@dataclass(frozen=True)
class _Rule:
    """The form of an operation's requests.

    Attributes:
        operation: name of the operation.
        fixed: query parameters that the request must have, with their values.
        required_query: further query parameters that it must have.
        required_headers: headers that it must have.
        accepted: all query parameters that it may have.
    """

    operation: str
    fixed: dict[str, str]
    required_query: frozenset[str]
    required_headers: frozenset[str]
    accepted: frozenset[str]

    @property
    def markers(self) -> frozenset[str]:
        return self.required_query | self.fixed.keys()

    def fits(self, query: Mapping[str, str], headers: Collection[str]) -> bool:
        return (
            all(query.get(name) == value for name, value in self.fixed.items())
            and self.required_query <= query.keys()
            and all(name in headers for name in self.required_headers)
        )


def operation_of(method: str, bucket: str, key: str, query: Mapping[str, str], headers: Collection[str]) -> str:
    """Return the name of an operation, as in botocore.

    Args:
        method: HTTP method.
        bucket: name of the bucket; empty for the service.
        key: key of the object; empty for the bucket.
        query: decoded query parameters.
        headers: lower-case names of the headers.

    Returns:
        The name; `Unknown` if S3 has no operation for this combination.
    """
    rules, markers = _rules()
    # An operation must not ignore a parameter that identifies another operation.
    telling = markers & query.keys()
    for rule in rules.get((method, bool(bucket), bool(key)), ()):
        if telling <= rule.accepted and rule.fits(query, headers):
            return rule.operation
    return UNKNOWN


@cache
def model() -> botocore.model.ServiceModel:
    """Return botocore's model of S3."""
    loader = botocore.loaders.create_loader()
    return botocore.model.ServiceModel(loader.load_service_model("s3", "service-2"), "s3")


@cache
def takes_checksum(operation: str) -> bool:
    """Return whether a request of an operation may give the checksum of its body."""
    return operation in model().operation_names and bool(
        model().operation_model(operation).http_checksum.get("requestAlgorithmMember")
    )


@cache
def requires_checksum(operation: str) -> bool:
    """Return whether a request of an operation must give the checksum of its body, or its MD5."""
    return takes_checksum(operation) and bool(
        operation not in _WITHOUT_CHECKSUM
        and model().operation_model(operation).http_checksum.get("requestChecksumRequired")
    )


@cache
def _rules() -> tuple[dict[tuple[str, bool, bool], list[_Rule]], frozenset[str]]:
    """Return the rules and the query parameters that identify an operation.

    Returns:
        The rules by method and level, the most specific first; and the parameters that any rule requires.
    """
    service = model()
    rules: dict[tuple[str, bool, bool], list[_Rule]] = {}
    operations = [service.operation_model(name) for name in service.operation_names if name not in _ELSEWHERE]
    for operation in sorted(operations, key=lambda one: one.deprecated):
        uri = operation.http["requestUri"]
        level = (operation.http["method"], "{Bucket}" in uri, "{Key+}" in uri)
        rules.setdefault(level, []).append(_rule(operation))
    for same_level in rules.values():
        same_level.sort(key=lambda rule: -len(rule.markers) - len(rule.required_headers))
    return rules, frozenset(name for same_level in rules.values() for rule in same_level for name in rule.markers)


def _rule(operation: Any) -> _Rule:
    fixed = dict(parse_qsl(operation.http["requestUri"].partition("?")[2], keep_blank_values=True))
    members = operation.input_shape.members if operation.input_shape else {}
    required = operation.input_shape.required_members if operation.input_shape else []
    places = {name: shape.serialization for name, shape in members.items()}
    queries = {name: place["name"] for name, place in places.items() if place.get("location") == "querystring"}
    headers = {name: place["name"].lower() for name, place in places.items() if place.get("location") == "header"}
    return _Rule(
        operation.name,
        fixed,
        frozenset(queries[name] for name in required if name in queries),
        frozenset(headers[name] for name in required if name in headers),
        frozenset(queries.values()) | fixed.keys(),
    )
