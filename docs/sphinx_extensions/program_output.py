"""The directive `program-output`: a command is run while the page is built, and the page shows what it says.

Not sphinxcontrib-programoutput: it runs the `python` of the PATH, and takes a failing command's words for a page.
"""
# ruff: noqa: INP001  Sphinx loads it by its name

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).parents[2]
_PATIENCE_SECONDS = 120


class ProgramOutput(SphinxDirective):
    """Show a command and its standard output; `python` is the one that builds the page."""

    required_arguments = 1
    final_argument_whitespace = True
    has_content = False
    option_spec: ClassVar[dict[str, Any]] = {}

    def run(self) -> list[nodes.Node]:
        """Run it in the checkout; a command that fails is an error of the page."""
        shown = self.arguments[0]
        words = shlex.split(shown)
        command = [sys.executable, *words[1:]] if words[0] == "python" else words
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**_environment(), "COLUMNS": "88", "NO_COLOR": "1", "DO_NOT_TRACK": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_PATIENCE_SECONDS,
        )
        if done.returncode:
            raise self.error(f"`{shown}` ended with {done.returncode}: {done.stderr}")
        text = f"$ {shown}\n{done.stdout}"
        return [nodes.literal_block(text, text, language="console")]


def _environment() -> dict[str, str]:
    """Return this process's environment without what `make docs` says to a make below it."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("program-output", ProgramOutput)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
