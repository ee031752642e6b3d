"""Two relations that must say the same, and where they do not: readable, a few of the differences.

Partials must be equal, as multisets. Of a view's rows each column is compared by what its
expression promises (`CompiledView.compared`): equal, within a bound, or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from schemas.compile import CompiledView, PartialTable, sql
from schemas.engine import Engine

MOST = 20  # differences that are told
# in place of the name of a partial table
ROWS = "rows of the view"
NEW_ROWS = "rows of the new runs"
KEPT_ROWS = "rows of what the master holds still"
MISSING = "no row"
NUMBER = "$number"
UNLIKE = sql.name("$unlike")

# how far an equal number may be off; formed from the same numbers in another order
TOLERANCE = {"DOUBLE": "1e-12", "FLOAT": "1e-6"}


@dataclass(frozen=True)
class Difference:
    """One value that differs; all of them as text, None for NULL."""

    table: str
    group: Mapping[str, str | None]
    column: str
    built: str | None
    expected: str | None
    recounted: str | None = None

    def json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Comparison:
    """How many rows were compared, how many differ, and some of those."""

    table: str
    built: int
    expected: int
    different: int
    differences: tuple[Difference, ...]

    def json(self) -> dict[str, Any]:
        return {
            "table": self.table,
            "built": self.built,
            "expected": self.expected,
            "different": self.different,
        }


def partials(engine: Engine, table: PartialTable, built: str, expected: str) -> Comparison:
    """As multisets. The relations have the table's columns in its own order."""
    unlike(engine, built, expected)
    keys = [name for name, _ in table.keys]
    values = [name for name, _, _ in table.values]
    left = f"(SELECT * EXCLUDE ({sql.name(NUMBER)}) FROM {UNLIKE} WHERE {sql.name(NUMBER)} > 0)"
    found = _differing(engine, table.name, left, left.replace("> 0", "< 0"), keys, values)
    return Comparison(table.name, count(engine, built), count(engine, expected), *found)


def unlike(engine: Engine, one: str, other: str) -> int:
    """How many rows two relations of the same columns do not share as multisets: EXCEPT ALL both
    ways, in one pass. They are left in UNLIKE, with how often more than in the other."""
    number = sql.name(NUMBER)
    engine.execute(
        f"CREATE OR REPLACE TEMP TABLE {UNLIKE} AS "
        f"SELECT * EXCLUDE ({number}), sum({number}) AS {number} FROM ("
        f"SELECT *, 1 AS {number} FROM {one} UNION ALL SELECT *, -1 AS {number} FROM {other}) "
        f"GROUP BY ALL HAVING sum({number}) <> 0"
    )
    ((found,),) = engine.con.execute(
        f"SELECT coalesce(sum(abs({number})), 0) FROM {UNLIKE}"
    ).fetchall()
    return int(found)


def rows(
    engine: Engine, view: CompiledView, built: str, expected: str, table: str = ROWS
) -> Comparison:
    """The view's rows with those of its own SELECT."""
    names = [name for name, _ in view.columns]
    keys = [name for name, _ in view.keys]
    compared = dict(zip(names, view.compared, strict=True))
    types = dict(view.columns)
    if not set(keys) <= set(names):
        # a key that is not shown: rows are told apart by what has to be equal to the last bit
        keys = [n for n in names if compared[n].kind == "equal" and types[n] not in TOLERANCE]
    conditions = {}
    for name in names:
        ours, exact = f"a.{sql.name(name)}", f"b.{sql.name(name)}"
        same = f"{ours} IS NOT DISTINCT FROM {exact}"
        if compared[name].kind == "within":
            # by itself: what is asked for instead may be of another type
            conditions[name] = compared[name].condition.format(ours=ours, exact=exact)
        elif compared[name].kind == "equal" and types[name] in TOLERANCE:
            near = f"isfinite({ours}) AND isfinite({exact}) AND "
            near += f"abs({ours} - {exact}) <= {TOLERANCE[types[name]]} * "
            near += f"greatest(abs({ours}), abs({exact}))"
            conditions[name] = f"{same} OR {near}"
        elif compared[name].kind == "equal":
            conditions[name] = same
    found = _differing(
        engine,
        table,
        built,
        expected,
        keys,
        [name for name in names if name not in keys],
        {name: condition for name, condition in conditions.items() if name not in keys},
    )
    return Comparison(table, count(engine, built), count(engine, expected), *found)


