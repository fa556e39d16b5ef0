"""The server's process: its lock, its port, uvicorn, and new supervisors for jobs that lost theirs.

`python -m local_sagemaker serve` runs `serve`, in the foreground or started by `up`.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import random
import resource
import socket
import sys
import time
from contextlib import suppress
from typing import Any

import uvicorn
from starlette.types import Scope
from uvicorn.server import ServerState

from local_sagemaker.application import Application
from local_sagemaker.disk import Reserve
from local_sagemaker.home import Endpoint, Home
from local_sagemaker.lifecycle import LifecycleError
from local_sagemaker.loopback import is_loopback_host
from local_sagemaker.runtime.supervisor import reconcile

log = logging.getLogger(__name__)

_HOST = "127.0.0.1"
# Below the ranges from which Linux and macOS take the ports of outgoing connections (32768 and 49152 onwards), so that
# a home's port is still free when its server starts again.
_PORTS = range(15_000, 32_000)
_TRIES = 100
_BACKLOG = 1024
_RECONCILE_SECONDS = 1.0
_SELDOM_SECONDS = 10.0
_SHUTDOWN_SECONDS = 3  # for the requests that are open when the server gets a signal to end


def serve(home: Home, port: int | None, ready_fd: int | None) -> None:
    """Serve a home until SIGTERM or SIGINT.

    Args:
        home: the data directory; created if it is missing.
        port: the port; None takes the last one again, or a free one the first time.
        ready_fd: a file descriptor that gets one byte when clients can connect; None if there is none.

    Raises:
        LifecycleError: another process serves this home, or the port is not free.
    """
    stay_on_loopback()
    _take_all_descriptors()
    logging.getLogger("asyncio").addFilter(RepeatedMessageFilter())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s")
    home.make()
    lock = home.claim()
    if lock is None:
        raise LifecycleError(f"{home.directory} is served already, by process {home.server_pid()}. Ask `status`.")
    with lock, _listen(home, port) as listener:
        endpoint = Endpoint(f"http://{_HOST}:{listener.getsockname()[1]}", os.getpid(), time.time())
        connections = Connections()
        application = Application(home, endpoint, connections.close_connection)
        Reserve(home.directory).keep()
        home.announce(endpoint)
        log.info("serving %s at %s", home.directory, endpoint.endpoint)
        if ready_fd is not None:
            os.write(ready_fd, b".")  # from now on connections wait in the listener's backlog
            os.close(ready_fd)
        asyncio.run(_run(home, application, listener, connections))


def _take_all_descriptors() -> None:
    """Raise the limit of open files to the hard limit, because each client and job takes some."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS allows less than it reports
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, hard), hard))


class RepeatedMessageFilter(logging.Filter):
    """A log filter that passes the same message once in ten seconds.

    Out of file descriptors, asyncio logs each connection that it cannot accept, thousands of times a second.
    """

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether to log a message."""
        text, now = str(record.msg), record.created
        if now - self._last.get(text, 0.0) < _SELDOM_SECONDS:
            return False
        self._last[text] = now
        return True


def stay_on_loopback() -> None:
    """Make this process refuse to connect to other machines and to look up their names.

    moto delivers some data, such as the messages of a topic, to an address from a request. A request must not make this
    machine call another one.
    """
    sys.addaudithook(_refuse_others)


def _refuse_others(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.sendto"):
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else "localhost"  # the path of a Unix socket
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0] or "localhost"
    else:
        return
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)
    if not is_loopback_host(name):
        raise PermissionError(f"The local SageMaker calls no other machine, and was about to call {name!r}.")


class Connections:
    """The connections of the server, to close one without an answer, which ASGI cannot do."""

    def __init__(self) -> None:
        self._state: ServerState | None = None

    def follow(self, state: ServerState) -> None:
        """Use the connections of a server from now on."""
        self._state = state

    def close_connection(self, scope: Scope) -> None:
        """Close the connection of a request, found by its client's address."""
        for protocol in tuple(self._state.connections) if self._state else ():
            if getattr(protocol, "client", None) == scope["client"]:
                protocol.transport.close()


def _listen(home: Home, port: int | None) -> socket.socket:
    last = home.endpoint()
    wanted = port or (last.port if last else None)
    for candidate in random.sample(_PORTS, _TRIES) if wanted is None else [wanted]:
        listener = _bind(candidate)
        if listener is not None:
            return listener
    if wanted is None:
        raise LifecycleError(f"None of {_TRIES} ports tried between {_PORTS[0]} and {_PORTS[-1]} is free.")
    raise LifecycleError(
        f"Port {wanted}, where clients of {home.directory} expect the server, is in use by another program. "
        "End that program, or choose another port: `up --port N`."
    )


def _bind(port: int) -> socket.socket | None:
    """Listen on a loopback port. Return None if the port is in use."""
    # The protocol is given, because asyncio turns Nagle's algorithm off only then. With it, every answer waits 40 ms
    # for the acknowledgement of its header.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((_HOST, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            return None
        raise
    return listener


async def _run(home: Home, application: Application, listener: socket.socket, connections: Connections) -> None:
    config = uvicorn.Config(
        application,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,  # seconds; a client that polls every minute keeps its connection
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    server = uvicorn.Server(config)
    connections.follow(server.server_state)
    caring = asyncio.create_task(_care_for_jobs(home))
    try:
        await server.serve(sockets=[listener])
    finally:
        caring.cancel()


async def _care_for_jobs(home: Home) -> None:
    """Start a supervisor for every live job that needs one and has none, first at once, then every second."""
    while True:
        try:
            adopted = await asyncio.to_thread(reconcile, home.directory)
        except Exception:
            log.exception("looking for jobs without a supervisor failed; trying again")
        else:
            if adopted:
                log.info("started supervisors for %s", ", ".join(adopted))
        await asyncio.sleep(_RECONCILE_SECONDS)
