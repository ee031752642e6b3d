"""What a view's tables are to be made of, as data: it is sent to the process that makes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from schemas.bound import Bound
from schemas.compile import CompiledView
from schemas.engine import Engine
from schemas.errors import ViewFailed
from schemas.segment import SegmentReader
from schemas.storage import DataRoot, readable
from schemas.stored_file import StoredFile
from serving.worker.batch import PartialFiles

ROUND_BYTES = 256 * 2**20  # of partials in memory

Partials = dict[str, list[pa.Table]]  # table -> rows


@dataclass(frozen=True)
class SegmentFiles:
    """The segments of unsealed epochs that carry a version, in their order."""

    root: DataRoot
    files: tuple[StoredFile, ...] = ()


@dataclass(frozen=True)
class NewView:
    """A version of a view that is to be served, and where its partials are.

    What it names was checked by whoever made it. Whoever reads it does so soon, as files that
    stopped counting are removed, and checks again what was touched since.
    """

    view: CompiledView
    batch: PartialFiles | None = None
    bounds: tuple[Bound, ...] = ()  # from when on its groups are shown
    laid: bool = False  # whether the batch's rows stay on the disk until speed touches their group
    runs: PartialFiles | None = None
    segments: SegmentFiles | None = None
    partials: Mapping[str, pa.Table] | None = None  # rows that are in no file, by table

    def rounds(self, engine: Engine) -> Iterator[Mapping[str, pa.Table]]:
        """The partial rows after the batch, in rounds of about `ROUND_BYTES`, by table. Raises
        `DamagedFile`, and `ViewFailed` where rows of a table do not go together."""
        core, *wide = self.view.tables
        if self.runs is not None:
            order = (*wide, core)  # a group's core row is finished from all of its wide rows
            rows = {table.name: self.runs.rows(engine, table) for table in order}
            yield from in_rounds(rows, [table.name for table in order], ROUND_BYTES)
        held: Partials = {}
        for reader in self._segments():
            for table, found in reader.partials(self.view.version).items():
                held.setdefault(table, []).append(found)
            if size(held) > ROUND_BYTES:
                yield end_to_end(self.view.name, held)
                held = {}
        if held:
            yield end_to_end(self.view.name, held)
        if self.partials is not None:
            yield self.partials

    def _segments(self) -> Iterator[SegmentReader]:
        if self.segments is not None:
            for file in self.segments.files:
                yield segment(self.segments.root, file)


def segment(root: DataRoot, file: StoredFile) -> SegmentReader:
    """A segment that was read whole and is what the ledger says; else `DamagedFile`."""
    with readable(file.path):
        return SegmentReader(root.get(file), file.path)


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


def end_to_end(view: str, tables: Partials) -> dict[str, pa.Table]:
    """The rows of each table, one after the other."""
    try:
        return {table: pa.concat_tables(rows) for table, rows in tables.items()}
    except pa.ArrowInvalid as error:
        raise ViewFailed(view, str(error)) from error


def size(tables: Partials) -> int:
    return sum(each.nbytes for rows in tables.values() for each in rows)
