"""`/views` and `/streams`: what there is, and how far it is."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from serving.envelope import Code, RequestError
from serving.front.answers import Answers


class Views:
    """The routes; coverage is that of the tables, which is what queries see."""

    def __init__(self, front: Answers) -> None:
        self._front = front

    async def all(self, request: Request) -> Response:  # noqa: ARG002
        return JSONResponse({"views": list(self._front.views().values())})

    async def one(self, request: Request) -> Response:
        name = request.path_params["name"]
        views = self._front.views()
        found = {each.lower(): view for each, view in views.items()}.get(name.lower())
        if found is not None:
            return JSONResponse(found)
        there = ", ".join(views) or "none yet"
        raise RequestError(Code.UNKNOWN_VIEW, f"name {name!r} must be a view; there is: {there}")

    async def streams(self, request: Request) -> Response:  # noqa: ARG002
        return JSONResponse({"streams": self._front.streams()})
