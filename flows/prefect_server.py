"""A Prefect server on loopback that lasts as long as the command that started it.

Not Prefect's own temporary server. That one is in the terminal's process group, so Ctrl-C ends it before the flow can
report how it ended: its runs stay `Running` and the command hangs for a minute (seen with 3.8.8 and 3.9.1). And a flow
that is killed leaves it behind. This one is in a session of its own, beside a keeper that ends it when the pipe to the
command closes, however the command ended.

Standard library only: it is started before Prefect is imported.
"""

from __future__ import annotations

import ctypes
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_OTHER_PORTS = range(10_000, 15_000)
_START_SECONDS = 120  # the first start makes the database, and the machine may be busy
_STOP_SECONDS = 20
_ANSWER_SECONDS = 10  # of a busy one; where none is, the refusal comes at once


class PrefectServer:
    """A server that is being started.

    Args:
        home: `PREFECT_HOME`, where its database lies; also its working directory, so that no `.env` of the user's
            speaks to it.
        port: Where it shall listen; by default any free one.
        ui: Whether it serves Prefect's UI.
    """

    def __init__(self, home: Path, *, port: int | None = None, ui: bool = False) -> None:
        port = port or free_port()
        self.api = f"http://127.0.0.1:{port}/api"
        self._log = home / "server.log"
        with self._log.open("wb") as output:
            self._keeper = subprocess.Popen(
                [sys.executable, str(Path(__file__).resolve()), str(port), *([] if ui else ["--no-ui"])],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=home,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process, and the session, of the keeper."""
        return self._keeper.pid

    def wait_until_up(self) -> None:
        """Wait until it answers.

        Raises:
            SystemExit: It does not; with the end of its log.
        """
        until = time.monotonic() + _START_SECONDS
        while not answers(self.api):
            if self._keeper.poll() is not None or time.monotonic() > until:
                end = self._log.read_text()[-2000:]
                raise SystemExit(f"The Prefect server did not start; its log is {self._log}:\n{end}")
            time.sleep(0.05)

    def wait(self) -> None:
        """Wait until it ends by itself."""
        self._keeper.wait()

    def stop(self) -> None:
        """End it, and wait until it has ended."""
        assert self._keeper.stdin is not None
        self._keeper.stdin.close()
        self._keeper.wait()


def free_port(*wanted: int) -> int:
    """Return the first of some ports that is free, or else another one that is.

    Of those that the system does not give out itself: until the server has it, many seconds later, somebody else would.

    Raises:
        OSError: None is free.
    """
    # The system's randomness: programs that seed Python's would all draw the same.
    for port in (*wanted, *random.SystemRandom().sample(_OTHER_PORTS, 100)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(f"no free port on 127.0.0.1 from {_OTHER_PORTS.start} to {_OTHER_PORTS.stop - 1}")


def answers(api: str) -> bool:
    """Tell whether a Prefect API is there."""
    try:
        with urllib.request.urlopen(f"{api}/health", timeout=_ANSWER_SECONDS):  # noqa: S310 - loopback
            return True
    except OSError:
        return False


def _keep(arguments: list[str]) -> None:
    """Run the server until it ends, or until standard input does."""
    port, *options = arguments
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", port, *options]
    server = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        preexec_fn=_end_with_the_keeper,  # noqa: PLW1509  no other thread runs yet
    )
    threading.Thread(target=_end_with_the_command, args=(server,), daemon=True).start()
    server.wait()
    os.killpg(0, signal.SIGKILL)  # whatever it may have left, and ourselves


def _end_with_the_keeper() -> None:
    """Have the kernel end the server when its keeper dies, also of `kill -9`; where it can, which is on Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _end_with_the_command(server: subprocess.Popen[bytes]) -> None:
    os.read(sys.stdin.fileno(), 1)  # nobody writes: this returns when the other end is closed
    server.terminate()
    try:
        server.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()


if __name__ == "__main__":
    _keep(sys.argv[1:])
