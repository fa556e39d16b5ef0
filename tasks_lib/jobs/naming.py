"""Names: of tasks, and of jobs. Pure.

A job's name is its idempotency key: whoever wants the same work computes the same name, so AWS itself refuses the
second job.
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
"""Ours: a folder in S3 may be longer, a name that one reads should not."""
_CHANNEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._\-]{0,63}")
_HASH_DIGITS = 16  # 64 bits: two of a billion jobs meet with a chance of 3 in 100

_LONGEST_ATTEMPT = 6  # digits

_OWN_CHANNELS = (SOURCE_CHANNEL, STATE_CHANNEL)


def check_task_name(name: str) -> str:
    """Return a task's name, which is also its folder in S3 and its run name in Prefect.

    Raises:
        InvalidName: It is empty, too long, or holds something else than letters, digits, `.`, `_` and `-`.
    """
    if not isinstance(name, str) or not _TASK_NAME.fullmatch(name):
        raise InvalidName(
            f"The task name {name!r} cannot be a folder in S3 and the stem of a SageMaker job name.",
            fix="use letters, digits, '.', '_' and '-', with a letter or digit at both ends, at most 128 characters"
            + (f", for example {_suggestion(name)!r}." if isinstance(name, str) and slug(name) else "."),
        )
    return name


def check_channel_name(name: str) -> str:
    """Return the name of an input channel (`ChannelName` in botocore's model).

    Raises:
        InvalidName: SageMaker would refuse it, or it is one of our own.
    """
    if not isinstance(name, str) or not _CHANNEL_NAME.fullmatch(name) or name in _OWN_CHANNELS:
        raise InvalidName(
            f"The input name {name!r} cannot be a SageMaker channel.",
            fix=f"use letters, digits, '.', '_' and '-', at most 64 characters, and not {' or '.join(_OWN_CHANNELS)}.",
        )
    return name


def check_variables(what: str, prefix: str, names: Iterable[str]) -> None:
    """See that no two names become one variable in the job, where they are in capitals.

    Args:
        what: What the names are of.
        prefix: Of the variables.
        names: The names.

    Raises:
        InvalidName: Two do.
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
    """Return the name of a file that is to travel: S3 and archives have names in UTF-8.

    Raises:
        InvalidName: It is no UTF-8, as in an old archive of another system.
    """
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InvalidName(
            f"The name of the file {name!r} in {folder.absolute()} is no UTF-8.",
            fix=r"rename it, for example by `convmv -f latin1 -t utf8 --notest -r DIRECTORY`.",
        ) from error
    return name


def slug(name: str) -> str:
    """Return a name reduced to what SageMaker allows in a job's name: `fit-C1.0` becomes `fit-C1-0`."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")


def job_name(task: str, task_uri: str, fingerprint: str, attempt: int, *, limit: int = JOB_NAME_LIMIT) -> str:
    """Return the name of a task's job: readable stem, hash of the work and its place, number of the attempt.

    Args:
        task: The task's name.
        task_uri: Its folder in S3. It enters the hash, so that two projects with one stem never meet.
        fingerprint: The work (`fingerprint.py`).
        attempt: Counted from 1.
        limit: Characters that SageMaker allows.
    """
    key = hashlib.sha256(f"{task_uri}\n{fingerprint}".encode()).hexdigest()[:_HASH_DIGITS]
    tail = f"-{key}-{attempt}"
    return f"{_stem(task, tail, limit)}{tail}"


def job_stem(task: str, *, limit: int = JOB_NAME_LIMIT) -> str:
    """Return the longest stem that every job of a task has, however high its attempt may count."""
    return slug(task)[: limit - _HASH_DIGITS - _LONGEST_ATTEMPT - 2].strip("-")


def is_job_of(name: str, task: str, *, limit: int = JOB_NAME_LIMIT) -> bool:
    """Tell whether a job's name has the stem of a task, as `job_name` makes it."""
    match = re.fullmatch(rf"(?P<stem>.+)(?P<tail>-[0-9a-f]{{{_HASH_DIGITS}}}-\d+)", name)
    return match is not None and match["stem"] == _stem(task, match["tail"], limit)


def _stem(task: str, tail: str, limit: int) -> str:
    return slug(task)[: limit - len(tail)].strip("-")


def _suggestion(name: str) -> str:
    return slug(name)[:TASK_NAME_LIMIT].strip("-")
