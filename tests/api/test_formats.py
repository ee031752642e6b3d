"""One documented form for each value, in each format; JSON is always valid."""

from __future__ import annotations

import io
import json
from typing import Any

import duckdb
import httpx
import pyarrow as pa
import pyarrow.csv
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving import formats
from tests.api.world import ask

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


def test_equal_and_odd_column_names(client: httpx.Client) -> None:
    answer = ask(client, 'SELECT 1 AS a, 2 AS a, 3 AS " ", 4 AS "x,\ny"').json()
    assert [column["name"] for column in answer["columns"]] == ["a", "a", " ", "x,\ny"]
    assert answer["rows"] == [[1, 2, 3, 4]]


def test_no_rows(client: httpx.Client) -> None:
    answer = ask(client, "SELECT k, hits FROM by_key WHERE false").json()
    assert (answer["rows"], answer["row_count"]) == ([], 0)
    assert [column["name"] for column in answer["columns"]] == ["k", "hits"]


def test_csv_of_every_form(client: httpx.Client) -> None:
    listed = ", ".join(f"{sql} AS c{at}" for at, (sql, _, _) in enumerate(FORMS))
    query = {"sql": f"SELECT {listed}"}
    text = client.post("/sql", json=query, headers={"Accept": "text/csv"}).text
    cells = text.split("\r\n")[1]
    for _, _, value in FORMS:
        if isinstance(value, str) and "," not in value and '"' not in value:
            assert value in cells
    assert text.endswith(",2,\r\n")


@given(st.lists(st.lists(st.none() | st.text(alphabet=st.characters(codec="utf-8")), min_size=2)))
def test_csv_reads_back(rows: list[list[str | None]]) -> None:
    """NULL and the empty string stay apart; whatever is in a cell stays in it."""
    width = max((len(row) for row in rows), default=2)
    rows = [[cell and cell.replace("\0", "") for cell in row] for row in rows]
    rows = [row + [None] * (width - len(row)) for row in rows]
    names = [f"c{at}" for at in range(width)]
    data = formats.csv(names, rows)
    table = pyarrow.csv.read_csv(
        io.BytesIO(data),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types={name: pa.string() for name in names},
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    assert [list(row.values()) for row in table.to_pylist()] == rows


@given(st.integers(-(2**62), 2**62))
def test_timestamps_are_what_duckdb_says(micros: int) -> None:
    """DuckDB's own calendar, for any year it can write."""
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    micros %= 250_000_000_000_000_000
    relation = con.sql("SELECT make_timestamp($at::BIGINT) AS v", params={"at": micros})
    ((found,),) = formats.rows(relation.to_arrow_table(), relation.types)
    row = con.execute("SELECT make_timestamp($at::BIGINT)::VARCHAR", {"at": micros}).fetchone()
    assert row is not None
    assert found.removeprefix("+") == row[0].replace(" ", "T") + "Z"
