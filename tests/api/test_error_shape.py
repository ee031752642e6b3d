"""One error shape. This table is its specification: every code, its status, its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pytest

from serving.envelope import MESSAGE_BYTES, STATUSES, Code, RequestError, from_engine
from serving.worker.guard import SQL_BYTES
from tests.api.world import Served, World, ask, serving

PLACE = tuple[int | None, int | None]
NOWHERE: PLACE = (None, None)

SQL: tuple[tuple[str, Code, PLACE], ...] = (
    ("", Code.BAD_REQUEST, NOWHERE),
    (" ; -- nothing", Code.BAD_REQUEST, NOWHERE),
    ("SELECT 1; SELECT 2", Code.BAD_REQUEST, NOWHERE),
    ("SELECT '\0'", Code.BAD_REQUEST, NOWHERE),
    ("SELEC 1", Code.BAD_SQL, (1, 1)),
    ("SELECT 'open", Code.BAD_SQL, (1, 8)),
    ("SELECT k,\n  nope\nFROM by_key", Code.BAD_SQL, (2, 3)),
    ("SELECT '\u00e9\U0001f600', nope FROM by_key", Code.BAD_SQL, (1, 14)),
    ("SELECT nofunction(1)", Code.BAD_SQL, (1, 8)),
    ("SELECT CAST('x' AS INTEGER)", Code.BAD_SQL, (1, 8)),
    ("SELECT 1 // 0", Code.BAD_SQL, NOWHERE),
    ("SELECT 2147483647::INTEGER + 1::INTEGER", Code.BAD_SQL, NOWHERE),
    ("SELECT ?", Code.BAD_SQL, NOWHERE),
    ("SELECT TIMETZ '10:00:00+02'", Code.BAD_SQL, NOWHERE),
    ("SELECT [{'a': 1::VARIANT}]", Code.BAD_SQL, NOWHERE),
    (
        "SELECT CASE WHEN i < 5000 THEN '1' ELSE 'x' END::INTEGER FROM range(9000) t(i)",
        Code.BAD_SQL,
        (1, 48),
    ),
    ("SELECT " + "(" * 20_000 + "1" + ")" * 20_000, Code.BAD_SQL, NOWHERE),
    ("SELECT hits\nFROM nowhere", Code.UNKNOWN_VIEW, (2, 6)),
    ("SELECT * FROM main.by_key", Code.UNKNOWN_VIEW, (1, 15)),
    ("FROM 'file.csv'", Code.UNKNOWN_VIEW, (1, 6)),
    ("DROP VIEW by_key", Code.REFUSED, NOWHERE),
    ("SELECT * FROM read_text('x')", Code.REFUSED, (1, 15)),
    ("SELECT '" + "x" * SQL_BYTES + "'", Code.TOO_LARGE, NOWHERE),
    ("SELECT list(i) FROM range(10_000_000) t(i)", Code.TOO_LARGE, NOWHERE),
)


def error(response: httpx.Response) -> dict[str, Any]:
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert body.keys() == {"error"}
    assert list(body["error"]) == ["code", "message", "line", "column"]
    assert response.status_code == STATUSES[Code(body["error"]["code"])]
    message = body["error"]["message"]
    assert 0 < len(message.encode()) <= MESSAGE_BYTES
    assert "Traceback" not in message
    assert "everview_internal" not in message
    assert "{" not in message or "exception_type" not in message
    found: dict[str, Any] = body["error"]
    return found


@pytest.mark.parametrize(("sql", "code", "place"), SQL, ids=range(len(SQL)))
def test_a_statement_that_gets_no_answer(
    client: httpx.Client, sql: str, code: Code, place: PLACE
) -> None:
    found = error(ask(client, sql))
    assert (found["code"], (found["line"], found["column"])) == (code, place), found["message"]
    assert ask(client, "SELECT 1").json()["rows"] == [[1]]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"params": [1, 2]}, Code.BAD_SQL),
        ({"params": [10**60]}, Code.BAD_SQL),
        ({"params": {"a": 1}}, Code.BAD_SQL),
        ({"params": "x"}, Code.BAD_REQUEST),
        ({"max_rows": 0}, Code.BAD_REQUEST),
        ({"max_rows": "10"}, Code.BAD_REQUEST),
        ({"max_rows": True}, Code.BAD_REQUEST),
        ({"timeout_ms": -1}, Code.BAD_REQUEST),
        ({"timeout_ms": 1.5}, Code.BAD_REQUEST),
        ({"integers": "roman"}, Code.BAD_REQUEST),
        ({"nonsense": 1}, Code.BAD_REQUEST),
        ({"sql": None}, Code.BAD_REQUEST),
    ],
)
def test_fields_that_cannot_be_meant(
    client: httpx.Client, fields: dict[str, Any], code: Code
) -> None:
    assert error(client.post("/sql", json={"sql": "SELECT 1", **fields}))["code"] == code


FIELDS = (
    "fields must be some of as_of, format, integers, max_rows, params, sql, strict, timeout_ms, or "
    "queries with an array of such; got "
)
EACH = "params must be a value for each ? or $name of the statement; "


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"query": "SELECT 1"}, f"{FIELDS}query too; the statement is the field sql"),
        ({"sql": "SELECT 1", "maxrows": 1}, f"{FIELDS}maxrows too; did you mean max_rows?"),
        ({"sql": "SELECT 1", "x": 1, "y": 1}, f"{FIELDS}x, y too"),
        ({"sql": "SELECT ?, $2"}, f"{EACH}got none for 1, 2"),
        ({"sql": "SELECT $a", "params": {"b": 1}}, f"{EACH}got none for a"),
        ({"sql": "SELECT ?", "params": [1, 2]}, f"{EACH}the statement has no 2"),
        ({"sql": "SELECT 1", "params": [1, 2]}, f"{EACH}got 2 for 0"),
        (
            {"sql": "SELECT ?", "params": [10**60]},
            "params must be values that SQL has; an integer has at most 128 bits",
        ),
    ],
)
def test_fields_are_told_in_words(
    client: httpx.Client, fields: dict[str, Any], message: str
) -> None:
    assert error(client.post("/sql", json=fields))["message"] == message


@pytest.mark.parametrize(
    ("body", "content_type", "code"),
    [
        (b"{", "application/json", Code.BAD_REQUEST),
        (b"[]", "application/json", Code.BAD_REQUEST),
        (b'{"sql": "SELECT ?", "params": [NaN]}', "application/json", Code.BAD_REQUEST),
        (b"[" * 100_000, "application/json", Code.BAD_REQUEST),
        (b'{"sql": "SELECT 1", "sql": "SELECT 2"}', "application/json", Code.BAD_REQUEST),
        (
            b'{"sql": "SELECT ?", "params": [{"a": 1, "a": 2}]}',
            "application/json",
            Code.BAD_REQUEST,
        ),
        (b"SELECT '\xff'", "text/plain", Code.BAD_REQUEST),
        (json.dumps({"sql": "SELECT '\ud800'"}).encode(), "application/json", Code.BAD_REQUEST),
        (b"sql=SELECT+1", "application/x-www-form-urlencoded", Code.MEDIA_TYPE),
        (b'{"a":' * 100_000, "application/json", Code.BAD_REQUEST),
        (b"x" * 300_000, "text/plain", Code.TOO_LARGE),
        (b" " * 2**20 + b"x", "application/json", Code.TOO_LARGE),
    ],
)
def test_bodies_that_cannot_be_read(
    client: httpx.Client, body: bytes, content_type: str, code: Code
) -> None:
    response = client.post("/sql", content=body, headers={"Content-Type": content_type})
    assert error(response)["code"] == code


@pytest.mark.parametrize(
    ("method", "path", "headers", "code"),
    [
        ("GET", "/nothing", {}, Code.NOT_FOUND),
        ("GET", "//sql?q=SELECT+1", {}, Code.NOT_FOUND),
        ("GET", "/sql/?q=SELECT+1", {}, Code.NOT_FOUND),
        ("GET", "/views/..%2f..", {}, Code.NOT_FOUND),
        ("GET", "/views/nowhere", {}, Code.UNKNOWN_VIEW),
        ("GET", "/sql", {}, Code.BAD_REQUEST),
        ("GET", "/sql?q=SELECT+1&max_rows=x", {}, Code.BAD_REQUEST),
        ("GET", "/sql?q=SELECT+1", {"Accept": "text/html"}, Code.NOT_ACCEPTABLE),
        ("DELETE", "/sql", {}, Code.METHOD_NOT_ALLOWED),
        ("OPTIONS", "/sql", {}, Code.METHOD_NOT_ALLOWED),
        ("PUT", "/events", {}, Code.METHOD_NOT_ALLOWED),
        ("GET", "/%2e%2e/%2e%2e/etc/passwd", {}, Code.NOT_FOUND),
        ("GET", "/views/%2e%2e/%2e%2e", {}, Code.NOT_FOUND),
        ("GET", "/sql%2f?q=SELECT+1", {}, Code.NOT_FOUND),
        ("GET", "/sql?q=SELECT+1&params=[1]", {}, Code.BAD_REQUEST),
        ("GET", "/sql?q=SELECT+1&max_rows=1&max_rows=2", {}, Code.BAD_REQUEST),
        ("GET", "/sql?q=SELECT+1&sql=SELECT+2", {}, Code.BAD_REQUEST),
        ("GET", "/sql?q=SELECT+1&token=x", {}, Code.BAD_REQUEST),
        ("POST", "/views", {}, Code.METHOD_NOT_ALLOWED),
        ("POST", "/sql", {"Content-Encoding": "gzip"}, Code.MEDIA_TYPE),
        ("GET", "/healthz", {"Host": "evil.example"}, Code.FOREIGN),
        ("GET", "/healthz", {"Host": "127.0.0.1.evil.example:80"}, Code.FOREIGN),
        ("GET", "/views", {"Origin": "http://evil.example"}, Code.FOREIGN),
        ("GET", "/views", {"Origin": "null"}, Code.FOREIGN),
        ("GET", "/sql?q=SELECT+1", {"Sec-Fetch-Site": "cross-site"}, Code.FOREIGN),
    ],
)
def test_requests_that_lead_nowhere(
    client: httpx.Client, method: str, path: str, headers: dict[str, str], code: Code
) -> None:
    assert error(client.request(method, path, headers=headers))["code"] == code


def test_who_asks_in_a_wrong_way_is_told_the_right_one(client: httpx.Client) -> None:
    assert error(client.get("/"))["message"] == (
        "there is nothing at /; there is: /sql, /views, /streams, /events, /healthz, /readyz, "
        "/metrics (docs/queries.md)"
    )
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    told = error(client.post("/sql", content="SELECT 1", headers=form))["message"]
    assert "a statement with the header Content-Type: text/plain, or JSON" in told


def test_methods(client: httpx.Client) -> None:
    allowed = client.options("/sql").headers["allow"]
    assert sorted(allowed.split(", ")) == ["GET", "HEAD", "POST"]
    for path in ("/healthz", "/views", "/sql?q=SELECT+1"):
        head, whole = client.head(path), client.get(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-type"] == whole.headers["content-type"]
    assert client.head("/views/nowhere").status_code == 404


def test_a_deadline(client: httpx.Client) -> None:
    response = ask(client, "SELECT count(*) FROM range(100000000000)", timeout_ms=100)
    assert error(response)["code"] == Code.DEADLINE
    assert response.elapsed.total_seconds() < 2.5


def test_a_full_queue(served: Served) -> None:
    with serving(served, workers=1, queue=0) as client:
        slow = {"sql": "SELECT count(*) FROM range(100000000000)", "timeout_ms": 1500}
        with client.stream("POST", "/healthz"):
            pass
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(client.post, "/sql", json=slow) for _ in range(4)]
            answers = [each.result() for each in asked]
        codes = sorted(error(each)["code"] for each in answers)
        assert codes == [Code.DEADLINE, *[Code.QUEUE_FULL] * 3]
        full = [each for each in answers if each.status_code == 429]
        assert {each.headers["retry-after"] for each in full} == {"1"}
        assert ask(client, "SELECT 1").status_code == 200


def test_not_ready(tmp_path: Path) -> None:
    served = Served(tmp_path)
    with serving(served) as client:
        assert client.get("/healthz").json() == {"healthy": True}
        assert error(client.get("/readyz"))["code"] == Code.NOT_READY
        served.step()
        found = error(client.get("/readyz"))
        assert "there is no ledger yet" in found["message"]


def test_a_view_is_not_answered_before_its_state_at_the_start(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.epoch([{"k": "a"}])
    world.epoch([{"k": "a"}])
    served = Served(world.state, round_epochs=1)
    served.step()
    with serving(served) as client:
        found = error(ask(client, "FROM by_key"))
        assert found["code"] == Code.NOT_READY
        assert ask(client, "SELECT 1").status_code == 200
        served.catch_up()
        assert ask(client, "SELECT k, hits FROM by_key").json()["rows"] == [["a", 2]]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        (
            "SELECT list(i) FROM range(10_000_000) t(i)",
            "statement needs more memory than the 19.0 MiB that a worker has, its tables included; "
            "ask for less of it",
        ),
        ("SELECT " + "+".join("1" * 5_000), "Max expression depth limit of 1000 exceeded."),
    ],
)
def test_no_advice_that_nobody_can_follow(sql: str, message: str) -> None:
    connection = duckdb.connect(config={"memory_limit": "20MB", "errors_as_json": "true"})
    with pytest.raises(duckdb.Error) as caught:
        connection.sql(sql).fetchall()
    assert from_engine(caught.value, sql).message == message


def test_every_code_has_a_status() -> None:
    assert set(STATUSES) == set(Code)
    for code in Code:
        assert json.loads(RequestError(code, "why").body())["error"]["code"] == code.value


def test_messages_are_short_and_printable() -> None:
    found = RequestError(Code.BAD_SQL, "\x1b[31m" + "x" * 5000)
    assert len(found.message.encode()) == MESSAGE_BYTES
    assert "\x1b" not in found.message
