"""gzip and zstd, by what a client says it can read."""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest

from serving.front import compression
from serving.front.compression import LEAST_BYTES
from tests.api.scripted import CSV, Scripted, reply
from tests.api.world import http

LARGE = b"".join(b"%d,some words that are said again and again\r\n" % n for n in range(40_000))
EDGE = b"x" * LEAST_BYTES


async def parts() -> AsyncGenerator[bytes]:
    for at in range(0, len(LARGE), 70_001):
        yield LARGE[at : at + 70_001]


SCRIPT = {
    "large": reply(LARGE, CSV),
    "parts": lambda: reply(parts(), CSV)(),
    "edge": reply(EDGE, CSV),
    "small": reply(EDGE[1:], CSV),
    "none": reply(b"", CSV),
    "parquet": reply(LARGE, "application/vnd.apache.parquet"),
    "noise": reply(os.urandom(600_000), CSV),
}


def raw(client: httpx.Client, sql: str, accepted: str) -> tuple[bytes, httpx.Headers]:
    """The body as it is sent."""
    with client.stream("GET", f"/sql?q={sql}", headers={"Accept-Encoding": accepted}) as answer:
        assert answer.status_code == 200
        return b"".join(answer.iter_raw()), answer.headers


def plain(body: bytes, encoding: str) -> bytes:
    if encoding == "gzip":
        unpacked = zlib.decompressobj(wbits=31)
        found = unpacked.decompress(body) + unpacked.flush()
        assert unpacked.eof
        return found
    unframed: Any = vars(compression)["zstd"].ZstdDecompressor()
    found = unframed.decompress(body)
    assert unframed.eof
    return bytes(found)


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_what_is_large_is_compressed(encoding: str) -> None:
    with http(Scripted(SCRIPT)) as client:
        for sql, whole in (("large", LARGE), ("parts", LARGE), ("edge", EDGE)):
            body, headers = raw(client, sql, encoding)
            assert headers["content-encoding"] == encoding
            assert "Accept-Encoding" in headers["vary"]
            assert plain(body, encoding) == whole
            assert len(body) < len(whole) / 2
            assert ("content-length" in headers) == (sql == "edge")
        body, headers = raw(client, "noise", encoding)
        assert len(plain(body, encoding)) == 600_000


def test_what_is_small_or_not_wanted_is_left_as_it_is() -> None:
    with http(Scripted(SCRIPT)) as client:
        for sql, accepted in (
            ("small", "gzip, zstd"),
            ("none", "gzip"),
            ("parquet", "gzip"),
            ("large", ""),
            ("large", "identity"),
            ("large", "br, deflate"),
            ("large", "gzip;q=0, zstd;q=0.0"),
            ("large", "*;q=0"),
        ):
            body, headers = raw(client, sql, accepted)
            assert "content-encoding" not in headers, (sql, accepted)
            assert int(headers["content-length"]) == len(body)
            assert ("accept-encoding" in headers["vary"].lower()) == (sql != "parquet")
        assert raw(client, "large", "gzip;q=0.5, zstd;q=0.4")[1]["content-encoding"] == "gzip"
        assert raw(client, "large", "gzip, deflate, br, zstd")[1]["content-encoding"] == "zstd"
        head = client.head("/sql?q=large", headers={"Accept-Encoding": "gzip"})
        assert (head.status_code, head.content) == (200, b"")


def test_large_parts_do_not_hold_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []

    class Watched(compression.Gzip):
        def part(self, data: bytes, last: bool) -> bytes:
            threads.append((threading.current_thread().name, len(data)))
            return super().part(data, last)

    monkeypatch.setattr(compression, "ENCODINGS", {"gzip": Watched})
    with http(Scripted(SCRIPT)) as client:
        assert plain(raw(client, "parts", "gzip")[0], "gzip") == LARGE
        aside = {name.startswith("asyncio_") for name, size in threads if size > 32 * 1024}
    assert aside == {True}, threads[:3]
    assert len(threads) > 10
