"""S3's XML: a writer, and a parser without a schema.

The writer is written by hand: botocore has no serializer for the server's side, and a dozen documents of flat elements
do not need one. `schema` validates the documents of requests.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeAlias
from xml.etree import ElementTree as ET

from local_sagemaker.s3.errors import MalformedXML

_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
Value: TypeAlias = "str | int | bool | Sequence[tuple[str, Value]] | None"
# Markup, and control characters: a parser would refuse them or, for CR, silently change them.
_SPECIAL = re.compile(r"[&<>\"\x00-\x08\x0b-\x1f\x7f\ufffe\uffff]")


def document(root: str, content: Value, *, namespace: str | None = _NAMESPACE) -> bytes:
    """Return an XML document. A value of None omits its element; an element may be repeated."""
    attribute = f' xmlns="{namespace}"' if namespace else ""
    return f"{_HEAD}<{root}{attribute}>{_inner(content)}</{root}>".encode()


def _inner(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return ""
    if isinstance(value, str | int):
        return _SPECIAL.sub(lambda found: f"&#{ord(found[0])};", str(value))
    # A name may include attributes, which the end tag must not have.
    return "".join(f"<{name}>{_inner(inner)}</{name.partition(' ')[0]}>" for name, inner in value if inner is not None)


class _NoDoctype(ET.TreeBuilder):
    """Tree builder that refuses document types: they can define entities that grow without bound."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:  # noqa: ARG002 -- the parser's interface
        raise MalformedXML


def parse(content: bytes, root: str) -> ET.Element:
    """Parse a document and return its root element; all names are without their namespace.

    Raises:
        MalformedXML: the document is not well-formed, or its root element is not `root`.
    """
    try:
        tree = ET.fromstring(content, parser=ET.XMLParser(target=_NoDoctype()))  # noqa: S314 -- without document types
    except (ET.ParseError, ValueError, LookupError) as error:
        raise MalformedXML(str(error)) from error
    for element in tree.iter():
        element.tag = element.tag.rpartition("}")[2]
    if tree.tag != root:
        raise MalformedXML(f"Expected a document {root}, got {tree.tag}.")
    return tree


def text(element: ET.Element, name: str) -> str:
    """Return the text of a child element.

    Raises:
        MalformedXML: there is no child of this name.
    """
    found = element.findtext(name)
    if found is None:
        raise MalformedXML(f"The element {name} is missing in {element.tag}.")
    return found
