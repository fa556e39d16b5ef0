"""Requests that stand still: those that a rule of the kind `hold` caught, until released or given up by their client.

A crash test asks until request number k is here, kills its client, and knows exactly what had been asked. The edge and
the control address share one of it.
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
    """One request that stands still.

    Attributes:
        number: the how-manieth request of the server it is, as `sequence` of the status counts.
        rule: the number of the rule that holds it.
        service: as in rules.
        operation: as in rules.
        path: as in rules.
        when: before or after the server acted.
        client: host and port of the client's end of the connection.
        released: set when it may go on.
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
    """All requests that stand still in one server; belongs to its event loop."""

    def __init__(self) -> None:
        self._held: dict[int, Held] = {}
        self._arrived = asyncio.Condition()

    async def hold(self, held: Held, gone: Callable[[], Awaitable[None]]) -> bool:
        """Wait until a request is released, and return True; False if its client went away before.

        Args:
            held: the request.
            gone: returns when the client has closed the connection.
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
        """Let one request go on, or all; return the numbers of those that were held."""
        found = [one for one in self._held.values() if number in {None, one.number}]
        for one in found:
            one.released.set()
        return [one.number for one in found]

    async def wait(self, seconds: float) -> None:
        """Return as soon as some request is held, at the latest after so many seconds."""
        async with self._arrived:
            try:
                await asyncio.wait_for(self._arrived.wait_for(lambda: bool(self._held)), seconds)
            except (TimeoutError, asyncio.TimeoutError):  # two classes until Python 3.11
                return

    def shown(self) -> list[dict[str, Any]]:
        """Return the held requests in the order of their numbers, as JSON has them."""
        names = [one.name for one in fields(Held) if one.name != "released"]
        return [{name: getattr(one, name) for name in names} for _, one in sorted(self._held.items())]
