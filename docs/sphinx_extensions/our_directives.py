"""The directives `task-signature` and `tree-of-errors`: what autodoc does not find where it is.

A task is an attribute that is made when a project is bound, and its function is private; the tree of errors is a
drawing in a module's docstring.
"""
# ruff: noqa: INP001  Sphinx loads it by its name

from __future__ import annotations

import inspect
import textwrap
from typing import Any

from docutils import nodes
from sphinx.ext.napoleon import Config, GoogleDocstring
from sphinx.util.docutils import SphinxDirective

from tasks_lib import errors
from tasks_lib.tasks import SageMakerTasks


class TaskSignature(SphinxDirective):
    """The signature and the docstring of one of a project's tasks, under the name by which it is called."""

    required_arguments = 1
    has_content = False

    def run(self) -> list[nodes.Node]:
        """Write it as a function of `sm`."""
        name = self.arguments[0]
        function = getattr(SageMakerTasks, f"_{name}")
        parameters = list(inspect.signature(function).parameters.values())[1:]
        shown = ", ".join(["name", "*", *(f"{each.name}={each.default!r}" for each in parameters if _is_option(each))])
        text = str(GoogleDocstring(inspect.getdoc(function) or "", Config(napoleon_use_ivar=True)))
        head = f".. py:function:: sm.{name}({_with_command(name, shown)})"
        return self.parse_text_to_nodes(f"{head}\n\n{textwrap.indent(text, '   ')}")


def _is_option(parameter: inspect.Parameter) -> bool:
    return parameter.kind is inspect.Parameter.KEYWORD_ONLY


def _with_command(name: str, shown: str) -> str:
    return shown.replace("name, *", "name, command, *") if name == "shell" else shown


class TreeOfErrors(SphinxDirective):
    """The drawing at the top of `tasks_lib/errors.py`."""

    has_content = False

    def run(self) -> list[nodes.Node]:
        """Show it as it is."""
        drawing = textwrap.dedent(
            "\n".join(line for line in (errors.__doc__ or "").splitlines() if line.startswith("  "))
        )
        return [nodes.literal_block(drawing, drawing, language="none")]


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("task-signature", TaskSignature)
    app.add_directive("tree-of-errors", TreeOfErrors)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
