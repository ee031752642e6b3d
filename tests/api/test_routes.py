"""What the routes give when all is well."""

from __future__ import annotations

import json
import socket

import httpx
import pyarrow as pa
import pytest

from tests.api.world import Served, ask, serving

COVERAGE_KEYS = [
    *("view", "version", "cut", "epoch", "position", "fresh_as_of", "degraded", "lost"),
    *("since", "kept_from"),
]


def test_an_answer(client: httpx.Client, served: Served) -> None:
    answer = ask(client, "SELECT k, hits, total, mean FROM by_key ORDER BY k").json()
    assert list(answer) == [
        "columns",
        "rows",
        "row_count",
        "truncated",
        "elapsed_ms",
        "coverage",
    ]
    assert answer["columns"] == [
        {"name": "k", "type": "VARCHAR"},
        {"name": "hits", "type": "BIGINT"},
        {"name": "total", "type": "HUGEINT"},
        {"name": "mean", "type": "DOUBLE"},
    ]
    assert answer["rows"] == [["a", 2, 1, 1.0], [None, 1, 7, 7.0]]
    assert (answer["row_count"], answer["truncated"]) == (2, False)
    assert answer["coverage"] == [served.coverage("by_key")]
    assert list(answer["coverage"][0]) == COVERAGE_KEYS
    assert answer["coverage"][0]["fresh_as_of"] == "2026-01-01T10:00:02.000Z"
    assert answer["coverage"][0]["position"] == {"0": 3}


@pytest.mark.parametrize(
    ("sql", "views"),
    [
        ("SELECT 1", []),
        ("FROM BY_KEY", ["by_key"]),
        ('SELECT * FROM "everything" AS x, by_key', ["by_key", "everything"]),
        ("WITH by_key AS (FROM keys) FROM by_key", ["keys"]),
        ("SELECT (SELECT max(hits) FROM by_key)", ["by_key"]),
        ("SELECT k FROM keys UNION SELECT k FROM by_two", ["by_two", "keys"]),
        ("DESCRIBE visitors", ["visitors"]),
    ],
)
def test_coverage_names_the_views_that_are_read(
    client: httpx.Client, sql: str, views: list[str]
) -> None:
    answer = ask(client, sql)
    assert answer.status_code == 200, answer.text
    assert [each["view"] for each in answer.json()["coverage"]] == views


def test_params_by_place_and_by_name(client: httpx.Client) -> None:
    assert ask(client, "SELECT hits FROM by_key WHERE k = ?", params=["a"]).json()["rows"] == [[2]]
    named = ask(client, "SELECT hits FROM by_key WHERE k = $key", params={"key": "a"})
    assert named.json()["rows"] == [[2]]
    shown = ask(client, "SELECT ?, ?, ?", params=[None, [1, 2], 2**70])
    assert shown.json()["rows"] == [[None, [1, 2], 2**70]]


def test_text_and_address(client: httpx.Client) -> None:
    for kind in ("text/plain; charset=utf-8", "application/sql"):
        posted = client.post("/sql", content="SELECT 7;", headers={"Content-Type": kind})
        assert posted.json()["rows"] == [[7]]
    asked = client.get("/sql", params={"q": "FROM range(9)", "max_rows": "2"})
    assert asked.json()["rows"] == [[0], [1]]
    assert asked.json()["truncated"] is True


@pytest.mark.parametrize(("limit", "truncated"), [(4, True), (5, False), (6, False)])
def test_max_rows(client: httpx.Client, limit: int, truncated: bool) -> None:
    answer = ask(client, "FROM range(5)", max_rows=limit).json()
    assert (answer["row_count"], answer["truncated"]) == (min(limit, 5), truncated)


def test_ten_thousand_rows_are_the_default(client: httpx.Client) -> None:
    answer = ask(client, "FROM range(10000000000)").json()
    assert (answer["row_count"], answer["truncated"]) == (10_000, True)
    assert answer["rows"][-1] == [9999]


def test_csv_and_arrow_carry_the_coverage_as_a_header(client: httpx.Client, served: Served) -> None:
    sql = {"sql": "SELECT k, hits FROM by_key ORDER BY k", "max_rows": 1}
    text = client.post("/sql", json=sql, headers={"Accept": "text/csv"})
    assert text.headers["content-type"].startswith("text/csv")
    assert text.content == b"k,hits\r\na,2\r\n"
    kind = "application/vnd.apache.arrow.stream"
    stream = client.post("/sql", json=sql, headers={"Accept": f"{kind}, */*"})
    assert stream.headers["content-type"] == kind
    assert pa.ipc.open_stream(stream.content).read_all().to_pydict() == {"k": ["a"], "hits": [2]}
    for answer in (text, stream):
        assert json.loads(answer.headers["everview-coverage"]) == [served.coverage("by_key")]
        assert answer.headers["everview-truncated"] == "true"
        assert answer.headers["everview-row-count"] == "1"


def test_integers_as_strings(client: httpx.Client) -> None:
    answer = ask(client, "SELECT 9007199254740993, [1], 1.5::DECIMAL(3, 1)", integers="string")
    assert answer.json()["rows"] == [["9007199254740993", ["1"], "1.5"]]


def test_views(client: httpx.Client, served: Served) -> None:
    views = {view["name"]: view for view in client.get("/views").json()["views"]}
    assert list(views) == ["all_visitors", "by_key", "by_two", "everything", "keys", "visitors"]
    view = views["visitors"]
    assert view == {
        "name": "visitors",
        "stream": "hits",
        "version": served.coverage("visitors")["version"],
        "cut": 0,
        "publication": None,
        "columns": [{"name": "k", "type": "VARCHAR"}, {"name": "visitors", "type": "BIGINT"}],
        "keys": [{"name": "k", "type": "VARCHAR"}],
        "coverage": served.coverage("visitors"),
    }
    assert client.get("/views/VISITORS").json() == view


def test_streams(client: httpx.Client) -> None:
    (stream,) = client.get("/streams").json()["streams"]
    assert stream.pop("version")
    assert stream == {
        "name": "hits",
        "topic": "hits",
        "epoch": 2,
        "position": {"0": 3},
        "fresh_as_of": "2026-01-01T10:00:02.000Z",
        "degraded": None,
    }


def test_ready(client: httpx.Client) -> None:
    assert client.get("/readyz").json() == {"ready": True}
    assert client.get("/healthz").json() == {"healthy": True}


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "[::1]:8080", "LOCALHOST"])
def test_own_names(client: httpx.Client, host: str) -> None:
    assert client.get("/healthz", headers={"Host": host}).status_code == 200


def test_own_pages_may_ask(client: httpx.Client) -> None:
    origin = f"http://{client.base_url.netloc.decode()}"
    answer = client.get("/views", headers={"Origin": origin, "Sec-Fetch-Site": "same-origin"})
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_two_host_lines_are_refused(client: httpx.Client) -> None:
    port = client.base_url.port
    with socket.create_connection(("127.0.0.1", port), timeout=5) as raw:
        raw.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n")
        assert raw.recv(64).split(b" ")[1] in (b"400", b"403")


def test_a_client_that_leaves_stops_its_query(served: Served) -> None:
    with serving(served, workers=1, queue=0) as client:
        with pytest.raises(httpx.ReadTimeout):
            client.post(
                "/sql",
                json={"sql": "SELECT count(*) FROM range(100000000000)", "timeout_ms": 60000},
                timeout=0.3,
            )
        deadline = 100
        while ask(client, "SELECT 1").status_code == 429 and deadline:
            deadline -= 1
        assert ask(client, "SELECT 1").status_code == 200
