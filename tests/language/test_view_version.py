"""What makes a new version of a view, and what does not, as docs/language.md says it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from schemas.measures import ALL
from tests.folding import load

STREAM = """
CREATE STREAM rides (
    ride VARCHAR PRIMARY KEY, station VARCHAR NOT NULL, meters INTEGER CHECK (meters >= 0),
    fee DECIMAL(8, 2), app JSON, os VARCHAR GENERATED ALWAYS AS (app->>'$.os'), other DOUBLE
) WITH (topic = 'rides', null = 'NA', event_time = 'started', partitions = 2);
""".replace("ride VARCHAR", "started TIMESTAMP, ride VARCHAR")
TABLE = "CREATE TABLE stations (station VARCHAR PRIMARY KEY, name VARCHAR) WITH (file = 's.csv');"
VIEW = """CREATE VIEW v WITH (rebuild = '@daily') AS
SELECT os, s.name AS station, count(*) AS rides, sum(meters) / 1000 AS km
FROM rides LEFT JOIN stations s USING (station) WHERE meters > 10 GROUP BY ALL;"""
FILE = "station,name\nA,Square\n"
PROJECT = f"{STREAM}\n{TABLE}\n{VIEW}"
SAME = [
    ("SELECT os, s.name", "select\n   os /* which */,  -- what\n s.name"),
    ("count(*) AS rides", "COUNT ( * ) as rides"),
    (VIEW, f"CREATE VIEW a AS SELECT max(fee) AS f, min(fee) AS e FROM rides;\n{VIEW}"),
    (PROJECT, f"{VIEW}\n{TABLE}\n{STREAM}"),
    ("'@daily'", "'@hourly'"),
    (" WITH (rebuild = '@daily')", ""),
    ("partitions = 2", "partitions = 5"),
    ("other DOUBLE", "another BIGINT NOT NULL"),
    ("CHECK (meters >= 0)", "CHECK (meters > 0)"),
    ("fee DECIMAL(8, 2)", "fee DECIMAL(9, 2) NOT NULL"),
]
NEW = [
    ("VIEW v ", "VIEW w "),
    ("AS rides", "AS n"),
    ("/ 1000", "/ 1609"),
    ("meters > 10", "meters > 11"),
    ("LEFT JOIN", "JOIN"),
    ("SELECT os, s.name AS station,", "SELECT s.name AS station, os,"),
    ("meters INTEGER", "meters BIGINT"),
    ("'$.os'", "'$.system'"),
    ("app JSON", "app VARCHAR"),
    ("station VARCHAR NOT NULL", "station VARCHAR"),
    ("null = 'NA'", "null = 'none'"),
    ("PRIMARY KEY, name VARCHAR", "PRIMARY KEY, name VARCHAR NOT NULL"),
    ("topic = 'rides', null", "topic = 'rides', format = 'csv', null"),
]


def version(folder: Path, text: str = PROJECT, file: str = FILE) -> str:
    (found,) = (
        each.version
        for each in load(folder, text, files={"s.csv": file.encode()}).views()
        if each.name != "a"
    )
    return found


@pytest.mark.parametrize(("one", "other"), SAME)
def test_what_says_the_same_is_the_same(tmp_path: Path, one: str, other: str) -> None:
    assert one in PROJECT
    assert version(tmp_path / "1") == version(tmp_path / "2", PROJECT.replace(one, other))


@pytest.mark.parametrize(("one", "other"), NEW)
def test_what_says_something_else_is_new(tmp_path: Path, one: str, other: str) -> None:
    assert PROJECT.count(one) == 1
    assert version(tmp_path / "1") != version(tmp_path / "2", PROJECT.replace(one, other))


def test_another_reference_or_engine_is_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = version(tmp_path / "1")
    changed = version(tmp_path / "2", file=FILE + "B,Harbour\n")
    monkeypatch.setattr("schemas.engine.hash_probe", lambda: "another")
    probed = version(tmp_path / "3")
    monkeypatch.undo()
    raised = replace(ALL["count"], meaning=ALL["count"].meaning + 1)
    monkeypatch.setitem(ALL, "count", raised)
    meant = version(tmp_path / "4")

    assert len({before, changed, probed, meant}) == 4
