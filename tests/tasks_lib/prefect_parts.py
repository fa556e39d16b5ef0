"""The table of the private parts of Prefect that the source uses: `@holds(…)` above a test gives the test's row.

A row is beside its test, not in a separate list, so that no row lacks a test.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import prefect


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Args:
        parts: The parts of Prefect, by full name or in words.
        where: The source files that use them.
        what_for: What the source uses them for.
        test: The test that checks the row.
        named: Whether the source names the part, so that the scan finds it there.
    """

    parts: tuple[str, ...]
    where: tuple[str, ...]
    what_for: str
    test: str
    named: bool = True

    def covers(self, file: str, name: str) -> bool:
        """Return whether the row covers a name in a file, as the scan reports it."""
        return self.named and file in self.where and any(is_of_part(name, part) for part in self.parts)

    def checking(self, test: Callable[..., None]) -> Callable[..., None]:
        """Return the test with an error message that says which part has changed and where the source uses it."""

        @functools.wraps(test)
        def checked(*args: Any, **kwargs: Any) -> None:
            try:
                test(*args, **kwargs)
            except Exception as error:
                raise AssertionError(
                    f"Prefect {prefect.__version__} has changed {' and '.join(self.parts)}. We lean on it in "
                    f"{' and '.join(self.where)} {self.what_for}. Adapt the code there, then this test and its row.\n"
                    f"{type(error).__name__}: {error}"
                ) from error

        return checked

    @property
    def line(self) -> str:
        """The row as a line of a Markdown table."""
        cells = (_code(self.parts), _code(self.where), self.what_for, _code((self.test,)))
        return f"| {' | '.join(cells)} |"


def is_of_part(name: str, part: str) -> bool:
    """Return whether a name as the scan reports it, such as `_token`, is that of a part."""
    return part == name or part.endswith(f".{name}") or f"({name}=" in part


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" if re.fullmatch(r"[\w./:()=]+", name) else name for name in names)


ROWS: list[Row] = []

HELD_ELSEWHERE = (
    Row(
        ("The thread that hears a signal or a timeout, and the states that the engine writes then",),
        ("tasks_lib/prefect_runtime/run_context.py", "tasks_lib/prefect_runtime/cancelled_state.py"),
        "to stop the jobs and to end the run `Cancelled` ([0007](0007-stop-on-cancel.md))",
        "tests/application/test_stop.py",
        named=False,
    ),
    Row(
        ("The status codes 423 and 422 of the API of slots with a lease",),
        ("tasks_lib/quotas/slots.py",),
        "to wait for a slot, and to refuse a job that can never have one",
        "tests/journeys/test_quota_queues.py",
        named=False,
    ),
    Row(
        ("The server's `/ui-settings`",),
        ("flows/ui.py",),
        "to print the address of the preferred UI",
        "tests/application/test_ui.py",
        named=False,
    ),
    Row(
        ("The form that Prefect's UI makes of a block's JSON schema",),
        ("blocks/form.py",),
        "to show a plain input where a text may be left out",
        "tests/application/test_browser.py",
        named=False,
    ),
)


def holds(*parts: str, where: str, what_for: str, named: bool = True) -> Callable[[Callable[..., None]], Any]:
    """Add the row of a test to the table.

    Args:
        *parts: The parts of Prefect, by full name or in words.
        where: The source files that use them, separated by spaces.
        what_for: What the source uses them for, as the end of a sentence.
        named: Whether the source names the part.
    """

    def add(test: Callable[..., None]) -> Callable[..., None]:
        row = Row(parts, tuple(where.split()), what_for, test.__name__, named)
        ROWS.append(row)
        return row.checking(test)

    return add
