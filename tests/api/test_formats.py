"""One documented form for each value, in each format; JSON is always valid."""

from __future__ import annotations

import csv
import functools
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pyarrow as pa
import pyarrow.csv
import pytest
from duckdb.sqltypes import DuckDBPyType
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet as pq

from serving import formats
from serving.envelope import RequestError
from serving.formats import media, values
from tests.api.world import ask

A_DAY = {"months": 0, "days": 1, "microseconds": 0}
FORMS: tuple[tuple[str, str, Any], ...] = (
    ("1::TINYINT", "TINYINT", 1),
    ("9007199254740993", "BIGINT", 9007199254740993),
    ("18446744073709551615::UBIGINT", "UBIGINT", 2**64 - 1),
    ("170141183460469231731687303715884105727::HUGEINT", "HUGEINT", 2**127 - 1),
    ("'-170141183460469231731687303715884105728'::HUGEINT", "HUGEINT", -(2**127)),
    ("340282366920938463463374607431768211455::UHUGEINT", "UHUGEINT", 2**128 - 1),
    ("1.50::DECIMAL(10,2)", "DECIMAL(10,2)", "1.50"),
    ("0.0000001::DECIMAL(38,20)", "DECIMAL(38,20)", "0.00000010000000000000"),
    ("5::DECIMAL(38,0)", "DECIMAL(38,0)", 5),
    ("'NaN'::DOUBLE", "DOUBLE", "NaN"),
    ("'-Infinity'::FLOAT", "FLOAT", "-Infinity"),
    ("1e300::DOUBLE", "DOUBLE", 1e300),
    ("true", "BOOLEAN", True),
    ("'a\U0001f600\"'", "VARCHAR", 'a\U0001f600"'),
    ("chr(0) || 'x'", "VARCHAR", "\0x"),
    ("'{\"a\": 1}'::JSON", "JSON", '{"a": 1}'),
    ("TIMESTAMP '2026-01-01 10:00:00'", "TIMESTAMP", "2026-01-01T10:00:00Z"),
    ("TIMESTAMP '2026-01-01 10:00:00.12'", "TIMESTAMP", "2026-01-01T10:00:00.12Z"),
    ("TIMESTAMP '1969-12-31 23:59:59.999999'", "TIMESTAMP", "1969-12-31T23:59:59.999999Z"),
    (
        "TIMESTAMPTZ '2026-01-01 10:00:00+02'",
        "TIMESTAMP WITH TIME ZONE",
        "2026-01-01T08:00:00Z",
    ),
    (
        "TIMESTAMP_NS '2026-01-01 10:00:00.123456789'",
        "TIMESTAMP_NS",
        "2026-01-01T10:00:00.123456789Z",
    ),
    ("TIMESTAMP_S '2026-01-01 10:00:00'", "TIMESTAMP_S", "2026-01-01T10:00:00Z"),
    ("TIMESTAMP_MS '2026-01-01 10:00:00.5'", "TIMESTAMP_MS", "2026-01-01T10:00:00.5Z"),
    ("TIMESTAMP '99999-12-31 23:00:00'", "TIMESTAMP", "+99999-12-31T23:00:00Z"),
    ("TIMESTAMP 'infinity'", "TIMESTAMP", "infinity"),
    ("DATE '2024-02-29'", "DATE", "2024-02-29"),
    ("DATE '0044-03-15 (BC)'", "DATE", "-0043-03-15"),
    ("DATE '-infinity'", "DATE", "-infinity"),
    ("TIME '10:00:00.5'", "TIME", "10:00:00.5"),
    ("TIME '24:00:00'", "TIME", "24:00:00"),
    ("TIME_NS '10:00:00.123456789'", "TIME_NS", "10:00:00.123456789"),
    ("TIMESTAMPTZ_NS '2026-01-01 00:00:00.5'", "TIMESTAMPTZ_NS", "2026-01-01T00:00:00.5Z"),
    (
        "INTERVAL '1 month 2 days 3 seconds'",
        "INTERVAL",
        {"months": 1, "days": 2, "microseconds": 3_000_000},
    ),
    ("'\\x00\\xFF'::BLOB", "BLOB", "AP8="),
    ("'101'::BIT", "BIT", "101"),
    (
        "UUID '12345678-1234-1234-1234-123456789012'",
        "UUID",
        "12345678-1234-1234-1234-123456789012",
    ),
    ("'x'::ENUM('x', 'y')", "ENUM('x', 'y')", "x"),
    ("[1.5, NULL]", "DECIMAL(2,1)[]", ["1.5", None]),
    ("[1, 2]::INTEGER[2]", "INTEGER[2]", [1, 2]),
    ("[[TIMESTAMP '99999-01-01']]", "TIMESTAMP[][]", [["+99999-01-01T00:00:00Z"]]),
    (
        "{'a': 1, 'b': [DATE '2024-01-01'], 'c': NULL::TIMESTAMP}",
        "STRUCT(a INTEGER, b DATE[], c TIMESTAMP)",
        {"a": 1, "b": ["2024-01-01"], "c": None},
    ),
    (
        "MAP {TIMESTAMP '2026-01-01': 1.5::DECIMAL(4,2)}",
        "MAP(TIMESTAMP, DECIMAL(4,2))",
        [["2026-01-01T00:00:00Z", "1.50"]],
    ),
    ("union_value(num := 2)", "UNION(num INTEGER)", 2),
    (
        "union_value(d := DATE '99999-01-01')::UNION(d DATE, b BIT)",
        "UNION(d DATE, b BIT)",
        "+99999-01-01",
    ),
    (
        "[NULL, union_value(n := 1)::UNION(n INTEGER, d DECIMAL(3, 1)), 1.5::DECIMAL(3, 1)]",
        "UNION(n INTEGER, d DECIMAL(3,1))[]",
        [None, 1, "1.5"],
    ),
    ("row(1, INTERVAL 1 DAY)", "TUPLE(INTEGER, INTERVAL)", [1, A_DAY]),
    (
        "[{'b': '01'::BIT, 'i': INTERVAL 1 DAY}]",
        "STRUCT(b BIT, i INTERVAL)[]",
        [{"b": "01", "i": A_DAY}],
    ),
    ("[INTERVAL 1 DAY, NULL]::INTERVAL[2]", "INTERVAL[2]", [A_DAY, None]),
    ("MAP {'a'::ENUM('a'): '1'::BIT}", "MAP(ENUM('a'), BIT)", [["a", "1"]]),
    ("MAP {}::MAP(INTEGER, INTEGER)", "MAP(INTEGER, INTEGER)", []),
    ("NULL", '"NULL"', None),
)


