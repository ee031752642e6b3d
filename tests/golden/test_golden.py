"""What definitions become: `emitted/*.sql`, compared as text, then run and compared with the
oracle. The text shows what changed, the run that it is still true.

`pytest tests/golden --update-golden` rewrites the files. A change of meaning raises the MEANING of
its compile pass, or the `meaning` of its measure; a change of words does not.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from schemas import engine, project
from schemas.compile import CompiledStream, CompiledView
from schemas.project import Project
from tests.folding import records
from tests.oracle import Oracle

HERE = Path(__file__).parent
EMITTED = HERE / "emitted"
LOADED = project.load(HERE / "project")
STREAMS = {stream.name: stream for stream in LOADED.streams()}
VIEWS = {view.name: view for view in LOADED.views()}

EVENTS = {
    "sales": [
        b'{"id":"1","ts":"2013-01-01T10:00:00Z","shop":"a","amount":1,"price":1.5,"weight":0.5}',
        b'{"id":"2","ts":"2013-01-01T10:30:00Z","shop":"a","amount":2,"basket":{"items":3}}',
        b'{"id":"2","ts":"2013-01-01T10:30:00Z","shop":"a","amount":9}',
        b'{"id":"3","ts":"2013-01-01T12:00:00+01:00","shop":"b","price":"0.25","weight":-0.0}',
        b'{"id":"4","ts":"2013-01-01T11:00:00Z","shop":"NA","amount":4,"price":2}',
        b'{"id":"5","ts":"2013-01-01T11:00:00Z","amount":-1}',
        b'{"id":"6","ts":"2013-01-01T11:00:00Z","amount":1,"amount":1}',
        b'{"id":"7"}',
        b"no event",
    ],
    "visits": [
        b"a,2013-01-01,true",
        b"a,2013-01-01,false",
        b"a,,true",
        b",2013-01-01,",
        b'"b",2013-01-02,\r\n',
    ],
}
COUNTED: dict[str, list[tuple[object, ...]]] = {
    "sales": [
        ("1", "2013-01-01 10:00:00", "a", 1, "1.5", 0.5, None),
        ("2", "2013-01-01 10:30:00", "a", 2, None, None, 3),
        ("3", "2013-01-01 11:00:00", "b", None, "0.25", 0.0, None),
        ("4", "2013-01-01 11:00:00", None, 4, "2", None, None),
    ],
    "visits": [("a", "2013-01-01", True), ("b", "2013-01-02", None)],
    "shops": [("a", "Oslo"), ("b", None)],
}
COLUMNS = {
    "sales": [
        ("id", "VARCHAR"),
        ("ts", "TIMESTAMP"),
        ("shop", "VARCHAR"),
        ("amount", "INTEGER"),
        ("price", "DECIMAL(12,2)"),
        ("weight", "DOUBLE"),
        ("items", "INTEGER"),
    ],
    "visits": [("shop", "VARCHAR"), ("day", "DATE"), ("late", "BOOLEAN")],
    "shops": [("shop", "VARCHAR"), ("city", "VARCHAR")],
}


def of_stream(stream: CompiledStream) -> dict[str, str]:
    """What a task runs for each record."""
    parts = {f"parse {at}": text for at, text in enumerate(stream.parse)}
    parts |= {f"dedup {at}": text for at, text in enumerate(stream.dedup)}
    return {**parts, "master": stream.master, "rejects": stream.rejects, "ids": stream.ids}


def of_view(view: CompiledView) -> dict[str, str]:
    """What each layer runs for a view, over `parts`, `wide` and `merged`."""
    parts = {f"fold {table.name}": table.fold for table in view.tables}
    parts |= {f"merge {table.name}": table.merge("parts") for table in view.tables}
    parts |= {f"finish {finish.column}": finish.select("wide") for finish in view.finishes}
    return {**parts, "present": view.present("merged")}


def written(parts: dict[str, str]) -> str:
    """Lines that can be read in a difference; line breaks stand between words only."""
    lines = []
    for name, text in parts.items():
        for word in ("FROM (", "WHEN ", "SELECT *, "):
            text = text.replace(f" {word}", f"\n{word}")
        lines.append(f"-- {name}\n{text}\n")
    return "\n".join(lines)


def read(name: str) -> dict[str, str]:
    """The parts of a golden file, to be run as they stand there."""
    parts = {}
    for part in f"\n{(EMITTED / f'{name}.sql').read_text()}".split("\n-- ")[1:]:
        title, _, text = part.partition("\n")
        parts[title] = text.strip()
    return parts


@pytest.mark.parametrize("name", [*STREAMS, *VIEWS])
def test_definitions_become_this_sql(name: str, request: pytest.FixtureRequest) -> None:
    parts = of_stream(STREAMS[name]) if name in STREAMS else of_view(VIEWS[name])
    file = EMITTED / f"{name}.sql"
    if request.config.getoption("--update-golden"):
        file.write_text(written(parts))
    assert file.read_text() == written(parts), "see `pytest tests/golden --update-golden`"


def test_every_file_is_of_a_definition() -> None:
    assert {file.stem for file in EMITTED.iterdir()} == {*STREAMS, *VIEWS}


@pytest.fixture(scope="module")
def truth() -> Oracle:
    oracle = Oracle()
    for name, rows in COUNTED.items():
        columns = COLUMNS[name]
        named = [dict(zip([n for n, _ in columns], row, strict=True)) for row in rows]
        oracle.fill(name, columns, named)
    return oracle


@pytest.mark.parametrize("name", VIEWS)
def test_this_sql_answers_as_the_view_does(name: str, truth: Oracle) -> None:
    view = VIEWS[name]
    own, parts = engine.connect(), read(name)
    folded: dict[str, list[pa.Table]] = {table.name: [] for table in view.tables}
    for half in (EVENTS[view.stream][:4], EVENTS[view.stream][4:]):
        _count(own, view.stream, half)
        for reference in view.references:
            own.load_reference(reference, LOADED.contents[reference.name].data)
        for table, tables in folded.items():
            tables.append(own.arrow(parts[f"fold {table}"]))
    merged = {}
    for table, tables in folded.items():
        own.register("parts", pa.concat_tables(tables))
        merged[table] = own.arrow(parts[f"merge {table}"])
    own.register("merged", merged["core"])
    for finish in view.finishes:
        own.register("wide", merged[finish.table])
        own.register("core", own.arrow("FROM merged"))
        own.register("finished", own.arrow(parts[f"finish {finish.column}"]))
        keys = [f'c."{key}" IS NOT DISTINCT FROM f."{key}"' for key, _ in finish.group]
        columns = f'c.*, f."{finish.column}"'
        joined = (
            f"SELECT {columns} FROM core c LEFT JOIN finished f ON {' AND '.join(keys) or 'true'}"
        )
        own.register("merged", own.arrow(joined))
    found = own.con.execute(parts["present"]).fetchall()
    select = _query(LOADED, name)
    assert Counter(map(repr, found)) == Counter(map(repr, truth.answer(select)))
    assert len(found) > 0


def _count(own: engine.Engine, stream: str, values: list[bytes]) -> None:
    """Parse and dedup as the stream's file says; the ids of the first half are known to the
    second."""
    parts = read(stream)
    own.register("records", records(values))
    types = dict(STREAMS[stream].columns)
    listed = ", ".join(f'"{column}" {types[column]}' for column in STREAMS[stream].key)
    own.execute(f"CREATE TABLE IF NOT EXISTS ids (_hash UBIGINT, {listed}, _instant TIMESTAMP)")
    instant = "TIMESTAMP '2026-01-01 00:00:00'"
    since = "TIMESTAMP '2025-12-31 23:00:00'"
    for name, text in parts.items():
        if name.startswith(("parse", "dedup")):
            own.execute(text.replace("$instant", instant).replace("$since", since))
    own.execute(f"INSERT INTO ids {parts['ids'].replace('$instant', instant)}")
    own.execute("CREATE OR REPLACE TEMP VIEW counted AS SELECT * FROM events WHERE NOT _duplicate")
    accepted = own.arrow(parts["master"]).num_rows
    assert accepted + own.arrow(parts["rejects"]).num_rows == len(values)


def _query(loaded: Project, name: str) -> str:
    """DuckDB's approx_top_k counts so few values exactly; of these no two are as frequent."""
    query = loaded.definitions.views[name].statement.body
    query = query.replace("approx_count_distinct(id)", "count(DISTINCT id)")
    return query.replace("approx_quantile(", "quantile_disc(")


def test_there_is_one_of_each_form() -> None:
    views = LOADED.definitions.views.values()
    assert len(views) >= 12
    assert any(not view.keys for view in views)
    assert any(view.references for view in views)
    assert any(
        not {key.name for key in view.keys} <= {o.name for o in view.outputs} for view in views
    )
    assert {measure.wide.kind for view in views for measure in view.measures if measure.wide} >= {
        "registers",
        "buckets",
        "values",
    }
