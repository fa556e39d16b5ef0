"""References to secrets: where a value is kept, never the value itself. Pure.

The job reads the value (`worker_toolkit/secrets_of_job.py`) with the permissions of its role. So no request, record or
log, nor Prefect's database, can contain it. The fingerprint has the reference: rotating a password makes no job run
again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks_lib.errors import InvalidTask

VARIABLE = "SSM_SECRETS"

PIECE = 256
"""Characters of a processing job's variable (`ProcessingEnvironmentValue`); a training job allows 512."""

FORMS = (
    "'arn:aws:secretsmanager:…', 'secretsmanager:NAME', each with '#KEY' for one key of a secret that is JSON, "
    "'arn:aws:ssm:…:parameter/…' or 'ssm:NAME'"
)

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,511}")
_OURS = ("SM_", "SSM_", "SAGEMAKER_", "TRAINING_JOB_", "LOCAL_SAGEMAKER_")
_SECRET = r"[A-Za-z0-9/_+=.@!\-]{1,519}"  # noqa: S105  no secret, but the pattern of a SecretId: 512 and suffix
_PARAMETER = r"[A-Za-z0-9_./\-]{1,1011}(?::[A-Za-z0-9_.\-]{1,100})?"  # with an optional version or label
_KEY = r"(?:#(?P<key>.{1,256}))?"
_ARN = r"arn:aws[a-z\-]*:{service}:[a-z0-9\-]+:\d{{12}}:{kind}{name}"
_PATTERNS = {
    "secretsmanager": (rf"secretsmanager:(?P<name>{_SECRET})", ("secretsmanager", "secret:", _SECRET)),
    "ssm": (rf"ssm:(?P<name>{_PARAMETER})", ("ssm", "parameter/", _PARAMETER)),
}
_RANDOM_END = re.compile(r"-[A-Za-z0-9]{6}\Z")  # Secrets Manager appends it to a secret's name in the ARN


@dataclass(frozen=True)
class SecretReference:
    """A reference to a secret in Secrets Manager or Parameter Store.

    Args:
        service: `secretsmanager` or `ssm`.
        name: The secret's name; empty if the reference has an ARN.
        arn: The secret's ARN; empty if the reference has a name.
        key: Key in a secret that is a JSON object; empty for the whole secret.
    """

    service: str
    name: str
    arn: str
    key: str

    @classmethod
    def parse(cls, text: str) -> SecretReference | None:
        """Return the reference that a text contains; None if it is not a reference."""
        for service, (by_name, (part, kind, name)) in _PATTERNS.items():
            by_arn = _ARN.format(service=part, kind=kind, name=name)
            found = re.fullmatch(f"(?:{by_name}|(?P<arn>{by_arn})){_KEY}", text)
            if found:
                return cls(service, found["name"] or "", found["arn"] or "", found["key"] or "")
        return None

    @classmethod
    def checked(cls, text: Any, what: str) -> SecretReference:
        """Return the reference that a text contains.

        Args:
            text: The text.
            what: Subject of the error's first sentence. The error does not repeat the text: it may be the secret.

        Raises:
            InvalidTask: The text is not a reference.
        """
        found = cls.parse(text) if isinstance(text, str) else None
        if found is None:
            raise InvalidTask(
                f"{what} is no reference. If it is the secret itself, it has not left this process.",
                fix=f"keep the secret in Secrets Manager or Parameter Store, and say where: {FORMS}.",
            )
        return found

    @property
    def whole(self) -> str:
        """The ARN for a policy; empty if only the name is known."""
        return f"{':'.join(self.arn.split(':')[:5])}:{self.resource}" if self.arn else ""

    @property
    def resource(self) -> str:
        """The resource part of the ARN for a policy; `??????` matches the random suffix that the name lacks."""
        if self.service == "ssm":
            path = self.arn.split(":parameter/", 1)[1] if self.arn else self.name
            return f"parameter/{path.partition(':')[0].lstrip('/')}"
        name = self.arn.split(":secret:", 1)[1] if self.arn else self.name
        return f"secret:{name}" if self.arn and _RANDOM_END.search(name) else f"secret:{name}-??????"


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
        SecretReference.checked(reference, f"The secret {name!r} of the task {task!r}")
    if secrets and not ships_code:
        raise InvalidTask(
            f"The task {task!r} has secrets, and its image runs as it is: nobody would read them there.",
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
    """Return the variables that carry the references: `SSM_SECRETS`, and for a long text `SSM_SECRETS_2` and so on."""
    if not secrets:
        return {}
    text = json.dumps(dict(secrets), sort_keys=True, separators=(",", ":"))
    pieces = [text[start : start + PIECE] for start in range(0, len(text), PIECE)]
    return {f"{VARIABLE}_{number}" if number > 1 else VARIABLE: piece for number, piece in enumerate(pieces, 1)}


def _check_name(task: str, name: Any, environment: Mapping[str, Any]) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidTask(
            f"The task {task!r} has a secret for {name!r}, which is no name of a variable.",
            fix="use letters, digits and '_', such as DB_PASSWORD.",
        )
    if name.startswith(_OURS):
        raise InvalidTask(
            f"The task {task!r} has a secret for {name!r}, which the job sets itself.", fix="take another name."
        )
    if name in environment:
        raise InvalidTask(
            f"The task {task!r} has {name!r} both among its secrets and in its environment.",
            fix="leave it out of `environment`, which everybody can read.",
        )


def _is_isolated(by_project: bool, overrides: Mapping[str, Any]) -> bool:
    """Return whether a job has network isolation: an override wins, and None clears the project's setting."""
    path = "EnableNetworkIsolation"
    for said in (overrides, overrides.get("NetworkConfig", {})):
        if said is None or (isinstance(said, Mapping) and path in said):
            return bool(said and said[path])
    return by_project
