"""`Table`: rows that a person reads, in a terminal, a notebook, Prefect's UI or a program. Pure.

Why not a data frame: what we show are a few rows of words, and importing pandas for them takes longer than the skip
they report.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from html import escape
from typing import Any

from tasks_lib.strict_json import strict

_GAP = "  "


@dataclass(frozen=True)
class Table:
    """A table that shows itself well wherever it is printed.

    Args:
        columns: The headings.
        rows: As many cells each as there are columns; `None` shows as nothing, numbers stand to the right.
        title: One line above it.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    title: str = ""

    def __post_init__(self) -> None:
        wrong = [row for row in self.rows if len(row) != len(self.columns)]
        if wrong:
            raise ValueError(f"a row of {len(wrong[0])} cells in a table of {len(self.columns)} columns: {wrong[0]!r}")

    def __str__(self) -> str:
        """Return aligned columns, for a terminal."""
        lines = [self.columns, *([_text(cell) for cell in row] for row in self.rows)]
        widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
        right = [self._is_numeric(number) for number in range(len(self.columns))]
        laid_out = [_aligned(line, widths, right) for line in lines]
        rule = "─" * (sum(widths) + len(_GAP) * (len(widths) - 1))
        return "\n".join([*([self.title] if self.title else []), laid_out[0], rule, *laid_out[1:]])

    def to_markdown(self) -> str:
        """Return the table in GitHub's Markdown; its title is left to the page around it."""
        ends = ["---:" if self._is_numeric(number) else "---" for number in range(len(self.columns))]
        lines = [self.columns, ends, *([_markdown(cell) for cell in row] for row in self.rows)]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return a mapping by column for each row, such as Prefect's table artifacts and JSON take.

        What is not finite is a word, such as `NaN`: JSON has no number for it.
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
    """Return the columns that a text takes in a terminal, where East Asian characters take two."""
    return sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text)


def _aligned(line: Any, widths: list[int], right: list[bool]) -> str:
    cells = [
        " " * (width - _width(text)) + text if to_right else text + " " * (width - _width(text))
        for text, width, to_right in zip(line, widths, right, strict=True)
    ]
    return _GAP.join(cells).rstrip()
