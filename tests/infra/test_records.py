"""What `produce` makes of files."""

from __future__ import annotations

import gzip
import json
import zipfile
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra import records
from infra.records import Shape, Source
from schemas.errors import BadUse

COLUMNS = (
    ("id", "VARCHAR"),
    ("n", "INTEGER"),
    ("d", "DECIMAL(12,2)"),
    ("ok", "BOOLEAN"),
    ("j", "JSON"),
)
JSON = Shape("json", "NA", COLUMNS)
CSV = Shape("csv", "NA", (("a", "INTEGER"), ("b", "VARCHAR"), ("c", "VARCHAR")))


def values(file: Path, shape: Shape) -> list[bytes]:
    return [value for _, value in Source(str(file), shape).records()]


def test_json_lines_go_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "events.ndjson"
    file.write_bytes(b'{"id": "a"}\r\n\n  \n{broken\n\xff\xfe\n{"id":1}')

    assert values(file, JSON) == [b'{"id": "a"}', b"{broken", b"\xff\xfe", b'{"id":1}']


def test_csv_rows_become_objects(tmp_path: Path) -> None:
    file = tmp_path / "events.csv"
    file.write_bytes(
        b"id,n,d,ok,j,extra\n"
        b'7,7,1.10,true,"{""a"": [1]}",9\n'
        b"NA,,NA,no,x,NA\n"
        b"1e3,007,12345678901234567890.01,false,,\xff\n"
        b'"a\nb",1.5,-0,true,null,"say ""hi"""\n'
    )

    assert values(file, JSON) == [
        b'{"id":"7","n":7,"d":1.10,"ok":true,"j":{"a": [1]},"extra":"9"}',
        b'{"id":null,"n":null,"d":null,"ok":"no","j":"x","extra":null}',
        b'{"id":"1e3","n":"007","d":12345678901234567890.01,"ok":false,"j":null,"extra":"\xff"}',
        b'{"id":"a\\nb","n":1.5,"d":-0,"ok":true,"j":null,"extra":"say \\"hi\\""}',
    ]


def test_a_csv_row_of_another_width_becomes_an_array(tmp_path: Path) -> None:
    file = tmp_path / "events.csv"
    file.write_text("id,n\na,1,2\n")

    assert values(file, JSON) == [b'["a", "1", "2"]']


def test_csv_lines_go_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "events.csv"
    lines = [b"1,x,y", b'2,"","a, b"', b'3,"two\nlines",z', b"4,too few", b"\xff,,"]
    file.write_bytes(b"\n".join([lines[0], b"", *lines[1:]]) + b"\r\n")

    assert values(file, CSV) == lines


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("a,b,c", ['1,"two, 2",NA', "4,5"]),
        ("\ufeffa,b,c", ['1,"two, 2",NA', "4,5"]),
        ("b,c,a", ['NA,1,"two, 2"', "4,5"]),
        ('"c","b","a"', ['NA,"two, 2",1', "4,5"]),
    ],
)
def test_a_csv_header_is_dropped_and_obeyed(
    tmp_path: Path, header: str, expected: list[str]
) -> None:
    file = tmp_path / "events.csv"
    file.write_text(f'{header}\n1,"two, 2",NA\n4,5\n', encoding="utf-8")

    assert [value.decode() for value in values(file, CSV)] == expected


def test_columns_that_a_header_lacks_or_adds(tmp_path: Path) -> None:
    file = tmp_path / "events.csv"

    file.write_text("c,a\nx,1\n")
    assert values(file, CSV) == [b"1,NA,x"]
    file.write_text("a,b,c,d\n1,x,y,z\n")
    assert values(file, CSV) == [b"1,x,y"]
    file.write_text("a,b,other\n1,x,y\n")
    assert values(file, CSV) == [b"a,b,other", b"1,x,y"]


def test_a_stray_quote_does_not_swallow_the_file() -> None:
    lines = [b'1,"x,y\n', *(b"2,a,b\n" for _ in range(5000))]

    found = list(records.csv_records(lines))

    assert found == [(at, line.rstrip()) for at, line in enumerate(lines, 1)]


def test_records_know_their_lines(tmp_path: Path) -> None:
    file = tmp_path / "events.csv"
    file.write_bytes(b'a,b,c\n\n1,"two\n\nlines",x\n2,y,z\n')
    assert list(Source(str(file), CSV).records()) == [(3, b'1,"two\n\nlines",x'), (6, b"2,y,z")]

    lines = tmp_path / "events.ndjson"
    lines.write_bytes(b"{}\n\n[]\n")
    assert list(Source(str(lines), JSON).records()) == [(1, b"{}"), (3, b"[]")]


