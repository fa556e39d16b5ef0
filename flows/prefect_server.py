"""A Prefect server on loopback that runs as long as the command that started it.

Prefect's own temporary server is in the terminal's process group, so Ctrl-C ends it before the flow can report its
final state. Its runs then stay `Running`, and the command hangs for a minute (seen with 3.8.8 and 3.9.1). A killed flow
leaves that server running. The server here runs in a session of its own, with a keeper process as its parent. The
keeper ends the server when the pipe to the command closes, however the command ended.

Standard library only, because the server is started before Prefect is imported.
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
_STOP_SECONDS = 20  # from SIGTERM to SIGKILL
_ANSWER_SECONDS = 10  # for a busy server; without a server the connection is refused at once


class PrefectServer:
    """A Prefect server; the constructor starts it and does not wait.

    Args:
        home: `PREFECT_HOME`, with the database. It is also the working directory of the server, so that the server
            reads no `.env` of the user's.
        port: The port; by default any free one.
        ui: Whether the server serves Prefect's UI; by default it does not.
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
        """The pid of the keeper, which is also its session id."""
        return self._keeper.pid

    def wait_until_up(self) -> None:
        """Wait until the server answers.

        Raises:
            SystemExit: The server ended, or did not answer within 120 seconds; the message has the end of its log.
        """
        until = time.monotonic() + _START_SECONDS
        while not answers(self.api):
            if self._keeper.poll() is not None or time.monotonic() > until:
                end = self._log.read_text()[-2000:]
                raise SystemExit(f"The Prefect server did not start; its log is {self._log}:\n{end}")
            time.sleep(0.05)

    def wait(self) -> None:
        """Wait until the server ends by itself."""
        self._keeper.wait()

    def stop(self) -> None:
        """Stop the server and wait until it has ended."""
        assert self._keeper.stdin is not None
        self._keeper.stdin.close()
        self._keeper.wait()


def free_port(*wanted: int) -> int:
    """Return the first free port of `wanted`, else another free one from 10000 to 14999.

    That range is not one of the ephemeral ports. The server binds the port many seconds later, and until then the
    system could give an ephemeral port to another program.

    Args:
        wanted: The preferred ports, in order.

    Raises:
        OSError: No port is free.
    """
    # Use the system's randomness: programs that seed Python's generator would all draw the same ports.
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
    """Return whether a Prefect API answers at this address."""
    try:
        with urllib.request.urlopen(f"{api}/health", timeout=_ANSWER_SECONDS):  # noqa: S310 - loopback
            return True
    except OSError:
        return False


def _keep(arguments: list[str]) -> None:
    """Run the server as its keeper until the server ends or standard input closes."""
    port, *options = arguments
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", port, *options]
    server = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        preexec_fn=_end_with_the_keeper,  # noqa: PLW1509  no other thread runs yet
    )
    threading.Thread(target=_end_with_the_command, args=(server,), daemon=True).start()
    server.wait()
    os.killpg(0, signal.SIGKILL)  # kills what the server left running, and this process


def _end_with_the_keeper() -> None:
    """Let the kernel send SIGTERM to the server when the keeper dies, also by `kill -9`; only Linux can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _end_with_the_command(server: subprocess.Popen[bytes]) -> None:
    os.read(sys.stdin.fileno(), 1)  # returns when the command's end of the pipe closes; the command writes nothing
    server.terminate()
    try:
        server.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()


if __name__ == "__main__":
    _keep(sys.argv[1:])
