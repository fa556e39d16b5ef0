"""A request on its way to a service, as ASGI has it, with what a fault does to it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from local_sagemaker.s3.application import operation_asked
from local_sagemaker.wire.call import Call


class BodyTooLarge(Exception):
    """A client sends more than the reader takes."""


@dataclass(frozen=True)
class Request:
    """One request.

    Attributes:
        number: the how-manieth of this server it is.
        service: who would answer it.
        scope: of ASGI, with `service` and `region` of the signature.
        receive: of ASGI.
        send: of ASGI.
        body: what the client sent, once `whole` has read it.
    """

    number: int
    service: ASGIApp
    scope: Scope
    receive: Receive
    send: Send
    body: bytes = b""

    @property
    def headers(self) -> Headers:
        """The headers."""
        return Headers(scope=self.scope)

    async def serve(self, send: Send | None = None) -> None:
        """Let the service act; its answer goes to the client, or to `send`."""
        await self.service(self.scope, self.receive, send or self.send)

    async def act(self) -> None:
        """Let the service act and keep its answer from everybody."""
        await self.serve(_swallow)

    async def gone(self) -> None:
        """Return when the client has closed the connection; what it still sends is dropped."""
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def whole(self, most: float = math.inf) -> Request | None:
        """Read all that the client sends; return the same request with its body in memory, None if the client left.

        Args:
            most: bytes that are taken.

        Raises:
            BodyTooLarge: the client sends more; what came is dropped.
        """
        if float(self.headers.get("content-length", "0")) > most:  # uvicorn lets only numbers in
            raise BodyTooLarge
        messages: list[Message] = []
        size = 0
        while not messages or messages[-1].get("more_body", False):
            message = await self.receive()
            if message["type"] == "http.disconnect":
                return None
            size += len(message.get("body", b""))
            if size > most:
                raise BodyTooLarge
            messages.append(message)
        body = b"".join(message.get("body", b"") for message in messages)
        return replace(self, receive=_replaying(iter(messages), self.receive), body=body)

    async def named(self) -> Request | None:
        """Put the operation's name into the scope; return the request to go on with, None if the client left."""
        if self.scope["service"] == "s3":
            self.scope["aws.operation"] = operation_asked(self.scope)
            return self
        request = await self.whole()  # the query protocol has the name in the body
        if request is not None:
            self.scope["aws.operation"] = Call.of(self.scope, request.body).operation or "Unknown"
        return request


def _replaying(messages: Iterator[Message], receive: Receive) -> Receive:
    async def replay() -> Message:
        return next(messages, None) or await receive()

    return replay


async def _swallow(message: Message) -> None:
    """Take a message of an answer that nobody gets."""
