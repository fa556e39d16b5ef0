"""Python source as a tree, while other threads parse too."""

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
    """Another thread parses in the middle of our first tree: a collection of garbage is where threads change."""
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
    """The tree is the one that is made undisturbed: `SystemError` before Python 3.13, without a second try."""
    tree = syntax_tree(SOURCE)

    assert interrupted
    assert ast.dump(tree) == ast.dump(ast.parse(SOURCE))


def test_what_is_no_python_is_refused():
    """As by `ast.parse`, at once."""
    with pytest.raises(SyntaxError):
        syntax_tree("def")
