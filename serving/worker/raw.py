"""`raw.<stream>`: the events that count, in the tables that queries run on.

    everview_internal."raw.<stream>"        rows of epochs that are in no file yet
    everview_internal."files.<stream>"      the files that are read, as they were when checked
    everview_internal."events.<stream>"     a view: the files and those rows, repeats among them
    raw.<stream>                            a view: of these, what counts
    everview.duplicates                     a view: of these, for all streams, what does not

Files are not loaded: a statement reads of them what it needs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from string import Template

import duckdb
import pyarrow as pa

from schemas.compile import CompiledRaw, raw
from schemas.compile.sql import name, texts
from serving import catalog
from serving.coverage import SCHEMA as INTERNAL
from serving.worker.laid import LaidFile

SCHEMA = "raw"
NEW = "new_rows"

_CREATE = Template("CREATE OR REPLACE TABLE $table ($columns)")
_KEEP = Template("CREATE OR REPLACE TABLE $table AS FROM $table WHERE $epoch > $floor")
_FILL = Template("INSERT INTO $table $rows")
_ALL = Template("SELECT $columns FROM $table")
_UNTIL = Template("SELECT * FROM ($events) WHERE $epoch <= $until")
_VIEW = Template("CREATE OR REPLACE VIEW $view AS $select")
_FILES = Template("read_parquet($paths, hive_partitioning = false)")
_LISTED = Template("CREATE OR REPLACE TABLE $table AS FROM new_rows")
_READ = Template("SELECT path, local, stamp FROM $table")
_FIELDS: dict[str, pa.DataType] = {
    "path": pa.string(),  # as the ledger has it
    "local": pa.string(),
    "stamp": pa.list_(pa.int64()),
}
_SCHEMA = pa.schema(_FIELDS)


@dataclass(frozen=True)
class RawFile:
    """A file of the master that was read whole and is what the ledger says."""

    file: LaidFile
    accepted_by: str  # a version of the stream


@dataclass(frozen=True)
class NewRaw:
    """The relation of a stream is to read these files. Rows in memory stay where they are of epochs
    after `floor`; where it is `anew`, none does."""

    raw: CompiledRaw
    files: tuple[RawFile, ...]
    floor: int
    anew: bool = False
    until: int | None = None  # rows of later epochs are not to be seen; None: there are none


@dataclass(frozen=True)
class RawRows:
    """Rows of the master of an epoch that is in no file yet."""

    stream: str
    accepted_by: str
    rows: pa.Table


class ServedRaw:
    """The relations of one stream. Every method runs inside the caller's transaction."""

    def __init__(self, compiled: CompiledRaw) -> None:
        self.compiled = compiled
        self._table = _internal("raw", compiled.stream)
        self._events = _internal("events", compiled.stream)

    def make(self, connection: duckdb.DuckDBPyConnection, new: NewRaw) -> None:
        """As it is to be, with the rows that are in memory."""
        if new.anew:
            columns = ", ".join(f"{name(column)} {kind}" for column, kind in new.raw.held)
            connection.execute(_CREATE.substitute(table=self._table, columns=columns))
        else:
            # rows that are deleted alone leave their memory behind
            keep = _KEEP.substitute(table=self._table, epoch=name(raw.EPOCH), floor=new.floor)
            connection.execute(keep)
        self._list(connection, new.files)
        by_version: dict[str, list[RawFile]] = {}
        for each in new.files:
            by_version.setdefault(each.accepted_by, []).append(each)
        parts = [
            self.compiled.rows(
                _FILES.substitute(paths=texts(str(f.file.local) for f in files)), version
            )
            for version, files in by_version.items()
        ]
        columns = ", ".join(name(column) for column, _ in self.compiled.held)
        memory = _ALL.substitute(columns=columns, table=self._table)
        events = " UNION ALL ".join([*parts, memory])
        if new.until is not None:
            events = _UNTIL.substitute(events=events, epoch=name(raw.EPOCH), until=new.until)
        connection.execute(_VIEW.substitute(view=self._events, select=events))
        connection.execute(
            _VIEW.substitute(
                view=f"{SCHEMA}.{name(self.compiled.stream)}",
                select=self.compiled.counted(self._events),
            )
        )

    def add(self, connection: duckdb.DuckDBPyConnection, new: RawRows) -> None:
        """Rows of an epoch."""
        connection.register(NEW, new.rows)
        rows = self.compiled.rows(NEW, new.accepted_by)
        connection.execute(_FILL.substitute(table=self._table, rows=rows))
        connection.unregister(NEW)

    @property
    def repeats(self) -> str | None:
        """SELECT of its repeated events; None where no event can be one."""
        return self.compiled.repeats(self._events) if self.compiled.key else None

    def _list(self, connection: duckdb.DuckDBPyConnection, files: Iterable[RawFile]) -> None:
        laid = [each.file for each in files]
        listed = [
            {"path": each.path, "local": str(each.local), "stamp": each.stamp} for each in laid
        ]
        connection.register(NEW, pa.Table.from_pylist(listed, _SCHEMA))
        connection.execute(_LISTED.substitute(table=_internal("files", self.compiled.stream)))
        connection.unregister(NEW)


def create(connection: duckdb.DuckDBPyConnection, streams: Iterable[ServedRaw]) -> None:
    """The relation of the repeated events of all of these."""
    select = raw.repeats(each.repeats for each in streams if each.repeats is not None)
    connection.execute(
        _VIEW.substitute(view=f"{catalog.SCHEMA}.{catalog.DUPLICATES}", select=select)
    )


def files(connection: duckdb.DuckDBPyConnection, streams: Iterable[str]) -> list[LaidFile]:
    """The files that a statement over these streams reads, in the transaction of the connection."""
    queries = (_READ.substitute(table=_internal("files", stream)) for stream in streams)
    rows = (row for query in queries for row in connection.execute(query).fetchall())
    return [LaidFile(path, Path(local), (a, b, c)) for path, local, (a, b, c) in rows]


def _internal(what: str, stream: str) -> str:
    return f"{INTERNAL}.{name(f'{what}.{stream}')}"
