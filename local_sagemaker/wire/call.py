"""A request to an AWS service other than S3, parsed once for authorization, statistics, the journal and moto.

Four protocols name the operation in three places: the path (CBOR, REST), `X-Amz-Target` (JSON), and the form field
`Action` (query). moto prefers an `Action` wherever it finds one, also beside a target or in the text of a document. So
that moto cannot run another operation than the authorized one, a call is rewritten with each part in its one place, and
moto gets only that. The module does no I/O.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal
from urllib.parse import parse_qsl, urlencode

from botocore.parsers import ResponseParserError, RpcV2CBORParser
from starlette.datastructures import Headers
from starlette.types import Scope

from local_sagemaker.services import BY_SIGNATURE
from local_sagemaker.wire.json_service import operation_of
from local_sagemaker.wire.operations import has_operation, is_typed, members_of, rest_operation

_FORM = "application/x-www-form-urlencoded"
_JSON = "application/x-amz-json-"
_CBOR_PATH = re.compile(r"/service/\w+/operation/(\w+)")
_QUEUE_PATH = re.compile(r"/\d{12}/[\w.-]+")  # in SQS's query protocol, instead of the field `QueueUrl`
_OF_ALL = ("Action", "Version")  # the fields of every operation in the query protocol
_CBOR = RpcV2CBORParser()
_EMPTY_MAP = b"\xa0"
_GZIP = zlib.MAX_WBITS + 16
_LARGEST = 64 << 20  # bytes of a decompressed body; a longer one is cut and so becomes unreadable

_Protocol = Literal["cbor", "json", "rest", "query"]


@dataclass(frozen=True)
class Call:
    """One request, reduced to what a replay needs.

    Attributes:
        service: the service of the credential scope.
        region: the region of the credential scope.
        method: the HTTP method.
        path: the path with the query string.
        headers: the headers that matter to a service, by lower-case name.
        body: the body as text; bytes that are not UTF-8 are escaped as surrogates.
        access_key: the access key with which moto gets the call.
    """

    service: str
    region: str
    method: str
    path: str
    headers: Mapping[str, str]
    body: str
    access_key: str = "local"

    @classmethod
    def of(cls, scope: Scope, body: bytes) -> Call:
        """Return the call of a request, without the members that its operation does not have.

        Args:
            scope: the ASGI scope, with `service` and `region`.
            body: the whole body.
        """
        headers = Headers(scope=scope)
        path, query = scope["raw_path"].decode("latin-1"), scope["query_string"].decode("latin-1")
        text = _unpacked(headers, body).decode("utf-8", "surrogateescape")
        protocol = _protocol_of(scope["service"], headers)
        method, kept = scope["method"], {"content-type": headers.get("content-type", "")}
        if protocol == "cbor":
            kept = {"content-type": "application/cbor", "smithy-protocol": "rpc-v2-cbor"}
        elif protocol == "json":
            path, text = "/", _without_fields(text)
            kept = {"content-type": _json_type(kept["content-type"]), "x-amz-target": headers["x-amz-target"]}
        elif protocol == "rest":
            path, text = f"{path}?{query}" if query else path, _without_fields(text)
            kept = {"content-type": "application/json"}
        elif "Action" in (fields := {**_fields(query), **_fields(text)}):
            if scope["service"] == "sqs" and _QUEUE_PATH.fullmatch(path):
                fields.setdefault("QueueUrl", f"https://sqs.{scope['region']}.amazonaws.com{path}")
            method, kept, text = "POST", {"content-type": _FORM}, urlencode(fields, errors="surrogateescape")
        return cls(scope["service"], scope["region"], method, path, kept, text).bare()

    def bare(self) -> Call:
        """Return the call without members that its operation lacks: moto might read one that was not authorized."""
        if not self.operation or (document := self._document()) is None:
            return self
        if self._protocol == "query":
            return replace(self, body=urlencode(document, errors="surrogateescape"))
        path, _, query = self.path.partition("?")
        known = members_of(self.service, self.operation).query
        asked = [(name, value) for name, value in parse_qsl(query, keep_blank_values=True) if name in known]
        text = self.body if self._protocol == "cbor" or not self.body else _without_fields(json.dumps(document))
        return replace(self, path=f"{path}?{urlencode(asked)}" if asked else path, body=text)

    @cached_property
    def _protocol(self) -> _Protocol:
        return _protocol_of(self.service, self.headers)

    @cached_property
    def operation(self) -> str:
        """The operation's name; empty if the service does not have it, or if moto might find another operation."""
        name = self._named()
        return name if has_operation(self.service, name) else ""

    def _named(self) -> str:
        path, _, query = self.path.partition("?")
        if self._protocol == "query":
            is_path = path in ("", "/") or (self.service == "sqs" and _QUEUE_PATH.fullmatch(path))
            return _fields(self.body).get("Action", "") if is_path else ""
        if "Action" in {**_fields(query), **_fields(self.body)}:
            return ""
        if self._protocol == "cbor":
            found = _CBOR_PATH.fullmatch(path)
            return found[1] if found else ""
        if self._protocol == "json":
            return operation_of(self.headers["x-amz-target"])
        return rest_operation(self.service, self.method, path)[0]

    @property
    def is_readable(self) -> bool:
        """Whether the body is a document with members of the right types and valid Unicode text.

        AWS's services refuse any other body.
        """
        document = self._document()
        if document is None:
            return False
        try:
            json.dumps(document, ensure_ascii=False, default=str).encode()
        except (UnicodeEncodeError, RecursionError):
            return False
        is_form = self._protocol == "query"
        return is_form or not self.operation or is_typed(self.service, self.operation, document)

    @property
    def parameters(self) -> dict[str, Any]:
        """The members of the request; empty if the body is unreadable, which the service reports."""
        document = self._document() or {}
        if not self.operation or self._protocol != "rest":
            return document
        members = members_of(self.service, self.operation)
        path, _, query = self.path.partition("?")
        asked, placed = _fields(query), rest_operation(self.service, self.method, path)[1]
        return {
            **document,
            **{members.query[name]: value for name, value in asked.items() if name in members.query},
            **{members.path[name]: value for name, value in placed.items() if name in members.path},
        }

    def _document(self) -> dict[str, Any] | None:
        """Return the members of the body that the operation has; None if the body is unreadable."""
        document, operation = self._read(), self.operation
        if document is None or not operation:
            return document
        known = members_of(self.service, operation).body
        is_form = self._protocol == "query"
        return {name: one for name, one in document.items() if name in known or (is_form and _is_field(name))}

    def _read(self) -> dict[str, Any] | None:
        if self._protocol == "query":
            return dict(_fields(self.body))
        try:
            if self._protocol == "cbor":
                data = self.body.encode("utf-8", "surrogateescape") or _EMPTY_MAP
                found = _CBOR.parse_data_item(_CBOR.get_peekable_stream_from_bytes(data))
            else:
                found = json.loads(self.body or "{}")
        except (ValueError, RecursionError, ResponseParserError):
            return None
        return found if isinstance(found, dict) else None


