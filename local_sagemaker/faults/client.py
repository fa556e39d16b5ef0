"""The other end of the control address, for the command line and for tests: standard library only.

Any HTTP client will do as well; this one speaks of a server's own refusals.
"""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

_PATH = "/_local/faults"
_OK = 200


class FaultsRefused(Exception):
    """The server does not take what it was given; the text is its own."""


class FaultClient:
    """Turns faults of a running server on and off.

    Args:
        endpoint: the server's URL.
        key: the control key of its home (`keys.HomeKey.control`).
        timeout: seconds for one answer, beyond what it was asked to wait.
    """

    def __init__(self, endpoint: str, key: str, timeout: float = 30.0) -> None:
        self._headers = {"Authorization": f"Bearer {key}"}
        self._netloc = urlsplit(endpoint).netloc
        self._timeout = timeout

    def set(self, document: Any) -> dict[str, Any]:
        """Put these faults in the place of all; return what `show` does.

        Raises:
            FaultsRefused: the document is not one of faults.
        """
        return self._ask("PUT", _PATH, json.dumps(document))

    def show(self) -> dict[str, Any]:
        """Return the rules with their counts (`requests`, `jobs`) and the `held` requests."""
        return self._ask("GET", _PATH)

    def clear(self) -> dict[str, Any]:
        """Turn all faults off; requests that are held go on."""
        return self._ask("DELETE", _PATH)

    def wait_for_held(self, seconds: float = 30.0) -> list[dict[str, Any]]:
        """Return the held requests as soon as there are some; nothing after so many seconds, at most 60."""
        held: list[dict[str, Any]] = self._ask("GET", f"{_PATH}/held?wait={seconds}", wait=seconds)["held"]
        return held

    def release(self, number: int | None = None) -> dict[str, Any]:
        """Let one held request go on, or all.

        Raises:
            FaultsRefused: this one is not held.
        """
        return self._ask("DELETE", f"{_PATH}/held" + ("" if number is None else f"/{number}"))

    def _ask(self, method: str, path: str, body: str | None = None, wait: float = 0.0) -> dict[str, Any]:
        connection = http.client.HTTPConnection(self._netloc, timeout=self._timeout + wait)
        try:
            connection.request(method, path, body, self._headers)
            response = connection.getresponse()
            answer: dict[str, Any] = json.loads(response.read())
        finally:
            connection.close()
        if response.status != _OK:
            raise FaultsRefused(answer["error"])
        return answer
