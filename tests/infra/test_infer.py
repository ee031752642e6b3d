"""`everview infer`: a draft that accepts what it was drafted from."""

from __future__ import annotations

import gzip
import json
import os
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra import cli, drafting
from infra.verbs import init
from schemas.errors import BadUse
from tests.folding import load

DATA = os.environ.get("EVERVIEW_DATA")

BASE = {"o": 1, "w": 3, "e": 2, "s": "2013-01-01"}
MORE: list[dict[str, object]] = [
    {"id": "a", "x-y": 1, "ID": 2, "o": {"k": [1]}, "w": 1.25, "e": 1e9, "s": "2013-02-30"},
    {"id": "b", "o": [], "w": "NA", "e": 0.00001, "mixed": 1},
    {"id": "c", "mixed": "x", "never": None},
    {"id": "d", "order": True, "big": 2**64 - 1},
    {"id": "NA", "w": -2.5, "when": "2013-01-01T10:00:00+01:00"},
    {"id": "f", "when": "2013-01-01", "huge": 2**64},
    {"id": "g", "w": 1, "cents": "1.10", "day": "2013-01-01"},
]
JSON = "\n".join(
    json.dumps({"ts": 1441987200 + at, **BASE, **more}) for at, more in enumerate(MORE)
)
JSON_TYPES = {
    "ts": "BIGINT NOT NULL",
    "o": "JSON NOT NULL",
    "w": "DECIMAL(18,2)",
    "e": "DOUBLE NOT NULL",
    "s": "VARCHAR NOT NULL",  # one of them is no day
    "id": "VARCHAR",  # NA is NULL
    "mixed": "JSON",
    "never": "JSON",
    "order": "BOOLEAN",
    "big": "UBIGINT",
    "when": "TIMESTAMP",
    "huge": "DECIMAL(38,0)",
    "cents": "VARCHAR",
    "day": "DATE",
}
CSV = '''dep,delay,order,The Code,THE_CODE,e,ok,at
2013-01-01,NA,1,007,x,1e3,true,2013-01-01 10:00
2013-01-02,3,2,008,"a, ""b""",1.5,false,2013-01-01T10:00:01Z
2013-01-03,-3,3,x,,2.25,true,2013-01-01
'''
CSV_TYPES = {
    "dep": "DATE NOT NULL",
    "delay": "BIGINT",
    "order": "BIGINT NOT NULL",
    "The_Code": "VARCHAR NOT NULL",
    "THE_CODE_5": "VARCHAR",
    "e": "DOUBLE NOT NULL",
    "ok": "BOOLEAN NOT NULL",
    "at": "TIMESTAMP NOT NULL",
}


def types(draft: drafting.Draft) -> dict[str, str]:
    return {c.name: c.type + " NOT NULL" * c.not_null for c in draft.columns}


def written(folder: Path, name: str, data: bytes | str) -> str:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return str(path)


def test_json_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, "odd things.json.gz", gzip.compress(JSON.encode()))

    draft = drafting.draft(file, None)

    assert types(draft) == JSON_TYPES
    assert (draft.name, draft.form, draft.null) == ("odd_things", "json", "NA")
    assert (draft.rejected.total(), draft.left) == (0, ("x-y", "ID"))
    assert cli.main(["infer", file, "--name", "odd"]) == 0
    said = capsys.readouterr().out
    declared = load(tmp_path / "project", said).definitions.streams["odd"]
    assert [(c.name, c.type) for c in declared.columns.columns] == [
        (name, kind.removesuffix(" NOT NULL")) for name, kind in JSON_TYPES.items()
    ]
    assert "-- Drafted from all 7 records of " in said
    assert "-- Of these it rejects 0.\n" in said
    assert '-- "NA" is taken for NULL: in w, id.\n' in said
    assert '-- The key "x-y" is no name' in said
    assert '    "order"' in said
    assert "-- 1441987200 to 1441987206, 7 different\n" in said
    assert "-- -2.5 to 3, " in said
    assert "make_timestamp(ts * 1000000))  -- if it is seconds since 1970" in said


def test_csv(tmp_path: Path) -> None:
    plain = CSV.replace("The Code", "code").replace("THE_CODE", "other")

    draft = drafting.draft(written(tmp_path, "a.csv", CSV), None)
    known = drafting.draft(written(tmp_path, "b.txt", plain), "b")
    bare = drafting.draft(written(tmp_path, "c.csv", CSV.split("\n", 1)[1]), None)

    assert types(draft) == CSV_TYPES
    assert (draft.form, draft.null, draft.header, draft.sampled) == ("csv", "NA", False, 3)
    assert "leave it out (tail -n +2)" in draft.text()
    assert (known.header, "tail" in known.text()) == (True, False)
    assert (bare.header, list(types(bare).values())) == (None, list(CSV_TYPES.values()))
    assert bare.columns[0].name == "column_1"
    for each in (draft, known, bare):
        assert each.rejected.total() == 0
    assert "-- , event_time = 'at'" in draft.text()
    assert '\n    "at" ' in draft.text()  # AT TIME ZONE
    # the empty text would be no NULL any more where another one is declared
    empty = CSV.replace(",2,008", ",,008")
    assert drafting.draft(written(tmp_path, "d.csv", empty), None).null is None


