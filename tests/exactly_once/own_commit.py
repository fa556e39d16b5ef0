"""The commit under test, for the tables that `crash_all.py` and `fault_soak.py` write."""

from __future__ import annotations

import subprocess
from pathlib import Path


def own_commit() -> str:
    """Return the commit of this checkout, and whether it has uncommitted changes."""
    return (_git("rev-parse", "--short=12", "HEAD") or "unknown") + (" with changes" if _git("status", "-s") else "")


def _git(*arguments: str) -> str:
    command, here = ["git", *arguments], Path(__file__).parent
    return subprocess.run(command, cwd=here, capture_output=True, text=True, check=False).stdout.strip()
