"""The middleware between the application and its services that applies fault rules to requests.

It wraps all services, so that every service fails in the same way. The application skips it while there are no rules.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.types import Message, Scope

from local_sagemaker.asgi_request import Request
from local_sagemaker.faults.answers import error_for
from local_sagemaker.faults.decision import Count, MatchedRequest, rule_for
from local_sagemaker.faults.held import Held, HeldRequests
from local_sagemaker.faults.rules import Faults, RequestRule, shown
from local_sagemaker.faults.table import FaultTable
from local_sagemaker.wire.protocols import answer, error_format_of, protocol_of

CloseConnection = Callable[[Scope], None]
"""Closes the connection of a request without an HTTP response."""


class FaultMiddleware:
    """Applies the fault rules to requests.

    Args:
        table: the table of the rules and their counts.
        close_connection: closes the connection of a request.
    """

    def __init__(self, table: FaultTable, close_connection: CloseConnection) -> None:
        self._table = table
        self._hang_up = close_connection
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
        # Only this server counts the rules for requests, so they are not read again. Their numbers are their positions
        # here, because they come before the rules for jobs.
        kept = [(one.rule, one.count) for one in self._table.all()]
        self.rules = [rule for rule, _ in kept if isinstance(rule, RequestRule)]
        self._counts = [count for rule, count in kept if isinstance(rule, RequestRule)]

    def replace(self, faults: Faults) -> None:
        """Replace all rules and release the held requests."""
        self._table.replace(faults)
        self._load()
        self.held.release()

    def shown(self) -> dict[str, Any]:
        """Return the rules with their counts, and the held requests, as JSON values."""
        told: dict[str, list[dict[str, Any]]] = {"requests": [], "jobs": [], "held": self.held.shown()}
        for one in self._table.all():
            told["requests" if isinstance(one.rule, RequestRule) else "jobs"].append(
                {**shown(one.rule), "matched": one.count.matched, "fired": one.count.fired}
            )
        return told

    async def serve(self, request: Request) -> None:
        """Serve one request, or apply the first rule that fires for it."""
        named = await request.named()
        if named is None:
            return
        scope = named.scope
        asked = MatchedRequest(scope["service"], scope["aws.operation"], scope["path"])
        position, changed = rule_for(self.rules, self._counts, asked)
        self._keep(changed)
        if position is None:
            await named.serve()
        else:
            await self._acts[self.rules[position].kind](named, self.rules[position], position)

    def _keep(self, changed: Mapping[int, Count]) -> None:
        # Write on the event loop, before anything is awaited. So the next request sees these counts, and so does the
        # next server if this one is killed now.
        if changed:
            self._table.count(changed)
        for position, count in changed.items():
            self._counts[position] = count

    async def _lose(self, request: Request, rule: RequestRule, position: int) -> None:  # noqa: ARG002 -- see `_acts`
        await request.act()
        await self._close(request)

    async def _drop(self, request: Request, rule: RequestRule, position: int) -> None:  # noqa: ARG002 -- see `_acts`
        await self._close(request)

    async def _close(self, request: Request) -> None:
        self._hang_up(request.scope)
        await request.gone()  # uvicorn would answer 500 if this returned without a response on an open connection

    async def _refuse(self, request: Request, rule: RequestRule, position: int) -> None:  # noqa: ARG002 -- see `_acts`
        if rule.when == "after":
            await request.act()
        scope = request.scope
        wire = error_format_of(scope["service"], request.headers)
        response = answer(error_for(rule, protocol_of(wire)), wire, scope["path"])
        if rule.when == "before":
            # A client that waits for "100 Continue" now sends no body, and its next request would be read as the body.
            response.headers["connection"] = "close"
        await response(scope, request.receive, request.send)

    async def _slow(self, request: Request, rule: RequestRule, position: int) -> None:  # noqa: ARG002 -- see `_acts`
        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                await asyncio.sleep(rule.seconds)
            await request.send(message)

        await request.serve(send)

    async def _hold(self, request: Request, rule: RequestRule, position: int) -> None:
        held = _held(request, rule, position)
        if rule.when == "before":
            # Read the whole request first: ASGI reports the end of a connection only after all that was sent before.
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
