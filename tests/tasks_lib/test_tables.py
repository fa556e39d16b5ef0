"""`Table`: the same rows in a terminal, in Markdown, in a notebook and for a program."""

import json
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from tasks_lib.tables import Table

CELLS = st.one_of(st.none(), st.integers(), st.floats(allow_nan=False), st.booleans(), st.text(max_size=12))
TABLES = st.integers(1, 4).flatmap(
    lambda width: st.builds(
        Table,
        st.tuples(*[st.text("abc", min_size=1, max_size=5)] * width),
        st.lists(st.tuples(*[CELLS] * width), max_size=4).map(tuple),
    )
)


def test_a_terminal_gets_aligned_columns():
    """In a terminal, text is aligned left and numbers right, below the title."""
    table = Table(("task", "jobs"), (("fit", 1), ("a longer name", 100)), title="All of it")

    assert str(table).splitlines() == [
        "All of it",
        "task           jobs",
        "───────────────────",
        "fit               1",
        "a longer name   100",
    ]


def test_wide_characters_take_two_columns():
    """A wide character counts as two columns, as in a terminal."""
    lines = str(Table(("a", "b"), (("日本", "x"), ("12345", "y")))).splitlines()

    assert lines[2] == "日本   x"
    assert lines[3] == "12345  y"


@given(TABLES)
def test_markdown_keeps_every_row_and_cell(table):
    """A Markdown parser finds all rows and cells, whatever they contain."""
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(table.to_markdown())

    assert sum(token.type == "tr_open" for token in tokens) == 1 + len(table.rows)
    assert sum(token.type == "td_open" for token in tokens) == len(table.rows) * len(table.columns)


class _Cells(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)


@given(TABLES)
def test_html_cannot_be_broken_by_a_cell(table):
    """Tags in a cell are escaped in HTML."""
    reader = _Cells()
    reader.feed(table._repr_html_())

    assert set(reader.tags) <= {"table", "caption", "thead", "tbody", "tr", "th", "td"}
    assert reader.tags.count("td") == len(table.rows) * len(table.columns)


@given(TABLES)
def test_no_row_takes_two_lines(table):
    """A cell with line breaks stays in one line of the terminal."""
    assert len(str(table).split("\n")) == 2 + len(table.rows)


def test_a_program_gets_plain_values():
    """`to_dicts` returns plain values that JSON can represent."""
    assert json.dumps(Table(("a", "b"), ((1, None),)).to_dicts()) == '[{"a": 1, "b": null}]'


def test_a_row_of_another_length_is_refused():
    """A row of the wrong length is refused when the table is made."""
    with pytest.raises(ValueError, match="a row of 1 cells in a table of 2 columns"):
        Table(("a", "b"), (("x",),))
