"""Compare the public names of the library with those of the last release: `make api`.

    python tests/check_api.py [REFERENCE]

A release is a tag. The reference is the newest tag before this commit, or the one that is given. Exit code 1: a name is
gone, or a call that worked would fail.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import griffe

ROOT = Path(__file__).parents[1]
EXPORTING = ("blocks", "tasks_lib")
"""Packages whose `__all__` is public."""

MODULES = ("tasks_lib.errors", "worker_toolkit.worker_lib")
"""Modules that users import; any other may change at any time."""


def last_release() -> str | None:
    """Return the newest tag before this commit; None if nothing was released."""
    command = ["git", "describe", "--tags", "--abbrev=0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def breaking_changes(reference: str) -> list[str]:
    """Return the public names that break since a reference, each with what changed."""
    found = []
    for package in sorted({*EXPORTING, *(name.partition(".")[0] for name in MODULES)}):
        before = griffe.load_git(package, ref=reference, repo=ROOT, resolve_aliases=True)
        now = griffe.load(package, search_paths=[str(ROOT)], resolve_aliases=True)
        public, kept = {*public_paths(before), *MODULES}, {*(before.exports or ())} <= {*(now.exports or ())}
        moved = public_paths(before) - public_paths(now) if kept else set()
        for breakage in griffe.find_breaking_changes(before, now):
            path = breakage.obj.path
            if path not in moved and any(path == each or path.startswith(f"{each}.") for each in public):
                found.append(f"{path}: {breakage.kind.value}")
    return found


def public_paths(package: griffe.Object | griffe.Alias) -> set[str]:
    """Return where the names of a package's `__all__` are defined."""
    if package.path not in EXPORTING:
        return set()
    names = [str(name) for name in package.exports or ()]
    return {package.members[name].canonical_path for name in names if name in package.members}


def main(arguments: list[str]) -> int:
    """Print what breaks and return the exit code."""
    reference = arguments[0] if arguments else last_release()
    if reference is None:
        print("Nothing has been released yet, so no public name can have changed.")
        return 0
    found = breaking_changes(reference)
    print("\n".join(found) or f"No public name breaks since {reference}.")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
