"""What the processes of serving say to each other: a JSON header and, behind it, bytes as they are.

    4 bytes: size of the header | 8 bytes: size of the payload | header | payload

The header is never more than JSON, so that a process whom clients' statements run in can hurt
nobody by what it says.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SIZES = struct.Struct(">IQ")
HEADER_BYTES = 16 * 2**20
READ_BYTES = 256 * 1024
# with a socket, to the spare: fork a worker there
FOR_NOW, FOR_PAST = b"n", b"p"
# what it answers, for each: the process, 0 where there is none
PID = struct.Struct(">q")


@dataclass(frozen=True)
class Frame:
    """One message; `header["kind"]` says which."""

    header: Mapping[str, Any]
    payload: bytes = b""

    @property
    def kind(self) -> str:
        return str(self.header["kind"])


class FrameError(ValueError):
    """Bytes that are no frames."""


def encode(header: Mapping[str, Any], payload: bytes = b"") -> bytes:
    told = json.dumps(header, separators=(",", ":")).encode()
    return b"".join((SIZES.pack(len(told), len(payload)), told, payload))


class Frames:
    """Bytes as they arrive -> frames. `most` bounds a payload, `head` a header: who sends more is
    not believed."""

    def __init__(self, most: int = 2**40, head: int = HEADER_BYTES) -> None:
        self._most, self._head = most, head
        self._held = bytearray()

    def add(self, data: bytes) -> None:
        self._held += data

    def next(self) -> Frame | None:
        """The next whole frame; None while there is none. Raises `FrameError`."""
        held = self._held
        if len(held) < SIZES.size:
            return None
        header, payload = SIZES.unpack_from(held)
        if header > self._head or payload > self._most:
            message = f"a frame must have at most {self._head} and {self._most} bytes"
            raise FrameError(message)
        end = SIZES.size + header + payload
        if len(held) < end:
            return None
        told = bytes(held[SIZES.size : SIZES.size + header])
        rest = bytes(held[SIZES.size + header : end])
        del held[:end]
        try:
            found = json.loads(told)
        except ValueError as error:
            raise FrameError(str(error)) from error
        if not isinstance(found, dict) or "kind" not in found:
            message = "the header of a frame must be an object with a kind"
            raise FrameError(message)
        return Frame(found, rest)


class Wire:
    """A socket that blocks, for processes that wait for one thing at a time."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(True)
        self._socket = end
        self._frames = Frames()
        self._sending = threading.Lock()  # one frame is not sent into another

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, header: Mapping[str, Any], payload: bytes = b"") -> None:
        """Raises `OSError` where nobody listens any more."""
        with self._sending:
            if len(payload) < READ_BYTES:
                self._socket.sendall(encode(header, payload))
            else:
                told = encode(header)
                self._socket.sendall(SIZES.pack(len(told) - SIZES.size, len(payload)))
                self._socket.sendall(told[SIZES.size :])
                self._socket.sendall(payload)

    def receive(self) -> Frame | None:
        """The next frame; None when the other side has ended."""
        while (frame := self._frames.next()) is None:
            try:
                data = self._socket.recv(READ_BYTES)
            except OSError:
                return None
            if not data:
                return None
            self._frames.add(data)
        return frame

    def close(self) -> None:
        self._socket.close()
