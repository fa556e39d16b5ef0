"""`Table`: a small table for a terminal, a notebook, Prefect's UI or a program. Pure.

It is not a data frame: for a few rows of text, importing pandas takes longer than the skip that they report.
"""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass
from html import escape
from typing import Any, TypeVar

_GAP = "  "


T = TypeVar("T")


def strict(value: T) -> T | str:
    """Return a value as it is, but a number that is not finite as a text that `float` parses.

    Returns:
        The value, or `NaN`, `Infinity` or `-Infinity`.
    """
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


@dataclass(frozen=True)
class Table:
    """A table that displays as aligned text, Markdown or HTML.

    Args:
        columns: The headings.
        rows: The rows, each with one cell for each column. None is shown as an empty cell; columns of numbers are
            aligned to the right.
        title: A line above the table; by default none.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    title: str = ""

    def __post_init__(self) -> None:
        wrong = [row for row in self.rows if len(row) != len(self.columns)]
        if wrong:
            raise ValueError(f"a row of {len(wrong[0])} cells in a table of {len(self.columns)} columns: {wrong[0]!r}")

    def __str__(self) -> str:
        """Return the table as aligned columns, for a terminal."""
        lines = [self.columns, *([_text(cell) for cell in row] for row in self.rows)]
        widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
        right = [self._is_numeric(number) for number in range(len(self.columns))]
        laid_out = [_aligned(line, widths, right) for line in lines]
        rule = "─" * (sum(widths) + len(_GAP) * (len(widths) - 1))
        return "\n".join([*([self.title] if self.title else []), laid_out[0], rule, *laid_out[1:]])

    def to_markdown(self) -> str:
        """Return the table in GitHub's Markdown, without its title."""
        ends = ["---:" if self._is_numeric(number) else "---" for number in range(len(self.columns))]
        lines = [self.columns, ends, *([_markdown(cell) for cell in row] for row in self.rows)]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return each row as a mapping by column, as Prefect's table artifacts and JSON take it.

        A number that is not finite becomes a text, such as `NaN`, since JSON has no such number.
        """
        return [dict(zip(self.columns, map(strict, row), strict=True)) for row in self.rows]

    def _repr_html_(self) -> str:
        caption = f"<caption>{escape(self.title)}</caption>" if self.title else ""
        head = "".join(f"<th>{escape(name)}</th>" for name in self.columns)
        body = "".join(f"<tr>{self._html_row(row)}</tr>" for row in self.rows)
        return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def _html_row(self, row: tuple[Any, ...]) -> str:
        sides = ["right" if self._is_numeric(number) else "left" for number in range(len(row))]
        return "".join(
            f'<td style="text-align:{side}">{escape(_text(cell))}</td>' for side, cell in zip(sides, row, strict=True)
        )

    def _is_numeric(self, column: int) -> bool:
        cells = [row[column] for row in self.rows if row[column] is not None]
        return bool(cells) and all(isinstance(cell, (int, float)) and not isinstance(cell, bool) for cell in cells)


def _text(cell: Any) -> str:
    if cell is None:
        return ""
    return f"{cell:.4g}" if isinstance(cell, float) else " ".join(str(cell).splitlines())


def _markdown(cell: Any) -> str:
    return _text(cell).replace("|", "\\|")


def _width(text: str) -> int:
    """Return the width of a text in a terminal, where wide East Asian characters take two columns."""
    return sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text)


def _aligned(line: Any, widths: list[int], right: list[bool]) -> str:
    cells = [
        " " * (width - _width(text)) + text if to_right else text + " " * (width - _width(text))
        for text, width, to_right in zip(line, widths, right, strict=True)
    ]
    return _GAP.join(cells).rstrip()
