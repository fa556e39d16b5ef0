"""Parsing of Python source while other threads parse too."""

import ast
import gc
import inspect
import threading

import pytest

from tasks_lib.functions import code
from tasks_lib.functions.code import syntax_tree

SOURCE = inspect.getsource(code)


@pytest.fixture
def interrupted():
    """Another thread parses during the first parse, started in a garbage collection, where threads may switch."""
    begun = []

    def parse_elsewhere(phase, info):
        if not begun:
            begun.append(phase)
            other = threading.Thread(target=ast.parse, args=("x = 1",))
            other.start()
            other.join()

    threshold = gc.get_threshold()
    gc.set_threshold(50)
    gc.callbacks.append(parse_elsewhere)
    yield begun
    gc.callbacks.remove(parse_elsewhere)
    gc.set_threshold(*threshold)


def test_another_thread_parses_in_the_middle(interrupted):
    """The tree is correct although another thread parsed.

    Python before 3.13 raises `SystemError` without a second try.
    """
    tree = syntax_tree(SOURCE)

    assert interrupted
    assert ast.dump(tree) == ast.dump(ast.parse(SOURCE))


def test_what_is_no_python_is_refused():
    """Invalid source raises `SyntaxError` at once, as in `ast.parse`."""
    with pytest.raises(SyntaxError):
        syntax_tree("def")
