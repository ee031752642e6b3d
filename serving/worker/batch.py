"""Partials in Parquet files: the batch view of a publication, and the runs after its cut.

They are data, and travel to the process whose tables are made of them. What is merged is read by a
database of its own, and goes into the other as Arrow. Core rows are loaded whole where a view is
not `laid`. The rows of wide tables stay on the disk until speed touches their group.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template

import duckdb
import pyarrow as pa

from schemas import parquet
from schemas.compile import CompiledView, PartialTable
from schemas.compile.sql import name
from schemas.engine import Engine
from schemas.errors import DamagedFile
from schemas.ledger.files import DataFile
from schemas.position import Range
from schemas.storage import DataRoot, Stamp, readable, stamp

BATCH_ROWS = 100_000
WANTED = "wanted"

_SCAN = Template("SELECT $columns FROM $files")
# An equality lets DuckDB skip what cannot match in files that are sorted by the keys; the rows
# whose first key is NULL are found by the statistics of each part of a file.
_GROUPS = Template(
    "SELECT $columns FROM $files t "
    "SEMI JOIN (FROM wanted WHERE $first IS NOT NULL) d ON t.$first = d.$first $others "
    "UNION ALL "
    "SELECT $columns FROM (FROM $files WHERE $first IS NULL) t "
    "SEMI JOIN (FROM wanted WHERE $first IS NULL) d ON true $others"
)


@dataclass(frozen=True)
class CheckedFile:
    """A file that was read whole and is what the ledger says, and what it says of itself."""

    data: DataFile
    path: Path
    stamp: Stamp
    ranges: tuple[Range, ...]  # the offsets that its epochs cover

    def recheck(self, root: DataRoot) -> None:
        """Read it again if it was touched since; `DamagedFile` where it is another one now."""
        if stamp(self.path) != self.stamp:
            root.check(self.data.file)


def checked(root: DataRoot, view: CompiledView, files: Iterable[DataFile]) -> list[CheckedFile]:
    """Files of a view's partials, each read and compared with the ledger; else `DamagedFile`."""
    return [_checked(root, view, each) for each in files]


def _checked(root: DataRoot, view: CompiledView, data: DataFile) -> CheckedFile:
    path = data.file.path
    with readable(path):
        before = stamp(root.local(path))
        local = root.check(data.file)
        told = parquet.described(local, path)
    expected = (data.kind, view.name, view.version, data.table, data.first, data.last)
    found = (told.kind, told.view, told.version, told.table, told.first, told.last)
    if found != expected or data.table not in {table.name for table in view.tables}:
        raise DamagedFile(path, _words(*expected), _words(*found))
    return CheckedFile(data, local, before, tuple(told.ranges))


def _words(
    kind: str, view: str | None, version: str | None, table: str | None, first: int, last: int
) -> str:
    return f"{kind} of {table} of {view!r}, version {version}, epochs {first} to {last}"


@dataclass(frozen=True)
class PartialFiles:
    """The files of one version of a view. What reads them raises `DamagedFile`."""

    root: DataRoot
    files: tuple[CheckedFile, ...]

    def of(self, table: str) -> tuple[CheckedFile, ...]:
        return tuple(each for each in self.files if each.data.table == table)

    def recheck(self, table: str) -> None:
        """Whether the files of a table still are what they were."""
        files = self.of(table)
        for each in files:
            with _named(files):
                each.recheck(self.root)

    def rows(
        self, engine: Engine, table: PartialTable, finished: Sequence[tuple[str, str]] = ()
    ) -> Iterator[pa.Table]:
        """All rows of a table, as they stand in its files, part by part."""
        files = self.of(table.name)
        if files:
            self.recheck(table.name)
            columns = [*own(table), *finished]
            scan = _SCAN.substitute(columns=typed(columns), files=_relation(engine, files))
            yield from _parts(engine, scan, files)

    def groups(
        self,
        engine: Engine,
        table: PartialTable,
        wanted: pa.Table,
        finished: Sequence[tuple[str, str]] = (),
    ) -> Iterator[pa.Table]:
        """The rows of a table that belong to these groups; `wanted` has their keys."""
        files = self.of(table.name)
        if not files:
            return
        self.recheck(table.name)
        if not table.group:
            yield from self.rows(engine, table)
            return
        (first, _), *others = table.group
        match = [f"AND t.{name(key)} IS NOT DISTINCT FROM d.{name(key)}" for key, _ in others]
        scan = _GROUPS.substitute(
            columns=typed([*own(table), *finished], "t."),
            files=_relation(engine, files),
            first=name(first),
            others=" ".join(match),
        )
        yield from _parts(engine, scan, files, wanted)


def _relation(engine: Engine, files: Sequence[CheckedFile]) -> str:
    return engine.files([each.path for each in files])


def _parts(
    engine: Engine, scan: str, files: Sequence[CheckedFile], wanted: pa.Table | None = None
) -> Iterator[pa.Table]:
    # of its own: another scan may begin before this one is read to its end
    cursor = engine.con.cursor()
    try:
        if wanted is not None:
            cursor.register(WANTED, wanted)
        with _named(files):
            reader = cursor.sql(scan).to_arrow_reader(BATCH_ROWS)
        while True:
            with _named(files):
                batch = next(reader, None)
            if batch is None:
                return
            yield pa.Table.from_batches([batch])
    finally:
        cursor.close()


@contextmanager
def _named(files: Sequence[CheckedFile]) -> Iterator[None]:
    """The engine's trouble with files, by one of their names and without the folder."""
    path = files[0].data.file.path
    try:
        yield
    except FileNotFoundError as error:
        raise DamagedFile(path, "a file that can be read", "no file") from error
    except OSError as error:
        raise DamagedFile(path, "a file that can be read", error.strerror or "") from error
    except (duckdb.Error, pa.ArrowException) as error:
        what = type(error).__name__
        raise DamagedFile(path, "partials that can be read", what) from error


def own(table: PartialTable) -> list[tuple[str, str]]:
    return [*table.keys, *((column, kind) for column, kind, _ in table.values)]


def typed(columns: Iterable[tuple[str, str]], prefix: str = "") -> str:
    """In the declared types, which a file may hold in wider ones."""
    return ", ".join(
        f"CAST({prefix}{name(column)} AS {kind}) AS {name(column)}" for column, kind in columns
    )
