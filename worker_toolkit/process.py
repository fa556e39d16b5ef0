"""The runner of the user's program: it forwards signals and output at once, and keeps the end of the output.

`subprocess.run` does not suffice. The bootstrap is the container's first process, so it gets SageMaker's SIGTERM. A
shell or a Python below it must get the signal, too, in time to save its work. Lost signals are an old complaint about
SageMaker's own containers (aws/deep-learning-containers#632). The first process also inherits the orphans of everything
that runs in the container.
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
"""Bytes of output that are kept: enough for a long traceback with its chain of causes."""


class Ended(NamedTuple):
    """How a program ended.

    Args:
        code: Its exit code, or 128 plus the signal that ended it, as in a shell.
        output: The end of its standard output and standard error.
    """

    code: int
    output: str


class ProgramRunner:
    """Runs one program after another, and forwards SIGTERM and SIGINT to the running one.

    A context manager. While no program runs, a signal ends the bootstrap. A container's first process needs a handler
    for that: without one, the kernel does not deliver SIGTERM to it.
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

        Its standard output and standard error go through one pipe, which keeps their order, and are forwarded at once.
        When it has ended, the processes that it left running are killed, as at the end of a container. After a signal
        they may finish first: a shell dies at once, and the training that it started may still be saving its state.

        Raises:
            SystemExit: A signal arrived before the program was started.
            BootstrapError: The program could not be started.
        """
        child = self._start(command, cwd, environment)
        with _Output(child.stdout) as output:
            code = _wait(child)
            if self._received is not None:
                output.wait_until_closed()
        self._group = None
        with contextlib.suppress(ProcessLookupError, PermissionError):  # the group is empty; the latter on macOS
            os.killpg(child.pid, signal.SIGKILL)
        return Ended(code if code >= 0 else 128 - code, output.text())

    def _start(self, command: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        # Block signals until it is known to which process group they go.
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
                preexec_fn=_own_group,  # noqa: PLW1509  `_own_group` takes no lock, and `process_group` came with 3.11
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
    """The output of a program: a thread forwards it at once, and keeps its end."""

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
        """Forward what is still in the pipe, but do not wait for a process that was left behind and holds it open."""
        os.close(self._end)
        self._thread.join()
        os.close(self._over)
        self._stream.close()

    def wait_until_closed(self) -> None:
        """Wait until no process can write to the pipe: the program and all that it started have ended."""
        self._thread.join()

    def text(self) -> str:
        """Return the end of the output."""
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
                self._stream.close()  # the log has no reader, and so the program sees that, too
                return


def _wait(child: subprocess.Popen[bytes]) -> int:
    """Wait for a program, and reap the orphans that a container's first process inherits meanwhile.

    Returns:
        Its exit code, negative for a signal, as in `subprocess`.
    """
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == child.pid:
            child.returncode = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
            return child.returncode