def _protocol_of(service: str, headers: Mapping[str, str]) -> _Protocol:
    if (served := BY_SIGNATURE.get(service)) and served.is_rest:
        return "rest"
    if "x-amz-target" in headers:
        return "json"
    return "cbor" if headers.get("smithy-protocol") == "rpc-v2-cbor" else "query"


def _unpacked(headers: Mapping[str, str], body: bytes) -> bytes:
    """Return the decompressed body; boto3 compresses bodies of more than 10 KB for CloudWatch."""
    if headers.get("content-encoding") != "gzip":
        return body
    try:
        return zlib.decompressobj(_GZIP).decompress(body, _LARGEST)
    except zlib.error:
        return body


def _json_type(said: str) -> str:
    return said if said.startswith(_JSON) else f"{_JSON}1.1"


def _without_fields(document: str) -> str:
    """Escape the ampersands of a JSON document, which only strings contain, so that moto cannot read it as a form."""
    return document.replace("&", r"\u0026")


def _is_field(name: str) -> bool:
    """Return whether a field of the query protocol belongs to every operation, or is part of a list or a map."""
    return name in _OF_ALL or "." in name


def _fields(form: str) -> dict[str, str]:
    """Return the fields of a form; the first one wins if several have the same name."""
    return dict(reversed(parse_qsl(form, keep_blank_values=True, errors="surrogateescape")))
