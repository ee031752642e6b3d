"""Who may talk to this server: those who call it by its own name, from its own pages.

A page elsewhere can point a name of its own at a loopback address (DNS rebinding) and would then
read every answer; an exact list of Host names stops that. Requests from foreign pages name their
Origin, or say that they cross sites. No cross-origin header is ever sent.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.envelope import Code, RequestError
from serving.front import refusals

LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})


class OnlyOwn:
    """ASGI middleware; `hosts` are names without a port, None is any."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str] | None) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(Headers(scope=scope)) if scope["type"] == "http" else None
        if refusal is None:
            await self._app(scope, receive, send)
            return
        await refusals.response(refusal)(scope, receive, send)

    def _refusal(self, headers: Headers) -> RequestError | None:
        named = headers.getlist("host")
        if len(named) != 1 or not self._own(named[0]):
            return RequestError(Code.FOREIGN, "request must call this server by its own name")
        for origin in headers.getlist("origin"):
            if urlsplit(origin).netloc.lower() != named[0].lower():
                return RequestError(Code.FOREIGN, "request must not come from a foreign page")
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return RequestError(Code.FOREIGN, "request must not come from a foreign page")
        return None

    def _own(self, host: str) -> bool:
        name, colon, port = host.rpartition(":")
        if not colon or host.endswith("]"):
            name, port = host, "0"
        return port.isdecimal() and (self._hosts is None or name.lower() in self._hosts)
