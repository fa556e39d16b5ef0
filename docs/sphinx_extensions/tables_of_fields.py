"""The directive `block-fields`: every field of `SageMakerProject` as its form in Prefect's UI has it.

Read from the schema that Prefect itself gets, so that page and form cannot differ.
"""
# ruff: noqa: INP001  Sphinx loads it by its name

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from blocks import SageMakerProject

_HEADINGS = ("field", "what it is", "default")
_WIDTHS = (26, 54, 20)


def rows() -> Iterator[tuple[str, str, str, str]]:
    """Yield group, name, description and default of each field, in the order of the form."""
    schema = SageMakerProject.model_json_schema()
    for name, field in schema["properties"].items():
        default = "required" if name in schema.get("required", ()) else _shown(field.get("default"))
        yield field.get("group", ""), name, str(field.get("description", "")), default


def _shown(default: Any) -> str:
    return "" if default in (None, "", [], {}) or isinstance(default, dict) else json.dumps(default)


class BlockFields(SphinxDirective):
    """A table of the block's fields."""

    has_content = False

    def run(self) -> list[nodes.Node]:
        """Build it."""
        group = nodes.tgroup("", *(nodes.colspec(colwidth=width) for width in _WIDTHS), cols=len(_WIDTHS))
        head = nodes.row("", *(nodes.entry("", nodes.paragraph("", name)) for name in _HEADINGS))
        body = nodes.tbody("")
        before = ""
        for title, name, description, default in rows():
            if title != before:
                words = nodes.paragraph("", "", nodes.strong("", title))
                body += nodes.row("", nodes.entry("", words, morecols=len(_WIDTHS) - 1))
                before = title
            body += nodes.row(
                "",
                nodes.entry("", nodes.paragraph("", "", nodes.literal("", name))),
                nodes.entry("", nodes.paragraph("", description)),
                nodes.entry("", nodes.paragraph("", "", nodes.literal("", default)) if default else nodes.paragraph()),
            )
        group += [nodes.thead("", head), body]
        return [nodes.table("", group)]


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("block-fields", BlockFields)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
