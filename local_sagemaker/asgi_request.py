"""An ASGI request on its way to a service: read whole, named by its operation, served, or left without a response."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from local_sagemaker.s3.application import requested_operation
from local_sagemaker.wire.call import Call


class BodyTooLarge(Exception):
    """The body of a request is larger than the reader's limit."""


@dataclass(frozen=True)
class Request:
    """One request.

    Attributes:
        number: its number among the requests of this server.
        service: the service that answers it.
        scope: the ASGI scope, with `service` and `region` of the signature.
        receive: the ASGI receive function.
        send: the ASGI send function.
        body: the body, if `whole` has read it; else empty.
    """

    number: int
    service: ASGIApp
    scope: Scope
    receive: Receive
    send: Send
    body: bytes = b""

    @property
    def headers(self) -> Headers:
        """The headers of the request."""
        return Headers(scope=self.scope)

    async def serve(self, send: Send | None = None) -> None:
        """Let the service act; the response goes to `send`, by default to the client."""
        await self.service(self.scope, self.receive, send or self.send)

    async def act(self) -> None:
        """Let the service act and discard its response."""
        await self.serve(_swallow)

    async def gone(self) -> None:
        """Wait until the client has closed the connection; discard what it still sends."""
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def whole(self, most: float = math.inf) -> Request | None:
        """Read the whole body; return the request with the body in memory, or None if the client left.

        Args:
            most: the largest accepted size of the body in bytes; no limit by default.

        Raises:
            BodyTooLarge: the body is larger; the part that was read is discarded.
        """
        if float(self.headers.get("content-length", "0")) > most:  # uvicorn refuses a value that is not a number
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
        """Write the operation's name to the scope; return the request to serve, or None if the client left."""
        if self.scope["service"] == "s3":
            self.scope["aws.operation"] = requested_operation(self.scope)
            return self
        request = await self.whole()  # in the query protocol the body names the operation
        if request is not None:
            self.scope["aws.operation"] = Call.of(self.scope, request.body).operation or "Unknown"
        return request


def _replaying(messages: Iterator[Message], receive: Receive) -> Receive:
    async def replay() -> Message:
        return next(messages, None) or await receive()

    return replay


async def _swallow(message: Message) -> None:
    """Discard a message of a response."""
