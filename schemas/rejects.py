"""Rejects, read again: in the order in which they were rejected, and which were re-admitted since.

A reject is re-admitted if and only if its record is in the master under an epoch of a replay. So it
bears no mark of its own, and no file is ever changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.engine import HEADERS, Engine
from schemas.ledger.contents import EVERY
from schemas.ledger.rejects import Sources
from schemas.ledger.replays import Place
from schemas.segment import SegmentReader
from schemas.storage import DataRoot

EPOCH = "_epoch"
IDENTITY = (EPOCH, "_partition", "_offset")


def with_headers(table: pa.Table) -> pa.Table:
    """Rejects in the form that they have now: early files have no headers of their records."""
    if "_headers" in table.column_names:
        return table
    at = table.schema.get_field_index("_value") + 1
    return table.add_column(at, pa.field("_headers", HEADERS), pa.nulls(table.num_rows, HEADERS))


def of_epoch(rejects: pa.Table, epoch: int) -> pa.Table:
    """The rejects in a segment, in the form that sealed ones have."""
    numbers = pa.repeat(pa.scalar(epoch, pa.int64()), rejects.num_rows)
    return with_headers(rejects).add_column(0, pa.field(EPOCH, pa.int64()), numbers)


def after(
    root: DataRoot,
    sources: Sources,
    place: Place,
    until: int,
    columns: list[str] | None = None,
) -> Iterator[pa.Table]:
    """Rejects behind a place, of epochs up to `until`, in order; of sealed files these columns
    alone, if any are named."""
    for each in sources.sealed:
        if each.last >= place.epoch and each.first <= until:
            with pq.ParquetFile(root.check(each.file)) as file:
                for group in range(file.num_row_groups):
                    read = file.read_row_group(group, columns=columns)
                    yield _behind(read if columns else with_headers(read), place, until)
    for epoch in sources.epochs:
        if place.epoch <= epoch.epoch <= until:
            segments = [each for each in epoch.segments if each.rejected]
            tables = [
                of_epoch(SegmentReader(root.get(each.file), each.file.path).rejects(), epoch.epoch)
                for each in segments
            ]
            if tables:
                ordered = pa.concat_tables(tables).sort_by(
                    [(each, "ascending") for each in IDENTITY]
                )
                yield _behind(ordered, place, until)


@dataclass(frozen=True)
class Count:
    """Rejects of one reason and column."""

    reason: str
    column: str | None
    open: int
    replayed: int  # re-admitted since
    first: int  # the epoch of the first one
    last: int


def counts(engine: Engine, root: DataRoot, sources: Sources) -> list[Count]:
    """All rejects by reason and column, the most first. Takes of memory what the engine may."""
    engine.execute(
        "CREATE OR REPLACE TEMP TABLE rejected "
        "(_epoch BIGINT, _partition INTEGER, _offset BIGINT, _reason VARCHAR, _column VARCHAR)"
    )
    engine.execute(
        "CREATE OR REPLACE TEMP TABLE taken (_epoch BIGINT, _partition INTEGER, _offset BIGINT)"
    )
    named = [*IDENTITY, "_reason", "_column"]
    for table in after(root, sources, Place(), EVERY, named):
        engine.register("part", table.select(named))
        engine.execute("INSERT INTO rejected BY NAME FROM part")
    for table in taken(root, sources):
        engine.register("part", table)
        engine.execute("INSERT INTO taken BY NAME FROM part")
    found = engine.con.execute(
        "SELECT _reason, _column, count(*) - count(taken._epoch), count(taken._epoch), "
        "min(rejected._epoch), max(rejected._epoch) "
        "FROM rejected LEFT JOIN taken USING (_partition, _offset) "
        "GROUP BY ALL ORDER BY 3 DESC, 4 DESC, 1, 2"
    )
    return [Count(*row) for row in found.fetchall()]


def newest(root: DataRoot, sources: Sources, rows: int) -> pa.Table | None:
    """The last rejects that there are, in order; None where there is none."""
    found: list[pa.Table] = []
    missing = rows
    for epoch in reversed(sources.epochs):
        if missing <= 0:
            break
        only = Sources(epochs=(epoch,))
        for table in after(root, only, Place(), epoch.epoch):
            found.append(table.slice(max(0, table.num_rows - missing)))
            missing -= table.num_rows
    for each in reversed(sources.sealed):
        if missing <= 0:
            break
        with pq.ParquetFile(root.check(each.file)) as file:
            for group in reversed(range(file.num_row_groups)):
                if missing > 0:
                    table = with_headers(file.read_row_group(group))
                    found.append(table.slice(max(0, table.num_rows - missing)))
                    missing -= table.num_rows
    return pa.concat_tables(reversed(found)).combine_chunks() if found else None


def taken(root: DataRoot, sources: Sources, behind: Place | None = None) -> Iterator[pa.Table]:
    """The records that replays re-admitted: `_epoch`, that of the replay, `_partition`, `_offset`.
    With `behind` those of replays that came beyond that place."""
    epochs = sources.replays if behind is None else sources.replays_beyond(behind)
    wanted = [each.epoch for each in epochs]
    for file in sources.master:
        own = [epoch for epoch in wanted if file.first <= epoch <= file.last]
        if own:
            yield pq.read_table(
                root.check(file.file), columns=list(IDENTITY), filters=[(EPOCH, "in", own)]
            )
    for epoch in sources.epochs:
        if epoch.epoch in wanted:
            for each in epoch.segments:
                reader = SegmentReader(root.get(each.file), each.file.path)
                yield reader.master().select(list(IDENTITY))


def places(tables: Iterable[pa.Table]) -> dict[tuple[int, int], int]:
    """(partition, offset) -> epoch, of what `taken` gives."""
    found: dict[tuple[int, int], int] = {}
    for table in tables:
        epochs, partitions, offsets = (table[name].to_numpy().tolist() for name in IDENTITY)
        found |= dict(zip(zip(partitions, offsets, strict=True), epochs, strict=True))
    return found


def _behind(table: pa.Table, place: Place, until: int) -> pa.Table:
    epochs, partitions, offsets = (table[name].to_numpy() for name in IDENTITY)
    later = (partitions > place.partition) | (
        (partitions == place.partition) & (offsets > place.offset)
    )
    behind = (epochs > place.epoch) | ((epochs == place.epoch) & later)
    return table.filter(pa.array(behind & (epochs <= until)))