def test_parquet_and_a_sample(tmp_path: Path) -> None:
    table = pa.table(
        {
            "id": pa.array(range(50), pa.int32()),
            "price": [Decimal("1.10")] * 50,
            "x": [float("nan"), *[0.123456] * 49],
            "tags": [["a"]] * 50,
        }
    )
    pq.write_table(table, tmp_path / "p.parquet")

    draft = drafting.draft(str(tmp_path / "p.parquet"), None, 20)

    assert types(draft) == {
        "id": "BIGINT NOT NULL",
        "price": "DECIMAL(18,2) NOT NULL",
        "x": "DOUBLE",
        "tags": "JSON NOT NULL",
    }
    assert (draft.null, draft.sampled, draft.whole) == ("NaN", 20, False)
    assert "from the first 20 records" in draft.text()
    assert "-- , PRIMARY KEY (id)  -- a guess" in draft.text()


def test_what_the_parser_refuses_is_declared_wider(tmp_path: Path) -> None:
    lines = '{"a": 1, "b": 1.5, "c": "x"}\n{"a": 1e3, "b": 1e300, "c": "x", "c": "y"}\n{"a": 1, '
    draft = drafting.draft(written(tmp_path, "w.json", lines), None)

    assert types(draft) == {
        "a": "DOUBLE NOT NULL",
        "b": "DOUBLE NOT NULL",
        "c": "VARCHAR NOT NULL",
    }
    assert draft.rejected == {("repeated key", None): 1, ("not JSON", None): 1}
    assert "-- Of these it rejects 2.\n--   1: " in draft.text()


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("empty.json", b"\n\n", "must hold a record to draft from; there is none"),
        ("only.csv", b"a,b\n", "must hold a record to draft from; there is none"),
        ("list.json", b"[\n1,\n2]\n", "must hold JSON objects, one per line; got none in 3"),
        ("x.orc", b"ORC\x00", "must be NDJSON, CSV or Parquet; got ORC"),
        ("noise", bytes(range(128, 250)) * 3, "every one is rejected: not UTF-8"),
        ("keys.json", b'{"a-b": 1}', "must have a key that can name a column"),
    ],
)
def test_what_cannot_be_drafted_from(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    with pytest.raises(BadUse) as refused:
        drafting.draft(written(tmp_path, name, data), "n")

    assert said in str(refused.value)


def test_names_of_streams(tmp_path: Path) -> None:
    file = written(tmp_path, "2013-flights.v2.json", '{"a": 1}')

    assert drafting.draft(file, None).name == "events"
    assert drafting.draft(written(tmp_path, "order.json", '{"a": 1}'), None).name == "order_events"
    for name in ("select", "raw", "a-b"):
        with pytest.raises(BadUse, match="Say another one: --name NAME"):
            drafting.draft(file, name)


def test_the_starters_orders(tmp_path: Path) -> None:
    shop = init.make(tmp_path / "shop")
    draft = drafting.draft(str(shop / "orders.ndjson"), None)

    assert draft.rejected == {("not JSON", None): 1}
    kinds = types(draft)
    assert kinds["ordered_at"] == "TIMESTAMP NOT NULL"
    assert (kinds["customer"], kinds["coupon"]) == ("VARCHAR", "VARCHAR")
    assert "208 fraction, 1 text" in draft.text()  # why price is JSON


@pytest.mark.slow
@pytest.mark.skipif(DATA is None, reason="EVERVIEW_DATA names no folder")
@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (
            "wikiticker/wikiticker-2015-09-12-sampled.json.gz",
            {"time": "TIMESTAMP NOT NULL", "cityName": "VARCHAR", "isRobot": "BOOLEAN NOT NULL"}
            | {"metroCode": "BIGINT", "delta": "BIGINT NOT NULL", "page": "VARCHAR NOT NULL"},
        ),
        (
            "copenhagen-calls/calls.csv",
            dict.fromkeys(("timestamp", "caller", "callee", "duration"), "BIGINT NOT NULL"),
        ),
        ("copenhagen-calls/genders.csv", {"user": "BIGINT NOT NULL", "female": "BIGINT NOT NULL"}),
        (
            "vega-flights-3m/flights-3m.parquet",
            {"date": "TIMESTAMP NOT NULL", "delay": "BIGINT NOT NULL"}
            | {"origin": "VARCHAR NOT NULL"},
        ),
    ],
)
def test_real_sets(path: str, expected: dict[str, str]) -> None:
    assert DATA is not None
    draft = drafting.draft(str(Path(DATA) / path), None, 2_000)

    assert draft.rejected.total() == 0
    assert types(draft).items() >= expected.items()
