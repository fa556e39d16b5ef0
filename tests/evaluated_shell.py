"""A user's shell that has evaluated the output of `env`, so that unmodified clients run in it."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WATCHING = Path(__file__).parent / "clients" / "watching"
_LEFT_OUT = ("AWS_", "PYTHON", "VIRTUAL_ENV", "COV", "SAGEMAKER_")


@dataclass(frozen=True)
class Shell:
    """A shell.

    Attributes:
        backend: The backend whose `env` the shell evaluates.
        directory: The working directory, which is also `HOME`.
    """

    backend: Any
    directory: Path

    def run(self, *command: str | Path, **variables: str) -> str:
        """Run a program, require exit code 0 and no call to another machine, and return its output."""
        done = self.finish(command, **variables)
        assert done.returncode == 0, done.stdout[-6000:]
        assert self.calls() == []
        return done.stdout

    def finish(self, command: Sequence[str | Path], **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a program to its end, with a `sitecustomize` that records its calls to other machines."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_LEFT_OUT)}
        watched = {"PYTHONPATH": str(WATCHING), "WATCHED_CALLS": str(self.directory / "calls"), "HOME": self.directory}
        program = " ".join(shlex.quote(str(word)) for word in command)
        return subprocess.run(
            ["/bin/sh", "-c", f'eval "$({shlex.join(self.backend.command("env"))})"; exec {program}'],
            cwd=self.directory,
            env={**inherited, **watched, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=300,
        )

    def calls(self) -> list[str]:
        """Return the attempted calls to other machines; raise if the program was not watched."""
        return (self.directory / "calls").read_text().splitlines()
