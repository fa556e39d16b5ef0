"""The bootstrap of every job: it prepares the host, runs the user's program and reports a failure.

`start.sh` starts it from `worker_toolkit.zip`. Before the program it prints one line, without variables and arguments,
which may be secret.
"""

from __future__ import annotations

import os
import shutil
import sys
import traceback
from pathlib import Path
from typing import Mapping, Sequence

from . import environment
from .arguments import LaunchOptions
from .errors import BootstrapError
from .failure import explain, explain_start, write_reason
from .hardware import count_cpus, count_gpus
from .job import Job, read_job
from .launch import launch_of
from .masked_output import MaskedOutput
from .paths import find_layout
from .process import ProgramRunner
from .requirements import install_requirements
from .secrets_of_job import read_secrets
from .source import extract_channels, install_source


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Run the job of this container.

    Args:
        argv: The bootstrap's arguments; by default those of the process.
        environ: The container's environment variables; by default those of the process.

    Returns:
        The container's exit code: that of the user's program, or 128 plus the signal that ended it. It is 2 for wrong
        arguments, pip's if the requirements could not be installed, and 1 if the program could not be started.
    """
    given = os.environ if environ is None else environ
    with ProgramRunner() as runner, MaskedOutput() as output:
        try:
            return run_job(LaunchOptions.parse(sys.argv[1:] if argv is None else argv), given, runner, output)
        except BootstrapError as error:
            return _give_up(output.text(str(error)), given, error.exit_code, output.text(error.details))
        except Exception as error:  # noqa: BLE001  the outermost frame: otherwise SageMaker gets no reason
            told = f"The job could not be run: {error!r}\n{traceback.format_exc()}"
            return _give_up(output.text(told), given, 1)


def run_job(options: LaunchOptions, environ: Mapping[str, str], runner: ProgramRunner, output: MaskedOutput) -> int:
    """Run all steps of the job. Their order is part of the contract.

    Raises:
        BootstrapError: Something is missing or invalid; the user's program was not started.
    """
    job = read_job(environ)
    secrets = read_secrets(environ, job.arn)
    output.hide(secrets.texts)
    code = install_source(job.layout)
    job = job._replace(channels=extract_channels(job.channels, options.extract))
    _prepare_directories(job)
    install_requirements(code, {**environ, **secrets.for_pip}, runner)
    launch = launch_of(options, job)
    machine = environment.Machine(count_cpus(), count_gpus())
    host = f"{job.current_host} of {len(job.hosts)}"
    sys.stdout.write(f"ssm: running {launch.label} on {host}\n")
    sys.stdout.flush()
    known = {**environ, **secrets.variables, **environment.variables(job, launch.program, machine)}
    ended = runner.run(launch.command, cwd=code, environment=_with_code_first(known, code))
    output.clean(Path(job.layout.reason))
    if ended.code != 0:
        # Mask it before it is shortened: half of a secret would not be found.
        reason = explain(f"{launch.label} on {host}", ended._replace(output=output.text(ended.output)))
        # The log gets it, too: SageMaker names no host, and the user's code may have written its own reason.
        sys.stderr.write(f"ssm: {reason.splitlines()[0]}\n")
        sys.stderr.flush()
        write_reason(job.layout, reason)
    return ended.code


def _prepare_directories(job: Job) -> None:
    """Create the directories for the script's files, and give a processing job its earlier state."""
    layout = job.layout
    for folder in (layout.model, layout.output_data, layout.intermediate, layout.tensorboard):
        Path(folder).mkdir(parents=True, exist_ok=True)
    previous = layout.previous_state
    if previous and Path(previous).is_dir():
        shutil.copytree(previous, job.state, dirs_exist_ok=True)
    try:
        Path(job.instance_state).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        # Without state, no `/state` is mounted, and an image that does not run as root cannot create it.
        sys.stdout.write(f"ssm: there is no state directory: {error}\n")


def _with_code_first(variables: Mapping[str, str], code: Path) -> dict[str, str]:
    path = [str(code), *filter(None, [variables.get("PYTHONPATH")])]
    return {**variables, "PYTHONPATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1"}


def _give_up(message: str, environ: Mapping[str, str], exit_code: int, details: str = "") -> int:
    said = explain_start(_host(environ), exit_code, message)
    sys.stderr.write(f"ssm: {said}\n")
    sys.stderr.flush()
    layout = find_layout(environ)
    if layout is not None:
        write_reason(layout, f"{said}\n{details}" if details else said)
    return exit_code


def _host(environ: Mapping[str, str]) -> str:
    """Return this host as failure reasons name it, such as `algo-1 of 2`; empty if it cannot be read."""
    try:
        job = read_job(environ)
    except BootstrapError:
        return ""
    return f"{job.current_host} of {len(job.hosts)}"