def same(engine: Engine, view: CompiledView, built: str, expected: str) -> Comparison:
    """The view's rows with others that the same partials come to: equal to the last bit."""
    names = [name for name, _ in view.columns]
    shown = [name for name, _ in view.keys if name in names]
    keys = shown if len(shown) == len(view.keys) else []
    others = [name for name in names if name not in keys]
    found = _differing(engine, ROWS, built, expected, keys, others)
    return Comparison(ROWS, count(engine, built), count(engine, expected), *found)


def by_calls(view: CompiledView) -> list[str]:
    """The view's columns that are computed from values which are judged: those are compared by
    themselves (`CompiledView.by_calls`), the columns cannot be."""
    listed = zip(view.columns, view.compared, strict=True)
    return [name for (name, _), compared in listed if compared.kind == "not"]


def _differing(
    engine: Engine,
    table: str,
    built: str,
    expected: str,
    keys: Sequence[str],
    others: Sequence[str],
    conditions: Mapping[str, str] | None = None,
) -> tuple[int, tuple[Difference, ...]]:
    """Rows of the two relations paired by keys, where one has no partner or a condition (by
    column, over a and b; without them equality) does not hold."""
    if conditions is None:
        conditions = {
            name: f"a.{sql.name(name)} IS NOT DISTINCT FROM b.{sql.name(name)}" for name in others
        }
    pairs = [f"a.{sql.name(key)} IS NOT DISTINCT FROM b.{sql.name(key)}" for key in keys]
    pairs.append(f"a.{sql.name(NUMBER)} = b.{sql.name(NUMBER)}")
    alone = f"a.{sql.name(NUMBER)} IS NULL OR b.{sql.name(NUMBER)} IS NULL"
    wrong = [f"({condition}) IS NOT TRUE" for condition in conditions.values()]
    shown = [f"coalesce(a.{sql.name(key)}, b.{sql.name(key)})::VARCHAR" for key in keys]
    shown += [f"a.{sql.name(NUMBER)} IS NULL", f"b.{sql.name(NUMBER)} IS NULL"]
    for name, condition in zip(conditions, wrong, strict=True):
        shown += [f"a.{sql.name(name)}::VARCHAR", f"b.{sql.name(name)}::VARCHAR", condition]
    engine.execute(
        f"CREATE OR REPLACE TEMP TABLE {sql.name('$different')} AS "
        f"SELECT {', '.join(f'{text} AS c{at}' for at, text in enumerate(shown))} "
        f"FROM ({_numbered(built, keys, others)}) a "
        f"FULL JOIN ({_numbered(expected, keys, others)}) b ON {' AND '.join(pairs)} "
        f"WHERE {' OR '.join([alone, *wrong])}"
    )
    different = count(engine, sql.name("$different"))
    if not different:
        return 0, ()
    select = f"FROM {sql.name('$different')} ORDER BY ALL LIMIT {MOST}"
    told: list[Difference] = []
    for row in engine.con.execute(select).fetchall():
        group = dict(zip(keys, row, strict=False))
        not_built, not_expected = row[len(keys) : len(keys) + 2]
        values = row[len(keys) + 2 :]
        if not_built or not_expected:
            there = _told(conditions, values[1::3] if not_built else values[0::3])
            ours, theirs = (MISSING, there) if not_built else (there, MISSING)
            told.append(Difference(table, group, "", ours, theirs))
            continue
        for at, name in enumerate(conditions):
            ours, theirs, is_wrong = values[3 * at : 3 * at + 3]
            if is_wrong:
                told.append(Difference(table, group, name, ours, theirs))
    return different, tuple(told[:MOST])


def _told(names: Mapping[str, str], values: Sequence[str | None]) -> str:
    listed = [f"{name} = {value}" for name, value in zip(names, values, strict=True)]
    return ", ".join(listed) or "a row"


def _numbered(source: str, keys: Sequence[str], others: Sequence[str]) -> str:
    """Rows of equal keys, numbered: a row that is there twice is a difference."""
    partition = f"PARTITION BY {sql.names(keys)} " if keys else ""
    order = f"ORDER BY {sql.names(others)}" if others else ""
    return f"SELECT *, row_number() OVER ({partition}{order}) AS {sql.name(NUMBER)} FROM {source}"


def count(engine: Engine, source: str) -> int:
    row = engine.con.execute(f"SELECT count(*) FROM {source}").fetchone()
    assert row is not None
    return int(row[0])
