"""The verdict on what splits of some events present: the same bits, and DuckDB's own answer.

Rows are put beside each other by what has to be equal; what is only near has to be near to one row
of its own. So nothing has to be known of the view's keys, which need not be shown.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import pyarrow as pa

from schemas.compile import CompiledView, PartialTable, sql
from schemas.engine import Engine, connect
from tests.generated import values
from tests.generated.splits import Split, Tree

Columns = Sequence[tuple[str, str]]
Parts = Mapping[str, pa.Table]
# DuckDB forms some quotients in another order, and is off by their last bits
LAST_BITS = "2e-15"


@dataclass(frozen=True)
class Verdict:
    """`agreed`; `refused` with a problem; `failed` where DuckDB's own answer is an error, and ours
    too; or `differs`, with what differs. `compared` says of each aggregate in an output how that
    was compared."""

    kind: str
    text: str = ""
    compared: tuple[tuple[str, str], ...] = ()


@functools.cache
def judge() -> Engine:
    """The engine that merges and presents, and that holds the raw rows."""
    return connect()


def fill(table: str, columns: Columns, rows: Sequence[Mapping[str, object]]) -> None:
    """Make a table of typed rows that a view's own text can be run over."""
    own = judge()
    arrays = {n: pa.array([row[n] for row in rows], values.arrow(kind)) for n, kind in columns}
    own.register("filling", pa.table(arrays))
    typed = ", ".join(f"{sql.name(n)}::{kind} AS {sql.name(n)}" for n, kind in columns)
    own.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS SELECT {typed} FROM filling")
    own.con.unregister("filling")


def forget(*tables: str) -> None:
    """Drop tables that were filled."""
    for table in tables:
        judge().execute(f"DROP TABLE IF EXISTS temp.{table}")


def verdict(view: CompiledView, answers: Sequence[tuple[Sequence[Parts], Split]]) -> Verdict:
    """Of the partials of every task, and how they are merged: two ways or more."""
    own, presented, errors = judge(), [], []
    for parts, split in answers:
        text = _presentation(view, {t.name: merged(t, parts, split) for t in view.tables})
        try:
            own.execute(f"CREATE OR REPLACE TEMP TABLE ours AS FROM ({text}) t({_places(view)})")
            presented.append(own.con.execute("FROM ours").fetchall())
        except duckdb.Error as error:
            errors.append(str(error))
    try:
        # by place: a column without a name of its own need not have the same one
        text = f"FROM ({view.exact}) t({_places(view)})"
        own.execute(f"CREATE OR REPLACE TEMP TABLE theirs AS {text}")
    except duckdb.Error as error:
        if len(errors) == len(answers):
            return Verdict("failed", str(error))
        return Verdict("differs", f"only DuckDB's own answer is an error: {error}")
    if errors:
        return Verdict("differs", f"DuckDB's own answer is no error, ours is: {errors[0]}")
    for other in presented[1:]:
        one, two = Counter(map(repr, presented[0])), Counter(map(repr, other))
        if one != two:
            text = f"one split presents {sorted((one - two).elements())}"
            return Verdict("differs", f"{text}\nanother {sorted((two - one).elements())}")
    return _beside(own, view)


def merged(table: PartialTable, parts: Sequence[Parts], split: Split) -> pa.Table:
    """The partials of one table, merged as the tree of the split says."""
    own, walked = judge(), 0

    def merge(tree: Tree) -> pa.Table:
        nonlocal walked
        if isinstance(tree, int):
            return parts[tree][table.name]
        place, walked = walked, walked + 1
        own.register("parts", pa.concat_tables([merge(each) for each in tree]))
        select = table.merge("parts")
        return _through_file(own, select) if place in split.files else own.arrow(select)

    return merge(split.tree)


def _through_file(own: Engine, select: str) -> pa.Table:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "run.parquet"
        own.execute(f"COPY ({select}) TO '{path}' (FORMAT parquet)")
        return own.arrow(f"SELECT * FROM {own.files([path])}")


def _presentation(view: CompiledView, tables: Parts) -> str:
    own = judge()
    for name, rows in tables.items():
        own.register(f"merged_{name}", rows)
    wide = {name: f"merged_{name}" for name in tables if name != "core"}
    return view.present(f"({view.finished('merged_core', wide)})")


def _places(view: CompiledView) -> str:
    return ", ".join(f"c{at}" for at in range(len(view.columns)))


def _beside(own: Engine, view: CompiledView) -> Verdict:
    """Every row of `ours` has a partner of its own in `theirs`."""
    kinds = [row[1] for row in own.con.execute("DESCRIBE theirs").fetchall()]
    conditions = []
    for at, each in enumerate(view.compared):
        ours, exact = f"o.c{at}", f"e.c{at}"
        condition = f"{ours} IS NOT DISTINCT FROM {exact}"
        if each.kind == "not":
            continue
        if each.kind == "within":
            condition = each.condition.format(ours=ours, exact=exact)
        elif kinds[at] != each.type:
            text = f"type of {each.column}: {each.type}, DuckDB's is {kinds[at]}"
            return Verdict("differs", text)
        elif each.type == "DOUBLE":
            condition += f" OR abs({ours} - {exact}) <= {LAST_BITS} * abs({exact})"
        conditions.append(f"({condition})")
    ours_rows = own.con.execute("SELECT rowid, * FROM ours").fetchall()
    their_rows = own.con.execute("SELECT rowid, * FROM theirs").fetchall()
    pairs = own.con.execute(
        "SELECT o.rowid, e.rowid FROM ours o JOIN theirs e "
        f"ON {' AND '.join(conditions) or 'true'} ORDER BY ALL"
    ).fetchall()
    partners = _matching([row[0] for row in ours_rows], pairs)
    if len(partners) == len(ours_rows) == len(their_rows):
        return Verdict("agreed")
    met = set(partners.values())
    said = [f"ours {row[1:]}" for row in ours_rows if row[0] not in partners]
    said += [f"DuckDB's {row[1:]}" for row in their_rows if row[0] not in met]
    return Verdict("differs", "\n".join(said))


def _matching(rows: Sequence[int], pairs: Iterable[tuple[int, int]]) -> dict[int, int]:
    """As many rows as possible with partners, no partner twice."""
    able: dict[int, list[int]] = {row: [] for row in rows}
    for row, partner in pairs:
        able[row].append(partner)
    taken: dict[int, int] = {}

    def place(row: int, seen: set[int]) -> bool:
        for partner in able[row]:
            if partner not in seen:
                seen.add(partner)
                if partner not in taken or place(taken[partner], seen):
                    taken[partner] = row
                    return True
        return False

    for row in rows:
        place(row, set())
    return {row: partner for partner, row in taken.items()}
