"""Names of tasks, channels and jobs. Pure.

A job's name is its idempotency key. Two callers that want the same work compute the same name, so AWS itself refuses
the second job.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from tasks_lib.errors import InvalidName
from worker_toolkit.contract import SOURCE_CHANNEL, STATE_CHANNEL

JOB_NAME_LIMIT = 63
"""Characters of `TrainingJobName` and `ProcessingJobName` in botocore's model."""

_TASK_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._\-]{0,126}[A-Za-z0-9])?")
TASK_NAME_LIMIT = 128
"""Our own limit, for readability: S3 allows longer keys."""
_CHANNEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._\-]{0,63}")
_HASH_DIGITS = 16  # 64 bits: among a billion jobs, the chance of a collision is 3 in 100

_LONGEST_ATTEMPT = 6  # digits

_OWN_CHANNELS = (SOURCE_CHANNEL, STATE_CHANNEL)


def check_task_name(name: str) -> str:
    """Check and return a task's name, which is also its folder in S3 and its run name in Prefect.

    Raises:
        InvalidName: It is empty or too long, has other characters than letters, digits, `.`, `_` and `-`, or does not
            begin and end with a letter or digit.
    """
    if not isinstance(name, str) or not _TASK_NAME.fullmatch(name):
        raise InvalidName(
            f"The task name {name!r} cannot be a folder in S3 and the stem of a SageMaker job name.",
            fix="use letters, digits, '.', '_' and '-', with a letter or digit at both ends, at most 128 characters"
            + (f", for example {_suggestion(name)!r}." if isinstance(name, str) and slug(name) else "."),
        )
    return name


def check_channel_name(name: str) -> str:
    """Check and return the name of an input channel (`ChannelName` in botocore's model).

    Raises:
        InvalidName: SageMaker would refuse it, or it is reserved for the code or the state.
    """
    if not isinstance(name, str) or not _CHANNEL_NAME.fullmatch(name) or name in _OWN_CHANNELS:
        raise InvalidName(
            f"The input name {name!r} cannot be a SageMaker channel.",
            fix=f"use letters, digits, '.', '_' and '-', at most 64 characters, and not {' or '.join(_OWN_CHANNELS)}.",
        )
    return name


def check_variables(what: str, prefix: str, names: Iterable[str]) -> None:
    """Check that no two names map to the same environment variable, which is in upper case.

    Args:
        what: What the names belong to, for the error.
        prefix: Prefix of the variables.
        names: The names.

    Raises:
        InvalidName: Two names differ in case only.
    """
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.upper(), name)
        if other != name:
            raise InvalidName(
                f"The {what} {other!r} and {name!r} would share the variable {prefix}{name.upper()} in the job.",
                fix="rename one of them.",
            )


def check_file_name(name: str, folder: Path) -> str:
    """Check and return the name of a file to upload: names in S3 and in archives are UTF-8.

    Raises:
        InvalidName: It is not UTF-8, as in an old archive of another system.
    """
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InvalidName(
            f"The name of the file {name!r} in {folder.absolute()} is not valid UTF-8.",
            fix=r"rename it, for example by `convmv -f latin1 -t utf8 --notest -r DIRECTORY`.",
        ) from error
    return name


def slug(name: str) -> str:
    """Return a name with only the characters that a job name allows: `fit-C1.0` becomes `fit-C1-0`."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")


def job_name(task: str, task_uri: str, fingerprint: str, attempt: int, *, limit: int = JOB_NAME_LIMIT) -> str:
    """Return the name of a task's job: a readable stem, a hash of the work and its place, the attempt's number.

    Args:
        task: The task's name.
        task_uri: The task's folder in S3. It enters the hash, so that the jobs of two projects never share a name.
        fingerprint: The fingerprint of the work (`fingerprint.py`).
        attempt: Number of the attempt, from 1.
        limit: Characters that SageMaker allows; by default 63.
    """
    key = hashlib.sha256(f"{task_uri}\n{fingerprint}".encode()).hexdigest()[:_HASH_DIGITS]
    tail = f"-{key}-{attempt}"
    return f"{_stem(task, tail, limit)}{tail}"


def job_stem(task: str, *, limit: int = JOB_NAME_LIMIT) -> str:
    """Return the longest stem that all jobs of a task share, with attempt numbers of up to 6 digits."""
    return slug(task)[: limit - _HASH_DIGITS - _LONGEST_ATTEMPT - 2].strip("-")


def is_job_of(name: str, task: str, *, limit: int = JOB_NAME_LIMIT) -> bool:
    """Return whether a job's name has the form and the stem that `job_name` gives this task."""
    match = re.fullmatch(rf"(?P<stem>.+)(?P<tail>-[0-9a-f]{{{_HASH_DIGITS}}}-\d+)", name)
    return match is not None and match["stem"] == _stem(task, match["tail"], limit)


def _stem(task: str, tail: str, limit: int) -> str:
    return slug(task)[: limit - len(tail)].strip("-")


def _suggestion(name: str) -> str:
    return slug(name)[:TASK_NAME_LIMIT].strip("-")
