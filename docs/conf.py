"""Sphinx's configuration: MyST pages, furo, and a reference that is generated at build time.

Needs no network: there is no intersphinx, and furo's fonts are the reader's own.
"""
# ruff: noqa: INP001  Sphinx loads it by its name

from __future__ import annotations

import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS.parent), str(DOCS / "sphinx_extensions")]


project = "prefect-sagemaker"
release = version = metadata.version("prefect-sagemaker")
copyright = "the authors of prefect-sagemaker, Apache-2.0"  # noqa: A001 - Sphinx's name
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "program_output",
    "tables_of_fields",
    "our_directives",
]
exclude_patterns = ["images"]
highlight_language = "none"
html_theme = "furo"
html_title = project
html_static_path: list[str] = []

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 4
# What lies outside of `docs/` is a file of the repository and no page.
myst_url_schemes = ["http", "https"]

default_role = "code"  # docstrings have single backticks
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # they stand in the signature
autodoc_class_signature = "mixed"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_maximum_signature_line_length = 88

_FENCE = re.compile(r"^(\s*)```(\w+)$")


def _without_fences(_app: Any, _what: str, _name: str, _obj: Any, _options: Any, lines: list[str]) -> None:
    """Turn the fenced blocks that Prefect wants in a block's docstring into those of reStructuredText."""
    inside, out = False, []
    for line in lines:
        if inside and line.strip() == "```":
            inside = False
        elif fence := _FENCE.match(line):
            inside = True
            out += ["", f"{fence[1]}.. code-block:: {fence[2]}", ""]
        else:
            out.append(f"    {line}" if inside and line.strip() else line)
    lines[:] = out


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _without_fences, priority=900)
