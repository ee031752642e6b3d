"""`/events`: a server-sent event for every new state of the views.

An event tells all views, so whoever was away misses nothing that counts: it gets the newest state,
unless that is the one that it names in `Last-Event-ID`. States that follow each other faster than
a client reads are left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serving.envelope import Code, RequestError
from serving.front import refusals
from serving.front.answers import Answers

LISTENERS = 100
LOOK_SECONDS = 0.1  # between looks at the views, while somebody listens
ALIVE_SECONDS = 15  # between comments that keep the connection
SEND_SECONDS = 30.0  # after which a listener that takes nothing is let go
MARKS = ("view", "version", "cut", "epoch", "fresh_as_of", "degraded")


@dataclass(frozen=True)
class State:
    """What the views count."""

    id: str  # the same for the same state, in every server and after a restart
    data: str


class Events:
    """The route. One task looks for all that listen, and ends with the last of them."""

    def __init__(self, front: Answers) -> None:
        self._front = front
        self._listeners = 0
        self._looking: asyncio.Task[None] | None = None
        self._state: State | None = None
        self._news = asyncio.Event()  # set when there is a newer state, and replaced
        self._closed = False

    async def listen(self, request: Request) -> Response:
        if self._listeners >= LISTENERS:
            message = f"at most {LISTENERS} clients may listen; try again later"
            raise RequestError(Code.QUEUE_FULL, message)
        if self._closed:
            raise refusals.ending()
        return _Listening(self, request.headers.get("last-event-id", ""))

    def close(self) -> None:
        """End all that listen; a server does not stop before."""
        self._closed = True
        self._news.set()

    def enter(self) -> None:
        """One more listens."""
        self._listeners += 1
        if self._looking is None:
            self._look()
            self._looking = asyncio.create_task(self._look_on())

    def leave(self) -> None:
        """One less."""
        self._listeners -= 1
        if not self._listeners and self._looking is not None:
            self._looking.cancel()
            self._looking = None

    async def told(self, known: str) -> AsyncIterator[ServerSentEvent]:
        """The states that follow one, the newest each time."""
        while not self._closed:
            state, news = self._state, self._news
            if state is None or state.id == known:
                await news.wait()
                continue
            known = state.id
            yield ServerSentEvent(state.data, event="state", id=state.id)

    async def _look_on(self) -> None:
        while not self._closed:
            await asyncio.sleep(LOOK_SECONDS)
            with contextlib.suppress(RequestError):
                self._look()

    def _look(self) -> None:
        state = _state(self._front)
        if state != self._state:
            self._state, news, self._news = state, self._news, asyncio.Event()
            news.set()


class _Listening(EventSourceResponse):
    """What one client is told. It counts from the moment on at which it was let in."""

    def __init__(self, events: Events, known: str) -> None:
        super().__init__(events.told(known), ping=ALIVE_SECONDS, send_timeout=SEND_SECONDS)
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._events.enter()
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._events.leave()


def _state(front: Answers) -> State:
    views = [{mark: view["coverage"][mark] for mark in MARKS} for view in front.views().values()]
    data = json.dumps({"views": views})
    return State(hashlib.sha256(data.encode()).hexdigest()[:16], data)
