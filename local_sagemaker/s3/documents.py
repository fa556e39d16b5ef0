"""XML as S3 writes and reads it; pure, only `local_sagemaker.s3` imports it.

Written by hand, and not from botocore's shapes: those need a serializer of their own for the server's side, and a dozen
documents of flat elements do not. No schema is checked beyond what an operation reads.
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
# Besides markup: control characters, which a parser would refuse or, in the case of CR, silently change.
_SPECIAL = re.compile(r"[&<>\"\x00-\x08\x0b-\x1f\x7f\ufffe\uffff]")


def document(root: str, content: Value, *, namespace: str | None = _NAMESPACE) -> bytes:
    """Return a document; a value of None leaves its element out, an element may come more than once."""
    attribute = f' xmlns="{namespace}"' if namespace else ""
    return f"{_HEAD}<{root}{attribute}>{_inner(content)}</{root}>".encode()


def _inner(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return ""
    if isinstance(value, str | int):
        return _SPECIAL.sub(lambda found: f"&#{ord(found[0])};", str(value))
    # A name may bring attributes along.
    return "".join(f"<{name}>{_inner(inner)}</{name.partition(' ')[0]}>" for name, inner in value if inner is not None)


class _NoDoctype(ET.TreeBuilder):
    """A document type can define entities that grow without bound; S3 has no use for one."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:  # noqa: ARG002 -- the parser's interface
        raise MalformedXML


def parse(content: bytes, root: str) -> ET.Element:
    """Parse a document and return its root, all names without their namespace.

    Raises:
        MalformedXML: it is not well-formed, or its root is not `root`.
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
    """Return the text of a child.

    Raises:
        MalformedXML: there is none of this name.
    """
    found = element.findtext(name)
    if found is None:
        raise MalformedXML(f"The element {name} is missing in {element.tag}.")
    return found
