"""What a request may say beside its statement, and what comes beside a body."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from serving.envelope import Code, RequestError
from serving.front.coverage_header import HEADER_BYTES, headers
from serving.front.preferences import tolerated
from serving.query import Head
from serving.worker.tables import Change
from tests.api.scripted import CSV, Scripted, reply
from tests.api.test_error_shape import error
from tests.api.world import Served, ask, http

ARROW = "application/vnd.apache.arrow.stream"


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"format": "json"}, "application/json"),
        ({"format": "csv"}, "text/csv"),
        ({"format": "arrow"}, ARROW),
    ],
)
def test_format_goes_before_accept(client: httpx.Client, fields: dict[str, str], kind: str) -> None:
    wanted = {"Accept": "text/csv;q=0.5, application/json;q=0.1"}
    posted = client.post("/sql", json={"sql": "SELECT 1", **fields}, headers=wanted)
    got = client.get("/sql", params={"q": "SELECT 1", **fields}, headers=wanted)
    for answer in (posted, got):
        assert answer.headers["content-type"].partition(";")[0] == kind
    assert posted.content == got.content or kind == "application/json"
    plain = client.post("/sql", json={"sql": "SELECT 1"}, headers=wanted)
    assert plain.headers["content-type"].startswith("text/csv")
    assert plain.headers["vary"] == "Accept, Accept-Encoding"
    assert plain.headers["everview-source"] == "worker"


def test_the_options_arrive_as_they_are_meant() -> None:
    scripted = Scripted({"x": reply(b"{}")})
    with http(scripted) as client:
        client.get("/sql?q=x&strict=true&as_of=17&timeout_ms=99000&max_rows=5&integers=string")
        client.get("/sql?q=x&strict=false&as_of=2026-01-01T10:00:00Z")
        client.post("/sql", json={"sql": "x", "as_of": 0, "strict": False})
        client.post("/sql", json={"sql": "x", "as_of": None, "max_rows": 10**9})
    found = [
        (each.strict, each.as_of, each.max_rows, each.integers, timeout)
        for each, _, timeout in scripted.asked
    ]
    assert found == [
        (True, 17, 5, "string", 60_000),
        (False, "2026-01-01T10:00:00Z", 10_000, "number", 10_000),
        (False, 0, 10_000, "number", 10_000),
        (False, None, 1_000_000, "number", 10_000),
    ]


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("strict", ["true", 1, None]),
        ("as_of", [-1, 1.5, True, "yesterday", "2026-13-01", "9" * 50, []]),
        ("format", ["xml", "", None, ["csv"]]),
    ],
)
def test_options_that_cannot_be_meant(client: httpx.Client, field: str, values: list[Any]) -> None:
    for value in values:
        found = error(ask(client, "SELECT 1", **{field: value}))
        assert found["code"] == "bad_request", value
        assert found["message"].startswith(field)


def test_strict_refuses_what_is_degraded(served: Served, client: httpx.Client) -> None:
    (stream,) = served.follower.streams.values()
    sql = "SELECT hits FROM everything"
    assert ask(client, sql, strict=True).status_code == 200
    before = tuple(stream.coverage())
    worse = tuple(replace(each, degraded="it is stale") for each in before)
    served.tables.apply(Change(worse, (stream.told(),)))
    try:
        found = ask(client, sql, strict=True)
        assert error(found)["code"] == "degraded"
        assert error(found)["message"] == "view 'everything' is degraded: it is stale"
        assert found.headers["retry-after"] == "1"
        assert ask(client, sql).json()["coverage"][0]["degraded"] == "it is stale"
        assert ask(client, "SELECT 1", strict=True).status_code == 200
    finally:
        served.tables.apply(Change(before, (stream.told(),)))


def test_coverage_that_is_too_long_for_a_header_is_shortened() -> None:
    views = [
        {
            "view": f"view_{at}",
            "version": "0" * 64,
            "cut": 1,
            "epoch": 7,
            "degraded": None,
            "position": {str(each): 10**9 for each in range(50)},
            "fresh_as_of": None,
        }
        for at in range(100)
    ]
    views[99]["degraded"] = "\N{SNOWMAN}" * 3000
    one = headers(Head(CSV, tuple(views[:1])))
    assert json.loads(one["Everview-Coverage"]) == views[:1]
    assert "Everview-Coverage-Shortened" not in one
    for count, least in ((10, 10), (100, 20)):
        found = headers(Head(CSV, tuple(views[-count:]), row_count=3, truncated=False))
        told = json.loads(found["Everview-Coverage"])
        assert found["Everview-Coverage"].isascii()
        assert len(found["Everview-Coverage"]) <= HEADER_BYTES
        assert found["Everview-Coverage-Shortened"] == f"{len(told)} of {count}"
        assert count >= len(told) >= least
        assert told[0]["view"] == "view_99"
        assert told[0]["degraded"] == "\N{SNOWMAN}" * 200
        assert told[1] == {name: views[-count][name] for name in told[1]}
        assert (found["Everview-Row-Count"], found["Everview-Truncated"]) == ("3", "false")


def test_preferences() -> None:
    assert tolerated("gzip, zstd", ["zstd", "gzip"]) == "zstd"
    assert tolerated("gzip;q=1, zstd;q=0.9", ["zstd", "gzip"]) == "gzip"
    assert tolerated("*;q=0.1", ["zstd", "gzip"]) == "zstd"
    assert tolerated("zstd;q=0, *", ["zstd", "gzip"]) == "gzip"
    assert tolerated("identity, br", ["zstd", "gzip"]) is None
    assert tolerated("", ["zstd", "gzip"]) is None
    assert tolerated("gzip;q=much", ["zstd", "gzip"]) is None
    assert tolerated("zstd;q=much, *;q=0.5, gzip;q=0.4", ["zstd", "gzip"]) == "zstd"
    assert tolerated("zstd, zstd;q=0, gzip;q=.5", ["zstd", "gzip"]) == "gzip"
    assert tolerated("zstd;q=nan, gzip ; Q=0.1, zstd;x=1;q=-1", ["zstd", "gzip"]) == "gzip"


async def _two_then(end: RequestError | Exception | None) -> AsyncGenerator[bytes]:
    yield b"a,b\r\n"
    yield b"1,2\r\n"
    if end is not None:
        raise end


@pytest.mark.parametrize("encoding", ["identity", "gzip", "zstd"])
@pytest.mark.parametrize("end", [RequestError(Code.INTERNAL, "killed"), ConnectionError("gone")])
def test_an_answer_that_breaks_off_breaks_the_connection(end: Exception, encoding: str) -> None:
    scripted = Scripted(
        {
            "whole": lambda: reply(_two_then(None), CSV)(),
            "broken": lambda: reply(_two_then(end), CSV)(),
        }
    )
    with http(scripted) as client:
        assert client.get("/sql?q=whole").content == b"a,b\r\n1,2\r\n"
        with socket.create_connection(("127.0.0.1", client.base_url.port or 0), timeout=5) as raw:
            lines = f"GET /sql?q=broken HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: {encoding}"
            raw.sendall(f"{lines}\r\n\r\n".encode())
            told = b""
            while part := raw.recv(65536):
                told += part
        head, _, body = told.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert b"transfer-encoding: chunked" in head
        assert body
        assert not body.endswith(b"0\r\n\r\n")
        if encoding == "identity":
            assert b"1,2\r\n" in body


def test_an_answer_that_fails_before_its_first_byte_is_an_error() -> None:
    async def none() -> AsyncGenerator[bytes]:
        raise RequestError(Code.DEADLINE, "too late")
        yield b""

    with http(Scripted({"x": reply(none(), CSV)})) as client:
        assert error(client.get("/sql?q=x"))["code"] == "deadline"


def test_an_empty_stream_is_an_answer() -> None:
    async def none() -> AsyncGenerator[bytes]:
        return
        yield b""

    with http(Scripted({"x": reply(none(), CSV)})) as client:
        answer = client.get("/sql?q=x")
        assert (answer.status_code, answer.content) == (200, b"")
