"""Programs of the system that a test needs: a missing one is a failure in CI, and a skip that says so elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def need(program: Path, package: str) -> None:
    """Go on if a program is there.

    Args:
        program: Its path.
        package: The Debian package that has it.
    """
    if program.exists():
        return
    missing = f"{program} is missing: apt install {package}"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)
