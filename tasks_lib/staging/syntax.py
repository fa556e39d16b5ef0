"""Parses Python source, safely in several threads: mapped tasks parse their modules at the same time."""

from __future__ import annotations

import ast

_TRIES = 20


def syntax_tree(source: str | bytes) -> ast.Module:
    """Return the syntax tree of a module's source, as `ast.parse` does.

    Raises:
        SyntaxError: It is not valid Python.
    """
    # Python 3.10 to 3.12 count the tree's depth once for all threads. If another thread parses meanwhile (formatting a
    # traceback does, too), the count is wrong, and a valid tree raises `SystemError` (CPython issue 106905).
    for _ in range(_TRIES - 1):
        try:
            return ast.parse(source)
        except SystemError:  # noqa: PERF203 -- each try may collide with another thread
            continue
    return ast.parse(source)
