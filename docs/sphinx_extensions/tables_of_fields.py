"""The directives `block-fields` and `override-rules`: tables that the code itself has.

The fields of `SageMakerProject` are read from the schema that Prefect gets for its form, and the rules of `overrides`
from the table by which a call is checked, so that page and code cannot differ.
"""
# ruff: noqa: INP001  Sphinx loads it by its name

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from blocks import SageMakerProject
from tasks_lib.jobs.kinds import JobKind, kind_of
from tasks_lib.jobs.override_rules import How, Rule

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


def rules(kind: JobKind) -> Iterator[tuple[str, str]]:
    """Yield each field of a Create request that the table of overrides has, and what happens to it."""
    for path, rule in sorted(kind.overrides.items()):
        yield path, _words(rule)


def _words(rule: Rule) -> str:
    removable = "`None` removes it" if rule.removable and rule.how is not How.FREE else ""
    return "; ".join(filter(None, (rule.how.value, rule.advice, removable)))


class OverrideRules(SphinxDirective):
    """The rules of `overrides` for one kind of job."""

    required_arguments = 1
    has_content = False

    def run(self) -> list[nodes.Node]:
        """Build the table."""
        group = nodes.tgroup("", nodes.colspec(colwidth=45), nodes.colspec(colwidth=55), cols=2)
        head = nodes.row("", *(nodes.entry("", nodes.paragraph("", name)) for name in ("field", "what happens")))
        body = nodes.tbody("")
        for path, rule in rules(kind_of(self.arguments[0])):
            words, _ = self.parse_inline(rule.replace("`", "``"))
            name = nodes.paragraph("", "", nodes.literal("", path))
            body += nodes.row("", nodes.entry("", name), nodes.entry("", nodes.paragraph("", "", *words)))
        group += [nodes.thead("", head), body]
        return [nodes.table("", group)]


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("block-fields", BlockFields)
    app.add_directive("override-rules", OverrideRules)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
