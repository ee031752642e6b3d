"""Parquet files of ours: what they say of themselves, and rows that everybody reads alike."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.compile import portable
from schemas.engine import connect
from schemas.errors import DamagedFile
from schemas.parquet import Description, described, union
from schemas.position import Range

RUN = Description("run", "hits", 3, 7, (Range(0, 5, 9), Range(1, 0, 2)), "by'key", "f00", "core")


def test_a_file_says_what_it_is_whoever_wrote_it(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "a.parquet", tmp_path / "b.parquet"
    assert connect().copy("SELECT 1 AS n UNION ALL SELECT 2 ORDER BY n", ours, RUN) == 2
    table = pa.table({"n": [1, 2]}).replace_schema_metadata(RUN.metadata())
    pq.write_table(table, theirs)
    assert described(ours, "a") == described(theirs, "b") == RUN
    assert connect().arrow(f"FROM {connect().files([ours, theirs])}").num_rows == 4


@pytest.mark.parametrize("metadata", [{}, {"everview": "{"}, {"everview": "[]"}])
def test_a_file_that_does_not_is_damage(tmp_path: Path, metadata: dict[str, str]) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"n": [1]}).replace_schema_metadata(metadata), path)
    with pytest.raises(DamagedFile, match=r"file 'runs/a' must be a data file that says"):
        described(path, "runs/a")
    path.write_bytes(b"PAR1")
    with pytest.raises(DamagedFile, match="runs/a"):
        described(path, "runs/a")


def test_offsets_of_files_add_up() -> None:
    assert union([Range(1, 4, 6), Range(0, 0, 3), Range(1, 6, 9)]) == (
        Range(0, 0, 3),
        Range(1, 4, 9),
    )


ANSWER = """SELECT 170141183460469231731687303715884105::HUGEINT AS big, TIME '10:00' AS t,
    INTERVAL '1 day' AS i, uuid '00000000-0000-0000-0000-000000000001' AS u,
    [1::HUGEINT] AS many, {'a': INTERVAL '1 month'} AS nested, [1.5::DECIMAL(4,1)] AS plain,
    1::UBIGINT AS id, TIMESTAMP '2013-01-01 10:00:00' AS at, 'x' AS "a b" """


def test_rows_are_written_in_types_that_everybody_has(tmp_path: Path) -> None:
    engine = connect()
    answered = [
        (str(name), str(kind)) for name, kind, *_ in engine.con.sql(f"DESCRIBE {ANSWER}").fetchall()
    ]
    path = tmp_path / "a.parquet"
    engine.copy(portable.select(answered, f"({ANSWER})"), path, RUN)
    (row,) = pq.read_table(path).to_pylist()
    assert int(row["big"]) == 170141183460469231731687303715884105
    assert (row["t"], row["i"], row["many"]) == ("10:00:00", "1 day", "[1]")
    assert row["u"].endswith("0001")
    assert row["nested"] == "{'a': 1 month}"
    assert (row["id"], row["a b"], row["at"].hour) == (1, "x", 10)
    assert [str(each) for each in row["plain"]] == ["1.5"]
    kinds = dict(portable.columns(answered))
    assert kinds["plain"] == "DECIMAL(4,1)[]"
    assert {kinds[name] for name in ("t", "i", "u", "many", "nested")} == {"VARCHAR"}
