"""Watch of the Prefect server on this machine: if it dies, the flow ends within a minute.

Prefect's client retries each request for about a minute, one request after the other, and a task that waits for a job
sends Prefect no requests. So a flow whose server was killed went on in silence, and needed more than five minutes to
end (measured with 3.9.1). Only a server on loopback is watched: if nothing listens on its port, its process is gone. If
a remote server does not answer, it may be a network outage, which a job of many hours should survive.
"""

from __future__ import annotations

import ipaddress
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import cache
from types import FrameType

import httpx
from prefect._internal.concurrency.services import QueueService
from prefect.logging import get_logger
from prefect.settings import Settings, get_current_settings

from tasks_lib.errors import PrefectServerLost

LOST_SECONDS = 30.0
"""Seconds without a listener on the server's port after which it counts as dead. A restart is faster."""

_PROBE_SECONDS = 2.0
_UNASKED_SECONDS = 120.0
"""The watch ends when no task has checked it for so long; a request to a dead server takes about a minute."""


class ServerWatch:
    """Watches one server from a daemon thread, as long as tasks check it.

    Args:
        api: URL of the server's API.
        settings: Prefect's settings; the client's retries are set to 0 while the server is lost.
        listens: Returns whether a process listens on the server's port.
        clock: Returns monotonic seconds.
        thread: Runs the watch in a thread; None if the caller calls `look` itself.

    Attributes:
        away: Whether nothing listened on the port at the last look.
        lost: Whether the server counts as dead.
    """

    def __init__(
        self,
        api: str,
        settings: Settings,
        *,
        listens: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
        thread: Callable[[Callable[[], None]], None] | None = None,
    ) -> None:
        self._api, self._settings, self._listens, self._clock = api, settings, listens, clock
        self._run = thread
        self._heard = self._asked = clock()
        self._retries = settings.client.max_retries
        self._lock = threading.Lock()
        self._watching = thread is None
        self.away = self.lost = False

    def check(self, what: str) -> None:
        """Raise if the server is dead; start the watch if it does not run.

        Args:
            what: The current activity, for the error.

        Raises:
            PrefectServerLost: The server is dead.
        """
        with self._lock:
            self._asked = self._clock()
            if self._run and not self._watching:
                self._watching, self._heard = True, self._asked
                self._run(self._watch)
        if self.lost:
            raise PrefectServerLost(
                f"The Prefect server at {self._api} died while {what}.",
                fix="start the server and run the flow again: it attaches to the jobs that still run.",
            )

    def look(self) -> bool:
        """Probe the server once; return whether to probe it again."""
        now = self._clock()
        self.away = not self._listens()
        if not self.away:
            self._heard = now
            if self.lost:
                self.lost, self._settings.client.max_retries = False, self._retries
        elif not self.lost and now - self._heard >= LOST_SECONDS:
            self.lost = True
            self._settings.client.max_retries = 0  # the retries of each request would block the flow for a minute
            get_logger("sagemaker").error(
                "The Prefect server at %s died: nothing has listened there for %.0f s. The flow ends, and its jobs go "
                "on: the next run attaches to them.",
                *(self._api, now - self._heard),
            )
        if self.lost:
            release_exit(threading.main_thread().ident or 0)
        return self.lost or now - self._asked < _UNASKED_SECONDS

    def _watch(self) -> None:
        while self.look():
            time.sleep(_PROBE_SECONDS)
        with self._lock:
            self._watching = False


def watch_of(api: httpx.URL) -> ServerWatch | None:
    """Return the watch of a server; None if the server is not on loopback."""
    return _watch_of(str(api), api.host, api.port or 80) if _is_loopback(api.host) else None


@cache
def _watch_of(api: str, host: str, port: int) -> ServerWatch:
    return ServerWatch(api, get_current_settings(), listens=lambda: _listens(host, port), thread=_in_a_daemon)


def _in_a_daemon(watch: Callable[[], None]) -> None:
    threading.Thread(target=watch, name="prefect-server-watch", daemon=True).start()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=_PROBE_SECONDS).close()
    except ConnectionRefusedError:
        return False
    except OSError:  # such as a timeout: the server may be busy
        return True
    return True


def release_exit(thread: int) -> None:
    """Let the interpreter exit if it only waits for Prefect to send logs and events to the dead server.

    At exit, Prefect drains the queues of both without a time limit, and each item takes from some seconds to a minute.

    Args:
        thread: The thread that exits.
    """
    frame: FrameType | None = sys._current_frames().get(thread)  # noqa: SLF001 - CPython's documented debugging aid
    while frame is not None:
        if frame.f_code is QueueService.drain.__code__:
            service: QueueService[object] = frame.f_locals["self"]
            loop, over = service._loop, service._done_event  # noqa: SLF001 - Prefect has no time limit for the drain
            if frame.f_locals.get("at_exit") and loop and over:
                loop.call_soon_threadsafe(over.set)
        frame = frame.f_back
