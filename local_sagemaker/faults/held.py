"""Held requests: those that a rule of the kind `hold` keeps waiting until they are released or their client leaves.

A crash test waits until request number k is held and then kills the client. It so knows exactly which requests the
client has sent.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from local_sagemaker.faults.rules import When


@dataclass(frozen=True)
class Held:
    """One held request.

    Attributes:
        number: its number among the requests of the server, as `sequence` in the status counts them.
        rule: the number of the rule that holds it.
        service: the service, as rules name it.
        operation: the operation, as rules name it.
        path: the decoded path, as rules match it.
        when: whether it is held before or after the server acted.
        client: host and port of the client's end of the connection.
        released: the event that is set when the request is released.
    """

    number: int
    rule: int
    service: str
    operation: str
    path: str
    when: When
    client: str
    released: asyncio.Event = field(default_factory=asyncio.Event, compare=False)


class HeldRequests:
    """All held requests of one server; use it only in the server's event loop."""

    def __init__(self) -> None:
        self._held: dict[int, Held] = {}
        self._arrived = asyncio.Condition()

    async def hold(self, held: Held, gone: Callable[[], Awaitable[None]]) -> bool:
        """Wait until a request is released; return False if its client leaves before.

        Args:
            held: the request.
            gone: a coroutine function that returns when the client has closed the connection.
        """
        self._held[held.number] = held
        async with self._arrived:
            self._arrived.notify_all()
        waiting = {asyncio.ensure_future(held.released.wait()), asyncio.ensure_future(gone())}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            return held.released.is_set()
        finally:
            for one in waiting:
                one.cancel()
            del self._held[held.number]

    def release(self, number: int | None = None) -> list[int]:
        """Release one held request, or all of them by default; return the numbers of the released requests."""
        found = [one for one in self._held.values() if number in {None, one.number}]
        for one in found:
            one.released.set()
        return [one.number for one in found]

    async def wait(self, seconds: float) -> None:
        """Wait until a request is held, for at most `seconds`."""
        async with self._arrived:
            try:
                await asyncio.wait_for(self._arrived.wait_for(lambda: bool(self._held)), seconds)
            except (TimeoutError, asyncio.TimeoutError):  # two classes until Python 3.11
                return

    def shown(self) -> list[dict[str, Any]]:
        """Return the held requests as JSON values, sorted by number."""
        names = [one.name for one in fields(Held) if one.name != "released"]
        return [{name: getattr(one, name) for name in names} for _, one in sorted(self._held.items())]
