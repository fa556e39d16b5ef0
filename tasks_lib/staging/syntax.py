"""Python source as a tree, safe to ask for by many threads at once: mapped tasks read their modules side by side."""

from __future__ import annotations

import ast

_TRIES = 20


def syntax_tree(source: str | bytes) -> ast.Module:
    """Return what `ast.parse` makes of a module's source.

    Python 3.10 to 3.12 count the depth of the tree once for all threads: where another one parses in the middle of it
    (the formatting of a traceback does, too), the sum is wrong, and a `SystemError` says so of a tree that was right
    (CPython issue 106905). So it is asked for again.

    Raises:
        SyntaxError: It is not Python.
    """
    for _ in range(_TRIES - 1):
        try:
            return ast.parse(source)
        except SystemError:  # noqa: PERF203 -- each try may meet another thread
            continue
    return ast.parse(source)
