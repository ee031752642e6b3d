"""The core table of a view: a row per group with its partials and what is presented of them.

    keys | values | finished columns | what is called | _fetched | _hash

What is `called` is made from the rest of the row (`CompiledView.called`): with it a statement reads
columns of a table where it would compute them, and DuckDB reads ten rows for a top-10. Rows are
found by `_hash`, DuckDB's hash of their keys, since eight bytes are compared faster than keys; the
keys decide. It is made here and kept nowhere. A row changes where it lies, so that the table stays
sorted by the keys as far as it was, and each part of it knows its least and its largest key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from string import Template

import duckdb
import pyarrow as pa

from schemas.compile import CompiledView, PartialTable
from schemas.compile.sql import name, names

DELTA = "delta"  # partial rows that arrive: who merges them registers them before
# no column of a view begins with an underscore, and no partial is called so
FETCHED, HASH, ROW = "_fetched", "_hash", "_row"
SPARE_ROWS = 20_000
# DuckDB changes a row where it lies unless it has such a column; else it moves it to the end
_NESTED = re.compile(r"\[|\b(?:MAP|STRUCT|UNION|VARIANT)\b")

_TOUCHED = Template("SELECT $columns FROM $table t SEMI JOIN delta d ON $match")
_ALL = Template("SELECT $columns FROM $table t")
_CREATE = Template("CREATE TABLE $table ($columns)")
_FILL = Template("INSERT INTO $table ($columns) SELECT $values FROM delta")
# the hash proposes, the keys decide
_TOUCH = Template(
    "CREATE OR REPLACE TEMP TABLE _touched AS "
    "WITH p AS MATERIALIZED (SELECT t.rowid AS _row, $columns FROM $table t "
    "SEMI JOIN (SELECT $hash AS _hash FROM delta) d ON t._hash = d._hash) "
    "SELECT t.* FROM p t SEMI JOIN delta d ON $match"
)
_TOUCH_ALL = Template(
    "CREATE OR REPLACE TEMP TABLE _touched AS SELECT t.rowid AS _row, $columns FROM $table t"
)
_UNFETCHED = Template("SELECT $keys FROM temp._touched WHERE NOT _fetched")
_UNKNOWN = Template(
    "SELECT DISTINCT $keys FROM delta d WHERE NOT EXISTS (FROM temp._touched t WHERE $match)"
)
_SOURCE = Template("(SELECT $columns FROM delta UNION ALL SELECT $columns FROM temp._touched)")
_JOIN = Template("LEFT JOIN ($finished) $alias ON $match")
_FINISHED = Template("SELECT $columns FROM ($merged) m $joins")
_MERGED = Template("SELECT $columns FROM temp._merged")
_CALLED = Template("(SELECT *, $called FROM delta)")
_MERGE = Template(
    "CREATE OR REPLACE TEMP TABLE _merged AS SELECT m.*, t._row "
    "FROM (SELECT $columns FROM ($finished)) m LEFT JOIN temp._touched t ON $match"
)
_UPDATE = Template("UPDATE $table AS t SET $change FROM $rows m WHERE t.rowid = m._row")
_OF_THE_SAME_GROUP = Template("$update AND t._hash = $hash")
_INSERT = Template("INSERT INTO $table ($columns) SELECT $values FROM $rows WHERE _row IS NULL")
_ANEW = Template("CREATE OR REPLACE TABLE $table AS FROM $table")
_ORDERED = Template("$statement ORDER BY $keys")
_EMPTY = Template("SELECT $columns WHERE false")
_COUNT = Template("SELECT count(*) FROM $table")


class RowsDiffer(Exception):
    """Two processes that should have the same rows have not; the one that finds it has to end."""

    def __init__(self, view: str, expected: int, found: int) -> None:
        super().__init__(f"view {view!r}: {expected} rows were to change, {found} are there")


class Core:
    """`wide` has the relation of each wide table, by its name. `flagged`: whether rows are there
    whose wide rows are still in files. Of a view that is `laid` nothing is called: its rows in
    files are presented from their partials too."""

    def __init__(
        self, view: CompiledView, table: str, wide: Mapping[str, str], *, flagged: bool, laid: bool
    ) -> None:
        self.name, self.partial = table, view.tables[0]
        self._view, self._tables = view, wide
        self._laid, self._flagged = laid, flagged
        self._hashed = bool(self.partial.keys) and not self.partial.single
        values = [(column, kind) for column, kind, _ in self.partial.values]
        self._own = [*self.partial.keys, *values]
        self._finished = [column for finish in view.finishes for column in finish.columns]
        self._called = () if laid else view.called
        self._changed = 0
        self._hash = group_hash(self.partial)
        self._touch = self._touching()
        self._merge = self._merging()
        self._update, self._insert = self._writing("temp._merged")
        known = [column for column, _ in (*self._own, *self._finished)]
        flag = [FETCHED] if self._flagged else []
        self._merged = _MERGED.substitute(columns=names([*known, *flag, ROW]))
        called = ", ".join(f"{text} AS {name(column)}" for column, _, text in self._called)
        taken = _CALLED.substitute(called=called) if called else DELTA
        self._take_update, self._take_insert = self._writing(taken)
        if self._hashed and self._take_update:
            self._take_update = _OF_THE_SAME_GROUP.substitute(
                update=self._take_update, hash=group_hash(self.partial, "m.")
            )

    def create(self, connection: duckdb.DuckDBPyConnection) -> None:
        called = [(column, kind) for column, kind, _ in self._called]
        flag = [(FETCHED, "BOOLEAN DEFAULT false")] if self._flagged else []
        key = [(HASH, "UBIGINT")] if self._hashed else []
        listed = [*self._own, *self._finished, *called, *flag, *key]
        columns = ", ".join(f"{name(column)} {kind}" for column, kind in listed)
        connection.execute(_CREATE.substitute(table=self.name, columns=columns))

    def fill(self, connection: duckdb.DuckDBPyConnection, rows: pa.Table) -> None:
        """Rows that are merged and finished already, of groups that are not there."""
        known = [column for column, _ in (*self._own, *self._finished)]
        texts = [name(column) for column in known] + [text for *_, text in self._called]
        columns = [*known, *(column for column, *_ in self._called)]
        if self._hashed:
            columns, texts = [*columns, HASH], [*texts, self._hash]
        connection.register(DELTA, rows)
        connection.execute(
            _FILL.substitute(table=self.name, columns=names(columns), values=", ".join(texts))
        )
        connection.unregister(DELTA)

    def touch(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Find the rows of the groups in the delta, for the methods that follow."""
        connection.execute(self._touch)

    def unfetched(self, connection: duckdb.DuckDBPyConnection) -> pa.Table:
        """The keys of the groups in the delta that have more in the files of the batch view, or may
        have it, than what is here; after `touch`."""
        keys = names(key for key, _ in self.partial.keys) or "true"
        select = _UNFETCHED.substitute(keys=keys)
        if self._laid:
            select = _UNKNOWN.substitute(keys=keys, match=match(self.partial, "t", "d"))
        found: pa.Table = connection.sql(select).to_arrow_table()
        return found

    def merge(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Merge the delta into the rows of its groups; after `touch`, and after the wide tables,
        from which the finished columns are made."""
        rows = number(connection, self._merge)
        updated = number(connection, self._update) if self._update else 0
        if updated < rows:
            connection.execute(self._insert)
        self._after(connection, updated)

    @property
    def stays(self) -> bool:
        """Whether a row keeps its number for as long as the table is not made anew."""
        kinds = [kind for _, kind in self._own] + [kind for _, kind in self._finished]
        kinds += [kind for _, kind, _ in self._called]
        return not any(_NESTED.search(kind) for kind in kinds)

    def merged(self, connection: duckdb.DuckDBPyConnection) -> pa.Table:
        """What the last `merge` made, with the numbers of the rows that were there before."""
        found: pa.Table = connection.sql(self._merged).to_arrow_table()
        return found

    def take(self, connection: duckdb.DuckDBPyConnection, merged: pa.Table) -> None:
        """What `merge` did in another process, in a table with the same rows at the same numbers.
        Raises `RowsDiffer` where they are not those."""
        known = merged.num_rows - merged.column(ROW).null_count
        connection.register(DELTA, merged)
        updated = number(connection, self._take_update) if self._take_update and known else 0
        if self._take_update and updated != known:
            raise RowsDiffer(self._view.name, known, updated)
        if known < merged.num_rows:
            connection.execute(self._take_insert)
        connection.unregister(DELTA)
        self._after(connection, updated)

    def _after(self, connection: duckdb.DuckDBPyConnection, updated: int) -> None:
        self._changed += updated
        if self._changed > SPARE_ROWS and self._changed > self.count(connection) + SPARE_ROWS:
            self.sort(connection)

    def nothing(self, connection: duckdb.DuckDBPyConnection) -> pa.Table:
        """No partial rows; merging them makes the one row of a view without keys."""
        columns = ", ".join(f"CAST(NULL AS {kind}) AS {name(column)}" for column, kind in self._own)
        empty: pa.Table = connection.sql(_EMPTY.substitute(columns=columns)).to_arrow_table()
        return empty

    def sort(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Make the table anew, sorted by the keys and without what changed rows left behind."""
        statement = _ANEW.substitute(table=self.name)
        if self.partial.keys:
            keys = names(key for key, _ in self.partial.keys)
            statement = _ORDERED.substitute(statement=statement, keys=keys)
        connection.execute(statement)
        self._changed = 0

    def count(self, connection: duckdb.DuckDBPyConnection) -> int:
        return number(connection, _COUNT.substitute(table=self.name))

    def _writing(self, rows: str) -> tuple[str, str]:
        """How merged rows are written: those that are there, if they have more than keys, and new
        ones."""
        values = [column for column, _, _ in self.partial.values]
        values += [column for column, _ in self._finished]
        values += [column for column, *_ in self._called]
        if self._flagged:
            values.append(FETCHED)
        columns = [*(key for key, _ in self.partial.keys), *values]
        texts = [name(column) for column in columns]
        if self._hashed:
            columns, texts = [*columns, HASH], [*texts, self._hash]
        change = ", ".join(f"{name(column)} = m.{name(column)}" for column in values)
        update = _UPDATE.substitute(table=self.name, change=change, rows=rows) if values else ""
        insert = _INSERT.substitute(
            table=self.name, columns=names(columns), values=", ".join(texts), rows=rows
        )
        return update, insert

    def _touching(self) -> str:
        columns = [column for column, _ in self._own] + ([FETCHED] if self._flagged else [])
        listed = names(columns, "t.")
        if not self._hashed:
            return _TOUCH_ALL.substitute(table=self.name, columns=listed)
        return _TOUCH.substitute(
            table=self.name, columns=listed, hash=self._hash, match=match(self.partial, "t", "d")
        )

    def _merging(self) -> str:
        own = [column for column, _ in self._own]
        merged = self.partial.merge(_SOURCE.substitute(columns=names(own)))
        wide = {each.name: each for each in self._view.tables[1:]}
        columns, joins = [names(own, "m.")], []
        for at, finish in enumerate(self._view.finishes):
            source = touched(wide[finish.table], self._tables[finish.table], keys_of=self.partial)
            joins.append(
                _JOIN.substitute(
                    finished=finish.select(f"({source})"),
                    alias=f"f{at}",
                    match=match(self.partial, "m", f"f{at}"),
                )
            )
            columns += [f"f{at}.{name(column)}" for column, _ in finish.columns]
        finished = _FINISHED.substitute(
            columns=", ".join(columns), merged=merged, joins=" ".join(joins)
        )
        listed = ["*", *(f"{text} AS {name(column)}" for column, _, text in self._called)]
        if self._flagged:
            listed.append(f"true AS {FETCHED}")
        return _MERGE.substitute(
            columns=", ".join(listed), finished=finished, match=match(self.partial, "m", "t")
        )


def group_hash(partial: PartialTable, row: str = "") -> str:
    """What `_hash` is, of the keys of a row that goes by the alias `row`, which ends in a dot."""
    keys = [f"CAST({row}{name(key)} AS {kind})" for key, kind in partial.keys]
    return f"hash({', '.join(keys)})"


def touched(partial: PartialTable, table: str, *, keys_of: PartialTable) -> str:
    """SELECT of the rows of a table that share these keys with the delta."""
    columns = [key for key, _ in partial.keys] + [column for column, _, _ in partial.values]
    template = _TOUCHED if keys_of.keys else _ALL
    return template.substitute(
        columns=names(columns, "t."), table=table, match=match(keys_of, "t", "d")
    )


def match(table: PartialTable, left: str, right: str) -> str:
    """Keys match with IS NOT DISTINCT FROM: NULL is a group like any other."""
    pairs = [
        f"{left}.{name(key)} IS NOT DISTINCT FROM {right}.{name(key)}" for key, _ in table.keys
    ]
    return " AND ".join(pairs) or "true"


def number(connection: duckdb.DuckDBPyConnection, statement: str) -> int:
    ((found,),) = connection.execute(statement).fetchall()
    return int(found)
