"""Files of references: every value is of the declared type without loss, or its rows are told."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.engine import Engine, connect
from schemas.errors import DefinitionError
from tests.folding import load

STREAM = "CREATE STREAM s (k VARCHAR) WITH (topic = 's');"
at = datetime.fromisoformat

# a column type, values as Parquet has them, what they become (as DuckDB prints it)
TAKEN: list[tuple[str, pa.Array[Any], list[str | None]]] = [
    ("INTEGER", pa.array([1, None, -7], pa.int64()), ["1", None, "-7"]),
    ("INTEGER", pa.array([1.0, None], pa.float64()), ["1", None]),
    ("INTEGER", pa.array(["12", None]), ["12", None]),
    ("BIGINT", pa.array([2**53 + 1], pa.int64()), ["9007199254740993"]),
    ("BIGINT", pa.array([Decimal("5.00")], pa.decimal128(5, 2)), ["5"]),
    ("UTINYINT", pa.array([255], pa.uint64()), ["255"]),
    ("DOUBLE", pa.array([0.1, -0.0, float("nan")]), ["0.1", "-0.0", "nan"]),
    ("DOUBLE", pa.array([1.5], pa.float32()), ["1.5"]),
    ("DOUBLE", pa.array([7], pa.int32()), ["7.0"]),
    ("DOUBLE", pa.array([Decimal("0.10")], pa.decimal128(9, 2)), ["0.1"]),
    ("DECIMAL(12,2)", pa.array([Decimal("1.500")], pa.decimal128(9, 3)), ["1.50"]),
    ("DECIMAL(12,2)", pa.array([1.25]), ["1.25"]),
    ("DECIMAL(12,2)", pa.array(["1.5"]), ["1.50"]),
    ("BOOLEAN", pa.array([True, False, None]), ["true", "false", None]),
    ("VARCHAR", pa.array(["a", "", None]), ["a", "", None]),
    ("VARCHAR", pa.array(["a", "b", "a"]).dictionary_encode(), ["a", "b", "a"]),
    ("VARCHAR", pa.array(["long"], pa.large_string()), ["long"]),
    ("DATE", pa.array([date(2013, 2, 28)]), ["2013-02-28"]),
    ("DATE", pa.array([at("2013-02-28 00:00")]), ["2013-02-28"]),
    ("DATE", pa.array(["2013-02-28"]), ["2013-02-28"]),
    ("TIMESTAMP", pa.array([at("2013-01-01 10:00")]), ["2013-01-01 10:00:00"]),
    (
        "TIMESTAMP",
        pa.array([datetime(2013, 1, 1, 10, tzinfo=UTC)], pa.timestamp("ms", tz="Europe/Oslo")),
        ["2013-01-01 10:00:00"],
    ),
    ("TIMESTAMP", pa.array([5_000], pa.timestamp("ns")), ["1970-01-01 00:00:00.000005"]),
    ("TIMESTAMP", pa.array([date(2013, 1, 1)]), ["2013-01-01 00:00:00"]),
    ("JSON", pa.array(['{"a": 1}', None]), ['{"a": 1}', None]),
    ("JSON", pa.array([{"a": [1]}]), ['{"a":[1]}']),
]
WRONG: list[tuple[str, pa.Array[Any], str]] = [
    ("INTEGER", pa.array([2**31], pa.int64()), "got '2147483648'"),
    ("INTEGER", pa.array([1.5]), "got '1.5'"),
    ("INTEGER", pa.array([float("nan")]), "got 'nan'"),
    ("INTEGER", pa.array(["1.0"]), "got '1.0'"),
    ("INTEGER", pa.array([True]), "got 'true'"),
    ("INTEGER", pa.array([date(2013, 1, 1)]), "got '2013-01-01'"),
    ("DOUBLE", pa.array([2**53 + 1], pa.int64()), "got '9007199254740993'"),
    (
        "DOUBLE",
        pa.array([Decimal("0.1234567890123456789")], pa.decimal128(20, 19)),
        "got '0.1234567890123456789'",
    ),
    ("DOUBLE", pa.array([False]), "got 'false'"),
    ("DECIMAL(12,2)", pa.array([Decimal("1.005")]), "got '1.005'"),
    ("DECIMAL(12,2)", pa.array([1.005]), "got '1.005'"),
    ("BOOLEAN", pa.array([1]), "got '1'"),
    ("VARCHAR", pa.array([5]), "got '5'"),
    ("VARCHAR", pa.array([b"bytes"]), "got 'bytes'"),
    ("DATE", pa.array([at("2013-01-01 10:00")]), "got '2013-01-01 10:00:00'"),
    ("DATE", pa.array(["2013-02-30"]), "got '2013-02-30'"),
    ("TIMESTAMP", pa.array([5_001], pa.timestamp("ns")), "got '1970-01-01 00:00:00.000005001'"),
    ("TIMESTAMP", pa.array([1357034400], pa.int64()), "got '1357034400'"),
    ("JSON", pa.array(["{"]), "got '{'"),
]


def parquet(value: pa.Array[Any], key: Sequence[int | None] | None = None) -> bytes:
    keys = range(len(value)) if key is None else key
    sink = io.BytesIO()
    pq.write_table(pa.table({"unused": value, "v": value, "k": pa.array(keys)}), sink)
    return sink.getvalue()


def table(kind: str, constraint: str = "") -> str:
    columns = f"k INTEGER PRIMARY KEY, v {kind} {constraint}"
    return f"CREATE TABLE t ({columns}) WITH (file = 't.parquet');"


def loaded(folder: Path, text: str, data: bytes) -> list[str | None]:
    """The values of a reference's column, as every layer loads them."""
    view = "CREATE VIEW x AS SELECT count(v) AS c FROM s LEFT JOIN t ON length(s.k) = t.k;"
    found = load(folder, STREAM, text, view, files={"t.parquet": data})
    (reference,) = found.references(found.definitions.views["x"])
    own: Engine = connect()
    own.load_reference(reference, found.contents["t"].data)
    rows = own.con.execute(f'SELECT v::VARCHAR FROM "{reference.table}" ORDER BY k').fetchall()
    return [value for (value,) in rows]