@pytest.mark.parametrize(("sql", "type_", "value"), FORMS, ids=[form[0] for form in FORMS])
def test_json(client: httpx.Client, sql: str, type_: str, value: Any) -> None:
    answer = ask(client, f"SELECT {sql} AS v UNION ALL (SELECT {sql} LIMIT 0)")
    assert answer.status_code == 200, answer.text
    found = json.loads(answer.text, parse_constant=lambda name: pytest.fail(name))
    assert found["columns"] == [{"name": "v", "type": type_}]
    assert found["rows"] == [[value]]


def test_nulls_of_every_type(client: httpx.Client) -> None:
    empty = ", ".join(f"any_value({sql}) FILTER (false)" for sql, _, _ in FORMS)
    assert ask(client, f"SELECT {empty}").json()["rows"] == [[None] * len(FORMS)]


def test_no_rows(client: httpx.Client) -> None:
    answer = ask(client, "SELECT k, hits FROM by_key WHERE false").json()
    assert (answer["rows"], answer["row_count"]) == ([], 0)
    assert [column["name"] for column in answer["columns"]] == ["k", "hits"]


NESTED = ("[", "STRUCT", "MAP", "UNION", "TUPLE")


def _got(client: httpx.Client, sql: str, name: str) -> httpx.Response:
    query = {"sql": sql}
    return client.post("/sql", json=query, headers={"Accept": formats.named(name)})


