"""An id for each request: the client's own, if it is one, or one that is made here. It comes back
with the answer and is in every line of the log that is about the request."""

from __future__ import annotations

import re
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.log import request_id

HEADER = "X-Request-Id"
ALLOWED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Correlated:
    """ASGI middleware, the outermost one, so that refusals bear the id too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).getlist(HEADER)
        own = given[0] if len(given) == 1 and ALLOWED.fullmatch(given[0]) else uuid.uuid4().hex

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[HEADER] = own
            await send(message)

        before = request_id.set(own)
        try:
            await self._app(scope, receive, told)
        finally:
            request_id.reset(before)
