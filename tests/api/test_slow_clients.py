"""Clients that mean ill (H4, F38): what they hold, and for how long."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import time
from collections.abc import AsyncGenerator, Iterator

import httpx
import pytest

from serving.front import requests
from serving.front.listening import SPARE_CONNECTIONS, Limits
from serving.front.sql import AT_ONCE
from tests.api.scripted import CSV, Scripted, never, reply
from tests.api.waiting import wait
from tests.api.world import http

QUICK = Limits(head_seconds=0.4, body_seconds=0.4, idle_seconds=1, take_seconds=0.5)
POST = b"POST /sql HTTP/1.1\r\nHost: localhost\r\n"
GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"


def connect(client: httpx.Client) -> socket.socket:
    return socket.create_connection(("127.0.0.1", client.base_url.port or 0), timeout=10)


def rest(raw: socket.socket) -> bytes:
    """All that comes until the server closes."""
    told = b""
    with contextlib.suppress(ConnectionError):
        while part := raw.recv(65536):
            told += part
    return told


def statuses(told: bytes) -> list[int]:
    """Of the answers in there, and each refusal in the one shape of errors."""
    found = []
    while told:
        head, _, told = told.partition(b"\r\n\r\n")
        status = int(head.split(b" ")[1])
        lines = [line.partition(b": ") for line in head.split(b"\r\n")[1:]]
        fields = {name.lower(): value for name, _, value in lines}
        size = int(fields.get(b"content-length", b"0"))
        body, told = told[:size], told[size:]
        if status >= 400:
            assert json.loads(body)["error"].keys() == {"code", "message", "line", "column"}
            assert status not in (400, 408) or fields[b"connection"] == b"close"
        found.append(status)
    return found


BROKEN: tuple[tuple[bytes, list[int]], ...] = (
    (b"", []),
    (GET, [408]),
    (GET + b"X: " + b"y" * 30_000, [408]),
    (GET + b"X: " + b"y" * 300_000, [413]),
    (GET + b"X: y\r\n" * 30_000, [413]),
    (GET + b"X: " + b"y" * 60_000 + b"\r\n\r\n", [200]),
    (GET + b"X: " + b"y" * 70_000 + b"\r\n\r\n", [413]),
    (b"GET /sql?q=" + b"y" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", [413]),
    (POST + b"Content-Length: 10\r\n\r\nSELEC", [408]),
    (POST + b"Expect: 100-continue\r\nContent-Length: 10\r\n\r\n", [100, 408]),
    (POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nSELEC\r\n", [408]),
    (GET + b"Content-Length: 10\r\n\r\nSELEC", [200]),  # it is not read, and not waited for
    (POST + b"Content-Length: 1\r\n\r\nx\x00\x01", [400]),
    (POST + b"Content-Length: -1\r\n\r\n", [400]),
    (POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nx", [400]),
    (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", [400]),
    (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", [400]),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", [400]),
    (b"GET http://[ HTTP/1.1\r\nHost: localhost\r\n\r\n", [400]),
    (b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", [400]),
    (GET + b"\r\n" + GET + b"\r\n", [200, 200]),
)


def test_requests_that_do_not_come_whole() -> None:
    scripted = Scripted({"x": reply(b"{}")})
    with http(scripted, limits=QUICK) as client, contextlib.ExitStack() as open_:
        started = time.monotonic()
        asked = [open_.enter_context(connect(client)) for _ in BROKEN]
        for raw, (sent, _) in zip(asked, BROKEN, strict=True):
            with contextlib.suppress(ConnectionError):
                raw.sendall(sent)
        found = [(sent, statuses(rest(raw))) for raw, (sent, _) in zip(asked, BROKEN, strict=True)]
        assert found == list(BROKEN)
        assert time.monotonic() - started < 5.0
        assert client.get("/healthz").status_code == 200
        assert scripted.asked == []


@pytest.mark.parametrize("sent", [GET + b"X: " + b"y" * 100, POST + b"Content-Length: 99\r\n\r\n"])
def test_a_byte_now_and_then_does_not_help(sent: bytes) -> None:
    with http(Scripted(), limits=QUICK) as client, connect(client) as raw:
        raw.sendall(sent[:-2] if sent.startswith(b"GET") else sent)
        started, told = time.monotonic(), b""
        raw.settimeout(0.03)
        while time.monotonic() - started < 5.0 and not told:
            with contextlib.suppress(TimeoutError):
                told = raw.recv(65536)
            with contextlib.suppress(ConnectionError):
                raw.send(b"y")
        assert statuses(told) == [408]


def test_a_route_gives_up_on_a_body_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "BODY_SECONDS", 0.2)
    with http(Scripted()) as client, connect(client) as raw:
        raw.sendall(POST + b"Content-Length: 10\r\n\r\nSELEC")
        told = rest(raw)
        assert statuses(told) == [408]
        assert b"body must come within 0.2 s; got 5 bytes of it" in told


def test_who_waits_idle_gives_way() -> None:
    limits = Limits(connections=10)
    with http(Scripted({"x": never}), limits=limits) as client, contextlib.ExitStack() as open_:
        idle = [open_.enter_context(connect(client)) for _ in range(5)]
        for each in idle[1:]:  # the first one never says a word
            each.sendall(GET + b"\r\n")
            told = b""
            while not told.endswith(b"}"):
                told += each.recv(65536)
        busy = [open_.enter_context(connect(client)) for _ in range(10)]
        for each in busy:
            each.sendall(b"GET /sql?q=x HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert [rest(each) for each in idle] == [b""] * 5
        busy[0].settimeout(0.2)
        with pytest.raises(TimeoutError):
            busy[0].recv(1)

        full = client.get("/healthz")
        assert (full.status_code, full.headers["retry-after"]) == (429, "1")
        assert full.json()["error"]["code"] == "queue_full"
        crowd = [open_.enter_context(connect(client)) for _ in range(SPARE_CONNECTIONS + 20)]
        for each in crowd:
            with contextlib.suppress(ConnectionError):
                each.sendall(GET)
        busy[0].close()
        for each in crowd:
            each.close()
        wait(lambda: client.get("/healthz").status_code == 200)


def test_idle_connections_are_closed_in_the_end() -> None:
    with http(Scripted(), limits=QUICK) as client, connect(client) as raw:
        raw.sendall(GET + b"\r\n")
        started = time.monotonic()
        assert statuses(rest(raw)) == [200]
        assert 0.9 < time.monotonic() - started < 8.0


class Endless:
    """A stream that says how much of it was taken, and whether it was told to end."""

    def __init__(self) -> None:
        self.parts = self.begun = self.ended = 0

    async def parts_of(self) -> AsyncGenerator[bytes]:
        self.begun += 1
        try:
            while True:
                self.parts += 1
                yield b"x" * 256 * 1024
        finally:
            self.ended += 1


@pytest.mark.slow
def test_two_hundred_clients_that_read_a_byte_a_second() -> None:
    endless, count = Endless(), 200
    scripted = Scripted({"x": lambda: reply(endless.parts_of(), CSV)(), "y": reply(b"{}")})
    limits = Limits(take_seconds=1.0)
    with http(scripted, limits=limits) as client, contextlib.ExitStack() as open_:
        slow = []
        for _ in range(count):
            raw = open_.enter_context(socket.socket())
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw.connect(("127.0.0.1", client.base_url.port or 0))
            raw.sendall(b"GET /sql?q=x HTTP/1.1\r\nHost: localhost\r\n\r\n")
            slow.append(raw)
        wait(lambda: endless.begun == count)
        limit = time.monotonic() + 30
        while endless.ended < count:
            assert time.monotonic() < limit
            for raw in slow:
                raw.setblocking(False)
                with contextlib.suppress(BlockingIOError, ConnectionError):
                    raw.recv(1)
            started = time.monotonic()
            assert client.get("/sql?q=y").status_code == 200
            assert time.monotonic() - started < 5.0
            time.sleep(0.2)
        assert endless.parts <= count * 8  # 2 MB for each: what waits here and in the kernel


@contextlib.contextmanager
def asking(client: httpx.Client, body: object) -> Iterator[socket.socket]:
    """A connection on which that was asked."""
    text = json.dumps(body).encode()
    with connect(client) as raw:
        lines = b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(text)
        raw.sendall(POST + lines + text)
        yield raw


@pytest.mark.parametrize(
    ("body", "count"), [({"sql": "x"}, 1), ({"queries": [{"sql": "x"}] * 20}, AT_ONCE)]
)
def test_a_client_that_leaves_ends_its_queries(body: object, count: int) -> None:
    scripted = Scripted({"x": never})
    with http(scripted) as client:
        with asking(client, body):
            wait(lambda: len(scripted.asked) == count)
            assert not scripted.cancelled
        wait(lambda: len(scripted.cancelled) == count, 1.0)
        assert len(scripted.asked) == count


def test_a_client_that_leaves_ends_its_stream() -> None:
    endless = Endless()
    with http(Scripted({"x": lambda: reply(endless.parts_of(), CSV)()})) as client:
        with asking(client, {"sql": "x"}) as raw:
            assert raw.recv(1000).startswith(b"HTTP/1.1 200")
            assert not endless.ended
        wait(lambda: endless.ended == 1, 1.0)


def test_what_the_server_says_of_a_request_is_logged_like_everything(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with http(Scripted()) as client, connect(client) as raw:
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
        raw.sendall(b"GET /\xff HTTP/1.1\r\n\r\n")
        assert statuses(rest(raw)) == [400]
    assert "Invalid HTTP request received." in caplog.messages
    assert logging.getLogger("uvicorn.error").handlers == []
