"""The front's end of a wire: frames in and out of the event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from typing import Any, cast

from serving.frames import Frame, FrameError, Frames, encode


class Channel(asyncio.Protocol):
    """Calls `told` for each frame, and `ended` once when the other side has closed, or has sent
    what is no frame, or one of more than `most` bytes."""

    def __init__(
        self, told: Callable[[Frame], None], ended: Callable[[], None], most: int | None = None
    ) -> None:
        self._told, self._ended = told, ended
        self._frames = Frames() if most is None else Frames(most, most)
        self._transport: asyncio.Transport | None = None
        self._early: list[bytes] | None = []  # what was sent before there was a transport
        self._paused = False
        self._closed = False

    async def over(self, end: socket.socket) -> None:
        """Begin, over a connected socket, which this closes. What was sent before is kept."""
        end.setblocking(False)
        await asyncio.get_running_loop().create_connection(lambda: self, sock=end)

    def send(self, header: Mapping[str, Any], payload: bytes = b"") -> None:
        self.write(encode(header, payload))

    def write(self, frame: bytes) -> None:
        """Send a frame that is encoded already."""
        if self._early is not None:
            self._early.append(frame)
        elif self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame)

    @property
    def waiting(self) -> int:
        """Bytes that were sent and not yet taken."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def pause(self) -> None:
        """Take no more frames, so that who sends them has to wait."""
        if self._transport is not None and not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and self._paused and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    def close(self) -> None:
        self._closed = True
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        early, self._early = self._early or [], None
        if self._closed:
            self._transport.abort()
        else:
            self._transport.writelines(early)

    def data_received(self, data: bytes) -> None:
        self._frames.add(data)
        try:
            while (frame := self._frames.next()) is not None:
                self._told(frame)
        except FrameError:
            self.close()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        self._transport = None
        self._ended()