def test_ndjson_of_every_form(client: httpx.Client) -> None:
    listed = ", ".join(f"{sql} AS c{at}" for at, (sql, _, _) in enumerate(FORMS))
    answer = _got(client, f"SELECT {listed} FROM range(2)", "ndjson")
    lines = answer.text.removesuffix("\n").split("\n")
    assert [json.loads(line) for line in lines] == [
        {f"c{at}": value for at, (_, _, value) in enumerate(FORMS)}
    ] * 2


def test_csv_of_every_form(client: httpx.Client) -> None:
    listed = ", ".join(f"{sql} AS c{at}" for at, (sql, _, _) in enumerate(FORMS))
    answer = _got(client, f"SELECT {listed}", "csv")
    names, cells = csv.reader(io.StringIO(answer.text, newline=""))
    assert names == [f"c{at}" for at in range(len(FORMS))]
    for cell, (_, _, value) in zip(cells, FORMS, strict=True):
        if isinstance(value, list | dict | bool):
            assert json.loads(cell) == value
        else:
            assert cell == ("" if value is None else str(value))


WIDE = [form for form in FORMS if form[1] == "UHUGEINT" or (form[1] == "HUGEINT")]


@pytest.mark.parametrize("name", ["arrow", "parquet"])
def test_types_of_arrow(client: httpx.Client, name: str, tmp_path: Path) -> None:
    """What DuckDB reads back, cast to the type that it had, is what was asked for; with a NULL
    beside each value."""
    shown = [form for form in FORMS if form not in WIDE]
    listed = ", ".join(
        f"CASE WHEN i = 0 THEN {form[0]} END AS c{at}" for at, form in enumerate(shown)
    )
    answer = _got(client, f"SELECT {listed} FROM range(2) t(i)", name)
    assert answer.status_code == 200, answer.text
    (tmp_path / "got").write_bytes(answer.content)
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    if name == "arrow":
        con.register("got", pa.ipc.open_stream(answer.content).read_all())
    else:
        con.execute(f"CREATE VIEW got AS FROM read_parquet('{tmp_path}/got')")
    for at, (sql, type_, value) in enumerate(shown):
        if name == "parquet" and ("INTERVAL" in type_ or "UNION" in type_):
            continue  # test_parquet_without_intervals_and_unions
        kept = f"c{at}::{type_}"
        if type_ == "BIT":
            assert con.execute(f"SELECT c{at} FROM got").fetchall() == [(value,), (None,)]
        if type_ == '"NULL"':
            kept = f"c{at}"
        found = con.execute(f"SELECT {kept} IS NOT DISTINCT FROM {sql}, c{at} IS NULL FROM got")
        assert found.fetchall() == [(True, value is None), (value is None, True)], (sql, type_)


def test_parquet_without_intervals_and_unions(client: httpx.Client) -> None:
    sql = """SELECT unnest(
        [{'i': INTERVAL '1 month 2 days 3 seconds', 'l': [INTERVAL 1 DAY, NULL],
          'u': union_value(n := 7)::UNION(n HUGEINT, b BIT)},
         {'i': NULL, 'l': NULL, 'u': '101'::BIT},
         {'i': NULL, 'l': [], 'u': NULL}], recursive := true)"""
    table = pq.read_table(io.BytesIO(_got(client, sql, "parquet").content))
    month = {"months": 1, "days": 2, "microseconds": 3_000_000}
    assert table.to_pylist() == [
        {"i": month, "u": {"n": 7, "b": None}, "l": [A_DAY, None]},
        {"i": None, "u": {"n": None, "b": "101"}, "l": None},
        {"i": None, "u": {"n": None, "b": None}, "l": []},
    ]


