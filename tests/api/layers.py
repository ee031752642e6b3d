"""Sealing and building for a `World`: the files and ledger rows of both, without Spark."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby, pairwise
from pathlib import Path
from typing import Literal

import pyarrow as pa

from schemas import engine
from schemas.compile import CompiledStream, CompiledView, PartialTable
from schemas.compile.sql import names
from schemas.engine import Engine
from schemas.ledger import builds, leases
from schemas.ledger.builds import PublicationRow, build_lease
from schemas.ledger.connect import Ledger
from schemas.ledger.contents import contents
from schemas.ledger.epochs import CommittedEpoch, epochs_after
from schemas.ledger.files import BATCH, RUN, DataFile
from schemas.ledger.leases import Holder, Lease
from schemas.ledger.sealing import (
    SealedRange,
    kept_boundaries,
    merge_ranges,
    seal,
    sealed_ranges,
    sealed_until,
)
from schemas.parquet import Description
from schemas.position import Range
from schemas.segment import SegmentReader
from schemas.storage import DataRoot
from schemas.stored_file import StoredFile

HERE = Holder("here", 1, 0.0)
TTL = timedelta(days=1)


class Layers:
    """What streaming and batch do beside epochs. `compiled` has every version ever deployed,
    `records` what was read in each epoch."""

    def __init__(self, ledger: Ledger, root: DataRoot, stream: str, lease: Lease) -> None:
        self.ledger, self.root, self.name, self.lease = ledger, root, stream, lease
        self.compiled: dict[str, CompiledView] = {}
        self.records: dict[int, tuple[CompiledStream, list[pa.Table]]] = {}
        self.engine: Engine = engine.connect()

    # sealing

    def seal(self, now: datetime, last: int | None = None, *, unlink: bool = False) -> list[str]:
        """Seal all epochs, or those up to `last`, in as few ranges as can be; gives the paths of
        the segments, which `unlink` removes."""
        reached = sealed_until(self.ledger, self.name)
        epochs = epochs_after(self.ledger, self.name, reached, 10**6)
        epochs = [epoch for epoch in epochs if last is None or epoch.epoch <= last]
        paths = []
        for folded, group in groupby(epochs, lambda epoch: epoch.folded):
            part = list(group)
            runs = [each for version in folded for each in self._runs(version, part)]
            first, until = part[0].epoch, part[-1].epoch
            seal(self.ledger, self.name, self.lease.token, first, until, runs, now)
            paths += [segment.file.path for epoch in part for segment in epoch.segments]
        for path in paths if unlink else []:
            self.root.remove(path)
        return paths

    def merge(self, now: datetime, *, unlink: bool = False) -> None:
        """Merge each two adjacent ranges that may be."""
        kept = kept_boundaries(self.ledger, self.name)
        ranges = iter(list(pairwise(sealed_ranges(self.ledger, self.name))))
        for left, right in ranges:
            if left.folded != right.folded or left.last in kept:
                continue
            self._merge(left, right, now, unlink)
            next(ranges, None)

    def _merge(self, left: SealedRange, right: SealedRange, now: datetime, unlink: bool) -> None:
        added, removed = [], []
        for version in left.folded:
            view = self.compiled[version]
            for table in view.tables:
                parts = [
                    each
                    for each in (*left.files, *right.files)
                    if (each.kind, each.version, each.table) == (RUN, version, table.name)
                ]
                if [each.last for each in parts] != [left.last, right.last]:
                    continue
                source = self.engine.files([self.root.local(each.file.path) for each in parts])
                ranges = (*left.ranges, *right.ranges)
                added.append(self._run(view, table, source, left.first, right.last, ranges))
                removed += parts
        merge_ranges(self.ledger, self.name, self.lease.token, [left, right], added, removed, now)
        for each in removed if unlink else []:
            self.root.remove(each.file.path)

    def _runs(self, version: str, epochs: Sequence[CommittedEpoch]) -> Iterator[DataFile]:
        view = self.compiled[version]
        tables: dict[str, list[pa.Table]] = {table.name: [] for table in view.tables}
        for epoch in epochs:
            for segment in epoch.segments:
                reader = SegmentReader(self.root.get(segment.file), segment.file.path)
                for table, rows in reader.partials(version).items():
                    tables[table].append(rows)
        ranges = [each for epoch in epochs for each in epoch.ranges]
        first, last = epochs[0].epoch, epochs[-1].epoch
        for partial in view.tables:
            self._source(partial, tables[partial.name])
            yield self._run(view, partial, "parts", first, last, ranges)

    def _run(
        self,
        view: CompiledView,
        table: PartialTable,
        source: str,
        first: int,
        last: int,
        ranges: Iterable[Range],
    ) -> DataFile:
        told = Description(
            RUN, self.name, first, last, _union(ranges), view.name, view.version, table.name
        )
        select = table.merge(source) + _sorted(table)
        folder = f"runs/{view.name}/{view.version}/{table.name}"
        name = f"{first}-{last}-{self.lease.token}-{uuid.uuid4().hex}.parquet"
        file, rows = self._write(folder, name, select, told)
        return DataFile(RUN, file, first, last, rows, version=view.version, table=table.name)

    # building

    def build(
        self,
        view: str,
        now: datetime,
        *,
        full: bool = False,
        until: int | None = None,
        buckets: int = 2,
        verdict: Literal["equal", "repair"] = "equal",
        window: timedelta = timedelta(days=1),
        partials: Sequence[Mapping[str, int]] = ({"built": 1},),
    ) -> PublicationRow:
        """Build the wanted version of a view and publish it, as if these `partials` were compared
        to prove it."""
        lease = leases.take(self.ledger, build_lease(view), HERE, now, TTL, alive=lambda _: False)
        begun = builds.begin(self.ledger, view, lease, now, full=full, until=until)
        compiled = self.compiled[begun.version]
        parts: dict[str, list[pa.Table]] = {table.name: [] for table in compiled.tables}
        if begun.base is not None and not full:
            base = builds.build_files(self.ledger, begun.base)
            for each in base:
                path = self.root.check(each.file)
                own = _own(_table(compiled, str(each.table)))
                select = f"SELECT {names(own)} FROM {self.engine.files([path])}"
                parts[str(each.table)].append(self.engine.arrow(select))
        after = 0 if full else begun.base_cut
        for epoch in range(after + 1, begun.cut + 1):
            for table, rows in self._fold(compiled, epoch).items():
                parts[table] += rows
        files = list(self._batch(compiled, parts, begun.id, begun.cut, buckets))
        builds.finish(self.ledger, begun.id, lease.token, files, now)
        builds.prove(self.ledger, begun.id, lease.token, verdict, {"partials": partials}, now)
        published = builds.publish(self.ledger, begun.id, lease.token, now, window)
        leases.release(self.ledger, lease)
        return published

    def _fold(self, view: CompiledView, epoch: int) -> dict[str, list[pa.Table]]:
        stream, tasks = self.records[epoch]
        found: dict[str, list[pa.Table]] = {table.name: [] for table in view.tables}
        start = datetime.fromisoformat("2026-01-01T00:00:00+00:00")
        for records in tasks:
            folded = self.engine.fold(
                stream, [view], records, epoch=epoch, instant=start, since=start
            )
            for table, rows in folded.partials[view.version].items():
                found[table].append(rows)
        return found

    def _batch(
        self,
        view: CompiledView,
        parts: Mapping[str, list[pa.Table]],
        build: int,
        cut: int,
        buckets: int,
    ) -> Iterator[DataFile]:
        for table in view.tables:
            self._source(table, parts[table.name])
            self.engine.execute(
                f'CREATE OR REPLACE TEMP TABLE "m_{table.name}" AS {table.merge("parts")}'
            )
        core, *wide = view.tables
        finished = view.finished('"m_core"', {each.name: f'"m_{each.name}"' for each in wide})
        sources = {each.name: f'SELECT * FROM "m_{each.name}"' for each in wide}
        sources["core"] = finished
        ranges = _union([r for epoch in range(1, cut + 1) for r in self._ranges(epoch)])
        for table in view.tables:
            keys = names(key for key, _ in core.keys)
            for bucket in range(buckets if keys else 1):
                told = Description(
                    BATCH, self.name, 1, cut, ranges, view.name, view.version, table.name
                )
                where = f" WHERE hash({keys}) % {buckets} = {bucket}" if keys else ""
                select = f"SELECT * FROM ({sources[table.name]}){where}" + _sorted(table)
                folder = f"batch/{view.name}/{view.version}/{build}/{table.name}"
                file, rows = self._write(
                    folder, f"{bucket}-{uuid.uuid4().hex}.parquet", select, told
                )
                yield DataFile(BATCH, file, 1, cut, rows, version=view.version, table=table.name)

    def _ranges(self, epoch: int) -> list[Range]:
        _, tasks = self.records[epoch]
        offsets = [int(str(each)) for task in tasks for each in task["_offset"].to_pylist()]
        return [Range(0, min(offsets), max(offsets) + 1)] if offsets else []

    def _source(self, table: PartialTable, rows: list[pa.Table]) -> None:
        empty = self.engine.arrow(
            "SELECT "
            + ", ".join(f'CAST(NULL AS {kind}) AS "{name}"' for name, kind in _typed(table))
            + " WHERE false"
        )
        self.engine.register(
            "parts", pa.concat_tables([empty, *rows], promote_options="permissive")
        )

    def _write(
        self, folder: str, name: str, select: str, told: Description
    ) -> tuple[StoredFile, int]:
        rows = 0

        def writer(path: Path) -> None:
            nonlocal rows
            rows = self.engine.copy(select, path, told)

        return self.root.write(folder, name, writer), rows


def named(ledger: Ledger, stream: str, view: str) -> list[DataFile]:
    """The files of a view that a reader would load."""
    found = contents(ledger, stream).views[view]
    return [*found.batch, *found.runs]


def _table(view: CompiledView, name: str) -> PartialTable:
    return next(table for table in view.tables if table.name == name)


def _typed(table: PartialTable) -> list[tuple[str, str]]:
    return [*table.keys, *((name, kind) for name, kind, _ in table.values)]


def _own(table: PartialTable) -> list[str]:
    return [name for name, _ in _typed(table)]


def _sorted(table: PartialTable) -> str:
    return f" ORDER BY {names(key for key, _ in table.keys)}" if table.keys else ""


def _union(ranges: Iterable[Range]) -> tuple[Range, ...]:
    bounds: dict[int, tuple[int, int]] = {}
    for each in ranges:
        low, high = bounds.get(each.partition, (each.start, each.until))
        bounds[each.partition] = min(low, each.start), max(high, each.until)
    return tuple(Range(partition, *pair) for partition, pair in sorted(bounds.items()))
