"""A view's merged partials in memory, kept merged as epochs arrive, and presented under its name.

    <view>.core      keys | core values | finished columns     one row per group: what is presented
    <view>.<wide>    keys | buckets | values                   one table per wide measure

The partials are the record (invariant 7). A finished column is made again from them for every group
that an epoch touches; it can be thrown away at any time. Every aggregate here was emitted by
`schemas.compile`; what is composed around it only chooses rows.

A batch view brings its core rows with finished columns as they stand in its files. Its wide rows
stay there until speed first touches their group: `_fetched` in the core says that they are here.
Where the view is laid its core rows stay there too (`serving.worker.laid`): what is in the core is
fetched.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from string import Template

import duckdb
import pyarrow as pa

from schemas.compile import CompiledView, PartialTable
from schemas.compile.sql import name, names
from schemas.engine import Engine
from serving.coverage import SCHEMA
from serving.worker import laid
from serving.worker.batch import PartialFiles
from serving.worker.new_view import NewView

DELTA = "delta"  # partial rows that arrive, registered while they are merged
FETCHED = "_fetched"  # no column of a view begins with an underscore, and no partial is called so
SPARE_ROWS = 20_000
HELD_ROWS = 2_000_000  # fetched from a batch view, and after it: more of them outlive no swap

# rows of a table that share keys with the delta
_TOUCHED = Template("SELECT $columns FROM $table t SEMI JOIN delta d ON $match")
_ALL = Template("SELECT $columns FROM $table t")
_SOURCE = Template("(SELECT $columns FROM delta UNION ALL $touched)")
_FINISHED = Template("SELECT $columns FROM ($merged) m $joins")
_JOIN = Template("LEFT JOIN ($finished) $alias ON $match")
_UPSERT = Template(
    "MERGE INTO $table t USING ($rows) m ON $match "
    "WHEN MATCHED THEN $change WHEN NOT MATCHED THEN INSERT ($columns) VALUES ($values)"
)
_CREATE = Template("CREATE TABLE $table ($columns)")
_FILL = Template("INSERT INTO $table ($columns) SELECT $columns FROM delta")
_UNFETCHED = Template("$touched WHERE NOT t._fetched")
_NEW = Template(
    "SELECT DISTINCT $columns FROM delta d WHERE NOT EXISTS (FROM $table t WHERE $match)"
)
_ANEW = Template("CREATE OR REPLACE TABLE $table AS FROM $table")
_EMPTY = Template("SELECT $columns WHERE false")
_COUNT = Template("SELECT count(*) FROM $table")
_PRESENT = Template("CREATE OR REPLACE VIEW main.$view AS $select")


class ServedView:
    """The tables of one version of a view. Every method runs inside the caller's transaction.

    `number` tells its tables from those that are served until they take their place; `engine` reads
    files.
    """

    def __init__(self, new: NewView, number: int, engine: Engine) -> None:
        view = new.view
        self.view, self._bounds, self._engine = view, new.bounds, engine
        self._batch, self._laid = new.batch, new.laid
        core, *wide = view.tables
        prefix = f"{view.name}.{view.version}.{number}"
        tables = {table.name: f"{SCHEMA}.{name(f'{prefix}.{table.name}')}" for table in view.tables}
        self._finished = [column for finish in view.finishes for column in finish.columns]
        flagged = self._batch is not None and not self._laid and _has_wide(view, self._batch)
        flag = [(FETCHED, "BOOLEAN DEFAULT false")] if flagged else []
        self._wide = [
            _Merged(tables[table.name], table, _upsert_wide(tables, table)) for table in wide
        ]
        upsert = _upsert_core(view, tables, flagged=flagged)
        self._core = _Merged(tables["core"], core, upsert, self._finished, flag)
        self._fetches = flagged or (self._laid and not core.single)
        self._unfetched = _unfetched(core, tables["core"], laid=self._laid)

    def create(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Tables with what the batch view has, and the view over them; without keys its one row is
        there at once."""
        for table in (*self._wide, self._core):
            table.create(connection)
        rows = 0
        if self._batch is not None and not self._laid:
            for part in self._batch.rows(self._engine, self._core.partial, self._finished):
                rows += part.num_rows
                self._core.fill(connection, part)
        if not self.view.keys and not rows:
            self._core.apply(connection, None)
        self._show(connection)

    def apply(
        self, connection: duckdb.DuckDBPyConnection, partials: Mapping[str, pa.Table]
    ) -> None:
        """Merge partial rows of any number of epochs, by table name.

        Wide tables come first: the finished columns of the groups in the core rows are made from
        them. Every group with a wide row has a core row, so the core names all touched groups.
        """
        for table in self._wide:
            rows = partials.get(table.partial.name)
            if rows is not None:
                table.apply(connection, rows)
        core = partials.get(self._core.partial.name)
        if core is not None:
            if self._fetches:
                self._fetch(connection, core)
            self._core.apply(connection, core)

    def swapped(
        self, connection: duckdb.DuckDBPyConnection, batch: PartialFiles
    ) -> ServedView | None:
        """The same tables behind the files of another publication, whose merged form they are
        (`Served.outlived_by`). None where they are to be made anew: rows have piled up that were
        fetched or came after a batch, or are of single events, which the files now have."""
        held = [*self._wide, *([self._core] if self._laid else [])]
        single = self._laid and self._core.partial.single
        if single or sum(table.count(connection) for table in held) > HELD_ROWS:
            return None
        after = copy.copy(self)
        after._batch = batch
        after._show(connection)
        return after

    def drop(self, connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute(f"DROP VIEW IF EXISTS main.{name(self.view.name)}")
        for table in (*self._wide, self._core):
            connection.execute(f"DROP TABLE {table.name}")
        laid.write(connection, self.view.name)

    def _show(self, connection: duckdb.DuckDBPyConnection) -> None:
        """The view over its tables, and over files where it is laid."""
        core, source = self._core.partial, self._core.name
        if self._laid and self._batch is not None:
            files = self._batch.of(core.name)
            source = laid.relation(core, self._finished, self._core.name, files)
            laid.write(connection, self.view.name, files)
        select = self.view.present(self.view.within(source, self._bounds))
        connection.execute(_PRESENT.substitute(view=name(self.view.name), select=select))

    def _fetch(self, connection: duckdb.DuckDBPyConnection, core: pa.Table) -> None:
        """Merge the batch view's rows of groups that speed touches for the first time."""
        assert self._batch is not None
        connection.register(DELTA, core)
        wanted = connection.sql(self._unfetched).to_arrow_table()
        connection.unregister(DELTA)
        if not wanted.num_rows:
            return
        for table in self._wide:
            for rows in self._batch.groups(self._engine, table.partial, wanted):
                table.apply(connection, rows)
        if self._laid:
            partial, finished = self._core.partial, self._finished
            for rows in self._batch.groups(self._engine, partial, wanted, finished):
                self._core.fill(connection, rows)


class _Merged:
    """One table that is kept merged. Rows that change leave their old values behind, which costs
    memory and time, so the table is made anew when those outnumber the rows that live by
    `SPARE_ROWS`."""

    def __init__(
        self,
        table: str,
        partial: PartialTable,
        upsert: str,
        finished: Iterable[tuple[str, str]] = (),
        flags: Iterable[tuple[str, str]] = (),
    ) -> None:
        self.name = table
        self.partial = partial
        self._own = [*partial.keys, *((column, kind) for column, kind, _ in partial.values)]
        self._columns = [*self._own, *finished]
        self._flags = list(flags)
        self._upsert = upsert
        self._changed = 0

    def create(self, connection: duckdb.DuckDBPyConnection) -> None:
        listed = [*self._columns, *self._flags]
        columns = ", ".join(f"{name(column)} {kind}" for column, kind in listed)
        connection.execute(_CREATE.substitute(table=self.name, columns=columns))

    def fill(self, connection: duckdb.DuckDBPyConnection, rows: pa.Table) -> None:
        """Rows that are merged and finished already, of groups that are not there."""
        connection.register(DELTA, rows)
        columns = names(column for column, _ in self._columns)
        connection.execute(_FILL.substitute(table=self.name, columns=columns))
        connection.unregister(DELTA)

    def apply(self, connection: duckdb.DuckDBPyConnection, rows: pa.Table | None) -> None:
        delta = self._nothing(connection) if rows is None else rows
        if self.partial.single:
            self.fill(connection, delta)
            return
        connection.register(DELTA, delta)
        self._changed += _number(connection, self._upsert)
        connection.unregister(DELTA)
        if self._changed > SPARE_ROWS:
            self._make_anew(connection)

    def count(self, connection: duckdb.DuckDBPyConnection) -> int:
        return _number(connection, _COUNT.substitute(table=self.name))

    def _make_anew(self, connection: duckdb.DuckDBPyConnection) -> None:
        if self._changed > self.count(connection) + SPARE_ROWS:
            connection.execute(_ANEW.substitute(table=self.name))
            self._changed = 0

    def _nothing(self, connection: duckdb.DuckDBPyConnection) -> pa.Table:
        columns = ", ".join(f"CAST(NULL AS {kind}) AS {name(column)}" for column, kind in self._own)
        empty: pa.Table = connection.sql(_EMPTY.substitute(columns=columns)).to_arrow_table()
        return empty


def _has_wide(view: CompiledView, batch: PartialFiles) -> bool:
    """Whether there are rows to fetch for a group that is touched."""
    return any(batch.of(table.name) for table in view.tables[1:])


def _unfetched(core: PartialTable, table: str, *, laid: bool) -> str:
    """SELECT of the keys of the delta whose rows of the batch view are not here."""
    keys = names(key for key, _ in core.keys)
    if laid:
        return _NEW.substitute(columns=keys, table=table, match=_match(core, "t", "d"))
    template = _TOUCHED if core.keys else _ALL
    match = _match(core, "t", "d")
    touched = template.substitute(columns=keys or "true", table=table, match=match)
    return _UNFETCHED.substitute(touched=touched)


def _upsert_wide(tables: Mapping[str, str], table: PartialTable) -> str:
    """Merged rows of the delta's keys take the place of those that are there."""
    return _upsert(tables, table, table.merge(_source(tables, table)), [])


def _upsert_core(view: CompiledView, tables: Mapping[str, str], *, flagged: bool) -> str:
    """The same, with the finished columns of the touched groups beside them."""
    table = view.tables[0]
    merged = table.merge(_source(tables, table))
    wide = {each.name: each for each in view.tables[1:]}
    finished = [column for finish in view.finishes for column, _ in finish.columns]
    joins = [
        _JOIN.substitute(
            finished=finish.select(f"({_touched(tables, wide[finish.table], keys_of=table)})"),
            alias=_alias(at),
            match=_match(table, "m", _alias(at)),
        )
        for at, finish in enumerate(view.finishes)
    ]
    columns = [f"m.{name(column)}" for column in _own(table)]
    columns += [
        f"{_alias(at)}.{name(column)}"
        for at, finish in enumerate(view.finishes)
        for column, _ in finish.columns
    ]
    if flagged:
        columns.append(f"true AS {FETCHED}")
        finished.append(FETCHED)
    rows = _FINISHED.substitute(columns=", ".join(columns), merged=merged, joins=" ".join(joins))
    return _upsert(tables, table, rows, finished)


def _upsert(tables: Mapping[str, str], table: PartialTable, rows: str, finished: list[str]) -> str:
    values = [column for column, _, _ in table.values] + finished
    columns = [*_own(table), *finished]
    change = ", ".join(f"{name(column)} = m.{name(column)}" for column in values)
    return _UPSERT.substitute(
        table=tables[table.name],
        rows=rows,
        match=_match(table, "t", "m"),
        change=f"UPDATE SET {change}" if change else "DO NOTHING",
        columns=names(columns),
        values=names(columns, "m."),
    )


def _source(tables: Mapping[str, str], table: PartialTable) -> str:
    """The delta and the rows that share its keys."""
    touched = _touched(tables, table, keys_of=table)
    return _SOURCE.substitute(columns=names(_own(table)), touched=touched)


def _touched(tables: Mapping[str, str], table: PartialTable, *, keys_of: PartialTable) -> str:
    template = _TOUCHED if keys_of.keys else _ALL
    return template.substitute(
        columns=names(_own(table), "t."),
        table=tables[table.name],
        match=_match(keys_of, "t", "d"),
    )


def _match(table: PartialTable, left: str, right: str) -> str:
    """Keys match with IS NOT DISTINCT FROM: NULL is a group like any other."""
    pairs = [
        f"{left}.{name(key)} IS NOT DISTINCT FROM {right}.{name(key)}" for key, _ in table.keys
    ]
    return " AND ".join(pairs) or "true"


def _own(table: PartialTable) -> list[str]:
    return [key for key, _ in table.keys] + [column for column, _, _ in table.values]


def _alias(at: int) -> str:
    return f"f{at}"


def _number(connection: duckdb.DuckDBPyConnection, statement: str) -> int:
    ((number,),) = connection.execute(statement).fetchall()
    return int(number)
