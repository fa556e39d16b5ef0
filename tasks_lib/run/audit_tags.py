"""Audit tags of a job: which user started which work, from which code, in which run.

With them AWS itself can answer these questions. SageMaker keeps tags as long as it knows the job, CloudTrail logs them
with the Create call, and bills and policies can refer to them. They are not part of the fingerprint. A value that
cannot be determined is left out, so an audit tag never fails a task.
"""

from __future__ import annotations

import getpass
import os
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from blocks import SageMakerProject
from tasks_lib.jobs.spec import JobSpec
from tasks_lib.prefect_runtime.run_context import RunContext, creator_of_run, deployment_of_run
from tasks_lib.staging.source import Source

PREFIX = "prefect-sagemaker:"
USER_VARIABLE = "PREFECT_SAGEMAKER_USER"
"""Environment variable with the user who starts jobs, for processes whose operating system user is not a person, such
as `root` in a worker's container."""

LONGEST_VALUE = 256
"""Most characters of a tag's value (API reference of `Tag`)."""

_NOT_IN_A_TAG = re.compile(r"[^\w\s.:/=+\-@]")  # AWS's pattern, whose \p{L}, \p{N} and \p{Z} are `\w` and `\s` here
_MOST_FOLDERS = 3
_GIT_SECONDS = 5.0

RunCommand = Callable[[Sequence[str]], str]


def audit_tags(
    project: SageMakerProject, spec: JobSpec, fingerprint: str, run: RunContext, source: Source | None
) -> dict[str, str]:
    """Return the audit tags of a job; their names start with `prefect-sagemaker:`.

    Args:
        project: The project.
        spec: The job.
        fingerprint: The fingerprint of the work.
        run: The run that creates the job.
        source: The code; None if the image runs as it is.
    """
    found = {
        "project": project.project,
        "task": spec.task,
        "fingerprint": fingerprint,
        "flow-run": run.flow_run,
        **deployment_of_run(),
        "git-commit": _commit_of(spec, source, asked_in=run.flow_run or run.task_run),
        "user": started_by(),
    }
    return {f"{PREFIX}{name}": as_tag(value) for name, value in found.items() if value}


def as_tag(text: str) -> str:
    """Return a text as a valid tag value: other characters become `_`, and a longer text is cut off."""
    return _NOT_IN_A_TAG.sub("_", text)[:LONGEST_VALUE]


def started_by(environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the user who started the work.

    That is the value of `PREFECT_SAGEMAKER_USER`, else the flow run's creator in Prefect, else the user of this
    process; None if all are unknown.
    """
    return environ.get(USER_VARIABLE) or creator_of_run() or _user_of_process()


def commit_of(folder: Path, run: RunCommand | None = None) -> str | None:
    """Return the commit of a folder's repository, with `-dirty` if the folder differs from it.

    Args:
        folder: The folder; files that Git ignores do not count.
        run: Runs a `git` command and returns its output; None for a subprocess.

    Returns:
        The commit's full id; None without Git, without a repository, and before its first commit.
    """
    # Git takes no optional lock, which could block a command of the user's, and runs no program that the repository's
    # configuration names (`core.fsmonitor`).
    options = ("--no-optional-locks", "-c", "core.fsmonitor=false", "-C", str(folder))
    try:
        said = (run or _run)(["git", *options, "status", "--porcelain=v2", "--branch", "--", "."])
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    lines = said.splitlines()
    commit = next((line.split()[-1] for line in lines if line.startswith("# branch.oid ")), "(initial)")
    if commit == "(initial)":
        return None
    return f"{commit}-dirty" if any(not line.startswith("#") for line in lines) else commit


def _user_of_process() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # in a container, the user id may have no name
        return str(os.getuid()) if hasattr(os, "getuid") else None


def _commit_of(spec: JobSpec, source: Source | None, asked_in: str) -> str | None:
    """Return the commit of the first of the code's folders that is in a repository."""
    found = (_commit_asked_once(folder, asked_in) for folder in _folders(spec, source))
    return next(filter(None, found), None)


def _folders(spec: JobSpec, source: Source | None) -> list[Path]:
    """Return the folders of the code with links resolved, that of the entry point first.

    A command without files is part of the flow's code, so its folder is the working directory.
    """
    files = dict(source.files) if source else {}
    entry_point = files.get(spec.entry_point or "")
    ordered = [*([entry_point] if entry_point else []), *files.values()]
    folders = dict.fromkeys(path.resolve().parent for path in ordered)
    return list(folders)[:_MOST_FOLDERS] or [Path.cwd()]


@lru_cache(maxsize=256)
def _commit_asked_once(folder: Path, asked_in: str) -> str | None:  # noqa: ARG001  the run is a part of the key
    """Ask Git once for each folder and run, so that a long process, such as a notebook, sees later commits."""
    return commit_of(folder)


def _run(command: Sequence[str]) -> str:
    # In a Git hook, the `GIT_…` variables would make Git use another repository than the folder's.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        timeout=_GIT_SECONDS,
        stdin=subprocess.DEVNULL,
        env={**environ, "LC_ALL": "C.UTF-8"},
    )
    return done.stdout
