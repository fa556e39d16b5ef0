"""The bootstrap's own command line, as `tasks_lib` writes it into `ContainerArguments`.

    --entry-point fit.py | --command "shell command"… | --command-json '"shell command"'…
    [--extract CHANNEL[=SUBDIR]]…   [-- user's arguments…]

SageMaker carries 256 characters an argument, so a longer command comes in pieces, each behind an option of its own. And
it carries no line breaks (its pattern is `.*`), so a command of several lines comes as a text of JSON.

Not argparse: a shell command or a value may well start with a dash, everything after the first `--` is the user's
without exception (argparse has changed its mind about that between Python versions), and it costs time in each job.
"""

from __future__ import annotations

import json
from typing import Mapping, NamedTuple, Sequence

from .errors import BootstrapError
from .paths import relative_name

USAGE = (
    "--entry-point FILE | --command COMMAND... | --command-json JSON..., "
    "then [--extract CHANNEL[=SUBDIR]]... [-- ARGUMENT...]"
)

_RUNS = ("--entry-point", "--command", "--command-json")


class Request(NamedTuple):
    """What the bootstrap was asked to do.

    Args:
        entry_point: File of the source to run.
        command: Shell command to run instead.
        extract: Channels whose tarballs are unpacked; the value is the directory inside that becomes the channel, or
            empty.
        arguments: The user's own arguments.
    """

    entry_point: str | None
    command: str | None
    extract: dict[str, str]
    arguments: list[str]


def parse(argv: Sequence[str]) -> Request:
    """Return the request that a command line makes.

    Raises:
        BootstrapError: It is not such a command line.
    """
    runs: dict[str, str] = {}
    extract: dict[str, str] = {}
    words = iter(argv)
    for word in words:
        if word == "--":
            break
        value = next(words, None)
        if value is None or word not in (*_RUNS, "--extract"):
            raise _misuse(f"{word} is not understood" if value is not None else f"{word} lacks its value")
        if word == "--extract":
            name, _, subdir = value.partition("=")
            extract[name] = _relative(subdir) if subdir else ""
        else:
            runs[word] = runs.get(word, "") + value
    if len(runs) != 1:
        raise _misuse(f"exactly one of {', '.join(_RUNS)} is needed")
    entry_point = runs.get("--entry-point")
    return Request(_relative(entry_point) if entry_point else None, _command(runs), extract, list(words))


def _command(runs: Mapping[str, str]) -> str | None:
    written = runs.get("--command-json")
    if written is None:
        return runs.get("--command")
    try:
        return str(json.loads(written))
    except ValueError as error:
        raise _misuse("--command-json is no JSON") from error


def _relative(path: str) -> str:
    try:
        return relative_name(path)
    except ValueError as error:
        raise _misuse(f"{path!r} must be a path inside, without '..'") from error


def _misuse(what: str) -> BootstrapError:
    return BootstrapError(f"Wrong arguments of the job's bootstrap: {what}. Expected: {USAGE}", exit_code=2)