def test_parquet_rows(tmp_path: Path) -> None:
    file = tmp_path / "events.parquet"
    table = pa.table(
        {
            "a": pa.array([1, None], pa.int64()),
            "b": [Decimal("1.10"), Decimal("-2.00")],
            "c": [datetime(2013, 1, 1, 10, 0, 0, 5), None],  # noqa: DTZ001
            "d": [["x"], []],
            "e": [float("nan"), 0.1],
            "f": ['say "hi", you', "NA"],
        }
    )
    pq.write_table(table, file)
    columns = tuple((name, "VARCHAR") for name in "cbaf")

    assert values(file, JSON) == [
        b'{"a":1,"b":1.10,"c":"2013-01-01T10:00:00.000005Z","d":["x"],"e":"NaN",'
        b'"f":"say \\"hi\\", you"}',
        b'{"a":null,"b":-2.00,"c":null,"d":[],"e":0.1,"f":"NA"}',
    ]
    assert values(file, Shape("csv", "NA", columns)) == [
        b'2013-01-01T10:00:00.000005Z,1.10,1,"say ""hi"", you"',
        b'NA,-2.00,NA,"NA"',
    ]


def test_packed_files(tmp_path: Path) -> None:
    packed = tmp_path / "events.ndjson.gz"
    packed.write_bytes(gzip.compress(b'{"id":"a"}\n'))
    zstd = tmp_path / "events.ndjson.zst"
    with pa.CompressedOutputStream(str(zstd), "zstd") as sink:
        sink.write(b'{"id":"a"}\n{"id":"b"}')
    archive = tmp_path / "flights.csv.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("flights.csv", "id,n\nx,1\n")

    assert values(packed, JSON) == [b'{"id":"a"}']
    assert values(zstd, JSON) == [b'{"id":"a"}', b'{"id":"b"}']
    assert values(archive, JSON) == [b'{"id":"x","n":1}']


def test_a_long_line_is_cut_where_it_is_too_long_for_a_record(tmp_path: Path) -> None:
    lines, csv = tmp_path / "x.ndjson", tmp_path / "x.csv"
    most = b"[" + b" " * (records.LONGEST - 2) + b"]"
    lines.write_bytes(b"1\n" + most + b"\r\n" + b"[" * 3 * records.LONGEST + b"\n2")
    csv.write_bytes(b'c,b,a\n1,"' + b"x" * 2 * records.LONGEST + b"\n1,2,3\n")

    one, whole, cut, two = list(Source(str(lines), JSON).records())
    wide, last = list(Source(str(csv), CSV).records())

    assert (one, whole, two) == ((1, b"1"), (2, most), (4, b"2"))
    assert (cut[0], len(cut[1])) == (3, records.LONGEST + 2)
    assert (wide[0], len(wide[1])) == (2, records.LONGEST + 2)
    assert last == (3, b"3,2,1")


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    lines, fake = tmp_path / "x.ndjson", tmp_path / "x.parquet"
    lines.write_text("{}\n")
    fake.write_text("{}\n")

    with pytest.raises(BadUse, match="takes CSV or Parquet; got NDJSON"):
        values(lines, CSV)
    with pytest.raises(BadUse, match=r"x\.parquet: must be Parquet"):
        values(fake, JSON)
    cut, other = tmp_path / "x.gz", tmp_path / "x.orc"
    cut.write_bytes(gzip.compress(b"{}\n" * 999)[:-9])
    other.write_bytes(b"ORC\x00")
    with pytest.raises(BadUse, match=r"x\.gz' must be readable to its end; Compressed file ended"):
        values(cut, JSON)
    with pytest.raises(BadUse, match="must be NDJSON, CSV or Parquet; got ORC"):
        values(other, JSON)
    with pytest.raises(BadUse, match=r"no\.csv' must exist"):
        Source(str(tmp_path / "no.csv"), CSV)


def test_numbers_keep_their_digits() -> None:
    value = {"n": 2**70, "d": Decimal("0.10000000000000000001"), "x": float("-inf")}

    found = records.as_json(value)

    assert found == f'{{"n":{2**70},"d":0.10000000000000000001,"x":"-Infinity"}}'
    assert json.loads(found)["n"] == 2**70
