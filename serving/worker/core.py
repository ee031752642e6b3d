"""The core table of a view: a row per group with its partials and what is presented of them.

    keys | values | finished columns | what is called | _fetched | _hash

What is `called` is made from the rest of the row (`CompiledView.called`): with it a statement reads
columns of a table where it would compute them, and DuckDB reads ten rows for a top-10. Rows are
found by `_hash`, DuckDB's hash of their keys, since eight bytes are compared faster than keys; the
keys decide. It is made here and kept nowhere. A row changes where it lies, so that the table stays
sorted by the keys as far as it was, and each part of it knows its least and its largest key.
"""

from __future__ import annotations

from collections.abc import Mapping
from string import Template

import duckdb
import pyarrow as pa

from schemas.compile import CompiledView, PartialTable
from schemas.compile.sql import name, names

DELTA = "delta"  # partial rows that arrive, registered while they are merged
# no column of a view begins with an underscore, and no partial is called so
FETCHED, HASH, ROW = "_fetched", "_hash", "_row"
SPARE_ROWS = 20_000

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
_MERGE = Template(
    "CREATE OR REPLACE TEMP TABLE _merged AS SELECT m.*, t._row "
    "FROM (SELECT $columns FROM ($finished)) m LEFT JOIN temp._touched t ON $match"
)
_UPDATE = Template("UPDATE $table AS t SET $change FROM temp._merged m WHERE t.rowid = m._row")
_INSERT = Template(
    "INSERT INTO $table ($columns) SELECT $values FROM temp._merged WHERE _row IS NULL"
)
_ANEW = Template("CREATE OR REPLACE TABLE $table AS FROM $table")
_ORDERED = Template("$statement ORDER BY $keys")
_EMPTY = Template("SELECT $columns WHERE false")
_COUNT = Template("SELECT count(*) FROM $table")


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
        keys = [f"CAST({name(key)} AS {kind})" for key, kind in self.partial.keys]
        self._hash = f"hash({', '.join(keys)})"
        self._touch = self._touching()
        self._merge = self._merging()

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

    def touch(self, connection: duckdb.DuckDBPyConnection, rows: pa.Table) -> None:
        """Find the rows of the groups in `rows`, for the methods that follow."""
        connection.register(DELTA, rows)
        connection.execute(self._touch)
        connection.unregister(DELTA)

    def unfetched(self, connection: duckdb.DuckDBPyConnection, rows: pa.Table) -> pa.Table:
        """The keys of the groups in `rows` that have more in the files of the batch view, or may
        have it, than what is here; after `touch`."""
        keys = names(key for key, _ in self.partial.keys) or "true"
        select = _UNFETCHED.substitute(keys=keys)
        if self._laid:
            select = _UNKNOWN.substitute(keys=keys, match=match(self.partial, "t", "d"))
        connection.register(DELTA, rows)
        found: pa.Table = connection.sql(select).to_arrow_table()
        connection.unregister(DELTA)
        return found

    def merge(self, connection: duckdb.DuckDBPyConnection, rows: pa.Table) -> None:
        """Merge partial rows into those of their groups; after `touch`, and after the wide tables,
        from which the finished columns are made."""
        connection.register(DELTA, rows)
        connection.execute(self._merge)
        connection.unregister(DELTA)
        values = [column for column, _, _ in self.partial.values]
        values += [column for column, _ in self._finished]
        values += [column for column, *_ in self._called]
        columns = [*(key for key, _ in self.partial.keys), *values]
        texts = [name(column) for column in columns]
        if self._flagged:
            values, columns, texts = [*values, FETCHED], [*columns, FETCHED], [*texts, FETCHED]
        if self._hashed:
            columns, texts = [*columns, HASH], [*texts, self._hash]
        if values:
            change = ", ".join(f"{name(column)} = m.{name(column)}" for column in values)
            update = _UPDATE.substitute(table=self.name, change=change)
            self._changed += number(connection, update)
        connection.execute(
            _INSERT.substitute(table=self.name, columns=names(columns), values=", ".join(texts))
        )
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
