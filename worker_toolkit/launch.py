"""The command line of the user's program: a script, a notebook or a shell command.

As in SageMaker's training toolkit, hyperparameters come as `--name value` before the user's own arguments. There are
two differences. One-letter names get two dashes, too. Lists and dicts are written as JSON, so that `argparse` can read
them with `type=json.loads`.

A shell command and a notebook get no such arguments: they have `SM_HPS` and `SM_HP_<NAME>`. If papermill runs a
notebook, hyperparameters are the notebook's parameters.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple

from .arguments import LaunchOptions
from .environment import Program, can_be_argument
from .errors import BootstrapError
from .job import Job

_NUMBER = re.compile(r"-\d+$|-\d*\.\d+$")  # what `argparse` takes for a negative number


class Launch(NamedTuple):
    """The program to run.

    Args:
        label: Its name in messages. A shell command is not shown, since it may contain a secret.
        command: The command line.
        program: The program as the variables describe it.
    """

    label: str
    command: list[str]
    program: Program


def launch_of(options: LaunchOptions, job: Job) -> Launch:
    """Return the program to run.

    Args:
        options: The bootstrap's options.
        job: The job, with the code already in place.

    Raises:
        BootstrapError: The file does not exist or is of an unknown kind, or an argument cannot be passed.
    """
    if options.command is not None:
        command = [_shell(), "-c", "--", options.command, "ssm", *options.arguments]
        return Launch("the shell command", _checked(command), Program("", options.arguments))
    assert options.entry_point is not None
    script = _existing(Path(job.layout.code), options.entry_point)
    arguments = [*hyperparameter_arguments(job.hyperparameters), *options.arguments]
    run = _INTERPRETERS.get(script.suffix)
    if run is None:
        raise BootstrapError(f"{script.name} cannot be run: an entry point is a .py, .sh or .ipynb file.")
    program = Program(options.entry_point, options.arguments if script.suffix == ".ipynb" else arguments)
    return Launch(options.entry_point, _checked(run(script, job, program)), program)


def hyperparameter_arguments(hyperparameters: dict[str, Any]) -> list[str]:
    """Return hyperparameters as command line arguments, sorted by name.

    Name and value are two words, as in SageMaker's toolkits. They are one word, `--shift=-1e-05`, if the value starts
    with a dash and is not a plain number: `argparse` would take it for an option.
    """
    words: list[str] = []
    for name in sorted(hyperparameters):
        text = _argument(hyperparameters[name])
        words += [f"--{name}={text}"] if text.startswith("-") and not _NUMBER.match(text) else [f"--{name}", text]
    return words


def _argument(value: Any) -> str:
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, (list, dict)) else str(value)


def _existing(code: Path, entry_point: str) -> Path:
    if not (code / entry_point).is_file():
        there = ", ".join(sorted(path.name for path in code.iterdir())) or "nothing"
        raise BootstrapError(f"The entry point {entry_point!r} is not in the code, which holds: {there}.")
    return code / entry_point


def _python(_: Path, __: Job, program: Program) -> list[str]:
    return [sys.executable, program.entry_point, *program.arguments]


def _shell_script(script: Path, _: Job, program: Program) -> list[str]:
    """Return the command of a shell script; a first line such as `#!/bin/bash -e` decides its interpreter."""
    with script.open("rb") as content:
        if content.read(2) != b"#!":
            return [_shell(), program.entry_point, *program.arguments]
    script.chmod(0o755)
    return [str(script), *program.arguments]


def _notebook(script: Path, job: Job, program: Program) -> list[str]:
    """Return the command that runs a notebook in its own directory and writes it, with its results, to the output."""
    target = Path(job.layout.output_data, script.name)
    papermill, jupyter = shutil.which("papermill"), shutil.which("jupyter")
    if papermill:
        parameters = ["-y", json.dumps(job.hyperparameters)] if job.hyperparameters else []
        options = ["--cwd", str(script.parent), "--log-output", "--no-progress-bar"]
        return [papermill, program.entry_point, str(target), *options, *parameters, *program.arguments]
    if jupyter:
        options = ["--to=notebook", "--execute", "--ExecutePreprocessor.timeout=-1", f"--output-dir={target.parent}"]
        return [jupyter, "nbconvert", *options, program.entry_point, *program.arguments]
    raise BootstrapError(
        f"{script.name} needs papermill or jupyter nbconvert, and the image has neither: "
        "add `papermill` and `ipykernel` to requirements.txt."
    )


_INTERPRETERS = {".py": _python, ".sh": _shell_script, ".ipynb": _notebook}


def _shell() -> str:
    return shutil.which("bash") or shutil.which("sh") or "/bin/sh"


def _checked(command: list[str]) -> list[str]:
    """Check and return a command line that a process can receive; the kernel's error would not name the argument."""
    for before, word in zip(["", *command], command):
        if not can_be_argument(word):
            what = f"The value of {before}" if before.startswith("--") else "An argument"
            raise BootstrapError(
                f"{what} cannot stand on a command line: it contains a NUL, is not valid Unicode, or exceeds 128 KiB."
            )
    return command
