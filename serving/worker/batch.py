"""Partials in Parquet files: the batch view of a publication, and the runs after its cut.

They are read by a database of its own, since the one that clients' statements run on reads no
files; rows go from one to the other as Arrow. Core rows are loaded whole. The rows of wide tables
stay on the disk until speed touches their group.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template

import duckdb
import pyarrow as pa

from schemas import engine as engines
from schemas import parquet
from schemas.compile import CompiledView, PartialTable
from schemas.compile.sql import name
from schemas.engine import Engine
from schemas.errors import DamagedFile
from schemas.ledger.files import DataFile
from schemas.position import Range
from schemas.storage import DataRoot

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
    stamp: tuple[int, int, int]
    ranges: tuple[Range, ...]  # the offsets that its epochs cover

    def recheck(self, root: DataRoot) -> None:
        """Read it again if it was touched since; `DamagedFile` where it is another one now."""
        if _stamp(self.path) != self.stamp:
            root.check(self.data.file)


def checked(root: DataRoot, view: CompiledView, files: Iterable[DataFile]) -> list[CheckedFile]:
    """Files of a view's partials, each read and compared with the ledger; else `DamagedFile`."""
    return [_checked(root, view, each) for each in files]


def _checked(root: DataRoot, view: CompiledView, data: DataFile) -> CheckedFile:
    path = data.file.path
    try:
        stamp = _stamp(root.local(path))
        local = root.check(data.file)
        told = parquet.described(local, path)
    except OSError as error:
        raise DamagedFile(path, "a file that can be read", error.strerror or "") from error
    expected = (data.kind, view.name, view.version, data.table, data.first, data.last)
    found = (told.kind, told.view, told.version, told.table, told.first, told.last)
    if found != expected or data.table not in {table.name for table in view.tables}:
        raise DamagedFile(path, _words(*expected), _words(*found))
    return CheckedFile(data, local, stamp, tuple(told.ranges))


def _words(
    kind: str, view: str | None, version: str | None, table: str | None, first: int, last: int
) -> str:
    return f"{kind} of {table} of {view!r}, version {version}, epochs {first} to {last}"


class PartialFiles:
    """The files of one version of a view, by table."""

    def __init__(
        self,
        engine: Engine | None,
        root: DataRoot,
        view: CompiledView,
        files: Iterable[CheckedFile],
    ) -> None:
        self._engine, self._root, self._view = engine, root, view
        self._files: dict[str, list[CheckedFile]] = {}
        for each in files:
            self._files.setdefault(str(each.data.table), []).append(each)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_engine": None}

    @property
    def wide(self) -> bool:
        """Whether there are rows to fetch for a group that is touched."""
        return any(self._files.get(table.name) for table in self._view.tables[1:])

    def rows(
        self, table: PartialTable, finished: Sequence[tuple[str, str]] = ()
    ) -> Iterator[pa.Table]:
        """All rows of a table, as they stand in its files, part by part."""
        columns = [*_own(table), *finished]
        files = self._files.get(table.name, [])
        if files:
            scan = _SCAN.substitute(columns=_typed(columns), files=self._relation(files))
            yield from self._parts(scan, files)

    def groups(self, table: PartialTable, wanted: pa.Table) -> Iterator[pa.Table]:
        """The rows of a wide table that belong to these groups; `wanted` has their keys."""
        files = self._files.get(table.name, [])
        if not files:
            return
        for each in files:
            with _named(files):
                each.recheck(self._root)
        if not table.group:
            yield from self.rows(table)
            return
        (first, _), *others = table.group
        match = [f"AND t.{name(key)} IS NOT DISTINCT FROM d.{name(key)}" for key, _ in others]
        scan = _GROUPS.substitute(
            columns=_typed(_own(table), "t."),
            files=self._relation(files),
            first=name(first),
            others=" ".join(match),
        )
        yield from self._parts(scan, files, wanted)

    def _reading(self) -> Engine:
        if self._engine is None:
            self._engine = engines.connect(memory_limit="512MB")
        return self._engine

    def _relation(self, files: Sequence[CheckedFile]) -> str:
        return self._reading().files([each.path for each in files])

    def _parts(
        self, scan: str, files: Sequence[CheckedFile], wanted: pa.Table | None = None
    ) -> Iterator[pa.Table]:
        # of its own: another scan may begin before this one is read to its end
        cursor = self._reading().con.cursor()
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


def in_rounds(
    tables: Mapping[str, Iterable[pa.Table]], order: Sequence[str], size: int
) -> Iterator[dict[str, pa.Table]]:
    """Rows by table, in rounds of about `size` bytes, a table after the other in `order`."""
    for table in order:
        held: list[pa.Table] = []
        held_bytes = 0
        for rows in tables.get(table, ()):
            held.append(rows)
            held_bytes += rows.nbytes
            if held_bytes > size:
                yield {table: pa.concat_tables(held)}
                held, held_bytes = [], 0
        if held:
            yield {table: pa.concat_tables(held)}


def _own(table: PartialTable) -> list[tuple[str, str]]:
    return [*table.keys, *((column, kind) for column, kind, _ in table.values)]


def _typed(columns: Iterable[tuple[str, str]], prefix: str = "") -> str:
    """In the declared types, which a file may hold in wider ones."""
    return ", ".join(
        f"CAST({prefix}{name(column)} AS {kind}) AS {name(column)}" for column, kind in columns
    )


def _stamp(path: Path) -> tuple[int, int, int]:
    found = os.stat(path)
    return found.st_ino, found.st_size, found.st_mtime_ns
