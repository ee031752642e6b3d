"""Measures over rows (keys, value, count), of every type, beside DuckDB with the same text."""

from __future__ import annotations

import duckdb
import pytest

from schemas import definitions, engine
from schemas.compile import CompiledView, compile_view
from schemas.language import parser
from tests.folding import presented, refused

pytestmark = pytest.mark.slow

# how a value is drawn; in `size` they grow from seed to seed
TYPES = {
    "TINYINT": "random() * 200 - 100",
    "INTEGER": "(random() - 0.5) * least(size, 2e9)",
    "BIGINT": "(random() - 0.5) * size",
    "UBIGINT": "random() * size",
    "DECIMAL(4,1)": "(random() - 0.5) * 1900",
    "DECIMAL(9,2)": "(random() - 0.5) * least(size, 1e7)",
    "DECIMAL(18,4)": "(random() - 0.5) * least(size, 1e14)",
    "DECIMAL(27,5)": "(random() - 0.5) * size",
    "DECIMAL(38,2)": "(random() - 0.5) * size * size",
    "DOUBLE": "(random() - 0.5) * pow(size, 17)",
    "VARCHAR": "chr((97 + random() * 5)::INTEGER)",
    "BOOLEAN": "random() < 0.5",
    "DATE": "DATE '1700-01-01' + (random() * 200000)::INTEGER",
    "TIMESTAMP": "TIMESTAMP '1500-01-01' + to_microseconds((random() * 1e16)::BIGINT)",
}
ODD = {"DOUBLE": ("-0.0", "0.0", "'NaN'", "'Infinity'", "'-Infinity'")}
EXACT = (
    "count(DISTINCT {})",
    "histogram({})",
    "median({})",
    "quantile_disc({}, 0.3)",
    "quantile({}, [0.1, 1, 0])",
)
JUDGED = ("mode({})",)
BETWEEN = ("quantile_cont({}, 0.3)", "quantile_cont({}, [0, 0.123, 1, 0.9])")


COLUMNS = {f"c{at}": kind for at, kind in enumerate(TYPES)}
CALLS = [call.format(name) for name in COLUMNS for call in EXACT]


@pytest.fixture(scope="module")
def view() -> CompiledView:
    calls = CALLS + [call.format(name) for name in COLUMNS for call in JUDGED]
    # DuckDB has nothing between two texts or two booleans
    between = [name for name, kind in COLUMNS.items() if kind not in ("VARCHAR", "BOOLEAN")]
    calls += [call.format(name) for name in between for call in BETWEEN]
    listed = ", ".join(f"{call} AS a{at}" for at, call in enumerate(calls))
    declared = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
    texts = [
        f"CREATE STREAM rows (k INTEGER, {declared}) WITH (topic = 'rows');",
        f"CREATE VIEW v AS SELECT k, {listed} FROM rows GROUP BY k;",
    ]
    found, problems = definitions.read([parser.parse("v.sql", text)[0][0] for text in texts])
    assert not problems
    return compile_view(found.views["v"], "v", [])


def test_all_measures_of_one_argument_share_its_rows(view: CompiledView) -> None:
    assert len(view.tables) == 1 + len(COLUMNS)


@pytest.mark.parametrize("seed", [1, 3])
def test_every_type_is_duckdbs_own_answer(view: CompiledView, seed: int) -> None:
    truth = duckdb.connect()
    size, rows = 10.0 ** (6 * seed), 100 * seed
    truth.execute(f"SELECT setseed({seed / 10})")
    drawn = ", ".join(
        f"CASE WHEN random() < 0.9 THEN ({text.replace('size', repr(size))})::{kind} END AS c{at}"
        for at, (kind, text) in enumerate(TYPES.items())
    )
    truth.execute(
        f"CREATE TABLE rows AS SELECT (random() * 4)::INTEGER AS k, {drawn} FROM range({rows})"
    )
    truth.execute("INSERT INTO rows SELECT * FROM rows WHERE random() < 0.5")
    truth.execute("INSERT INTO rows (k) VALUES (77)")
    for at, kind in enumerate(TYPES):
        for value in ODD.get(kind, ()):
            truth.execute(f"INSERT INTO rows (k, c{at}) VALUES (1, {value})")
    given = truth.sql("SELECT * FROM rows").to_arrow_table()

    own = engine.connect()
    parts = []
    for part in (given.slice(0, rows // 2), given.slice(rows // 2)):
        own.register("counted", part)
        parts.append({table.name: own.arrow(table.fold) for table in view.tables})
    assert not refused(view, parts, "rows", given)
    ours = {answer[0]: answer for answer in presented(view, parts)}
    right = {answer[0]: answer for answer in truth.execute(view.select).fetchall()}
    assert ours.keys() == right.keys()
    for key, answer in right.items():
        for at, call in enumerate(CALLS, 1):
            assert repr(ours[key][at]) == repr(answer[at]), (call, key)
