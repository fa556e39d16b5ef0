"""The edge between the front of the server and its services, where faults of requests happen.

Around the services and not inside each, so that every service fails alike. While no rule is on, the front does not even
come here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.types import Message, Scope

from local_sagemaker.faults.answers import words_of
from local_sagemaker.faults.decision import Asked, Count, fault_for
from local_sagemaker.faults.held import Held, HeldRequests
from local_sagemaker.faults.request import Request
from local_sagemaker.faults.rules import Faults, RequestRule, shown
from local_sagemaker.faults.table import FaultTable
from local_sagemaker.wire.protocols import answer, protocol_of, wire_of

HangUp = Callable[[Scope], None]
"""Closes the connection of a request, without a word of HTTP."""


class FaultMiddleware:
    """Does to requests what the rules want.

    Args:
        table: the rules and their counts.
        hang_up: closes a connection.
    """

    def __init__(self, table: FaultTable, hang_up: HangUp) -> None:
        self._table = table
        self._hang_up = hang_up
        self.held = HeldRequests()
        self._load()
        self._acts: dict[str, Callable[[Request, RequestRule, int], Awaitable[None]]] = {
            "lose": self._lose,
            "drop": self._drop,
            "throttle": self._refuse,
            "expire": self._refuse,
            "error": self._refuse,
            "slow": self._slow,
            "hold": self._hold,
        }

    def _load(self) -> None:
        # Rules of requests have the first numbers, and only this server counts them: no need to read them again.
        kept = [(one.rule, one.count) for one in self._table.all()]
        self.rules = [rule for rule, _ in kept if isinstance(rule, RequestRule)]
        self._counts = [count for rule, count in kept if isinstance(rule, RequestRule)]

    def replace(self, faults: Faults) -> None:
        """Put new rules in the place of all; what is held goes on."""
        self._table.replace(faults)
        self._load()
        self.held.release()

    def shown(self) -> dict[str, Any]:
        """Return the rules with their counts, and what is held, as JSON has them."""
        told: dict[str, list[dict[str, Any]]] = {"requests": [], "jobs": [], "held": self.held.shown()}
        for one in self._table.all():
            told["requests" if isinstance(one.rule, RequestRule) else "jobs"].append(
                {**shown(one.rule), "matched": one.count.matched, "fired": one.count.fired}
            )
        return told

    async def serve(self, request: Request) -> None:
        """Serve one request, or do to it what the first rule that fires wants."""
        named = await request.named()
        if named is None:
            return
        scope = named.scope
        asked = Asked(scope["service"], scope["aws.operation"], scope["path"])
        position, changed = fault_for(self.rules, self._counts, asked)
        self._keep(changed)
        if position is None:
            await named.serve()
        else:
            await self._acts[self.rules[position].kind](named, self.rules[position], position)

    def _keep(self, changed: Mapping[int, Count]) -> None:
        # On the event loop on purpose, before anything else is awaited: the next request sees these counts, and so does
        # the next server if this one is killed now.
        if changed:
            self._table.count(changed)
        for position, count in changed.items():
            self._counts[position] = count

    async def _lose(self, request: Request, rule: RequestRule, position: int) -> None:  # noqa: ARG002 -- one of many
        await request.act()
        await self._close(request)

    async def _drop(self, request: Request, rule: RequestRule, position: int) -> None:  # noqa: ARG002 -- one of many
        await self._close(request)

    async def _close(self, request: Request) -> None:
        self._hang_up(request.scope)
        await request.gone()  # else the server would answer 500 where we answer nothing

    async def _refuse(self, request: Request, rule: RequestRule, position: int) -> None:  # noqa: ARG002 -- one of many
        if rule.when == "after":
            await request.act()
        scope = request.scope
        wire = wire_of(scope["service"], request.headers)
        response = answer(words_of(rule, protocol_of(wire)), wire, scope["path"])
        if rule.when == "before":
            # A client that expects "100 Continue" sends no body now, and the server would take the next request for it.
            response.headers["connection"] = "close"
        await response(scope, request.receive, request.send)

    async def _slow(self, request: Request, rule: RequestRule, position: int) -> None:  # noqa: ARG002 -- one of many
        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                await asyncio.sleep(rule.seconds)
            await request.send(message)

        await request.serve(send)

    async def _hold(self, request: Request, rule: RequestRule, position: int) -> None:
        held = _held(request, rule, position)
        if rule.when == "before":
            # All of it is read first: the end of a connection is seen only behind what came before.
            whole = await request.whole()
            if whole is not None and await self.held.hold(held, request.gone):
                await whole.serve()
            return
        released = False

        async def send(message: Message) -> None:
            nonlocal released
            if message["type"] == "http.response.start":
                released = await self.held.hold(held, request.gone)
            if released:
                await request.send(message)

        await request.serve(send)


def _held(request: Request, rule: RequestRule, position: int) -> Held:
    scope = request.scope
    host, port = scope["client"]
    return Held(
        number=request.number,
        rule=position,
        service=scope["service"],
        operation=scope["aws.operation"],
        path=scope["path"],
        when=rule.when,
        client=f"{host}:{port}",
    )
