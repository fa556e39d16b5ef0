"""Whether Python finds our own packages: a folder beside the user's script may have the same plain name.

Python looks beside the script first, so a `blocks/` there would be imported in place of ours, and the error that
follows would not name the cause. The check imports nothing.
"""

from __future__ import annotations

from importlib.machinery import PathFinder
from pathlib import Path

OUR_PACKAGES = ("blocks", "tasks_lib", "worker_toolkit", "local_sagemaker")
"""The top-level packages of the wheel, which are in one directory."""


def check_packages_are_ours() -> None:
    """Check that Python finds the packages that `tasks_lib` imports.

    Raises:
        ImportError: It finds a package of the user's. The message has its path.
    """
    here = Path(__file__).resolve().parent.parent
    blocks = PathFinder.find_spec("blocks")
    origin = Path(blocks.origin).resolve() if blocks and blocks.origin else None
    if origin not in (None, here / "blocks" / "__init__.py"):
        raise _shadowed("blocks", origin, here)
    # In a job it is rightly the toolkit that came with the job. Each toolkit of ours has a module `contract`.
    toolkit = PathFinder.find_spec("worker_toolkit")
    if toolkit and not PathFinder.find_spec("worker_toolkit.contract", toolkit.submodule_search_locations or []):
        raise _shadowed("worker_toolkit", toolkit.origin, here)


def _shadowed(package: str, found: object, here: Path) -> ImportError:
    return ImportError(
        f"Python finds {found} in place of the package `{package}` of prefect-sagemaker, which is {here / package}.\n"
        "To resolve this: give that file or folder another name, or run Python from elsewhere."
    )