def refused(folder: Path, text: str, data: bytes) -> list[str]:
    with pytest.raises(DefinitionError) as error:
        load(folder, STREAM, text, files={"t.parquet": data})
    return [problem.message for problem in error.value.problems]


def test_values_of_parquet_are_taken_without_loss(tmp_path: Path) -> None:
    for number, (kind, values, wanted) in enumerate(TAKEN):
        found = loaded(tmp_path / str(number), table(kind), parquet(values))
        assert found == wanted, (kind, values)


def test_values_that_would_be_bent_are_told_with_their_rows(tmp_path: Path) -> None:
    for number, (kind, values, said) in enumerate(WRONG):
        (message,) = refused(tmp_path / str(number), table(kind), parquet(values))
        expected = f"table 't': t.parquet: row 1, column 'v' must be {kind}; {said}"
        assert message == expected, (kind, values)


def test_rows_and_columns_of_parquet_that_are_no_reference(tmp_path: Path) -> None:
    twice = parquet(pa.array(["a", "b", "c", "d"]), [1, 2, 1, None])
    assert refused(tmp_path / "twice", table("VARCHAR"), twice) == [
        "table 't': t.parquet: row 4, column 'k' must be NOT NULL; got 'NULL'",
        "table 't': t.parquet: rows 1 and 3, column 'k' must be a key once; got '1'",
    ]
    text = table("VARCHAR").replace("v VARCHAR", "w VARCHAR, V VARCHAR")
    assert refused(tmp_path / "columns", text, twice) == [
        "table 't': t.parquet: file must have every column; got none named w, V among unused, v, k"
    ]
    (message,) = refused(tmp_path / "null", table("VARCHAR", "NOT NULL"), parquet(pa.array([None])))
    assert "row 1, column 'v' must be NOT NULL" in message
    strange = parquet(pa.array([1], pa.duration("ns")))
    (message,) = refused(tmp_path / "strange", table("VARCHAR"), strange)
    assert "row 1, column 'v' must be VARCHAR; got" in message
    (message,) = refused(tmp_path / "csv", table("VARCHAR"), b"k,v\n1,a\n")
    assert "t.parquet: file must be Parquet; got " in message


def test_no_rows_are_a_reference(tmp_path: Path) -> None:
    assert loaded(tmp_path, table("DATE"), parquet(pa.array([], pa.date32()))) == []
