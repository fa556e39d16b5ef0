"""Validation of request documents against botocore's model.

Like S3 with its published schema, it raises `MalformedXML` for unknown, missing and repeated elements, and for values
outside of an enumeration.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias

from botocore.utils import parse_timestamp

from local_sagemaker.s3.documents import parse
from local_sagemaker.s3.errors import MalformedXML
from local_sagemaker.s3.errors import NotImplementedByThisServer as NotBuilt
from local_sagemaker.s3.members import is_read
from local_sagemaker.s3.operations import model

if TYPE_CHECKING:
    from collections.abc import Callable
    from xml.etree import ElementTree as ET

    from botocore.model import Shape

Structure: TypeAlias = "dict[str, Any]"


def read_document(operation: str, content: bytes) -> Structure:
    """Parse and validate the document of a request.

    Args:
        operation: name of the operation in botocore; it must have a document.
        content: the body.

    Returns:
        The members by botocore's names. A list is a list even if it has one element.

    Raises:
        MalformedXML: the document is not well-formed, or not valid by the model.
        NotImplementedByThisServer: it has an element that this server does not read.
    """
    given = model().operation_model(operation).input_shape
    name = given.serialization["payload"]
    shape = given.members[name]
    tree = parse(content, shape.serialization.get("name", name))
    return _Reader(operation).structure(tree, shape, name)


_OPEN = frozenset({"BucketLocationConstraint"})  # the operation checks it: botocore's list may lack new regions


class _Reader:
    def __init__(self, operation: str) -> None:
        self._operation = operation

    def structure(self, element: ET.Element, shape: Shape, path: str) -> Structure:
        known = {member.serialization.get("name", name): name for name, member in shape.members.items()}
        found: Structure = {}
        for child in element:
            name = known.get(child.tag)
            if name is None:
                raise MalformedXML(f"The element {child.tag} is not known in {element.tag}.")
            self._check_read(f"{path}.{name}")
            value = self._value(child, shape.members[name], f"{path}.{name}")
            if _is_flattened(shape.members[name]):
                found.setdefault(name, []).append(value)
            elif name in found:
                raise MalformedXML(f"The element {child.tag} is given twice in {element.tag}.")
            else:
                found[name] = value
        for name in shape.required_members:
            # An attribute is not an element. S3 has one: the type of a grantee.
            if name not in found and not shape.members[name].serialization.get("xmlAttribute"):
                wanted = shape.members[name].serialization.get("name", name)
                raise MalformedXML(f"The element {wanted} is missing in {element.tag}.")
        return found

    def _check_read(self, path: str) -> None:
        if not is_read(self._operation, path):
            raise NotBuilt(f"{self._operation} does not support {path} on this server. Leave it out.", Element=path)

    def _value(self, element: ET.Element, shape: Shape, path: str) -> Any:
        if shape.type_name == "list" and _is_flattened(shape):
            return self._value(element, shape.member, path)
        if shape.type_name == "list":
            wanted = shape.member.serialization.get("name", "member")
            if wrong := next((child.tag for child in element if child.tag != wanted), None):
                raise MalformedXML(f"The element {wrong} is not known in {element.tag}.")
            return [self._value(child, shape.member, path) for child in element]
        if shape.type_name == "structure":
            return self.structure(element, shape, path)
        return _scalar(element, shape)


def _is_flattened(shape: Shape) -> bool:
    return shape.type_name == "list" and bool(shape.serialization.get("flattened"))


def _scalar(element: ET.Element, shape: Shape) -> Any:
    text = element.text or ""
    try:
        value = _SCALARS.get(shape.type_name, str)(text)
    except (KeyError, ValueError, RuntimeError, OverflowError) as error:
        raise MalformedXML(f"{text!r} is not a {shape.type_name}, which {element.tag} must be.") from error
    allowed = getattr(shape, "enum", []) if shape.name not in _OPEN else []
    if len(element) or (allowed and value not in allowed):
        raise MalformedXML(f"{text!r} is not a value of {element.tag}.")
    return value


def _whole_number(text: str) -> int:
    if not text.strip().removeprefix("-").isdecimal():
        raise ValueError(text)
    return int(text)


def _boolean(text: str) -> bool:
    return {"true": True, "false": False, "1": True, "0": False}[text.strip().lower()]


def _timestamp(text: str) -> datetime:
    if not text.strip():
        raise ValueError(text)
    found: datetime = parse_timestamp(text.strip())
    return found


_SCALARS: dict[str, Callable[[str], Any]] = {
    "integer": _whole_number,
    "long": _whole_number,
    "boolean": _boolean,
    "timestamp": _timestamp,
}
