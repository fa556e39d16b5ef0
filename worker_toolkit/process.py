"""Running the user's program: signals go to it, its output is seen at once, and the end of it is remembered.

`subprocess.run` would not do: as a container's first process we receive SageMaker's SIGTERM, which a shell or a Python
below us must see in time to save its work (that signals get lost is an old complaint about SageMaker's own containers,
aws/deep-learning-containers#632), and we inherit the orphans of everything that runs here.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import IO, Any, Mapping, NamedTuple, Sequence

from .errors import BootstrapError

_FORWARDED = (signal.SIGTERM, signal.SIGINT)
_REMEMBERED = 64 * 1024
"""Bytes of output that are kept: a long traceback with its chain of causes."""


class Ended(NamedTuple):
    """How a program ended.

    Args:
        code: Its exit code, or 128 and the signal that ended it, as a shell has it.
        output: The end of what it wrote, to standard output and standard error.
    """

    code: int
    output: str


class ProgramRunner:
    """Runs one program after another, and hands SIGTERM and SIGINT on to the one that runs.

    A context manager; while no program runs, a signal ends the bootstrap. A container's first process needs that:
    without a handler, the kernel keeps SIGTERM from it.
    """

    def __init__(self) -> None:
        self._group: int | None = None
        self._received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> ProgramRunner:  # noqa: PYI034  `Self` came with Python 3.11
        self._before = {number: signal.signal(number, self._receive) for number in _FORWARDED}
        return self

    def __exit__(self, *exc_info: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def run(self, command: Sequence[str], *, cwd: Path, environment: Mapping[str, str]) -> Ended:
        """Run a program to its end, in a process group of its own.

        What it writes goes through us at once, standard output and standard error through one pipe, which keeps their
        order. When it has ended, what it left running is killed, as it is where the container ends. After a signal,
        though, all of it may finish: a shell dies at once, and the training that it started may still be saving its
        state.

        Raises:
            SystemExit: A signal came before the program was started.
            BootstrapError: There is no such program.
        """
        child = self._start(command, cwd, environment)
        with _Output(child.stdout) as output:
            code = _wait(child)
            if self._received is not None:
                output.wait_until_closed()
        self._group = None
        with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody is left; macOS then says the latter
            os.killpg(child.pid, signal.SIGKILL)
        return Ended(code if code >= 0 else 128 - code, output.text())

    def _start(self, command: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        # A signal that comes now waits until we know its addressee.
        signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)
        try:
            self._stop_if_asked()
            child = subprocess.Popen(
                command,
                cwd=cwd,
                env=dict(environment),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                preexec_fn=_own_group,  # noqa: PLW1509  no other thread runs now, and `process_group` came with 3.11
            )
            self._group = child.pid
        except OSError as error:
            raise BootstrapError(
                f"{command[0]} could not be started: {error.strerror}. Is it in the image, and where it is a script, "
                "is the interpreter that its first line names?"
            ) from error
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
        return child

    def _receive(self, number: int, _: FrameType | None) -> None:
        self._received = number
        if self._group is None:
            self._stop_if_asked()
            return
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.killpg(self._group, number)

    def _stop_if_asked(self) -> None:
        if self._received is not None:
            raise SystemExit(128 + self._received)


def _own_group() -> None:
    os.setpgrp()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)


class _Output:
    """What a program writes, passed on as it comes by a thread, its end remembered."""

    def __init__(self, stream: IO[bytes] | None) -> None:
        assert stream is not None
        self._stream = stream
        self._tail = bytearray()
        self._over, self._end = os.pipe()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> _Output:  # noqa: PYI034  the same
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Take what is still in the pipe; a process that the program left behind may hold it open for ever."""
        os.close(self._end)
        self._thread.join()
        os.close(self._over)
        self._stream.close()

    def wait_until_closed(self) -> None:
        """Wait until nobody can write to it any more: the program and all that it started are gone."""
        self._thread.join()

    def text(self) -> str:
        """Return the end of what was written."""
        return self._tail.decode("utf-8", "replace")

    def _follow(self) -> None:
        stream, over = self._stream.fileno(), self._over
        while True:
            ready, _, _ = select.select([stream, over], [], [])
            if stream not in ready:
                return
            block = os.read(stream, 65536)
            if not block:
                return
            self._tail = (self._tail + block)[-_REMEMBERED:]
            try:
                sys.stdout.buffer.write(block)
                sys.stdout.buffer.flush()
            except BrokenPipeError:
                self._stream.close()  # nobody reads the log any more; the program is told so, as without us
                return


def _wait(child: subprocess.Popen[bytes]) -> int:
    """Wait for a program, and for the orphans that a container's first process inherits in the meantime.

    Returns:
        Its exit code, negative for a signal, as `subprocess` has it.
    """
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == child.pid:
            child.returncode = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
            return child.returncode
