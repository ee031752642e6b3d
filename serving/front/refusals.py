"""Whatever goes wrong in a route, in the one shape of errors."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serving import formats
from serving.envelope import Code, RequestError

RETRY_SECONDS = 1


class Refusal(Response):
    """A refused request, which the application is told of (`app.state.refused`)."""

    def __init__(self, refusal: RequestError, headers: dict[str, str]) -> None:
        self._code = refusal.code
        super().__init__(refusal.body(), refusal.status, headers, formats.JSON_TYPE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"].state.refused(self._code)
        await super().__call__(scope, receive, send)


def response(refusal: RequestError) -> Refusal:
    """Its response."""
    headers = {}
    if refusal.status in (429, 503):
        headers["Retry-After"] = str(RETRY_SECONDS)
    if refusal.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if refusal.status == 408:  # what is left of its body may still come, or never
        headers["Connection"] = "close"
    return Refusal(refusal, headers)


def ending() -> RequestError:
    """Of whatever comes after this server was asked to end."""
    return RequestError(Code.NOT_READY, "this server is ending; ask again")


async def refused(request: Request, error: Exception) -> Response:  # noqa: ARG001
    return response(
        error if isinstance(error, RequestError) else RequestError(Code.INTERNAL, "failed")
    )


async def left(request: Request, error: Exception) -> Response:  # noqa: ARG001
    """A client that left while it was sending; nobody reads this."""
    return response(RequestError(Code.DEADLINE, "client left before its request was whole"))


async def not_routed(request: Request, error: Exception) -> Response:
    path = request.url.path
    if isinstance(error, HTTPException) and error.status_code == 405:
        message = f"{path} must be asked in another way"
        found = response(RequestError(Code.METHOD_NOT_ALLOWED, message))
        found.headers.update(error.headers or {})
        return found
    routes = {route.path.split("/{")[0]: None for route in request.app.routes}
    message = f"there is nothing at {path}; there is: {', '.join(routes)} (docs/queries.md)"
    return response(RequestError(Code.NOT_FOUND, message))


async def failed(request: Request, error: Exception) -> Response:  # noqa: ARG001
    """What nobody foresaw; the server's log has it."""
    return response(RequestError(Code.INTERNAL, "this server failed; see its log"))


HANDLERS = {
    RequestError: refused,
    ClientDisconnect: left,
    HTTPException: not_routed,
    Exception: failed,
}