@pytest.mark.parametrize("name", ["arrow", "parquet"])
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 99999999999999999999999999999999999999::HUGEINT + 1",
        "SELECT -99999999999999999999999999999999999999::HUGEINT - 1",
        "SELECT 340282366920938463463374607431768211455::UHUGEINT",
        "SELECT [{'a': 340282366920938463463374607431768211455::UHUGEINT}]",
        "SELECT MAP {1: 170141183460469231731687303715884105727::HUGEINT}",
    ],
)
def test_no_integer_becomes_another_one(client: httpx.Client, name: str, sql: str) -> None:
    answer = _got(client, sql, name)
    assert answer.status_code == 400
    assert "cast it to VARCHAR" in answer.json()["error"]["message"]
    assert ask(client, sql).status_code == 200


def test_equal_and_odd_column_names(client: httpx.Client) -> None:
    sql = 'SELECT 1 AS a, 2 AS a, 3 AS " ", 4 AS "x,\ny", 5 AS "A", 6 AS a_1, 7 AS "q\u2028""'
    names = ["a", "a", " ", "x,\ny", "A", "a_1", 'q\u2028"']
    told = ["a", "a_1", " ", "x,\ny", "A_2", "a_1_1", 'q\u2028"']
    answer = ask(client, sql + '"').json()
    assert [column["name"] for column in answer["columns"]] == names
    assert answer["rows"] == [[1, 2, 3, 4, 5, 6, 7]]
    ((first, row), _) = (list(csv.reader(io.StringIO(_got(client, sql + '"', "csv").text))), None)
    assert (first, row) == (names, list("1234567"))
    assert pa.ipc.open_stream(_got(client, sql + '"', "arrow").content).schema.names == names
    wanted = dict(zip(told, range(1, 8), strict=True))
    assert json.loads(_got(client, sql + '"', "ndjson").text) == wanted
    table = pq.read_table(io.BytesIO(_got(client, sql + '"', "parquet").content))
    assert table.to_pylist() == [wanted]


@functools.cache
def _utc() -> duckdb.DuckDBPyConnection:
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    return con


@functools.cache
def _type(name: str) -> DuckDBPyType:
    return _utc().sql(f"SELECT NULL::{name}").types[0]


def _encoded(name: str, columns: Sequence[tuple[str, str, pa.Array[Any]]], **more: Any) -> bytes:
    """The body that columns of (name, DuckDB type, values) make."""
    types = [_type(kind) for _, kind, _ in columns]
    schema = pa.schema([(title, values.type) for title, _, values in columns])
    batches = [pa.RecordBatch.from_arrays([values for *_, values in columns], schema=schema)]
    result = formats.Result(
        [title for title, *_ in columns],
        types,
        schema,
        batches,
        **{"max_rows": 10, "elapsed_ms": lambda: 1.5, **more},
    )
    return b"".join(formats.encode(formats.named(name), result))


def test_empty_names_and_no_columns() -> None:
    """DuckDB gives neither today."""
    one = pa.array([1], pa.int32())
    columns = [("", "INTEGER", one), ("column_1", "INTEGER", one), ("", "INTEGER", one)]
    told = {"column_1": 1, "column_1_1": 1, "column_3": 1}
    assert json.loads(_encoded("ndjson", columns)) == told
    assert pq.read_table(io.BytesIO(_encoded("parquet", columns))).to_pylist() == [told]
    assert _encoded("csv", columns) == b'"",column_1,""\r\n1,1,1\r\n'
    assert [each["name"] for each in json.loads(_encoded("json", columns))["columns"]] == [
        *("", "column_1", "")
    ]
    none = json.loads(_encoded("json", [], max_rows=0))
    assert (none["rows"], none["truncated"]) == ([], False)
    assert _encoded("ndjson", []) == b""
    assert _encoded("csv", []) == b"\r\n"
    assert pa.ipc.open_stream(_encoded("arrow", [])).read_all().num_columns == 0
    assert pq.read_table(io.BytesIO(_encoded("parquet", []))).num_columns == 0


