"""The attack suite, over HTTP at a real server: each row of it, what must stay allowed, odd input.

After every row: no file has changed, the listener met nobody, another client is answered as before.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psutil
import pytest

from tests.api.waiting import wait
from tests.attacks.server import (
    GRACE_SECONDS,
    SLACK_SECONDS,
    Attacked,
    attacked,
    check_error,
    valid,
)

pytestmark = pytest.mark.slow

REFUSED = frozenset({400, 403, 404})
MEMORY_BYTES = 400 * 2**20  # more than this no statement makes the front grow


@dataclass(frozen=True)
class Row:
    """A statement and the statuses that say that it did no harm."""

    name: str
    sql: str
    statuses: frozenset[int] = REFUSED


def rows(name: str, *statements: str, statuses: frozenset[int] = REFUSED) -> list[Row]:
    return [Row(name, sql, statuses) for sql in statements]


STOPPED = frozenset({408})
HUNGRY = frozenset({400, 408, 413, 503})
ATTACKS: Sequence[Row] = (
    *rows(
        "A1 reading files",
        "SELECT * FROM read_text('{outside}')",
        "SELECT * FROM read_blob('{outside}')",
        "SELECT * FROM read_csv('{outside}')",
        "SELECT * FROM read_csv_auto('{outside}')",
        "SELECT * FROM read_json('{outside}')",
        "SELECT * FROM read_ndjson_objects('{outside}')",
        "SELECT * FROM parquet_metadata('{outside}')",
        "SELECT * FROM parquet_scan('{outside}')",
        "SELECT * FROM sniff_csv('{outside}')",
    ),
    *rows("A2 files as tables", "SELECT * FROM '{outside}'", 'SELECT * FROM "{outside}"'),
    *rows(
        "A3 out of the folder",
        "SELECT * FROM read_text('{state}/batch/../../../{name}')",
        "SELECT * FROM read_text('file://{outside}')",
        "FROM '{state}/../../{name}'",
    ),
    *rows(
        "A4 inside the folder",
        "SELECT * FROM read_parquet('{state}/batch/**/*.parquet')",
        "SELECT * FROM read_parquet('{batch}/evil.parquet')",
        "FROM '{batch}/evil.parquet'",
        "SELECT * FROM glob('{state}/**')",
    ),
    *rows(
        "A5 the network",
        "SELECT * FROM read_parquet('{url}')",
        "SELECT * FROM read_text('{url}')",
        "FROM '{url}'",
        "ATTACH '{url}'",
        "SELECT * FROM read_csv('s3://127.0.0.1/x')",
    ),
    *rows(
        "A6 writing files",
        "COPY (SELECT 1) TO '{batch}/more.parquet'",
        "COPY (SELECT 666 AS hits) TO '{batch}/evil.parquet'",
        "COPY by_key TO '{outside}'",
        "WITH c AS (COPY (SELECT 1) TO '{batch}/more.parquet') FROM c",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{batch}/more.parquet'",
    ),
    *rows(
        "A7", "COPY by_key FROM '{outside}'", "EXPORT DATABASE '{state}/x'", "IMPORT DATABASE '/'"
    ),
    *rows(
        "A8 other databases",
        "ATTACH ':memory:' AS m",
        "ATTACH '{state}/ledger.db'",
        "ATTACH '{state}/new.db' AS n",
        "DETACH memory",
        "USE memory",
    ),
    *rows(
        "A9 extensions and settings",
        "INSTALL httpfs",
        "FORCE INSTALL httpfs FROM '{url}'",
        "LOAD httpfs",
        "LOAD '{outside}'",
        "SET enable_external_access=true",
        "SET lock_configuration=false",
        "SET GLOBAL threads=100",
        "SET memory_limit='100GB'",
        "RESET memory_limit",
        "PRAGMA memory_limit='100GB'",
        "SET allowed_directories=['/']",
        "CREATE SECRET s (TYPE http)",
    ),
    *rows(
        "A10 states of the engine",
        "SET VARIABLE x=1",
        "SET search_path='x'",
        "CHECKPOINT",
        "VACUUM",
        "ANALYZE",
        "BEGIN",
        "COMMIT",
        "PREPARE p AS SELECT 1",
        "EXECUTE p",
        "CALL pragma_version()",
    ),
    *rows(
        "A11 writes inside WITH",
        "WITH d AS (DELETE FROM by_key RETURNING *) SELECT * FROM d",
        "WITH d AS (UPDATE by_key SET k = 1 RETURNING *) SELECT * FROM d",
        "WITH d AS (INSERT INTO everview_internal.coverage DEFAULT VALUES RETURNING *) FROM d",
        "SELECT (WITH d AS (DELETE FROM by_key RETURNING *) SELECT count(*) FROM d)",
    ),
    *rows(
        "A12 writes",
        "DROP VIEW by_key",
        "CREATE OR REPLACE VIEW by_key AS SELECT 666",
        "CREATE TABLE mine AS SELECT 1",
        "INSERT INTO by_key VALUES (1)",
        "TRUNCATE by_key",
        "ALTER VIEW by_key RENAME TO gone",
        "COMMENT ON VIEW by_key IS 'evil'",
        "EXPLAIN ANALYZE DELETE FROM by_key",
    ),
    *rows(
        "A13 what others would see",
        "CREATE MACRO sum(x) AS 42",
        "CREATE TEMP MACRO abs(x) AS 42",
        "CREATE FUNCTION sum(x) AS 42",
        "CREATE TEMP VIEW by_key AS SELECT 666",
        "CREATE TEMP TABLE by_key AS SELECT 666",
        "CREATE TYPE integer AS ENUM ('a')",
        "CREATE SCHEMA mine",
    ),
    *rows(
        "A14 a second statement",
        "SELECT 1; DROP VIEW by_key",
        "SELECT * FROM by_key) ; DROP VIEW by_key; SELECT * FROM (SELECT 1",
        "SELECT 1 -- \n; DROP VIEW by_key",
    ),
    *rows(
        "A15 statements as text",
        "SELECT * FROM query('SELECT * FROM read_text(''{outside}'')')",
        "SELECT * FROM query_table('by_key')",
        "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
        "SELECT json_deserialize_sql(json_serialize_sql('SELECT 1'))",
    ),
    *rows(
        "A16 the same in other places",
        "SELECT (SELECT content FROM read_text('{outside}'))",
        "SELECT k FROM by_key WHERE k IN (SELECT content FROM read_text('{outside}'))",
        "SELECT list_transform([1], lambda x: (SELECT content FROM read_text('{outside}')))",
        "SELECT * FROM keys JOIN read_text('{outside}') t ON true",
        "WITH a AS (FROM read_text('{outside}')) FROM a",
        "WITH RECURSIVE a AS (FROM read_text('{outside}') UNION FROM a) FROM a",
        "SELECT * FROM keys, LATERAL (FROM read_text('{outside}'))",
        "SELECT * FROM keys ORDER BY (SELECT content FROM read_text('{outside}'))",
        "SELECT * FROM keys LIMIT (SELECT count(*) FROM read_text('{outside}'))",
        "SELECT sum(1) FILTER (WHERE (SELECT true FROM read_text('{outside}'))) FROM keys",
        "SELECT 1 UNION ALL SELECT content FROM read_text('{outside}')",
        "VALUES ((SELECT content FROM read_text('{outside}')))",
        "DESCRIBE FROM read_text('{outside}')",
        "SUMMARIZE FROM '{outside}'",
        "EXPLAIN FROM read_text('{outside}')",
        "FROM keys PIVOT (count((SELECT content FROM read_text('{outside}'))) FOR k IN ('a'))",
        "SELECT * FROM system.main.read_text('{outside}')",
        "SELECT * FROM \"READ_TEXT\"('{outside}')",
        "SELECT * FROM read_text /* ( */ ('{outside}')",
        "SELECT * FROM read_text\n--\n('{outside}')",
        'WITH "{outside}" AS (SELECT 1) SELECT * FROM "{outside}"',
        "SELECT * FROM (WITH duckdb_tables AS (SELECT 1) FROM duckdb_tables), duckdb_tables",
    ),
    *rows(
        "A17 the engine itself",
        "FROM duckdb_settings()",
        "FROM duckdb_views()",
        "FROM duckdb_databases()",
        "FROM duckdb_functions",
        "FROM pragma_table_info('by_key')",
        "FROM sqlite_master",
        "FROM information_schema.tables",
        "FROM pg_catalog.pg_class",
        "SHOW ALL TABLES",
        "SHOW DATABASES",
        "SELECT current_setting('allowed_directories')",
        "SELECT getenv('PATH')",
        "SELECT getenv('SECRET')",
        "SELECT getvariable('x')",
        "SELECT version()",
        "SELECT current_query()",
    ),
    *rows(
        "A18 tables behind the views",
        "FROM everview_internal.coverage",
        'FROM everview_internal."by_key.{version}.core"',
        'FROM "by_key.{version}.core"',
        "FROM epochs",
        "FROM files",
        "FROM ledger.epochs",
        "SHOW TABLES FROM everview_internal",
        "DESCRIBE everview_internal.coverage",
        "SHOW everview_internal.coverage",
    ),
    *rows(
        "A19 hungry calls",
        "SELECT repeat('x', 4000000000)",
        "SELECT range(0, 1000000000)",
        "SELECT lpad('x', 2000000000, 'y')",
        "SELECT list_resize([1], 2000000000)",
        "SELECT format('{:2000000000}', 1)",
        "SELECT list_transform(range(1000000000), lambda x: x)",
    ),
    *rows("A20 sleeping calls", "SELECT sleep_ms(100000)", "SELECT pg_sleep(100)"),
    *rows(
        "A21 without end",
        "SELECT count(*) FROM range(100000000000)",
        "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r",
        statuses=STOPPED,
    ),
    *rows(
        "A21 many joins",
        "SELECT count(*) FROM " + ", ".join(f"by_key t{at}" for at in range(200)),
        "FROM by_key t0 " + " ".join(f"JOIN by_key t{at} USING (k)" for at in range(1, 200)),
        statuses=STOPPED | {400},
    ),
    *rows(
        "A22 deep and large",
        "SELECT " + "(" * 100_000 + "1" + ")" * 100_000,
        "SELECT " + "(" * 60_000,
        "SELECT " + "- " * 30_000,
        "SELECT * FROM " + "(SELECT * FROM " * 3000 + "by_key" + ")" * 3000,
        "SELECT " + "CASE WHEN true THEN " * 3000 + "1" + " END" * 3000,
        statuses=frozenset({400, 413}),
    ),
    # one cell that doubles, a sort of texts, a function quadratic in its argument: under no limit
    # of the engine's own, nor does it always see an interrupt
    *(
        Row("hungry", sql, HUNGRY)
        for sql in (
            "WITH RECURSIVE r AS (SELECT 'xxxxxxxx' AS s, 0 AS n UNION ALL "
            "SELECT s || s, n + 1 FROM r WHERE n < 32) SELECT max(length(s)) FROM r",
            "SELECT array_agg(i ORDER BY i) OVER () FROM range(1000000) t(i)",
            "SELECT levenshtein(string_agg('a', ''), string_agg('b', '')) FROM range(100000)",
            "SELECT list_sort(list(random())) FROM range(300000000)",
            "SELECT string_agg(md5(i::VARCHAR)) FROM range(100000000) t(i)",
        )
    ),
)
ALLOWED = (
    "SELECT * FROM by_key",
    "FROM by_key",
    "FROM by_key SELECT k",
    "VALUES (1, 2), (3, 4)",
    "WITH a AS (FROM by_key), b AS (FROM a) SELECT * FROM b JOIN a USING (k)",
    "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 5) FROM r",
    "SELECT * FROM by_key a LEFT JOIN visitors b ON a.k = b.k",
    "SELECT *, row_number() OVER (ORDER BY hits) FROM by_key QUALIFY row_number() OVER () < 9",
    "SELECT hits, count(*) FROM by_key GROUP BY hits HAVING count(*) > 0 ORDER BY 1 LIMIT 9",
    "SELECT k FROM by_key UNION ALL SELECT k FROM keys ORDER BY 1",
    "SELECT k FROM by_key UNION SELECT k FROM keys EXCEPT SELECT 'z'",
    "SELECT * FROM by_key WHERE hits = (SELECT max(hits) FROM by_key)",
    "SELECT k FROM keys WHERE EXISTS (FROM by_key WHERE by_key.k = keys.k)",
    "SHOW TABLES",
    "SHOW by_key",
    "DESCRIBE by_key",
    "DESCRIBE SELECT 1 AS one",
    "SUMMARIZE by_key",
    "EXPLAIN SELECT * FROM by_key",
    "FROM by_key PIVOT (sum(hits) FOR k IN ('a', 'b'))",
    "PIVOT by_key ON k IN ('a', 'b') USING sum(hits)",
    "FROM everview.views",
    "SELECT * FROM everview.handoff ORDER BY view",
    "DESCRIBE everview.epochs",
    "SELECT 1;",
    "SELECT 1 -- a comment",
    "SELECT 1 /* DROP VIEW by_key */",
    "SELECT 'COPY t TO x; DROP VIEW by_key', 'read_text(1)'",
    'SELECT hits AS "delete" FROM by_key',
    'SELECT 1 AS "drop table by_key"',
    "SELECT time_bucket(INTERVAL '1 hour', TIMESTAMP '2026-01-01 10:30:00')",
    "SELECT d FROM generate_series(DATE '2026-01-01', DATE '2026-01-03', INTERVAL 1 DAY) t(d)",
)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    with attacked(tmp_path_factory.mktemp("attacked")) as found:
        yield found
        found.check_unhurt()


@pytest.mark.parametrize("row", ATTACKS, ids=[f"{at}-{row.name}" for at, row in enumerate(ATTACKS)])
def test_attack(target: Attacked, row: Row) -> None:
    front = psutil.Process(target.process.report()["pid"])
    before, started = front.memory_info().rss, time.monotonic()
    sql = target.filled(row.sql)
    answer = target.ask(sql, timeout_ms=1000)
    assert time.monotonic() - started < 1.0 + GRACE_SECONDS + SLACK_SECONDS
    assert answer.status_code in row.statuses, answer.text
    check_error(answer)
    target.check_answer(answer, sql)
    assert front.memory_info().rss - before < MEMORY_BYTES
    target.check_unhurt()


@pytest.mark.parametrize("sql", ALLOWED)
def test_what_must_stay_allowed(target: Attacked, sql: str) -> None:
    answer = target.ask(sql)
    assert answer.status_code == 200, answer.text
    target.check_answer(answer)
    assert valid(answer.text)["rows"]


def test_the_past_is_told_too(target: Attacked) -> None:
    """For that a worker has databases of its own, and reads files of the master."""
    answer = target.ask("SELECT sum(hits) FROM by_key", as_of=2)
    assert answer.status_code == 200, answer.text
    assert answer.json()["rows"] == [[3]]


def test_every_row_of_the_suite_is_asked() -> None:
    asked = {row.name.split()[0] for row in ATTACKS}
    elsewhere = {"A23", "A24"}  # below
    assert asked | elsewhere == {f"A{at}" for at in range(1, 25)} | {"hungry"}


def test_addresses_and_text_bodies_are_judged_alike(target: Attacked) -> None:
    sql = target.filled("SELECT * FROM read_text('{outside}')")
    text = {"Content-Type": "text/plain"}
    for answer in (
        target.client.get("/sql", params={"q": sql}),
        target.client.post("/sql", content=sql, headers=text),
        target.client.post("/sql", content="SELECT 1; DROP VIEW by_key", headers=text),
    ):
        assert answer.status_code in REFUSED
        target.check_answer(answer, sql)
    target.check_unhurt()


def test_a23_crafted_files_are_never_read(target: Attacked) -> None:
    """A stray file lies among those of the batch view since before the start."""
    assert (target.batch / "evil.parquet").is_file()
    answer = target.ask("SELECT sum(hits) AS hits FROM by_key").json()
    assert answer["rows"] == [[4]]


def test_a24_a_thousand_queries_at_once(target: Attacked) -> None:
    async def ask(at: int) -> bytes:
        sql = f"SELECT sum(i) + {at} FROM range(200000) t(i)"  # each another, so none is shared
        host, port, request = _request(target, {"sql": sql, "timeout_ms": 60_000})
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(request)
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            writer.close()

    async def ask_all() -> list[bytes]:
        return await asyncio.gather(*(ask(at) for at in range(1000)))

    answers = asyncio.run(asyncio.wait_for(ask_all(), 60))
    statuses = [int(answer.split()[1]) if answer else None for answer in answers]
    assert {200, 429} <= set(statuses) <= {200, 429, None}  # too many connections are hung up on
    for at, (status, answer) in enumerate(zip(statuses, answers, strict=True)):
        head, _, told = answer.partition(b"\r\n\r\n")
        if status == 429:
            assert b"retry-after: " in head.lower()
            assert json.loads(told)["error"]["code"] == "queue_full"
        elif status == 200:
            assert json.loads(told)["rows"] == [[19999900000 + at]]
    target.check_unhurt()


def _request(target: Attacked, body: dict[str, Any]) -> tuple[str, int, bytes]:
    """Where to connect to, and the bytes of a request after which the server hangs up."""
    host, port = target.client.base_url.host, target.client.base_url.port or 0
    data = json.dumps(body).encode()
    head = (
        f"POST /sql HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(data)}\r\nConnection: close\r\n\r\n"
    )
    return host, port, head.encode() + data


def test_a24_a_query_is_cancelled_a_thousand_times(target: Attacked) -> None:
    host, port, request = _request(target, {"sql": "SELECT count(*) FROM range(100000000000)"})
    for _ in range(1000):
        with socket.create_connection((host, port)) as connection:
            connection.sendall(request)
    # those that were let in are stopped first
    wait(lambda: target.ask("SELECT 1").status_code == 200)
    target.check_unhurt()


# Q1 to Q7: input that is odd
JSON = {"Content-Type": "application/json"}
NO_COUNTS: Sequence[object] = (-1, 0, "many", 1.5, True, [])
WRONG: Sequence[tuple[str, dict[str, Any], frozenset[int]]] = (
    *((f"Q1 {sql!r}", {"sql": sql}, frozenset({400})) for sql in ("", "  ", ";", "-- x", "/* */")),
    ("Q2 two", {"sql": "SELECT 1; SELECT 2"}, frozenset({400, 403})),
    ("Q3 syntax", {"sql": "SELEC 1"}, frozenset({400})),
    ("Q3 unterminated", {"sql": "SELECT 'abc"}, frozenset({400})),
    ("Q3 table", {"sql": "FROM nowhere"}, frozenset({404})),
    ("Q3 column", {"sql": "SELECT nothing FROM by_key"}, frozenset({400})),
    ("Q3 by zero", {"sql": "SELECT 1 // 0"}, frozenset({400})),
    ("Q3 overflow", {"sql": "SELECT 2147483647::INT + 1::INT"}, frozenset({400})),
    ("Q3 cast", {"sql": "SELECT 'x'::INT"}, frozenset({400})),
    ("Q3 NUL", {"sql": "SELECT '\0'"}, frozenset({400})),
    ("Q3 surrogate", {"sql": "SELECT '\ud800'"}, frozenset({400})),
    ("Q4 10 MB", {"sql": "SELECT '" + "x" * 10_000_000 + "'"}, frozenset({413})),
    ("Q4 more than 64 kB", {"sql": "SELECT '" + "x" * 66_000 + "'"}, frozenset({413})),
    ("Q7 too few", {"sql": "SELECT $1, $2", "params": [1]}, frozenset({400})),
    ("Q7 too many", {"sql": "SELECT $1", "params": [1, 2]}, frozenset({400})),
    ("Q7 none", {"sql": "SELECT $1"}, frozenset({400})),
    ("Q7 unknown", {"sql": "SELECT $a", "params": {"b": 1}}, frozenset({400})),
    ("Q7 type", {"sql": "SELECT 1 + $1::INT", "params": ["x"]}, frozenset({400})),
    ("Q7 huge", {"sql": "SELECT $1::INT", "params": [10**40]}, frozenset({400})),
    ("Q7 text", {"sql": "SELECT 1", "params": "x"}, frozenset({400})),
    *(
        (f"Q7 {name} {value!r}", {"sql": "SELECT 1", name: value}, frozenset({400}))
        for name in ("timeout_ms", "max_rows")
        for value in NO_COUNTS
    ),
)


@pytest.mark.parametrize(("name", "body", "statuses"), WRONG, ids=[row[0] for row in WRONG])
def test_odd_input(
    target: Attacked, name: str, body: dict[str, Any], statuses: frozenset[int]
) -> None:
    answer = target.client.post("/sql", content=json.dumps(body), headers=JSON)
    assert answer.status_code in statuses, (name, answer.text)
    check_error(answer)
    target.check_answer(answer)


@pytest.mark.parametrize(
    ("sql", "place"),
    [
        ("SELECT 1,\n  nothing FROM by_key", (2, 3)),
        ("SELEC 1", (1, 1)),
        ("SELECT 'x'::INT", (1, 11)),
        ("FROM\nnowhere", (2, 1)),
    ],
)
def test_q3_errors_have_their_place(target: Attacked, sql: str, place: tuple[int, int]) -> None:
    error = target.ask(sql).json()["error"]
    assert (error["line"], error["column"]) == place


def test_q5_large_results(target: Attacked) -> None:
    answer = target.ask("SELECT * FROM range(10000000000)", max_rows=3).json()
    assert (answer["rows"], answer["truncated"]) == ([[0], [1], [2]], True)
    front = psutil.Process(target.process.report()["pid"])
    before = front.memory_info().rss
    large = target.ask("SELECT list(i) FROM range(20000000) t(i)", timeout_ms=2000)
    assert large.status_code in (408, 413), large.text[:300]
    check_error(large)
    assert front.memory_info().rss - before < MEMORY_BYTES


def test_q6_every_value_is_valid_json(target: Attacked) -> None:
    sql = """SELECT 'NaN'::DOUBLE AS a, '-inf'::FLOAT AS a, 'inf'::DOUBLE AS b,
        170141183460469231731687303715884105727::HUGEINT AS h, 1.50::DECIMAL(38, 2) AS d,
        'ab'::BLOB AS x, INTERVAL 1 MONTH AS i, {'n': 'NaN'::DOUBLE} AS s, [1, NULL] AS l,
        map {'k': 1} AS m, DATE '99999-01-01' AS y, TIMESTAMP 'infinity' AS t, NULL AS n,
        TIMESTAMPTZ '2026-01-01 00:00:00+02' AS z, '\N{PILE OF POO}' AS e"""
    answer = valid(target.ask(sql).text)
    assert [column["name"] for column in answer["columns"]][:2] == ["a", "a"]
    (row,) = answer["rows"]
    assert row[:6] == ["NaN", "-Infinity", "Infinity", 2**127 - 1, "1.50", "YWI="]


def test_q7_more_than_the_limit_is_cut_to_it(target: Attacked) -> None:
    answer = target.ask("SELECT 1", timeout_ms=10**12, max_rows=10**12)
    assert answer.json()["rows"] == [[1]]
