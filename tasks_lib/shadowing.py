"""Whether the package that we stand on is ours: a folder of the user's may bear the same plain name.

Python looks beside the script first, so a `blocks/` there is imported in place of ours, and what follows is a riddle.
Found without importing anything. Not looked for: `worker_toolkit`, which in a job is rightly the one that came with it.
"""

from __future__ import annotations

from importlib.machinery import PathFinder
from pathlib import Path

OUR_PACKAGES = ("blocks", "tasks_lib", "worker_toolkit", "local_sagemaker")
"""The top-level packages of the wheel, which lie beside each other."""


def check_blocks_are_ours() -> None:
    """See that Python finds our own `blocks`.

    Raises:
        ImportError: It finds somebody else's; the message says where.
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
