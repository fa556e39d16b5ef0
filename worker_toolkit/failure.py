"""The reason of a job's failure, in the 1,024 characters that SageMaker keeps.

SageMaker cuts `FailureReason` and `ExitMessage` off at the end, where a Python traceback has its cause. So the cause
comes first, and the end of the rest follows.
"""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path

from .paths import Layout
from .process import Ended

LIMIT = 1024
"""Most bytes of a reason (`FailureReason` and `ExitMessage` in SageMaker's API)."""

_TRACEBACK = "Traceback (most recent call last):"
_GROUP = "+ Exception Group "
"""Prefix of an exception group's traceback. Its other lines, and those of its exceptions, have a bar in that place."""

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_EXCEPTION = re.compile(r"[\w.]*(Error|Exception|Interrupt|Exit)(:.*)?")
_KILLED = {128 + number: number for number in signal.Signals}
_CAUSE = 400
_FEW_LINES = 15


def explain(what: str, ended: Ended) -> str:
    """Return why a program failed.

    Args:
        what: The program and its host, for the first words.
        ended: How it ended.
    """
    details = _details(ended.output)
    cause = _cause(details, killed=ended.code in _KILLED)
    headline = f"{what} {_how(ended.code)}" + (f": {_shortened(cause, _CAUSE)}" if cause else "")
    room = LIMIT - len(f"{headline}\n".encode())
    more = details if cause != "\n".join(details) else []
    return f"{headline}\n{_end_of(chr(10).join(more), room)}" if more else headline


def explain_start(host: str, code: int, message: str) -> str:
    """Return why the user's program could not be started, in the form of `explain`.

    Args:
        host: The host, such as `algo-1 of 2`; empty if it is not known.
        code: Exit code of the container.
        message: What happened.
    """
    return f"the bootstrap on {host} {_how(code)}: {message}" if host else message


def write_reason(layout: Layout, text: str) -> None:
    """Write the reason for SageMaker, unless the user's code has written its own."""
    path = Path(layout.reason)
    try:
        if path.is_file() and path.stat().st_size > 0:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"{_shortened(text, LIMIT - len(layout.reason_end))}{layout.reason_end}".encode())
    except OSError as error:
        # The exit code still says that the job failed, and the log says why.
        sys.stderr.write(f"ssm: the reason could not be left in {path}: {error}\n")


def _how(code: int) -> str:
    killed = _KILLED.get(code)
    if killed is None:
        return f"ended with exit code {code}"
    hint = " (often: out of memory)" if killed == signal.SIGKILL else ""
    return f"was ended by {killed.name}{hint}"


def _details(output: str) -> list[str]:
    """Return the last traceback and what follows it, without torch's `[rank0]: `; if there is none, the last lines."""
    lines = [line.rsplit("\r", 1)[-1].rstrip() for line in _COLOUR.sub("", output).rstrip("\r\n").split("\n")]
    starts = [index for index, line in enumerate(lines) if _TRACEBACK in line]
    if not starts:
        return [line for line in lines if line][-_FEW_LINES:]
    prefix = lines[starts[-1]].split(_TRACEBACK)[0].replace(_GROUP, "| ")
    after = [line[len(prefix) :] if line.startswith(prefix) else line for line in lines[starts[-1] + 1 :]]
    return [_TRACEBACK, *after]


def _cause(details: list[str], *, killed: bool) -> str:
    """Return the exception of a traceback.

    It is the last line that looks like an exception, since a notebook's own error follows that of the program that ran
    the notebook. An exception may have an unusual name. If no line looks like one, the first line without indentation
    counts.

    Without a traceback, return the last line; an empty text if a signal ended the program.
    """
    if not details or not details[0].startswith(_TRACEBACK):
        return details[-1] if details and not killed else ""
    ends = [line for line in details[1:] if line and not line.startswith((" ", "\t"))]
    return next((line for line in reversed(ends) if _EXCEPTION.fullmatch(line)), ends[0] if ends else "")


def _shortened(text: str, size: int) -> str:
    """Return the beginning of a text, in at most `size` bytes."""
    return text if len(text.encode()) <= size else text.encode()[: size - 3].decode("utf-8", "ignore") + "…"


def _end_of(text: str, size: int) -> str:
    """Return the end of a text, in at most `size` bytes."""
    return text if len(text.encode()) <= size else "…" + text.encode()[-(size - 3) :].decode("utf-8", "ignore")
