"""Check that the package `blocks` is ours, and not a folder of the user's with the same name.

Python searches the script's directory first. A `blocks/` there is imported in place of ours, and fails with an obscure
error. The check imports nothing. `worker_toolkit` is not checked, since a job correctly has its own copy.
"""

from __future__ import annotations

from importlib.machinery import PathFinder
from pathlib import Path

OUR_PACKAGES = ("blocks", "tasks_lib", "worker_toolkit", "local_sagemaker")
"""The top-level packages of the wheel, which are in one directory."""


def check_blocks_are_ours() -> None:
    """Check that Python finds our own `blocks`.

    Raises:
        ImportError: Python finds another `blocks`; the message says where.
    """
    ours = Path(__file__).resolve().parent.parent / "blocks"
    spec = PathFinder.find_spec("blocks")
    origin = Path(spec.origin).resolve() if spec and spec.origin else None
    if origin in (None, ours / "__init__.py"):
        return
    raise ImportError(
        f"Python finds {origin} in place of the package `blocks` of prefect-sagemaker, which is {ours}.\n"
        "To resolve this: give that file or folder another name, or run Python from elsewhere."
    )
