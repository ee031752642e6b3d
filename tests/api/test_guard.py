"""What a statement may be. The views are those of `world.VIEWS`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pytest

from serving.envelope import RequestError
from serving.worker import guard
from tests.api.world import Served, World, ask

ALLOWED = (
    "SELECT * FROM by_key",
    "FROM by_key",
    "FROM by_key SELECT k",
    "VALUES (1, 2)",
    "SELECT 1;",
    "SELECT 1 -- a comment",
    "/* DROP */ SELECT ';DROP VIEW by_key'",
    'SELECT 1 AS "delete"',
    "WITH a AS (FROM by_key), b AS (FROM a) SELECT * FROM b JOIN a USING (k)",
    "WITH a AS MATERIALIZED (FROM by_key) FROM a",
    "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 5) FROM r",
    "SELECT *, row_number() OVER (ORDER BY hits) FROM by_key QUALIFY row_number() OVER () < 9",
    "SELECT hits, count(*) FROM by_key GROUP BY ALL HAVING count(*) > 0 ORDER BY 1 LIMIT 9",
    "SELECT k FROM by_key UNION ALL SELECT k FROM keys ORDER BY 1 LIMIT 50%",
    "SELECT DISTINCT ON (k) k, hits FROM by_key ORDER BY k DESC NULLS LAST",
    "SELECT (SELECT max(hits) FROM by_key), k IN (SELECT k FROM keys) FROM keys",
    "SELECT * FROM by_key a LEFT JOIN visitors b ON a.k = b.k, LATERAL (SELECT a.hits) x",
    "SELECT * FROM by_key USING SAMPLE 1 ROWS",
    "SELECT [x + 1 for x in [1, 2]], list_transform([1], lambda x: x + 1), {'a': 1}.a",
    "SELECT CASE WHEN hits > 1 THEN 'x' ELSE CAST(hits AS VARCHAR) END FROM by_key",
    "SELECT * FROM range(3), generate_series(1, 2) g, unnest([1, 2]) u(x)",
    "SELECT unnest([1, 2]), time_bucket(INTERVAL '1 hour', TIMESTAMP '2026-01-01'), now() IS NULL",
    "FROM by_key PIVOT (sum(hits) FOR k IN ('a', 'b'))",
    "FROM by_key UNPIVOT (v FOR name IN (hits, large))",
    "SHOW TABLES",
    "DESCRIBE by_key",
    "SUMMARIZE by_key",
    "DESCRIBE SELECT 1",
    "SHOW by_key",
    "DESCRIBE everview.views",
    "SUMMARIZE SELECT hits FROM by_key",
    "FROM (DESCRIBE by_key) SELECT column_name",
    "EXPLAIN SELECT * FROM by_key WHERE k = 'a'",
    "/* é */ explain -- of\n FROM by_key;",
    "EXPLAIN WITH a AS (FROM by_key) FROM a",
    "EXPLAIN SHOW TABLES",
    "EXPLAIN VALUES (1)",
    "PIVOT by_key ON k IN ('a', 'b') USING sum(hits)",
    "SELECT " + "(" * 90 + "1" + ")" * 90,
    "WITH by_key AS (SELECT 2 AS two) FROM by_key",
    "SELECT current_timestamp IS NULL, current_date IS NULL, today() IS NULL, random() < 2",
    "SELECT k LIKE 'a%', k ILIKE 'A', k SIMILAR TO 'a', k || 'b', -hits, hits ** 2 FROM by_key",
    "SELECT sum(hits) OVER (), lag(hits) OVER (ORDER BY k), first_value(k) OVER () FROM by_key",
    "SELECT quantile_cont(hits, 0.5), count(*), string_agg(k, ','), wavg(hits, 1) FROM by_key",
    "SELECT format('{:>10} {}', k, hits), printf('%10.2f', 1.5), list_sort([2, 1]) FROM by_key",
    "SELECT extract(year FROM DATE '2026-01-01'), strftime(DATE '2026-01-01', '%Y'), md5('a')",
    "SELECT row(1, 2), map {'a': 1}, coalesce(NULL, 1), nullif(1, 2), substring('abc' FROM 2)",
    "FROM range((SELECT 1 + 1)), LATERAL (SELECT abs(-1)) x",
)
# what exists and is not allowed: the guard says so, before anything runs
FORBIDDEN = (
    "repeat('x', 1000000000)",
    "'x'.repeat(1000000000)",
    "main.repeat('x', 1000000000)",
    "system.main.\"REPEAT\"('x', 1000000000)",
    "lpad('x', 1000000000, 'a')",
    "rpad('x', 1000000000, 'a')",
    "range(1000000000)",
    "generate_series(1, 1000000000)",
    "list_resize([1], 1000000000)",
    "array_resize([1], 1000000000)",
    "bitstring('1', 1000000000)",
    "format('{:1000000000}', 1)",
    "format('{:{}}', 1, 1000000000)",
    "format('{:' || '1000000000}', 1)",
    "printf('%1000000000d', 1)",
    "printf('%*d', 1000000000, 1)",
    "list_transform([1], lambda n: repeat('x', 1000000000))",
    "[x FOR x IN range(1000000000)]",
    "(SELECT max(repeat(k, 1000000000)) FROM by_key)",
    "(SELECT count(*) FROM range(length(repeat('x', 1000000000))))",
    "pg_get_viewdef(1)",
    "current_query()",
    "stats(1)",
    "vector_type(1)",
    "setseed(0.5)",
    "setval('x', 1)",
    "nextval('x')",
    "txid_current()",
    "current_setting('TimeZone')",
    "sleep_ms(1)",
    "json_deserialize_sql('{}')",
    "finalize(1)",
)
# what must not run, and the statuses that say so
NOT = {400, 403, 404}
REFUSED = (
    "SELECT * FROM read_text('{outside}')",
    "SELECT * FROM read_blob('{outside}')",
    "SELECT * FROM read_csv('{outside}')",
    "SELECT * FROM '{outside}'",
    'SELECT * FROM "{outside}"',
    "SELECT * FROM read_text('{state}/segments/../../{name}')",
    "SELECT * FROM glob('{state}/**')",
    "SELECT * FROM read_parquet('http://127.0.0.1:1/x.parquet')",
    "COPY (SELECT 1) TO '{state}/evil.parquet'",
    "WITH c AS (COPY (SELECT 1) TO '{state}/evil.parquet') FROM c",
    "COPY by_key FROM '{outside}'",
    "EXPORT DATABASE '{state}/x'",
    "ATTACH ':memory:' AS m",
    "ATTACH '{state}/ledger.db'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET enable_external_access = true",
    "SET lock_configuration = false",
    "SET GLOBAL threads = 100",
    "RESET memory_limit",
    "SET VARIABLE x = 1",
    "CHECKPOINT",
    "PRAGMA database_list",
    "CALL pragma_version()",
    "USE memory",
    "WITH d AS (DELETE FROM by_key RETURNING *) SELECT * FROM d",
    "WITH d AS (UPDATE by_key SET k = 1 RETURNING *) SELECT * FROM d",
    "WITH d AS (INSERT INTO everview_internal.coverage DEFAULT VALUES RETURNING *) FROM d",
    "SELECT (WITH d AS (DELETE FROM by_key RETURNING *) SELECT count(*) FROM d)",
    "DROP VIEW by_key",
    "CREATE OR REPLACE VIEW by_key AS SELECT 666",
    "CREATE TEMP VIEW by_key AS SELECT 666",
    "CREATE MACRO sum(x) AS 42",
    "EXPLAIN ANALYZE DELETE FROM by_key",
    "EXPLAIN (ANALYZE) DELETE FROM by_key",
    "EXPLAIN ANALYZE SELECT 1",
    "EXPLAIN (FORMAT json) SELECT 1",
    "EXPLAIN /* */ ANALYZE SELECT 1",
    "EXPLAIN DELETE FROM by_key",
    "EXPLAIN COPY (SELECT 1) TO '{state}/evil.parquet'",
    "EXPLAIN SELECT * FROM read_text('{outside}')",
    "EXPLAIN FROM everview_internal.coverage",
    "EXPLAIN WITH d AS (DELETE FROM by_key RETURNING *) SELECT * FROM d",
    "EXPLAIN SELECT 1; DROP VIEW by_key",
    "EXPLAIN EXECUTE x",
    "EXPLAIN PIVOT by_key ON k USING sum(hits)",
    "SELECT * FROM (PIVOT by_key ON k USING sum(hits))",
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP VIEW by_key",
    "SELECT * FROM by_key) ; DROP VIEW by_key; SELECT * FROM (SELECT 1",
    "SELECT * FROM query('SELECT 1')",
    "SELECT * FROM query_table('by_key')",
    "SELECT (SELECT content FROM read_text('{outside}'))",
    "WITH a AS (FROM read_text('{outside}')) FROM a",
    "SELECT * FROM keys JOIN read_text('{outside}') t ON true",
    "SELECT * FROM system.main.read_text('{outside}')",
    "SELECT * FROM \"READ_TEXT\"('{outside}')",
    "SELECT * FROM read_text /* x */ ('{outside}')",
    "SELECT list_transform([1], lambda x: (SELECT content FROM read_text('{outside}')))",
    "FROM duckdb_settings()",
    "FROM duckdb_views()",
    "FROM duckdb_tables",
    "FROM sqlite_master",
    "FROM pg_catalog.pg_class",
    "FROM information_schema.tables",
    "SELECT current_setting('allowed_directories')",
    "SELECT getenv('PATH')",
    "SELECT sleep_ms(1)",
    "FROM everview_internal.coverage",
    "FROM coverage",
    'FROM everview_internal."by_key.{version}.core"',
    'FROM "by_key.{version}.core"',
    "SHOW ALL TABLES",
    "SHOW DATABASES",
    "SHOW __show_tables_expanded",
    "SHOW duckdb_tables",
    "SHOW everview_internal.coverage",
    "WITH duckdb_tables AS (SELECT 1) FROM (SHOW duckdb_tables)",
    "SHOW",
    "DESCRIBE",
    "SHOW TABLES FROM everview_internal",
    "DESCRIBE everview_internal.coverage",
    "SUMMARIZE duckdb_settings()",
    "PIVOT by_key ON k USING sum(hits)",
    'WITH "{outside}" AS (SELECT 1) SELECT * FROM "{outside}"',
    "WITH RECURSIVE r AS (FROM duckdb_tables UNION ALL FROM r) FROM r",
    "SELECT * FROM (WITH duckdb_tables AS (SELECT 1) FROM duckdb_tables), duckdb_tables",
    "SELECT nextval('x')",
)


@pytest.mark.parametrize("sql", ALLOWED)
def test_allowed(client: httpx.Client, sql: str) -> None:
    answer = ask(client, sql)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("sql", REFUSED)
def test_refused(
    client: httpx.Client, still: World, served: Served, tmp_path: Path, sql: str
) -> None:
    outside = still.state.parent / "outside.csv"
    outside.write_text("canary,b\n1,2\n")
    facts = {
        "outside": outside,
        "name": outside.name,
        "state": still.state,
        "version": served.coverage("by_key")["version"],
    }
    for key, value in facts.items():
        sql = sql.replace(f"{{{key}}}", str(value))
    before = _files(still.state)
    answer = ask(client, sql)
    assert answer.status_code in NOT, answer.text
    assert "canary" not in answer.text
    assert str(tmp_path) not in answer.text
    assert _files(still.state) == before
    assert ask(client, "SELECT sum(hits) FROM by_key").json()["rows"] == [[3]]


@pytest.mark.parametrize("call", FORBIDDEN)
def test_functions_that_are_not_listed_are_refused(client: httpx.Client, call: str) -> None:
    answer = ask(client, f"SELECT {call}")
    assert answer.status_code == 403, answer.text
    assert "is not allowed here" in answer.json()["error"]["message"]


def test_every_function_that_is_there_is_judged() -> None:
    allowed, there = guard._functions()
    assert not allowed & {"query", "read_text", "write_log", "pg_sleep", "current_connection_id"}
    assert {"sum", "+", "~~", "list_value", "struct_pack", "date_trunc"} <= allowed
    assert not {name for name in allowed & there if name.startswith(("pg_", "__internal"))}


def test_a_function_that_does_not_exist_is_named_with_its_place(client: httpx.Client) -> None:
    answer = ask(client, "SELECT cuont(*) FROM by_key")
    assert answer.status_code == 400
    assert "'cuont' must exist" in answer.json()["error"]["message"]
    assert answer.json()["error"]["message"].endswith("; did you mean 'count'?")
    assert answer.json()["error"]["column"] == 8


@pytest.mark.parametrize(
    "write",
    [
        "DELETE FROM by_key RETURNING *",
        "UPDATE by_key SET k = 1 RETURNING *",
        "INSERT INTO by_key VALUES (1) RETURNING *",
        "COPY (SELECT 1) TO 'evil.parquet'",
    ],
)
def test_a_write_inside_with_is_refused_by_the_tree_alone(served: Served, write: str) -> None:
    """The transaction, which would stop it too, is not asked."""
    cursor = served.tables.cursor()
    with pytest.raises(RequestError, match="is not allowed here"):
        guard.judge(cursor, f"WITH d AS ({write}) SELECT * FROM d")
    cursor.close()


@pytest.mark.parametrize("options", ["ANALYZE", "(ANALYZE)", "(FORMAT json)", "/**/ analyze"])
def test_explain_has_no_options(client: httpx.Client, options: str) -> None:
    message = ask(client, f"EXPLAIN {options} SELECT 1").json()["error"]["message"]
    assert message == "EXPLAIN must stand in front of a SELECT, without options. Nothing was run"


def test_a_pivot_without_its_values_says_how(client: httpx.Client) -> None:
    message = ask(client, "PIVOT by_key ON k USING sum(hits)").json()["error"]["message"]
    assert message.endswith("a PIVOT is one if it lists its values: ON k IN (1, 2)")


def test_places_behind_explain_are_those_of_the_whole_text(client: httpx.Client) -> None:
    error = ask(client, "-- ü\nEXPLAIN SELECT sleep_ms(1)").json()["error"]
    assert (error["line"], error["column"]) == (2, 16)
    assert ask(client, "EXPLAIN FROM nowhere").json()["error"]["code"] == "unknown_view"


def test_explain_tells_the_plan_and_what_it_would_cover(client: httpx.Client) -> None:
    answer = ask(client, "EXPLAIN FROM by_key").json()
    assert [column["name"] for column in answer["columns"]] == ["explain_key", "explain_value"]
    assert [each["view"] for each in answer["coverage"]] == ["by_key"]


@pytest.mark.parametrize("sign", ["(", "- ", "~ ", "( /* ( */ ", "+-"])
@pytest.mark.parametrize("times", [101, 20_000])
def test_signs_in_a_row_never_reach_the_parser(served: Served, sign: str, times: int) -> None:
    """It would take minutes, and gigabytes, to find that they do not close."""
    cursor = served.tables.cursor()
    started = time.monotonic()
    with pytest.raises(RequestError, match=r"SQL must have at most \d+ (signs|bytes)"):
        guard.check(cursor, f"SELECT {sign * times}")
    assert time.monotonic() - started < 2.0
    cursor.close()


def test_statements_that_passed_are_remembered_in_bounded_room() -> None:
    passed = guard.Passed(50_000)
    for number in range(1000):
        passed.put(guard.Statement(f"SELECT {number}", (), steady=True))
        passed.put(guard.Statement("SELECT 0", (), steady=True))
        assert passed.get("SELECT 0") is not None
    kept = [number for number in range(1000) if passed.get(f"SELECT {number}")]
    assert kept == [0, *range(1000 - len(kept) + 1, 1000)]
    assert 30 <= len(kept) <= 50
    passed.put(guard.Statement("x" * 60_000, (), steady=True))
    assert passed.get("x" * 60_000) is None


def test_a_statement_is_judged_once(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[str] = []
    judge = guard.judge

    def counting(connection: duckdb.DuckDBPyConnection, sql: str) -> guard.Statement:
        judged.append(sql)
        return judge(connection, sql)

    monkeypatch.setattr(guard, "judge", counting)
    sql, refused = "SELECT k, 'once' FROM by_key", "SELECT 'never', read_text('x')"
    assert {ask(client, sql).status_code for _ in range(3)} == {200}
    assert {ask(client, refused).status_code for _ in range(3)} == {403}
    assert judged == [sql, refused, refused, refused]


def test_show_tables_shows_views_alone(client: httpx.Client) -> None:
    names = [row[0] for row in ask(client, "SHOW TABLES").json()["rows"]]
    assert sorted(names) == sorted(
        ["by_key", "everything", "visitors", "all_visitors", "by_two", "keys"]
    )


def test_a_refusal_lists_the_views(client: httpx.Client) -> None:
    message = ask(client, "FROM nowhere").json()["error"]["message"]
    assert message == (
        "name 'nowhere' must be a view, raw.STREAM or everview.RELATION; views are: "
        "all_visitors, by_key, by_two, everything, keys, visitors"
    )


def test_the_name_of_a_stream_leads_to_its_events(client: httpx.Client) -> None:
    message = ask(client, "FROM Hits").json()["error"]["message"]
    assert "; the events of that stream are raw.hits; views are: " in message


@pytest.mark.parametrize("sql", ["DESCRIBE", "SHOW", "SHOW DATABASES"])
def test_show_says_what_can_be_shown(client: httpx.Client, sql: str) -> None:
    message = ask(client, sql).json()["error"]["message"]
    assert message.startswith("SHOW must be SHOW TABLES or SHOW and a view; DESCRIBE and ")


@pytest.mark.parametrize("depth", [300, 900, 3000])
def test_deep_statements_never_break_the_server(client: httpx.Client, depth: int) -> None:
    nested = "(FROM " * depth + "by_key" + ")" * depth
    chain = "SELECT " + "+".join(["1"] * depth)
    for sql in (nested, chain, "SELECT " + "[" * depth + "]" * depth):
        answer = ask(client, sql)
        assert answer.status_code in {200, *NOT}, json.dumps(answer.text)[:300]
    assert ask(client, "SELECT 1").status_code == 200


def _files(folder: Path) -> dict[str, Any]:
    return {
        str(path): path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith("ledger.db-")
    }
