"""`/sql`: one query, or several in one request."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from serving import formats
from serving.envelope import Code, RequestError
from serving.front import bodies, coverage_header, requests
from serving.front.answers import Answers
from serving.front.connected import while_connected
from serving.query import Reply

QUERIES = "queries"
MOST_QUERIES = 100
AT_ONCE = 8  # of one request
ANSWERS_BYTES = 64 * 2**20  # of one request, all together
HEADERS = {"Cache-Control": "no-store", "Vary": "Accept"}


class Sql:
    """The route. Whoever asks is told by `request.state.user`."""

    def __init__(self, front: Answers) -> None:
        self._front = front

    async def answer(self, request: Request) -> Response:
        accept = request.headers.get("accept", "")
        if request.method != "POST":
            return await self._one(request, requests.of_address(request), accept)
        fields = requests.fields(request, await requests.body(request))
        if QUERIES in fields:
            return await self._several(request, fields)
        return await self._one(request, fields, accept)

    async def _one(self, request: Request, fields: Mapping[str, Any], accept: str) -> Response:
        asked = requests.asked(fields, accept)
        answer = self._front.answer(asked.query, request.state.user, asked.timeout_ms)
        reply = await while_connected(request.receive, answer)
        headers = {**HEADERS, "Everview-Source": reply.source}
        if reply.head.media_type != formats.JSON_TYPE:
            headers |= coverage_header.headers(reply.head)
        return bodies.response(reply.body, reply.head.media_type, headers)

    async def _several(self, request: Request, fields: dict[str, Any]) -> Response:
        queries = fields.pop(QUERIES)
        if not isinstance(queries, list) or not 1 <= len(queries) <= MOST_QUERIES:
            message = f"{QUERIES} must be an array of 1 to {MOST_QUERIES} objects"
            raise RequestError(Code.BAD_REQUEST, message)
        several = _Several(self._front, request.state.user, fields)
        answers = await while_connected(request.receive, several.answers(queries))
        body = b'{"answers": [' + b", ".join(answers) + b"]}"
        sources = ", ".join(f"{name}={count}" for name, count in sorted(several.sources.items()))
        headers = {**HEADERS, "Everview-Source": sources}
        return bodies.response(body, formats.JSON_TYPE, headers)


class _Several:
    """The queries of one request; one that gets no answer does not spoil the others."""

    def __init__(self, front: Answers, user: str, defaults: Mapping[str, Any]) -> None:
        self._front, self._user, self._defaults = front, user, defaults
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._room = ANSWERS_BYTES
        self._clock = asyncio.get_running_loop().time
        self._started = self._clock()
        self.sources: Counter[str] = Counter()

    async def answers(self, queries: Sequence[Any]) -> list[bytes]:
        """A JSON object for each, in their order: its answer, or its error."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._told(query)) for query in queries]
        return [task.result() for task in tasks]

    async def _told(self, query: Any) -> bytes:
        try:
            return await self._answer(query)
        except RequestError as error:
            return error.body()

    async def _answer(self, query: Any) -> bytes:
        if not isinstance(query, dict):
            raise RequestError(Code.BAD_REQUEST, 'a query must be a JSON object with "sql"')
        asked = requests.asked({**self._defaults, **query}, formats.JSON_TYPE)
        if asked.query.media_type != formats.JSON_TYPE:
            raise RequestError(Code.BAD_REQUEST, "format must be json where queries are several")
        async with self._turns:
            waited = int((self._clock() - self._started) * 1000)
            if waited >= asked.timeout_ms:
                message = f"statement must end within {asked.timeout_ms} ms; it did not begin"
                raise RequestError(Code.DEADLINE, message)
            left = asked.timeout_ms - waited
            reply = await self._front.answer(asked.query, self._user, left)
            found = await self._body(reply)
        self.sources[reply.source] += 1
        return found

    async def _body(self, reply: Reply) -> bytes:
        if isinstance(reply.body, bytes):
            self._take(len(reply.body))
            return reply.body
        found = bytearray()
        async with contextlib.aclosing(reply.body):
            async for part in reply.body:
                self._take(len(part))
                found += part
        return bytes(found)

    def _take(self, size: int) -> None:
        self._room -= size
        if self._room < 0:
            message = f"answers of one request must have at most {ANSWERS_BYTES} bytes together"
            raise RequestError(Code.TOO_LARGE, message)
