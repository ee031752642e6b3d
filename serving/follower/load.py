"""What a snapshot of the ledger names -> a view's tables to be: batch view, runs, unsealed epochs.

Every file is checked before anything is made of it; what is read goes into the tables in rounds of
about `ROUND_BYTES`, inside the one transaction that swaps the view in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from schemas.compile import CompiledView
from schemas.engine import Engine
from schemas.errors import DamagedFile, ViewFailed
from schemas.ledger.contents import StreamContents
from schemas.ledger.epochs import CommittedEpoch
from schemas.position import Range
from schemas.segment import SegmentReader
from schemas.storage import DataRoot
from serving.follower.followed import FollowedView, Served
from serving.follower.handoff import Handoff
from serving.worker.batch import CheckedFile, PartialFiles, checked, in_rounds
from serving.worker.tables import NewView

ROUND_BYTES = 256 * 2**20  # of partials in memory

Partials = dict[str, list[pa.Table]]  # table -> rows


@dataclass(frozen=True)
class Loaded:
    """A view as a snapshot has it, every file of it checked."""

    root: DataRoot
    engine: Engine
    served: Served  # after all of it
    batch: tuple[CheckedFile, ...]
    runs: tuple[CheckedFile, ...]
    epochs: tuple[CommittedEpoch, ...]

    def new(self) -> NewView:
        """To be used once: its rounds are read as they are asked for."""
        view = self.served.compiled
        batch = PartialFiles(self.engine, self.root, view, self.batch) if self.batch else None
        return NewView(view, batch, self._rounds(view), self.served.bounds)

    def _rounds(self, view: CompiledView) -> Iterator[dict[str, pa.Table]]:
        core, *wide = view.tables
        runs = PartialFiles(self.engine, self.root, view, self.runs)
        order = (*wide, core)  # a group's core row is finished from all of its wide rows
        rows = {table.name: runs.rows(table) for table in order}
        yield from in_rounds(rows, [table.name for table in order], ROUND_BYTES)
        held: Partials = {}
        for epoch in self.epochs:
            for reader in segments(self.root, epoch):
                for table, found in reader.partials(view.version).items():
                    held.setdefault(table, []).append(found)
            if size(held) > ROUND_BYTES:
                yield end_to_end(view.name, held)
                held = {}
        if held:
            yield end_to_end(view.name, held)


def load(
    root: DataRoot, engine: Engine, view: FollowedView, found: StreamContents, until: int
) -> Loaded:
    """A view as a snapshot has it, with the unsealed epochs up to `until`; raises `DamagedFile`,
    and `GapBetweenLayers` where runs are missing."""
    compiled, told = view.compiled, found.views[view.row.name]
    assert compiled is not None
    if told.gap is not None:
        raise told.gap
    batch = tuple(checked(root, compiled, told.batch))
    runs = tuple(checked(root, compiled, told.runs))
    served = Served(
        compiled,
        told.publication,
        told.epoch,
        told.position,
        told.instant,
        _handoff(compiled, batch, runs),
        told.row.bounds,
    )
    loading = replace(view, serves=served, stopped=None)
    epochs = []
    for epoch in found.epochs:
        if epoch.epoch > until or not loading.follows(epoch):
            continue
        loading = loading.advance(epoch, covers(epoch, segments(root, epoch)))
        if compiled.version in epoch.folded:
            epochs.append(epoch)
    assert loading.serves is not None
    return Loaded(root, engine, loading.serves, batch, runs, tuple(epochs))


def segments(root: DataRoot, epoch: CommittedEpoch) -> Iterator[SegmentReader]:
    """The segments of an epoch, each checked; or `DamagedFile`."""
    for segment in epoch.segments:
        try:
            reader = SegmentReader(root.get(segment.file), segment.file.path)
        except OSError as error:
            expected = "a file that can be read"
            raise DamagedFile(segment.file.path, expected, error.strerror or "") from error
        found = (reader.header["stream"], reader.header["epoch"])
        if found != (epoch.stream, epoch.epoch):
            expected = f"a segment of epoch {epoch.epoch} of {epoch.stream!r}"
            raise DamagedFile(reader.path, expected, f"epoch {found[1]} of {found[0]!r}")
        yield reader


def covers(epoch: CommittedEpoch, readers: Iterable[SegmentReader]) -> tuple[Range, ...]:
    """The offsets that an epoch's segments say they cover, which is the same in each of them; the
    ledger's word for those that were written before they said it."""
    told = dict.fromkeys(
        reader.ranges if "ranges" in reader.header else epoch.ranges for reader in readers
    )
    return tuple(each for ranges in told for each in ranges)


def end_to_end(view: str, tables: Partials) -> dict[str, pa.Table]:
    """The rows of each table, one after the other."""
    try:
        return {table: pa.concat_tables(rows) for table, rows in tables.items()}
    except pa.ArrowInvalid as error:
        raise ViewFailed(view, str(error)) from error


def size(tables: Partials) -> int:
    return sum(each.nbytes for rows in tables.values() for each in rows)


def _handoff(
    view: CompiledView, batch: Sequence[CheckedFile], runs: Sequence[CheckedFile]
) -> Handoff:
    found = Handoff.of(table.name for table in view.tables)
    once, buckets = set(), set()
    for each in batch:
        # the files of a table cover the same, each its bucket of the groups
        table, bucket = str(each.data.table), _bucket(each)
        if (table, bucket) in buckets or (table, each.ranges) not in once:
            found = found.with_file(table, each.ranges)
        once.add((table, each.ranges))
        buckets.add((table, bucket))
    spans = set()
    for each in runs:
        found = found.with_file(str(each.data.table), each.ranges)
        spans.add((each.data.first, each.data.last))
    return replace(
        found,
        batch_epochs=max((each.data.last for each in batch), default=0),
        speed_epochs=sum(last - first + 1 for first, last in spans),
    )


def _bucket(file: CheckedFile) -> str:
    """Of `<bucket>-<uuid>.parquet`."""
    return file.data.file.path.rpartition("/")[2].partition("-")[0]
