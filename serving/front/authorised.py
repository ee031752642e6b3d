"""Who asks: the name that a token has, or, where there are no tokens, the client's address.

A token comes as `Authorization: Bearer TOKEN` and never in an address, where logs, histories and
other pages would keep it.
"""

from __future__ import annotations

from urllib.parse import parse_qsl

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.envelope import Code, RequestError
from serving.front import refusals
from serving.front.tokens import UNREADABLE, Tokens

OPEN = frozenset({"/healthz", "/readyz"})
"""Routes for everybody."""
SPELLINGS = frozenset({"token", "access_token"})


class Authorised:
    """ASGI middleware that sets `request.state.user`; None is a stranger on an open route."""

    def __init__(self, app: ASGIApp, tokens: Tokens | None) -> None:
        self._app, self._tokens = app, tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                scope.setdefault("state", {})["user"] = self._user(scope)
            except RequestError as refusal:
                await refusals.response(refusal)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _user(self, scope: Scope) -> str | None:
        address = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if any(name.lower() in SPELLINGS for name, _ in address):
            message = (
                "token must not be in an address; send it as Authorization: Bearer TOKEN, "
                "and make a new one, as this one may be in a log by now"
            )
            raise RequestError(Code.BAD_REQUEST, message)
        if self._tokens is None:
            client = scope.get("client")
            return client[0] if client else ""
        user = None
        if self._tokens.usable():
            user = self._tokens.who(_token(Headers(scope=scope)))
        elif scope["path"] not in OPEN:
            raise RequestError(Code.NOT_READY, UNREADABLE)
        if user is None and scope["path"] not in OPEN:
            message = "request must have a token that is known: Authorization: Bearer TOKEN"
            raise RequestError(Code.UNAUTHORISED, message)
        return user


def _token(headers: Headers) -> str:
    """What is in the header, or nothing, which is nobody's token."""
    given = headers.getlist("authorization")
    scheme, _, token = (given[0] if len(given) == 1 else "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
