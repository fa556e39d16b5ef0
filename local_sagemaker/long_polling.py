"""Long polling of SQS: `ReceiveMessage` with `WaitTimeSeconds`, in front of moto's SQS.

moto answers one request at a time, so a poll of 20 s would block all other requests. This module asks moto ten times a
second without a wait, until there are messages or the time is over.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_EVERY = 0.1  # seconds between requests to moto
_TARGET = b"AmazonSQS.ReceiveMessage"


class LongPolling:
    """SQS with long polling, as an ASGI application.

    Args:
        service: SQS without long polling.
        clock: returns monotonic seconds.
    """

    def __init__(self, service: ASGIApp, clock: Callable[[], float] = time.monotonic) -> None:
        self._service, self._clock = service, clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request. Only `ReceiveMessage` of the JSON protocol is polled here."""
        if (b"x-amz-target", _TARGET) not in scope["headers"]:
            await self._service(scope, receive, send)
            return
        request = json.loads(await Request(scope, receive).body() or b"{}")
        until = self._clock() + float(request.get("WaitTimeSeconds", 0))
        body = json.dumps({**request, "WaitTimeSeconds": 0}).encode()
        while True:
            answer = await self._ask(scope, body)
            if self._clock() >= until or _is_final(answer):
                break
            await asyncio.sleep(_EVERY)
        for message in answer:
            await send(message)

    async def _ask(self, scope: Scope, body: bytes) -> list[Message]:
        answer: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            answer.append(message)

        await self._service(scope, receive, send)
        return answer


def _is_final(answer: list[Message]) -> bool:
    """Tell whether an answer has messages or is an error."""
    body = b"".join(message.get("body", b"") for message in answer)
    refused: Any = answer[0]["status"] != 200  # noqa: PLR2004 -- OK
    return bool(refused) or bool(json.loads(body or b"{}").get("Messages"))
