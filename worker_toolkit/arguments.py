"""The bootstrap's command line: `ContainerArguments` of every job that runs the user's code.

    --entry-point fit.py | --command "shell command"… | --command-json '"shell command"'…
    [--extract CHANNEL[=SUBDIR]]…   [-- user's arguments…]

`tasks_lib` writes it with `LaunchOptions.to_arguments`, the bootstrap reads it with `LaunchOptions.parse`.
"""

from __future__ import annotations

import json
from typing import Iterator, Mapping, NamedTuple, Sequence

from .errors import BootstrapError
from .paths import relative_name

LONGEST = 256
"""Most characters of one argument (`ContainerArgument` in SageMaker's API)."""

USAGE = (
    "--entry-point FILE | --command COMMAND... | --command-json JSON..., "
    "then [--extract CHANNEL[=SUBDIR]]... [-- ARGUMENT...]"
)

_RUNS = ("--entry-point", "--command", "--command-json")


class LaunchOptions(NamedTuple):
    """What the bootstrap runs, and with which channels unpacked.

    Args:
        entry_point: File of the source to run; None for a command.
        command: Shell command to run; None for a file.
        extract: Channels whose tarballs are unpacked. The value is the directory inside that becomes the channel, or
            empty for all of it.
        arguments: The user's own arguments.
    """

    entry_point: str | None
    command: str | None
    extract: Mapping[str, str]
    arguments: Sequence[str]

    @classmethod
    def parse(cls, argv: Sequence[str]) -> LaunchOptions:
        """Return the options of a command line.

        argparse does not suffice. A command or a value may start with a dash. And versions of Python differ in how
        argparse treats the user's arguments, which are all those after the first `--`.

        Raises:
            BootstrapError: The command line does not follow `USAGE`.
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
        return cls(_relative(entry_point) if entry_point else None, _command(runs), extract, list(words))

    def to_arguments(self) -> list[str]:
        """Return the command line of these options, each argument within SageMaker's limit."""
        run = ["--entry-point", self.entry_point] if self.entry_point else [*_command_arguments(self.command or "")]
        for name, subdir in self.extract.items():
            run += ["--extract", f"{name}={subdir}" if subdir else name]
        return [*run, *(["--", *self.arguments] if self.arguments else [])]


def _command_arguments(command: str) -> Iterator[str]:
    """Yield a command in pieces of at most 256 characters, each after an option of its own."""
    # AWS's pattern of an argument, `.*`, has Java's meaning: it matches no line break, nor Unicode's other line ends.
    one_line = command.splitlines() == [command]
    option, text = ("--command", command) if one_line else ("--command-json", json.dumps(command))
    for start in range(0, len(text), LONGEST):
        yield from (option, text[start : start + LONGEST])


def _command(runs: Mapping[str, str]) -> str | None:
    written = runs.get("--command-json")
    if written is None:
        return runs.get("--command")
    try:
        return str(json.loads(written))
    except ValueError as error:
        raise _misuse("--command-json is not valid JSON") from error


def _relative(path: str) -> str:
    try:
        return relative_name(path)
    except ValueError as error:
        raise _misuse(f"{path!r} must be a path inside, without '..'") from error


def _misuse(what: str) -> BootstrapError:
    return BootstrapError(f"Wrong arguments of the job's bootstrap: {what}. Expected: {USAGE}", exit_code=2)
