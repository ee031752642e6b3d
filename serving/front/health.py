"""`/healthz`, `/readyz` and `/metrics`. The first two need no token: a supervisor or a load
balancer asks them.

Who has no token where tokens are in use learns whether, and not why; where nobody can have one, as
their file cannot be read, everybody learns that.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from serving.envelope import Code, RequestError
from serving.front.answers import Answers
from serving.front.metrics import MEDIA_TYPE
from serving.front.tokens import UNREADABLE, Tokens
from serving.front.watch import Watch


class Health:
    """The routes."""

    def __init__(self, front: Answers, watch: Watch, tokens: Tokens | None) -> None:
        self._front, self._watch, self._tokens = front, watch, tokens

    async def healthz(self, request: Request) -> Response:  # noqa: ARG002
        return JSONResponse({"healthy": True})

    async def readyz(self, request: Request) -> Response:
        known = request.state.user is not None
        if self._tokens is not None and not self._tokens.usable():
            raise RequestError(Code.NOT_READY, UNREADABLE)
        reasons = self._front.unready()
        if reasons:
            raise RequestError(Code.NOT_READY, "; ".join(reasons) if known else "not ready")
        waiting = self._front.waiting() if known else {}
        return JSONResponse({"ready": True, **({"waiting": waiting} if waiting else {})})

    async def metrics(self, request: Request) -> Response:  # noqa: ARG002
        return Response(self._watch.page(), headers={"Content-Type": MEDIA_TYPE})
