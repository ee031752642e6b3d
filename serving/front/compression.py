"""Answers as gzip or zstd, by `Accept-Encoding`.

What has less than `LEAST_BYTES`, events, and files that are compressed inside stay as they are.
Large parts are compressed in a thread: the loop has others to serve.
"""

from __future__ import annotations

import asyncio
import sys
import zlib
from collections.abc import Callable, Mapping
from typing import Protocol

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.front.preferences import tolerated

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LEAST_BYTES = 1024
ALOOF_BYTES = 32 * 1024  # more than that is compressed beside the loop
AS_IT_IS = frozenset({"text/event-stream", "application/vnd.apache.parquet"})


class Compressor(Protocol):
    """Bytes to bytes; each part that comes out can be read by itself."""

    def part(self, data: bytes, last: bool) -> bytes: ...


class Gzip:
    def __init__(self) -> None:
        self._compress = zlib.compressobj(level=5, wbits=31)

    def part(self, data: bytes, last: bool) -> bytes:
        found = self._compress.compress(data)
        return found + self._compress.flush(zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH)


class Zstd:
    def __init__(self) -> None:
        self._compress = zstd.ZstdCompressor(level=3)

    def part(self, data: bytes, last: bool) -> bytes:
        if last:
            return self._compress.compress(data, zstd.ZstdCompressor.FLUSH_FRAME)
        return self._compress.compress(data, zstd.ZstdCompressor.FLUSH_BLOCK)


ENCODINGS: Mapping[str, Callable[[], Compressor]] = {"zstd": Zstd, "gzip": Gzip}
"""The best first."""


class Compressed:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] != "HEAD":
            send = _Reply(Headers(scope=scope).get("accept-encoding", ""), send).message
        await self._app(scope, receive, send)


class _Reply:
    """One response on its way: its start waits for its first part, which decides."""

    def __init__(self, accepted: str, send: Send) -> None:
        self._accepted, self._send = accepted, send
        self._start: Message = {}
        self._compressor: Compressor | None = None

    async def message(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if _kind(message) not in AS_IT_IS:
                self._start = message
                return
        elif self._start:
            message = await self._first(message)
        elif self._compressor is not None:
            message = await self._part(message)
        await self._send(message)

    async def _first(self, message: Message) -> Message:
        start, self._start = self._start, {}
        headers = MutableHeaders(raw=start["headers"])
        encoding = self._encoding(headers, message)
        if encoding is not None:
            self._compressor = ENCODINGS[encoding]()
            message = await self._part(message)
            headers["Content-Encoding"] = encoding
            del headers["Content-Length"]
            if not message["more_body"]:
                headers["Content-Length"] = str(len(message["body"]))
        await self._send({**start, "headers": headers.raw})
        return message

    def _encoding(self, headers: MutableHeaders, message: Message) -> str | None:
        headers.add_vary_header("Accept-Encoding")
        whole = not message.get("more_body", False)
        if whole and len(message.get("body", b"")) < LEAST_BYTES:
            return None
        return tolerated(self._accepted, list(ENCODINGS))

    async def _part(self, message: Message) -> Message:
        assert self._compressor is not None
        data, more = message.get("body", b""), message.get("more_body", False)
        if len(data) > ALOOF_BYTES:
            data = await asyncio.to_thread(self._compressor.part, data, not more)
        elif data or not more:
            data = self._compressor.part(data, not more)
        return {**message, "body": data, "more_body": more}


def _kind(start: Message) -> str:
    return Headers(raw=start["headers"]).get("content-type", "").partition(";")[0]
