"""Clients of a server, each with one connection that it keeps: the next request when the answer to
the last one is there. A few lines of HTTP/1.1, as a library would take more of the machine than the
server does."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

Ask = Callable[[int], Mapping[str, Any]]  # the number of a request -> the JSON object to send


@dataclass(frozen=True)
class Found:
    """Seconds that each answer took, and how long all of it was."""

    seconds: Sequence[float]
    lasted: float

    @property
    def rate(self) -> float:
        return len(self.seconds) / self.lasted

    def percentile(self, share: float) -> float:
        """In milliseconds."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000


class Connection:
    """One client's."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def to(cls, url: str) -> Connection:
        found = urlsplit(url)
        return cls(*await asyncio.open_connection(found.hostname, found.port))

    async def ask(self, asked: Mapping[str, Any]) -> bytes:
        """The body of the answer; RuntimeError where it is no answer."""
        sent = json.dumps(asked).encode()
        head = (
            "POST /sql HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(sent)}\r\n\r\n"
        )
        self._writer.write(head.encode() + sent)
        told = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
        status, *lines = told.splitlines()
        fields = dict(line.split(": ", 1) for line in lines if line)
        if "transfer-encoding" in fields:
            body = await self._chunks()
        else:
            body = await self._reader.readexactly(int(fields["content-length"]))
        if " 200" not in status or b'{"error"' in body:  # also of one among several
            raise RuntimeError(body.decode())
        return body

    async def _chunks(self) -> bytes:
        parts = []
        while size := int(await self._reader.readline(), 16):
            parts.append(await self._reader.readexactly(size))
            await self._reader.readexactly(2)
        await self._reader.readexactly(2)
        return b"".join(parts)

    def close(self) -> None:
        self._writer.close()


async def in_turns(url: str, clients: int, seconds: float, ask: Ask) -> Found:
    """So many clients, each asking again at once, for so long."""
    took: list[float] = []
    until = time.perf_counter() + seconds

    async def client(number: int) -> None:
        connection = await Connection.to(url)
        while (begun := time.perf_counter()) < until:
            await connection.ask(ask(number))
            took.append(time.perf_counter() - begun)
            number += clients
        connection.close()

    await asyncio.gather(*(client(number) for number in range(clients)))
    return Found(took, seconds)


async def each_second(url: str, clients: int, seconds: int, asked: Mapping[str, Any]) -> Found:
    """So many clients that ask the same once a second, spread over it; a late answer delays none,
    as its time counts from when it should have been asked for."""
    took: list[float] = []
    begin = time.perf_counter() + 0.2

    async def client(number: int) -> None:
        connection = await Connection.to(url)
        for second in range(seconds):
            due = begin + second + number / clients
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            await connection.ask(asked)
            took.append(time.perf_counter() - due)
        connection.close()

    await asyncio.gather(*(client(number) for number in range(clients)))
    return Found(took, seconds)
