"""Answers on their way out: in parts, so that a slow reader costs one part and not the whole."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serving.envelope import RequestError
from serving.front import refusals
from serving.front.connected import ClientLeft, while_connected

PART_BYTES = 256 * 1024

log = logging.getLogger("serving")


def response(
    body: bytes | AsyncGenerator[bytes], media_type: str, headers: Mapping[str, str]
) -> Response:
    """The response with that body."""
    if not isinstance(body, bytes):
        return Parts(body, media_type, headers)
    if len(body) <= PART_BYTES:
        return Response(body, media_type=media_type, headers=headers)
    return Parts(_cut(body), media_type, {**headers, "Content-Length": str(len(body))})


class Parts(Response):
    """A body that comes in parts. Where they break off the connection is broken too: a client must
    not take what it has for the whole."""

    def __init__(
        self, parts: AsyncGenerator[bytes], media_type: str, headers: Mapping[str, str]
    ) -> None:
        self._parts, self._started = parts, False
        self.status_code, self.media_type, self.background = 200, media_type, None
        self.init_headers(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await while_connected(receive, self._send(send))
        except ClientLeft:
            return
        except RequestError as error:
            if not self._started:
                await refusals.response(error)(scope, receive, send)
                return
            log.info("an answer broke off: %s", error.message)  # uvicorn closes what has no end

    async def _send(self, send: Send) -> None:
        async with contextlib.aclosing(self._parts):
            async for part in self._parts:
                for at in range(0, len(part), PART_BYTES):
                    await self._start(send)
                    piece = part[at : at + PART_BYTES]
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                    await asyncio.sleep(0)  # sends to a client that left do not wait: end there
        await self._start(send)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _start(self, send: Send) -> None:
        """Not before there is a part: until then it can be refused."""
        if not self._started:
            self._started = True
            start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
            await send(start)


async def _cut(body: bytes) -> AsyncGenerator[bytes]:
    yield body  # `_send` cuts it
