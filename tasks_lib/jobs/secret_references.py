"""References to secrets: where a value is kept, never the value itself. Pure.

The job reads the value (`worker_toolkit/secrets_of_job.py`) with the permissions of its role. So no request, record or
log, nor Prefect's database, can contain it. The fingerprint has the reference: rotating a password makes no job run
again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from tasks_lib.errors import InvalidTask
from worker_toolkit.contract import SECRETS_VARIABLE, variable_pieces
from worker_toolkit.secret_references import FORMS, SecretReference

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,511}")
_OURS = ("SM_", "SSM_", "SAGEMAKER_", "TRAINING_JOB_", "LOCAL_SAGEMAKER_")


def checked_reference(text: Any, what: str) -> SecretReference:
    """Return what a text refers to.

    Args:
        text: The text.
        what: Whose reference it is: the first words of the error, which does not repeat the text, since that may be
            the secret itself.

    Raises:
        InvalidTask: The text is not a reference.
    """
    found = SecretReference.parse(text) if isinstance(text, str) else None
    if found is None:
        raise InvalidTask(
            f"{what} is not a reference. If it is the secret itself, it has not left this process.",
            fix=f"keep the secret in Secrets Manager or Parameter Store, and say where: {FORMS}.",
        )
    return found


def check_secrets(
    task: str,
    secrets: Mapping[str, Any],
    *,
    environment: Mapping[str, Any],
    ships_code: bool,
    network_isolation: bool,
    overrides: Mapping[str, Any],
) -> dict[str, str]:
    """Check and return the references of a call, by variable name.

    Args:
        task: The task's name.
        secrets: The references as the author gave them.
        environment: The task's plain variables.
        ships_code: Whether our bootstrap starts the job.
        network_isolation: Whether the project's jobs have network isolation.
        overrides: The overrides of the task, which may set or clear network isolation.

    Raises:
        InvalidTask: A name or reference is invalid, or the job could not read secrets. The message repeats no value,
            since that may be the secret itself.
    """
    for name, reference in secrets.items():
        _check_name(task, name, environment)
        checked_reference(reference, f"The secret {name!r} of the task {task!r}")
    if secrets and not ships_code:
        raise InvalidTask(
            f"The task {task!r} has secrets, and its image runs without our bootstrap, which reads them.",
            fix="give a file or a command to run, or let the image's own program read them with its role.",
        )
    if secrets and _is_isolated(network_isolation, overrides):
        raise InvalidTask(
            f"The task {task!r} has secrets, and network isolation: the job cannot reach where they are kept.",
            fix="leave one of the two out; a job in a VPC without a way to the internet needs interface endpoints of "
            "Secrets Manager and Systems Manager, and no isolation.",
        )
    return dict(secrets)


def secret_variables(secrets: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that carry references into the job: `SSM_SECRETS`, `SSM_SECRETS_2` and so on."""
    if not secrets:
        return {}
    return variable_pieces(SECRETS_VARIABLE, json.dumps(dict(secrets), sort_keys=True, separators=(",", ":")))


def _check_name(task: str, name: Any, environment: Mapping[str, Any]) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidTask(
            f"The task {task!r} has a secret for {name!r}, which is not a valid name of a variable.",
            fix="use letters, digits and '_', such as DB_PASSWORD.",
        )
    if name.startswith(_OURS):
        raise InvalidTask(
            f"The task {task!r} has a secret for {name!r}, which the job sets itself.", fix="take another name."
        )
    if name in environment:
        raise InvalidTask(
            f"The task {task!r} has {name!r} both among its secrets and in its environment.",
            fix="leave it out of `environment`, which everyone who can describe the job can read.",
        )


def _is_isolated(by_project: bool, overrides: Mapping[str, Any]) -> bool:
    """Return whether a job has network isolation: an override wins, and None clears the project's setting."""
    path = "EnableNetworkIsolation"
    for said in (overrides, overrides.get("NetworkConfig", {})):
        if said is None or (isinstance(said, Mapping) and path in said):
            return bool(said and said[path])
    return by_project
