"""System programs that a test needs: if one is missing, the test fails in CI and is skipped elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def need(program: Path, package: str) -> None:
    """Return if a program exists; otherwise fail in CI, or skip the test with a message.

    Args:
        program: Its path.
        package: The Debian package that contains it.
    """
    if program.exists():
        return
    missing = f"{program} is missing: apt install {package}"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)
