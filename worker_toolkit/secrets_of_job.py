"""The task's secrets, read inside the job into the environment variables of the user's program.

A job's description, its log and the ledger contain only references to secrets. The values are read here, with the
permissions of the job's role, and are passed only to the program and, for options of pip, to pip. `SSM_SECRETS` has the
references (`secret_references`).
"""

from __future__ import annotations

import json
from typing import Any, Iterable, Mapping, NamedTuple

from .aws_request import Aws, AwsRefusedError
from .contract import SECRETS_VARIABLE, joined_variable
from .environment import can_be_set
from .errors import BootstrapError
from .secret_references import SecretReference

_MISSING = ("ResourceNotFoundException", "ParameterNotFound", "ParameterVersionNotFound")


class _SecretError(Exception):
    """One secret cannot be read; the others are still read, so that one job reports all that are missing."""


class Secrets(NamedTuple):
    """The secrets of a job.

    Args:
        variables: Value by environment variable.
        texts: All texts to mask in a log: the values, and the texts in those that are JSON.
    """

    variables: dict[str, str]
    texts: frozenset[str]

    @property
    def for_pip(self) -> dict[str, str]:
        """The variables that are options of pip, such as the URL of a private index with its password."""
        return {name: value for name, value in self.variables.items() if name.startswith("PIP_")}


def read_secrets(environ: Mapping[str, str], job_arn: str = "", aws: Aws | None = None) -> Secrets:
    """Return the values of the task's secrets.

    Args:
        environ: The container's environment variables.
        job_arn: ARN of the job, with the account, and with the region if the environment has none; default empty.
        aws: Access to AWS; None (default) for that of the container.

    Raises:
        BootstrapError: A secret is missing or may not be read. The message names references, never a value.
    """
    references = read_references(environ)
    if not references:
        return Secrets({}, frozenset())
    _, partition, _, own_region, account = (job_arn.split(":") + [""] * 5)[:5]
    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or own_region
    return _Vault(aws or Aws(environ), region, account or "*", partition or "aws").read(references)


def read_references(environ: Mapping[str, str]) -> dict[str, SecretReference]:
    """Return the references by environment variable.

    Raises:
        BootstrapError: They are invalid.
    """
    text = joined_variable(SECRETS_VARIABLE, environ)
    try:
        references = {name: SecretReference.parse(where) for name, where in json.loads(text or "{}").items()}
    except (ValueError, AttributeError, TypeError):
        references = {"": None}
    known = {name: reference for name, reference in references.items() if reference is not None}
    if len(known) < len(references):
        raise BootstrapError(
            f"{SECRETS_VARIABLE} is not a JSON object of references: run the task again, and set no such variable."
        )
    return known


class _Vault:
    """Reads secrets from Parameter Store and Secrets Manager, each only once."""

    def __init__(self, aws: Aws, region: str, account: str, partition: str) -> None:
        self._aws, self._region, self._account, self._partition = aws, region, account, partition
        self._known: dict[tuple[str, str], str] = {}

    def read(self, references: Mapping[str, SecretReference]) -> Secrets:
        variables, troubles = {}, []
        for name, reference in references.items():
            try:
                variables[name] = self._checked(name, reference)
            except _SecretError as trouble:  # noqa: PERF203  all secrets are read, see `_SecretError`
                troubles.append(str(trouble))
        if troubles:
            raise BootstrapError("\n".join(troubles))
        return Secrets(variables, frozenset(text for value in variables.values() for text in _texts(value)))

    def _checked(self, name: str, reference: SecretReference) -> str:
        value = self._value(name, reference)
        if reference.key:
            value = _member(name, reference, value)
        if not can_be_set(name, value):
            raise _SecretError(
                f"The secret {name} ({reference.text}) cannot be a variable: it holds a NUL, or exceeds 128 KiB."
            )
        return value

    def _value(self, name: str, reference: SecretReference) -> str:
        place = (reference.service, reference.secret_id)
        if place not in self._known:
            self._known[place] = self._asked(name, reference)
        return self._known[place]

    def _asked(self, name: str, reference: SecretReference) -> str:
        region = reference.region or self._region
        if not region:
            raise BootstrapError(f"The region of the secret {name} ({reference.text}) is not known: set AWS_REGION.")
        try:
            if reference.service == "ssm":
                wanted = {"Name": reference.secret_id, "WithDecryption": True}
                return str(self._aws.ask("ssm", region, "AmazonSSM.GetParameter", wanted)["Parameter"]["Value"])
            wanted = {"SecretId": reference.secret_id}
            found = self._aws.ask("secretsmanager", region, "secretsmanager.GetSecretValue", wanted)
        except AwsRefusedError as refused:
            raise _SecretError(self._explained(name, reference, region, refused)) from None
        if "SecretString" not in found:
            raise _SecretError(f"The secret {name} ({reference.text}) is binary; a variable holds text.")
        return str(found["SecretString"])

    def _explained(self, name: str, reference: SecretReference, region: str, refused: AwsRefusedError) -> str:
        what = f"The secret {name} ({reference.text})"
        if refused.code in _MISSING:
            return f"{what} does not exist in {region}: create it there, or correct the task's `secrets`."
        if not refused.code.startswith("AccessDenied"):
            return f"{what} could not be read. AWS says: {refused}"
        action = "ssm:GetParameter" if reference.service == "ssm" else "secretsmanager:GetSecretValue"
        arn = reference.policy_arn(self._partition, region, self._account)
        statement = json.dumps({"Effect": "Allow", "Action": action, "Resource": arn})
        return (
            f"{what} may not be read by the job's role. Give the role {statement}, and where a KMS key of your own "
            f"encrypts it kms:Decrypt on that key. AWS says: {refused}"
        )


def _member(name: str, reference: SecretReference, value: str) -> str:
    try:
        members = json.loads(value)
    except ValueError:
        members = None
    if not isinstance(members, dict):
        raise _SecretError(
            f"The secret {name} ({reference.text}) is not a JSON object and has no keys: leave out `#…`."
        )
    if reference.key not in members:
        raise _SecretError(
            f"The secret {name} ({reference.text}) has no key {reference.key!r}: correct what is after `#`."
        )
    member = members[reference.key]
    return member if isinstance(member, str) else json.dumps(member)


def _texts(value: str) -> Iterable[str]:
    """Yield a value and, if it is JSON, the texts in it: the user's code may log one of them."""
    yield value
    try:
        yield from _leaves(json.loads(value))
    except (ValueError, RecursionError):
        return


def _leaves(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _leaves(inner)
