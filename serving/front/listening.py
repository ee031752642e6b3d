"""The server of the application: uvicorn, which has no limits for clients that mean ill.

| limit | what happens |
|---|---|
| connections | whoever waits idle longest gives way to a new one; if all are busy: 429 |
| head of a request: its time, its bytes | 408; 413 |
| body of a request: its time | 408 |
| time between requests | closed |
| time to take what was sent: 64 kB and one part | cut off, which cancels the answer |
"""

from __future__ import annotations

import asyncio
import logging
import socket
from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from serving.envelope import Code, RequestError
from serving.front import refusals

SPARE_CONNECTIONS = 64  # beyond the limit, for those that are told about it

log = logging.getLogger("serving")


@dataclass(frozen=True)
class Limits:
    """What a client may take."""

    connections: int = 512
    head_bytes: int = 64 * 1024
    head_seconds: float = 10.0
    body_seconds: float = 15.0  # more than a route waits, which answers better
    idle_seconds: int = 30
    take_seconds: float = 30.0
    kernel_bytes: int = 256 * 1024  # that wait in the kernel for it to take them; it doubles that


USUAL = Limits()


class Server(uvicorn.Server):
    """Serves one application. Those that listen to events are told to go when it ends."""

    def __init__(self, app: Starlette, limits: Limits = USUAL, **options: Any) -> None:
        super().__init__(_Config(app, limits, options))
        self._app = app

    async def on_tick(self, counter: int) -> bool:
        now = asyncio.get_running_loop().time()
        for connection in list(self.server_state.connections):
            if isinstance(connection, Connection):
                connection.look(now)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: Any = None) -> None:
        self._app.state.events.close()
        await super().shutdown(sockets)


class _Config(uvicorn.Config):
    def __init__(self, app: Starlette, limits: Limits, options: dict[str, Any]) -> None:
        self.limits, self.told = limits, app
        super().__init__(
            app,
            loop="asyncio",
            http=Connection,
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,  # what it says goes where everything goes
            proxy_headers=False,  # anybody could write who he is
            server_header=False,
            timeout_keep_alive=limits.idle_seconds,
            timeout_graceful_shutdown=1,
            **{"log_level": "warning", **options},
        )


class Connection(HttpToolsProtocol):
    """One client. `look` is called ten times a second; nothing here costs a request a timer."""

    def __init__(
        self,
        config: _Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._limits, self._told = config.limits, config.told
        self._phase = "idle"  # idle, head, body, or asked: what is awaited of the client
        self._since = self.loop.time()  # when that began
        self._head_bytes = 0
        self._full_since: float | None = None  # when there was too much that it had not taken
        self._closing_since: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        own = transport.get_extra_info("socket")
        own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._limits.kernel_bytes)
        if len(self.connections) > self._limits.connections:
            idle = [each for each in self._others() if each.idle]
            if idle:
                min(idle, key=lambda each: each._since).transport.abort()
            elif len(self.connections) > self._limits.connections + SPARE_CONNECTIONS:
                transport.abort()

    @property
    def idle(self) -> bool:
        """Whether nothing is asked, and all that was answered is taken."""
        if self.transport.is_closing():
            return False
        unasked = self._phase in ("idle", "asked") and not self._busy
        return unasked and not self.transport.get_write_buffer_size()

    def look(self, now: float) -> None:
        """Ends what takes too long."""
        limits = self._limits
        if self.transport.is_closing():
            self._closing_since = self._closing_since or now
            if now - self._closing_since > limits.take_seconds:
                self.transport.abort()
        elif self._full_since is not None and now - self._full_since > limits.take_seconds:
            log.info("a client was cut off: it took no part in %g s", limits.take_seconds)
            self.transport.abort()
        elif self._phase == "idle" and now - self._since > limits.head_seconds:
            self.transport.close()
        elif self._phase == "head" and self._busy:  # the answer before it counts by itself
            self._since = now
        elif self._phase == "head" and now - self._since > limits.head_seconds:
            message = f"head of a request must come within {limits.head_seconds:g} s"
            self._end(RequestError(Code.DEADLINE, message))
        elif self._phase == "body" and now - self._since > limits.body_seconds:
            message = f"body of a request must come within {limits.body_seconds:g} s"
            self._end(RequestError(Code.DEADLINE, message))

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self._phase == "head":
            self._head_bytes += len(data)
            if self._head_bytes > self._limits.head_bytes:
                self._end(self._too_large())

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._await("head")
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        many = len(self.connections) > self._limits.connections
        self.app = self._crowded if many else self.config.loaded_app
        lines = sum(len(name) + len(value) + 4 for name, value in self.headers)
        if len(self.url) + lines > self._limits.head_bytes:  # it came at once
            self.url, self.app = b"/", self._refuses_head
        super().on_headers_complete()
        self._await("body")

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._await("asked")

    def pause_writing(self) -> None:
        super().pause_writing()
        self._full_since = self.loop.time()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._full_since = None

    def timeout_keep_alive_handler(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        super().timeout_keep_alive_handler()

    def send_400_response(self, msg: str) -> None:
        self._end(RequestError(Code.BAD_REQUEST, msg))

    def _others(self) -> list[Connection]:
        found = [each for each in self.connections if isinstance(each, Connection)]
        return [each for each in found if each is not self]

    def _await(self, phase: str) -> None:
        self._phase, self._since = phase, self.loop.time()

    def _end(self, refusal: RequestError) -> None:
        """Refuses a request that no route sees whole. Where its answer was begun, or that of the
        one before it is on its way, nothing more can be said."""
        if self.transport.is_closing():
            return
        own = self._busy or self._phase == "body"
        if not own or not self.cycle.response_started:
            response = refusals.response(refusal)
            self._told.state.refused(refusal.code)
            response.headers["Connection"] = "close"
            lines = [STATUS_LINE[response.status_code]]
            lines += [name + b": " + value + b"\r\n" for name, value in response.raw_headers]
            self.transport.write(b"".join([*lines, b"\r\n", bytes(response.body)]))
        if self._busy:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()

    @property
    def _busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _too_large(self) -> RequestError:
        message = f"head of a request must have at most {self._limits.head_bytes} bytes"
        return RequestError(Code.TOO_LARGE, message)

    async def _refuses_head(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = refusals.response(self._too_large())
        response.headers["Connection"] = "close"
        await response({**scope, "app": self._told}, receive, send)

    async def _crowded(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = "this server has as many clients as it can have; try again in a second"
        response = refusals.response(RequestError(Code.QUEUE_FULL, message))
        response.headers["Connection"] = "close"
        await response({**scope, "app": self._told}, receive, send)
