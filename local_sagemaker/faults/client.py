"""A client of the control endpoint of faults, for the command line and tests; standard library only.

Any HTTP client can call the endpoint. This one raises the error messages of the server.
"""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

_PATH = "/_local/faults"
_OK = 200


class FaultsRejected(Exception):
    """The server refused the request; the message is the server's."""


class FaultClient:
    """Turns the faults of a running server on and off.

    Args:
        endpoint: the URL of the server.
        key: the control key of its home (`keys.HomeKey.control`).
        timeout: seconds for one response, in addition to the requested wait; default 30.
    """

    def __init__(self, endpoint: str, key: str, timeout: float = 30.0) -> None:
        self._headers = {"Authorization": f"Bearer {key}"}
        self._netloc = urlsplit(endpoint).netloc
        self._timeout = timeout

    def set(self, document: Any) -> dict[str, Any]:
        """Replace all rules by those of a document; return the same as `show`.

        Raises:
            FaultsRejected: the document is not a valid document of faults.
        """
        return self._ask("PUT", _PATH, json.dumps(document))

    def show(self) -> dict[str, Any]:
        """Return the rules with their counts (`requests`, `jobs`), and the `held` requests."""
        return self._ask("GET", _PATH)

    def clear(self) -> dict[str, Any]:
        """Delete all rules and release the held requests; return the same as `show`."""
        return self._ask("DELETE", _PATH)

    def wait_for_held(self, seconds: float = 30.0) -> list[dict[str, Any]]:
        """Return the held requests as soon as there are any; an empty list after `seconds`, at most 60."""
        held: list[dict[str, Any]] = self._ask("GET", f"{_PATH}/held?wait={seconds}", wait=seconds)["held"]
        return held

    def release(self, number: int | None = None) -> dict[str, Any]:
        """Release one held request, or all of them by default; return the same as `show`.

        Raises:
            FaultsRejected: no request with this number is held.
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
            raise FaultsRejected(answer["error"])
        return answer
