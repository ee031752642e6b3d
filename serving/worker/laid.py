"""Batch views that are too large to be loaded: read where they lie, by the statements of clients.

    shown = batch files, without the groups in memory, UNION ALL the groups in memory

A group comes into memory when speed first touches it, with its partials from the files. Nothing
checks the pages of a Parquet file while it is read, so whoever runs a statement compares what the
system says of each file (inode, size, time of change) with what it said when the file was checked,
before the statement and after it: a table beside the views, changed with them, lists the files.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from string import Template

import duckdb
import pyarrow as pa

from schemas.compile import PartialTable
from schemas.compile.sql import name, names, texts
from schemas.errors import DamagedFile
from schemas.storage import Stamp, stamp
from serving.coverage import SCHEMA
from serving.worker.batch import CheckedFile, own, typed

_FIELDS: dict[str, pa.DataType] = {
    "view": pa.string(),
    "path": pa.string(),  # as the ledger has it
    "local": pa.string(),
    "inode": pa.uint64(),
    "size": pa.int64(),
    "changed": pa.int64(),
}
_SCHEMA = pa.schema(_FIELDS)
_CREATE = f"CREATE TABLE {SCHEMA}.laid (view VARCHAR, path VARCHAR, local VARCHAR, "
_CREATE += "inode UBIGINT, size BIGINT, changed BIGINT)"
_LIST = name(SCHEMA) + ".laid"
_FORGET = Template("DELETE FROM $laid WHERE view = $$view").substitute(laid=_LIST)
_ADD = f"INSERT INTO {_LIST} FROM new_laid"
_READ = Template(
    "SELECT * EXCLUDE (view) FROM $laid WHERE list_contains($$views, view)"
).substitute(laid=_LIST)
_ALONE = Template("(SELECT $columns FROM $files t UNION ALL SELECT $names FROM $table)")
_ROWS = Template(
    "(SELECT $columns FROM $files t WHERE NOT EXISTS (FROM $table d WHERE $match) "
    "UNION ALL SELECT $names FROM $table)"
)


@dataclass(frozen=True)
class LaidFile:
    """A file that statements read, and what the system said of it when it was checked."""

    path: str
    local: Path
    stamp: Stamp

    def check(self) -> None:
        """Raises `DamagedFile` where it is not that file any more."""
        expected = "the file that was checked"
        try:
            found = stamp(self.local)
        except OSError as error:
            raise DamagedFile(self.path, expected, error.strerror or "no file") from error
        if found != self.stamp:
            raise DamagedFile(self.path, expected, "one that was changed since")


def create(connection: duckdb.DuckDBPyConnection) -> None:
    """The empty list."""
    connection.execute(_CREATE)


def write(
    connection: duckdb.DuckDBPyConnection, view: str, files: Iterable[CheckedFile] = ()
) -> None:
    """The files that statements over a view read from now on."""
    connection.execute(_FORGET, {"view": view})
    rows = [(view, each.data.file.path, str(each.path), *each.stamp) for each in files]
    if rows:
        columns = {field: [row[at] for row in rows] for at, field in enumerate(_SCHEMA.names)}
        connection.register("new_laid", pa.Table.from_pydict(columns, _SCHEMA))
        connection.execute(_ADD)
        connection.unregister("new_laid")


def read(connection: duckdb.DuckDBPyConnection, views: Iterable[str]) -> list[LaidFile]:
    """The files that a statement over these views reads, in the transaction of the connection."""
    views = list(views)
    if not views:
        return []
    rows = connection.execute(_READ, {"views": views}).fetchall()
    return [LaidFile(path, Path(local), (a, b, c)) for path, local, a, b, c in rows]


def relation(
    table: PartialTable,
    finished: Iterable[tuple[str, str]],
    memory: str,
    files: Iterable[CheckedFile],
) -> str:
    """The rows of a view's batch that are not in memory, and those that are. Keys match with IS NOT
    DISTINCT FROM; rows of single events are in one of the two alone."""
    columns = [*own(table), *finished]
    match = (f"t.{name(key)} IS NOT DISTINCT FROM d.{name(key)}" for key, _ in table.keys)
    template = _ALONE if table.single else _ROWS
    return template.substitute(
        columns=typed(columns, "t."),
        files=f"read_parquet({texts(str(each.path) for each in files)}, hive_partitioning = false)",
        table=memory,
        match=" AND ".join(match),
        names=names(column for column, _ in columns),
    )
