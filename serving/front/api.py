"""The HTTP routes.

| route | gives |
|---|---|
| `POST /sql` | an answer, to SQL as text or to a JSON object with the fields of `FIELDS` |
| `GET /sql?q=` | the same; `max_rows`, `timeout_ms`, `integers` may follow |
| `GET /views`, `/views/NAME` | what can be asked, with coverage |
| `GET /streams` | what is counted, and how far |
| `GET /healthz` | 200 while the loop turns |
| `GET /readyz` | 200 while what is served is checked and caught up; else 503 and why. A view that
is being built or cannot be loaded is named under `waiting` and does not take the others down |
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from serving import formats
from serving.envelope import Code, RequestError, headers
from serving.front.front import Answers
from serving.front.neighbours import OnlyOwn
from serving.query import Query, Reply

BODY_BYTES = 256 * 1024
MAX_ROWS, MAX_ROWS_LIMIT = 10_000, 1_000_000  # default, and what more is cut to
TIMEOUT_MS, TIMEOUT_MS_LIMIT = 10_000, 60_000
RETRY_SECONDS = 1

FIELDS = frozenset({"sql", "params", "max_rows", "timeout_ms", "integers"})
TEXTS = frozenset({"text/plain", "application/sql", ""})


@dataclass(frozen=True)
class Asked:
    """The fields of a request that are not how its answer looks."""

    sql: str
    params: list[Any] | dict[str, Any] | None
    max_rows: int
    timeout_ms: int
    integers: str


def application(front: Answers, hosts: frozenset[str] | None) -> Starlette:
    """The ASGI application. `hosts` are the names it may be called by; None is any."""
    app = Starlette(
        routes=[
            Route("/sql", Sql(front).post, methods=["POST"]),
            Route("/sql", Sql(front).get, methods=["GET"]),
            Route("/views", Catalog(front).views),
            Route("/views/{name}", Catalog(front).view),
            Route("/streams", Catalog(front).streams),
            Route("/healthz", _healthz),
            Route("/readyz", Catalog(front).readyz),
        ],
        middleware=[Middleware(OnlyOwn, hosts=hosts)],
        exception_handlers={
            RequestError: _refused,
            HTTPException: _not_routed,
            Exception: _failed,
        },
    )
    app.router.redirect_slashes = False
    return app


class Sql:
    """`/sql`."""

    def __init__(self, front: Answers) -> None:
        self._front = front

    async def post(self, request: Request) -> Response:
        return await self._answer(request, _asked(request, await _body(request)))

    async def get(self, request: Request) -> Response:
        fields = dict(request.query_params)
        if "q" not in fields:
            raise RequestError(Code.BAD_REQUEST, "address must have the statement as ?q=; got none")
        asked: dict[str, Any] = {"sql": fields.pop("q"), **fields}
        for key in {"max_rows", "timeout_ms"} & fields.keys():
            asked[key] = _number(key, fields[key])
        return await self._answer(request, _fields(asked))

    async def _answer(self, request: Request, asked: Asked) -> Response:
        query = Query(asked.sql, asked.params, asked.max_rows, _media_type(request), asked.integers)
        user = request.client.host if request.client else ""
        reply = await _while_connected(request, self._front.answer(query, user, asked.timeout_ms))
        media_type = reply.head.media_type
        told = {"Everview-Source": reply.source}
        if media_type != formats.JSON_TYPE:
            told |= headers(reply.head)
        if isinstance(reply.body, bytes):
            return Response(reply.body, media_type=media_type, headers=told)
        return StreamingResponse(reply.body, media_type=media_type, headers=told)


class Catalog:
    """What there is, and how it is."""

    def __init__(self, front: Answers) -> None:
        self._front = front

    async def views(self, request: Request) -> Response:  # noqa: ARG002
        return JSONResponse({"views": list(self._front.views().values())})

    async def view(self, request: Request) -> Response:
        name = request.path_params["name"]
        views = self._front.views()
        found = {each.lower(): view for each, view in views.items()}.get(name.lower())
        if found is None:
            there = ", ".join(views) or "none yet"
            raise RequestError(
                Code.UNKNOWN_VIEW, f"name {name!r} must be a view; there is: {there}"
            )
        return JSONResponse(found)

    async def streams(self, request: Request) -> Response:  # noqa: ARG002
        return JSONResponse({"streams": self._front.streams()})

    async def readyz(self, request: Request) -> Response:  # noqa: ARG002
        reasons = self._front.unready()
        if reasons:
            raise RequestError(Code.NOT_READY, "; ".join(reasons))
        waiting = self._front.waiting()
        return JSONResponse({"ready": True, **({"waiting": waiting} if waiting else {})})


async def _healthz(request: Request) -> Response:  # noqa: ARG001
    return JSONResponse({"healthy": True})


async def _body(request: Request) -> bytes:
    if request.headers.get("content-encoding", "identity") != "identity":
        raise RequestError(Code.MEDIA_TYPE, "body must not be compressed")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > BODY_BYTES:
            raise RequestError(Code.TOO_LARGE, f"body must have at most {BODY_BYTES} bytes")
    return body


def _asked(request: Request, body: bytes) -> Asked:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in TEXTS and kind != formats.JSON_TYPE:
        message = f"body must be application/json or text/plain; got {kind!r}"
        raise RequestError(Code.MEDIA_TYPE, message)
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise RequestError(Code.BAD_REQUEST, "body must be UTF-8") from error
    if kind in TEXTS:
        return _fields({"sql": text})
    try:
        fields = json.loads(text, parse_constant=_constant)
    except (ValueError, RecursionError) as error:
        raise RequestError(Code.BAD_REQUEST, f"body must be JSON; {error}") from error
    if not isinstance(fields, dict):
        raise RequestError(Code.BAD_REQUEST, 'body must be a JSON object with "sql"')
    return _fields(fields)


def _constant(name: str) -> Any:
    message = f"{name} is not JSON"
    raise ValueError(message)


def _fields(fields: Mapping[str, Any]) -> Asked:
    unknown = sorted(fields.keys() - FIELDS)
    if unknown:
        message = f"fields must be some of {sorted(FIELDS)}; got {unknown} too"
        raise RequestError(Code.BAD_REQUEST, message)
    sql, params = fields.get("sql"), fields.get("params")
    if not isinstance(sql, str):
        raise RequestError(Code.BAD_REQUEST, "sql must be a text")
    if params is not None and not isinstance(params, list | dict):
        raise RequestError(Code.BAD_REQUEST, "params must be an array (?) or an object ($name)")
    integers = fields.get("integers", "number")
    if integers not in ("number", "string"):
        raise RequestError(Code.BAD_REQUEST, "integers must be number or string")
    return Asked(
        sql,
        params,
        _within(fields, "max_rows", MAX_ROWS, MAX_ROWS_LIMIT),
        _within(fields, "timeout_ms", TIMEOUT_MS, TIMEOUT_MS_LIMIT),
        integers,
    )


def _within(fields: Mapping[str, Any], name: str, default: int, limit: int) -> int:
    """A whole number from 1; more than the limit is cut to it."""
    value = fields.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise RequestError(Code.BAD_REQUEST, f"{name} must be a whole number from 1; got {value!r}")
    return min(value, limit)


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise RequestError(Code.BAD_REQUEST, f"{name} must be a whole number from 1; got {text!r}")
    return int(text)


def _media_type(request: Request) -> str:
    header = request.headers.get("accept")
    found = formats.accepted(header)
    if found is None:
        raise formats.not_acceptable(header or "")
    return found


async def _while_connected(request: Request, work: Coroutine[Any, Any, Reply]) -> Reply:
    """The answer; cancelled when the client leaves, as nobody would read it."""
    answer = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        raise RequestError(Code.DEADLINE, "client left before the answer")
    finally:
        for task in (answer, gone):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, RequestError):
                await task


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _refused(request: Request, error: Exception) -> Response:  # noqa: ARG001
    refusal = error if isinstance(error, RequestError) else RequestError(Code.INTERNAL, "failed")
    headers = {"Retry-After": str(RETRY_SECONDS)} if refusal.status in (429, 503) else None
    return Response(refusal.body(), refusal.status, headers, formats.JSON_TYPE)


async def _not_routed(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    path = request.url.path
    if status == 405:
        return await _refused(
            request, RequestError(Code.METHOD_NOT_ALLOWED, f"{path} must be asked in another way")
        )
    return await _refused(request, RequestError(Code.NOT_FOUND, f"there is nothing at {path}"))


async def _failed(request: Request, error: Exception) -> Response:  # noqa: ARG001
    """What nobody foresaw; the server's log has it."""
    return await _refused(request, RequestError(Code.INTERNAL, "this server failed; see its log"))
