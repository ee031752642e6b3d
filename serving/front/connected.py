"""Work that is only worth doing while its client is there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

from serving.envelope import Code, RequestError

T = TypeVar("T")


class ClientLeft(RequestError):
    """Nobody reads what a route would give."""

    def __init__(self) -> None:
        super().__init__(Code.DEADLINE, "client left before the answer")


async def while_connected(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """What the work gives; it is cancelled when the client leaves, which raises `ClientLeft`.
    The body of the request must have been read."""
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientLeft
    finally:
        for task in (working, gone):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, RequestError):
                await task


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
