"""Installation of the `requirements.txt` at the root of the user's code.

If there is a folder `wheelhouse/` beside it, pip takes all packages from there and asks no index. A job in network
isolation reaches none.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Mapping, Sequence

from .errors import BootstrapError
from .process import ProgramRunner

_SHOWN = 12
"""Number of pip's last lines in the failure reason."""

_ERROR = "ERROR:"


def install_requirements(code: Path, environment: Mapping[str, str], runner: ProgramRunner) -> None:
    """Install the user's requirements, if there are any, for the running Python.

    Args:
        code: Root of the user's code.
        environment: Environment variables of pip, which reads options from those named `PIP_…`.
        runner: Runs pip.

    Raises:
        BootstrapError: pip failed. The message has the cause, the details pip's last lines; the exit code is pip's.
    """
    if not (code / "requirements.txt").is_file():
        return
    # pip runs in this folder, where relative requirements start. PYTHONSAFEPATH (from Python 3.11 on) keeps it from
    # importing the user's `logging.py` instead of Python's.
    ended = runner.run(pip_command(code), cwd=code, environment={**environment, "PYTHONSAFEPATH": "1"})
    if ended.code != 0:
        said = [line for line in ended.output.splitlines() if line.strip()]
        cause = _cause(said)
        raise BootstrapError(
            "requirements.txt could not be installed" + (f": {cause}" if cause else ""),
            exit_code=ended.code,
            details="\n".join(said[-_SHOWN:]),
        )


def pip_command(code: Path) -> list[str]:
    """Return the command line that installs the requirements of some code."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--no-input",
        "-r",
        "requirements.txt",
    ]
    return [*command, "--no-index", "--find-links", "wheelhouse"] if (code / "wheelhouse").is_dir() else command


def _cause(said: Sequence[str]) -> str:
    """Return the last error that names a package or a file; the one that follows a conflict names a web page."""
    errors = [line[len(_ERROR) :].strip() for line in said if line.startswith(_ERROR)]
    return next((text for text in reversed(errors) if not text.startswith("ResolutionImpossible")), "")
