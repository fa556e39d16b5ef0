"""A user's own `sitecustomize`, which Python runs after the package's; it refuses calls to other machines."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

_SEEN = Path(os.environ["WATCHED_CALLS"])


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect":
        host = arguments[1][0] if isinstance(arguments[1], tuple) else "localhost"
    elif event == "socket.getaddrinfo":
        host = arguments[0] or "localhost"
    else:
        return
    name = host.decode() if isinstance(host, bytes) else str(host)
    if name not in ("127.0.0.1", "localhost", "::1"):
        with _SEEN.open("a") as file:
            file.write(f"{event} {name}\n")
        raise PermissionError(f"{name} is another machine")


_SEEN.touch()
sys.addaudithook(_refuse)
