"""The page on troubleshooting explains every error, with its real message."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
from blocks_of_pages import matches
from markdown_it import MarkdownIt

from tasks_lib import errors
from tasks_lib.failure_causes import CAUSES, PAGE

ROOT = Path(__file__).parents[2]
BASES = {"PrefectSageMakerError", "JobError"}  # never raised themselves


def sections(page: Path) -> dict[str, list[str]]:
    """Return the fenced blocks below each heading or paragraph that is the name of an error in backticks."""
    found: dict[str, list[str]] = {}
    name = ""
    tokens = MarkdownIt("commonmark").parse(page.read_text())
    for before, token in zip([tokens[0], *tokens], tokens, strict=False):
        named = re.fullmatch(r"`(\w+)`", token.content)
        if before.type == "heading_open":
            name = named[1] if named else ""
        elif named and token.type == "inline":
            name = named[1]
        elif token.type == "fence" and name in errors.__all__:
            found.setdefault(name, []).append(token.content)
    return found


TOLD = sections(ROOT / "docs" / "troubleshooting.md")
REAL = sections(ROOT / "tests" / "tasks_lib" / "golden_errors.md")


def test_every_error_has_its_section():
    """Every error has a section with its name."""
    assert set(errors.__all__) - BASES == set(TOLD)


@pytest.mark.parametrize("name", sorted(TOLD))
def test_messages_are_those_that_are_raised(name):
    """Each message on the page is the start of a golden message of that error."""
    golden = [message for real in REAL.values() for message in real] if name == "ServiceError" else REAL[name]
    for told in TOLD[name]:
        assert any(matches(f"{told.rstrip()}\n…", message) for message in golden), told


def headings(page: Path, level: str) -> list[str]:
    """Return the headings of a page with one level, in order."""
    tokens = MarkdownIt("commonmark").parse(page.read_text())
    pairs = pairwise(tokens)
    return [inline.content for opening, inline in pairs if opening.type == "heading_open" and opening.tag == level]


def test_every_known_cause_has_its_section():
    """Each cause in the table has a section below `JobFailed`, and each of these sections has a cause."""
    assert {row.section for row in CAUSES} == set(headings(ROOT / PAGE, "h4"))


@pytest.mark.parametrize("row", CAUSES, ids=lambda row: row.anchor)
def test_the_link_of_a_cause_leads_to_its_section(row):
    """The anchor of a cause is the one that MyST makes from the heading."""
    anchors = pytest.importorskip("mdit_py_plugins.anchors.index", reason="MyST has no release for Python 3.10")

    assert row.anchor == anchors.slugify(row.section)
