"""`everview schemas`: what producers must send and what clients get."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pyarrow as pa
import pytest

from infra import cli
from infra.verbs import init
from infra.verbs.schemas import of_stream
from tests.folding import Folding, load, records

INSTANT = datetime(2026, 1, 1, tzinfo=UTC)
STREAM = """CREATE STREAM s (
    id BIGINT PRIMARY KEY, i INTEGER, u UTINYINT NOT NULL, d DECIMAL(5, 2), x DOUBLE, b BOOLEAN,
    t VARCHAR NOT NULL, day DATE, seen TIMESTAMP, j JSON,
    twice VARCHAR GENERATED ALWAYS AS (t || t)
) WITH (topic = 's', format = '{form}', null = 'NA');
CREATE VIEW v AS SELECT t, day, seen, b, count(*) AS n, sum(i) AS total, sum(d) AS money,
    avg(i) AS mean, approx_top_k(i, 2) AS top FROM s GROUP BY ALL;
"""
GOOD = {"id": 1, "u": 0, "t": "x"}
# fields over GOOD, and whether the record is accepted
JSON_CASES: list[tuple[dict[str, Any], bool]] = [
    ({}, True),
    ({"more": {"of": "it"}}, True),
    ({"id": None}, False),
    ({"id": 2**63 - 1}, True),
    ({"id": 2**63}, False),
    ({"id": "1"}, False),
    ({"i": 2**31 - 1}, True),
    ({"i": -(2**31) - 1}, False),
    ({"i": True}, False),
    ({"i": 1.5}, False),
    ({"i": None}, True),
    ({"i": "NA"}, True),
    ({"i": "N/A"}, False),
    ({"u": 255}, True),
    ({"u": 256}, False),
    ({"u": -1}, False),
    ({"u": "NA"}, False),
    ({"d": 1.25}, True),
    ({"d": "999.99"}, True),
    ({"d": 1000}, False),
    ({"d": "01"}, False),
    ({"d": "1.255"}, False),
    ({"d": "1.2500"}, True),
    ({"d": []}, False),
    ({"x": 1e300}, True),
    ({"x": 7}, True),
    ({"x": "7"}, False),
    ({"b": False}, True),
    ({"b": 0}, False),
    ({"b": "true"}, False),
    ({"t": ""}, True),
    ({"t": None}, False),
    ({"t": "NA"}, False),
    ({"t": 1}, False),
    ({"day": "2013-01-31"}, True),
    ({"day": "2013-1-31"}, False),
    ({"day": 20130131}, False),
    ({"seen": "2013-01-31"}, True),
    ({"seen": "2013-01-31T10:00"}, True),
    ({"seen": "2013-01-31 10:00:00.123456Z"}, True),
    ({"seen": "2013-01-31T10:00:00+05:30"}, True),
    ({"seen": "2013-01-31T25:00:00"}, False),
    ({"seen": 1359590400}, False),
    ({"j": {"a": [1, None]}}, True),
    ({"j": "NA"}, True),
    ({"j": 0}, True),
]
# accepted by JSON Schema, and yet rejected: what `description` tells
BEYOND: list[dict[str, Any]] = [{"i": 1.0}, {"d": 1.255}, {"day": "2013-02-30"}]
CSV_CASES = [
    ("1,2,3,1.50,1e5,true,x,2013-01-31,2013-01-31T10:00Z,7", True),
    ("1,NA,3,NA,NA,NA,x,NA,NA,NA", True),
    ("NA,2,3,1.50,1,true,x,2013-01-31,2013-01-31,7", False),
    ("1,02,3,1.50,1,true,x,2013-01-31,2013-01-31,7", False),
    ("1,2,3,1.505,1,true,x,2013-01-31,2013-01-31,7", False),
    ("1,2,3,1.50,x,true,x,2013-01-31,2013-01-31,7", False),
    ("1,2,3,1.50,1,yes,x,2013-01-31,2013-01-31,7", False),
    ("1,2,3,1.50,1,true,x,31.1.2013,2013-01-31,7", False),
    ("1,2,3,1.50,1,true,x,2013-01-31,10:00,7", False),
    ("1,2,3,1.50,1,true,x,2013-01-31,2013-01-31", False),
]


def schema_of(capsys: pytest.CaptureFixture[str], project: Path, name: str) -> dict[str, Any]:
    capsys.readouterr()
    assert cli.main(["schemas", name, "--project", str(project)]) == 0
    schema: dict[str, Any] = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(schema)
    return schema


def accepted(project: Path, values: list[bytes]) -> list[bool]:
    """Of each record, whether it is; a duplicate is too."""
    (part,) = Folding(load(project)).epoch(1, INSTANT, records(values))
    rejected = set(part.rejects["_offset"].to_pylist())
    return [at not in rejected for at in range(len(values))]


def test_a_record_of_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "s.sql").write_text(STREAM.replace("{form}", "json"))
    valid = jsonschema.Draft202012Validator(schema_of(capsys, tmp_path, "S")).is_valid
    events = [{**GOOD, **fields} for fields, _ in JSON_CASES]
    beyond = [{**GOOD, **fields} for fields in BEYOND]

    found = accepted(tmp_path, [json.dumps(event).encode() for event in events + beyond])

    expected = [fits for _, fits in JSON_CASES]
    assert found == expected + [False] * len(BEYOND)
    assert [valid(event) for event in events] == expected
    assert all(map(valid, beyond))
    assert not valid({"id": 1})
    assert not valid([GOOD])


def test_a_record_of_csv(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "s.sql").write_text(STREAM.replace("{form}", "csv"))
    valid = jsonschema.Draft202012Validator(schema_of(capsys, tmp_path, "s")).is_valid

    expected = [fits for _, fits in CSV_CASES]
    assert accepted(tmp_path, [line.encode() for line, _ in CSV_CASES]) == expected
    assert [valid(line.split(",")) for line, _ in CSV_CASES] == expected


def test_the_starters_orders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shop = init.make(tmp_path / "shop")
    schema = schema_of(capsys, shop, "orders")
    valid = jsonschema.Draft202012Validator(schema).is_valid
    wrong = []
    for number, line in enumerate((shop / "orders.ndjson").read_text().splitlines(), 1):
        try:
            wrong += [] if valid(json.loads(line)) else [number]
        except ValueError:
            wrong.append(number)

    assert wrong == [78, 121, 171]  # line 26 breaks a CHECK, which is told in words
    assert "CHECK (quantity BETWEEN 1 AND 100)" in schema["properties"]["quantity"]["description"]
    assert "Repeats of (order_id) count once" in schema["description"]


def test_a_row_of_a_view(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "s.sql").write_text(STREAM.replace("{form}", "json"))
    lines = [{**GOOD, **fields, "id": at} for at, (fields, fits) in enumerate(JSON_CASES) if fits]
    (tmp_path / "e.ndjson").write_text("\n".join(map(json.dumps, lines)))
    row = jsonschema.Draft202012Validator(schema_of(capsys, tmp_path, "v"))
    project = ["--project", str(tmp_path)]
    assert cli.main(["try", "v", str(tmp_path / "e.ndjson"), "--format", "json", *project]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]

    assert len(rows) > 5
    for each in rows:
        row.validate(each)
    broken = [rows[0][:-1], [1, *rows[0][1:]], [*rows[0][:4], "7", *rows[0][5:]]]
    assert not any(map(row.is_valid, broken))


def test_arrow(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loaded = load(tmp_path, STREAM.replace("{form}", "json"))
    project = ["--project", str(tmp_path)]

    schema = of_stream(loaded.definitions.streams["s"])

    assert "twice" not in schema.names
    assert schema.field("id") == pa.field("id", pa.int64(), nullable=False)
    assert schema.field("d") == pa.field("d", pa.decimal128(5, 2))
    file = tmp_path / "v.arrow"
    assert cli.main(["schemas", "v", "--format", "arrow", "--output", str(file), *project]) == 0
    written = pa.ipc.read_schema(pa.py_buffer(file.read_bytes()))
    assert cli.main(["schemas", "v", "--format", "arrow", *project]) == 0
    assert capsys.readouterr().out == written.to_string() + "\n"
    assert written.field("money").type == pa.decimal128(38, 2)


def test_a_name_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shop = init.make(tmp_path / "shop")

    assert cli.main(["schemas", "shop_dya", "--project", str(shop)]) == 2

    said = capsys.readouterr().err
    assert "stream or a view of the project (orders, category_day, shop_day)" in said
    assert "did you mean 'shop_day'?" in said
