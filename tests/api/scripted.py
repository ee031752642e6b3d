"""A front that answers as a test says, for what is about HTTP alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any

from serving.query import Head, Query, Reply

JSON = "application/json"
CSV = "text/csv"


class Scripted:
    """Whoever asks "x" gets what `script` has under "x"; `asked` and `cancelled` say who did."""

    def __init__(self, script: Mapping[str, Callable[[], Awaitable[Reply]]] | None = None) -> None:
        self.script = dict(script or {})
        self.asked: list[tuple[Query, str, int]] = []
        self.cancelled: list[str] = []
        self.seen: dict[str, dict[str, Any]] = {}
        self.trouble: list[str] = []

    async def answer(self, query: Query, user: str, timeout_ms: int) -> Reply:
        self.asked.append((query, user, timeout_ms))
        try:
            return await self.script[query.sql]()
        except asyncio.CancelledError:
            self.cancelled.append(query.sql)
            raise

    def views(self) -> dict[str, dict[str, Any]]:
        return self.seen

    def streams(self) -> list[dict[str, Any]]:
        return []

    def unready(self) -> list[str]:
        return self.trouble

    def waiting(self) -> dict[str, str]:
        return {}


def reply(
    body: bytes | AsyncGenerator[bytes], kind: str = JSON, *coverage: dict[str, Any]
) -> Callable[[], Awaitable[Reply]]:
    """An answer with that body."""

    async def answer() -> Reply:
        return Reply(Head(kind, coverage), body)

    return answer


async def never() -> Reply:
    """A query that goes on and on."""
    await asyncio.sleep(3600)
    raise AssertionError
