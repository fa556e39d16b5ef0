"""The names that a job's request and its bootstrap agree on.

`tasks_lib` imports this module to write the request, and the bootstrap imports it to read what arrived, so the two
sides cannot drift apart. They share further parts of the contract: `paths` (directories), `arguments` (command line),
`secret_references`, `masking` and `typed_values` (values as JSON). All of these modules need only the standard library
of Python 3.8.
"""

from __future__ import annotations

from typing import Iterator, Mapping

CONTRACT_VERSION = 1
"""Version of what the user's code may rely on: paths, variables, arguments, and the order of the bootstrap's steps.

It is part of every fingerprint; the toolkit's content is not. Raise it only if the same code would now compute
something else. Then every task of every user runs again, and the changelog must say so.
"""

SOURCE_CHANNEL = "ssm_source"
"""Input channel of the code; users cannot use the name."""

STATE_CHANNEL = "ssm_state"
"""Input channel of a processing job's earlier state; users cannot use the name."""

ARGUMENTS_CHANNEL = "arguments"
"""Input channel of a function task's arguments."""

SOURCE_ARCHIVE, TOOLKIT_ARCHIVE, STARTER = "source.tar.gz", "worker_toolkit.zip", "start.sh"
"""Files of the source channel: the user's code, this package, and the script that starts it."""

SECRETS_VARIABLE = "SSM_SECRETS"
"""Environment variable of the references to secrets, as one JSON object in pieces."""

LONGEST_VARIABLE = 256
"""Most characters of a processing job's environment variable (`ProcessingEnvironmentValue`); training jobs allow 512.
"""


def variable_pieces(name: str, text: str) -> dict[str, str]:
    """Return the variables that contain a text: `NAME`, then `NAME_2` and so on; none for an empty text."""
    pieces = [text[start : start + LONGEST_VARIABLE] for start in range(0, len(text), LONGEST_VARIABLE)]
    return {f"{name}_{number}" if number > 1 else name: piece for number, piece in enumerate(pieces, 1)}


def joined_variable(name: str, environ: Mapping[str, str]) -> str:
    """Return the text that the variables of `variable_pieces` contain."""
    return "".join(_pieces(name, environ))


def _pieces(name: str, environ: Mapping[str, str]) -> Iterator[str]:
    variable, number = name, 1
    while variable in environ:
        yield environ[variable]
        number += 1
        variable = f"{name}_{number}"