def test_no_rows_in_every_format(client: httpx.Client) -> None:
    sql = "SELECT 1 AS a, INTERVAL 1 DAY AS b, union_value(x := 1) AS c WHERE false"
    assert _got(client, sql, "ndjson").content == b""
    assert _got(client, sql, "csv").content == b"a,b,c\r\n"
    arrow = pa.ipc.open_stream(_got(client, sql, "arrow").content).read_all()
    assert (arrow.num_rows, arrow.column_names) == (0, ["a", "b", "c"])
    parquet = pq.read_table(io.BytesIO(_got(client, sql, "parquet").content))
    assert (parquet.num_rows, parquet.column_names) == (0, ["a", "b", "c"])
    assert _got(client, sql, "parquet").headers["everview-row-count"] == "0"


@given(
    st.lists(
        st.lists(st.none() | st.text(alphabet=st.characters(codec="utf-8")), min_size=2, max_size=2)
    )
)
def test_texts_read_back(rows: list[list[str | None]]) -> None:
    """NULL and the empty string stay apart; whatever is in a cell stays in it."""
    columns = [
        (f"c{at}", "VARCHAR", pa.array([row[at] for row in rows], pa.string())) for at in (0, 1)
    ]
    more = {"max_rows": len(rows)}
    assert json.loads(_encoded("json", columns, **more))["rows"] == rows
    lines = _encoded("ndjson", columns, **more).decode().split("\n")[:-1]
    assert [list(json.loads(line).values()) for line in lines] == rows
    # pyarrow's reader ends a text at a NUL
    rows = [[cell and cell.replace("\0", "") for cell in row] for row in rows]
    columns = [
        (f"c{at}", "VARCHAR", pa.array([row[at] for row in rows], pa.string())) for at in (0, 1)
    ]
    table = pyarrow.csv.read_csv(
        io.BytesIO(_encoded("csv", columns, **more)),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types={"c0": pa.string(), "c1": pa.string()},
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    assert [list(row.values()) for row in table.to_pylist()] == rows


SOME = "(hash(i) % 4000000000000000)::BIGINT - 2000000000000000"  # of 1906 to 2033, in microseconds
LONG = (
    f"make_timestamp({SOME})",
    f"make_timestamp({SOME})::TIMESTAMPTZ",
    f"make_timestamp_ns(1000 * ({SOME}))",
    "make_timestamp_ns(i * 1000000007)",
    "TIMESTAMP '2026-01-01' + to_milliseconds(i * 250)",
    "TIMESTAMP '2026-01-01 10:00:00'::TIMESTAMP_S",
    "('2026-01-01'::DATE + i::INTEGER)::TIMESTAMP_S",
    "(TIMESTAMP '2026-01-01' + to_milliseconds(i * 70))::TIMESTAMP_MS",
    "TIMESTAMP '0001-01-01'",
    "TIMESTAMP '0001-01-01' - to_microseconds(i // 30)",
    "TIMESTAMP '9999-12-31 23:59:59.999999' + to_microseconds(i // 30)",
    "CASE WHEN i = 33 THEN TIMESTAMP 'infinity' ELSE make_timestamp(i) END",
    "DATE '0001-01-01' + i::INTEGER",
    "DATE '0001-01-10' - i::INTEGER",
    "DATE '9999-12-01' + i::INTEGER",
    "TIME '00:00:00' + to_milliseconds(i * 1234567)",
    "CASE WHEN i = 33 THEN TIME '24:00:00' ELSE TIME '10:10:00.5' END",
    "'10:00:00.000000001'::TIME_NS",
    "(i - 30)::DECIMAL(18, 2) / 8",
    "((i - 30) * 0.00000000001)::DECIMAL(38, 20)",
    "(i * i * i)::HUGEINT - 5",
    "i::HUGEINT * 1000000000000000000",
    "(i::UHUGEINT + 340282366920938463463374607431768211395)",
    "i::DECIMAL(38, 0)",
    "i::DOUBLE / 7",
    "CASE WHEN i = 33 THEN 'inf' WHEN i = 34 THEN 'NaN' ELSE '0.1' END::DOUBLE",
    "(CASE WHEN i % 2 THEN 'x' ELSE 'y' END)::ENUM('y', 'x')",
    "CASE WHEN i % 3 THEN 'x'::UNION(d DATE, s VARCHAR) ELSE DATE '2026-01-01' END",
    "[CASE WHEN i % 3 THEN 'x'::UNION(d DATE, s VARCHAR) ELSE DATE '2026-01-01' END, NULL]",
    "MAP {i: [i, NULL], i + 1: NULL}",
    "{'a': [i]::BIGINT[1], 'b': row(i, x'00'::BLOB)}",
)


@pytest.mark.parametrize("form", LONG)
def test_many_values_look_as_each_alone(form: str) -> None:
    """Long columns are formatted by Arrow where it can, short ones by us; NULLs in between."""
    relation = _utc().sql(f"SELECT CASE WHEN i % 5 THEN {form} END FROM range(60) t(i)")
    array: Any = relation.to_arrow_table().column(0).combine_chunks()
    assert len(array) == 60 > values.FEW
    (make,) = values.forms(["v"], relation.types, "number")
    together = make(array)
    assert together == [make(array.slice(at, 1))[0] for at in range(60)]
    assert together[::5] == [None] * 12
    assert None not in together[1::5]


@given(st.integers(-(2**62), 2**62))
def test_timestamps_are_what_duckdb_says(micros: int) -> None:
    """DuckDB's own calendar, for any year it can write."""
    con = _utc()
    micros %= 250_000_000_000_000_000
    relation = con.sql("SELECT make_timestamp($at::BIGINT) AS v", params={"at": micros})
    (form,) = values.forms(["v"], relation.types, "number")
    (found,) = form(relation.to_arrow_table().column(0).combine_chunks())
    sql = "SELECT make_timestamp($at::BIGINT)::VARCHAR"
    ((text,),) = con.execute(sql, {"at": micros}).fetchall()
    assert found.removeprefix("+") == text.replace(" ", "T") + "Z"


ACCEPTS: tuple[tuple[str | None, str | None], ...] = (
    (None, "json"),
    ("", "json"),
    (" ", "json"),
    ("*/*", "json"),
    ("*", "json"),
    ("*; q=.2", "json"),
    ("text/*", "csv"),
    ("application/*", "json"),
    ("TEXT/CSV", "csv"),
    ("text/csv; charset=utf-8; header=present", "csv"),
    ("text/csv, */*", "csv"),
    ("*/*, text/csv", "csv"),
    ("text/csv;q=0.4, application/json;q=0.5", "json"),
    ("application/json;q=0.4, text/csv;q=0.5", "csv"),
    ("application/vnd.apache.arrow.stream, application/json;q=0.9", "arrow"),
    ("text/csv, application/json", "csv"),
    ("application/json;q=0, */*", "ndjson"),
    ("application/x-ndjson;q=0.1, */*;q=0.1", "ndjson"),
    ("*/*;q=0.1, application/vnd.apache.parquet;q=0.2", "parquet"),
    ("application/*;q=0.5, application/json;q=0.1, text/csv;q=0.4", "ndjson"),
    ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "json"),
    ("text/html", None),
    ("application/json;q=0", None),
    ("*/*;q=0", None),
    ("*/*;q=0, text/csv", "csv"),
    ("text/csv;q=much", None),
    ("text/csv;q=much, application/json;q=0.1", "json"),
    (",;,", None),
)


@pytest.mark.parametrize(("header", "name"), ACCEPTS)
def test_accept(header: str | None, name: str | None) -> None:
    assert formats.accepted(header) == (None if name is None else formats.named(name))


def test_an_unknown_format(client: httpx.Client) -> None:
    answer = client.get("/sql?q=SELECT+1", headers={"Accept": "text/html, application/xml"})
    assert answer.status_code == 406
    assert all(kind in answer.json()["error"]["message"] for kind in media.NAMES.values())
    with pytest.raises(RequestError, match="'json', 'ndjson', 'csv'"):
        formats.named("xml")
