"""A view's merged partials in memory, kept merged as epochs arrive, and presented under its name.

    <view>.core      see serving.worker.core     one row per group: what is presented
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
from collections.abc import Mapping, Sequence
from string import Template

import duckdb
import pyarrow as pa

from schemas.compile import CompiledView, PartialTable
from schemas.compile.sql import name, names
from schemas.engine import Engine
from serving.coverage import SCHEMA
from serving.worker import laid
from serving.worker.batch import PartialFiles
from serving.worker.core import DELTA, SPARE_ROWS, Core, match, number, touched
from serving.worker.new_view import NewView

HELD_ROWS = 2_000_000  # fetched from a batch view, and after it: more of them outlive no swap

_SOURCE = Template("(SELECT $columns FROM delta UNION ALL $touched)")
_UPSERT = Template(
    "MERGE INTO $table t USING ($rows) m ON $match "
    "WHEN MATCHED THEN $change WHEN NOT MATCHED THEN INSERT ($columns) VALUES ($values)"
)
_CREATE = Template("CREATE TABLE $table ($columns)")
_ANEW = Template("CREATE OR REPLACE TABLE $table AS FROM $table")
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
        self._wide = [_Wide(tables[table.name], table) for table in wide]
        self._core = Core(view, tables["core"], tables, flagged=flagged, laid=self._laid)
        self._fetches = flagged or (self._laid and not core.single)

    def create(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Tables with what the batch view has, and the view over them; without keys its one row is
        there at once."""
        for table in self._tables():
            table.create(connection)
        rows = 0
        if self._batch is not None and not self._laid:
            for part in self._batch.rows(self._engine, self._core.partial, self._finished):
                rows += part.num_rows
                self._core.fill(connection, part)
            if len(self._batch.of(self._core.partial.name)) > 1:  # each is sorted by itself
                self._core.sort(connection)
        if not self.view.keys and not rows:
            self._merge(connection, self._core.nothing(connection))
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
        if core is None:
            return
        if self._core.partial.single:
            self._core.fill(connection, core)
        else:
            self._merge(connection, core)

    def merged(
        self, connection: duckdb.DuckDBPyConnection, partials: Mapping[str, pa.Table]
    ) -> pa.Table | None:
        """The core rows that `apply` made last, of these partials, for `take`. None: others have to
        apply the same, as nothing is merged, rows were brought from files too, or they move."""
        core = self._core.partial
        if self._laid or core.single or core.name not in partials or not self._core.stays:
            return None
        return self._core.merged(connection)

    def take(self, connection: duckdb.DuckDBPyConnection, merged: pa.Table) -> None:
        """What `apply` did in another process. Wide tables stay as they are: nobody asks them."""
        self._core.take(connection, merged)

    def swapped(
        self, connection: duckdb.DuckDBPyConnection, batch: PartialFiles
    ) -> ServedView | None:
        """The same tables behind the files of another publication, whose merged form they are
        (`Served.outlived_by`). None where they are to be made anew: rows have piled up that were
        fetched or came after a batch, or are of single events, which the files now have."""
        held: Sequence[_Wide | Core] = self._tables() if self._laid else self._wide
        single = self._laid and self._core.partial.single
        if single or sum(table.count(connection) for table in held) > HELD_ROWS:
            return None
        after = copy.copy(self)
        after._batch = batch
        after._show(connection)
        return after

    def drop(self, connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute(f"DROP VIEW IF EXISTS main.{name(self.view.name)}")
        for table in self._tables():
            connection.execute(f"DROP TABLE {table.name}")
        laid.write(connection, self.view.name)

    def _tables(self) -> list[_Wide | Core]:
        return [*self._wide, self._core]

    def _show(self, connection: duckdb.DuckDBPyConnection) -> None:
        """The view over its tables, and over files where it is laid."""
        if self._laid and self._batch is not None:
            files = self._batch.of(self._core.partial.name)
            source = laid.relation(self._core.partial, self._finished, self._core.name, files)
            laid.write(connection, self.view.name, files)
            select = self.view.present(self.view.within(source, self._bounds))
        else:
            source = self.view.within(self._core.name, self._bounds)
            select = self.view.present_called(source)
        connection.execute(_PRESENT.substitute(view=name(self.view.name), select=select))

    def _merge(self, connection: duckdb.DuckDBPyConnection, core: pa.Table) -> None:
        connection.register(DELTA, core)
        self._core.touch(connection)
        if self._fetches and self._fetch(connection):
            connection.register(DELTA, core)
            if self._laid:
                self._core.touch(connection)
        self._core.merge(connection)
        connection.unregister(DELTA)

    def _fetch(self, connection: duckdb.DuckDBPyConnection) -> bool:
        """Merge the batch view's rows of groups that speed touches for the first time; whether
        there are such groups."""
        assert self._batch is not None
        wanted = self._core.unfetched(connection)
        if not wanted.num_rows:
            return False
        for table in self._wide:
            for rows in self._batch.groups(self._engine, table.partial, wanted):
                table.apply(connection, rows)
        if self._laid:
            partial, finished = self._core.partial, self._finished
            for rows in self._batch.groups(self._engine, partial, wanted, finished):
                self._core.fill(connection, rows)
        return True


class _Wide:
    """The table of a wide measure, kept merged. Rows that change leave their old values behind,
    which costs memory and time, so the table is made anew when those outnumber the rows that live
    by `SPARE_ROWS`."""

    def __init__(self, table: str, partial: PartialTable) -> None:
        self.name, self.partial = table, partial
        self._upsert = _upsert(table, partial)
        self._changed = 0

    def create(self, connection: duckdb.DuckDBPyConnection) -> None:
        listed = [*self.partial.keys, *((column, kind) for column, kind, _ in self.partial.values)]
        columns = ", ".join(f"{name(column)} {kind}" for column, kind in listed)
        connection.execute(_CREATE.substitute(table=self.name, columns=columns))

    def apply(self, connection: duckdb.DuckDBPyConnection, rows: pa.Table) -> None:
        """Merged rows of these keys take the place of those that are there."""
        connection.register(DELTA, rows)
        self._changed += number(connection, self._upsert)
        connection.unregister(DELTA)
        if self._changed > SPARE_ROWS and self._changed > self.count(connection) + SPARE_ROWS:
            connection.execute(_ANEW.substitute(table=self.name))
            self._changed = 0

    def count(self, connection: duckdb.DuckDBPyConnection) -> int:
        return number(connection, _COUNT.substitute(table=self.name))


def _has_wide(view: CompiledView, batch: PartialFiles) -> bool:
    """Whether there are rows to fetch for a group that is touched."""
    return any(batch.of(table.name) for table in view.tables[1:])


def _upsert(table: str, partial: PartialTable) -> str:
    values = [column for column, _, _ in partial.values]
    columns = [*(key for key, _ in partial.keys), *values]
    source = touched(partial, table, keys_of=partial)
    change = ", ".join(f"{name(column)} = m.{name(column)}" for column in values)
    return _UPSERT.substitute(
        table=table,
        rows=partial.merge(_SOURCE.substitute(columns=names(columns), touched=source)),
        match=match(partial, "t", "m"),
        change=f"UPDATE SET {change}" if change else "DO NOTHING",
        columns=names(columns),
        values=names(columns, "m."),
    )
