"""What a snapshot of the ledger names -> a view's tables to be: batch view, runs, unsealed epochs.

Every file is checked before anything is made of it; what is made is told as data (`NewView`), which
the process that has the tables reads from the files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from schemas.compile import CompiledView
from schemas.errors import DamagedFile
from schemas.ledger.contents import StreamContents
from schemas.ledger.epochs import CommittedEpoch
from schemas.position import Range
from schemas.segment import SegmentReader
from schemas.storage import DataRoot
from serving.follower.followed import FollowedView, Served
from serving.follower.handoff import Handoff
from serving.worker.batch import CheckedFile, PartialFiles, checked
from serving.worker.new_view import NewView, SegmentFiles, segment


@dataclass(frozen=True)
class Loaded:
    """A view as a snapshot has it, every file of it checked."""

    root: DataRoot
    served: Served  # after all of it
    batch: tuple[CheckedFile, ...]
    runs: tuple[CheckedFile, ...]
    epochs: tuple[CommittedEpoch, ...]

    def new(self) -> NewView:
        root = self.root
        unsealed = (each.file for epoch in self.epochs for each in epoch.segments)
        return NewView(
            self.served.compiled,
            PartialFiles(root, self.batch) if self.batch else None,
            self.served.bounds,
            self.served.laid,
            PartialFiles(root, self.runs),
            SegmentFiles(root, tuple(unsealed)),
        )


def load(
    root: DataRoot, view: FollowedView, found: StreamContents, until: int, lay_rows: int
) -> Loaded:
    """A view as a snapshot has it, with the unsealed epochs up to `until`, laid if its batch has
    more than `lay_rows` groups; raises `DamagedFile`, and `GapBetweenLayers` where runs are
    missing."""
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
        _to_be_laid(compiled, batch, lay_rows),
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
    return Loaded(root, loading.serves, batch, runs, tuple(epochs))


def segments(root: DataRoot, epoch: CommittedEpoch) -> Iterator[SegmentReader]:
    """The segments of an epoch, each checked; or `DamagedFile`."""
    for each in epoch.segments:
        reader = segment(root, each.file)
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


def _to_be_laid(view: CompiledView, batch: Sequence[CheckedFile], lay_rows: int) -> bool:
    core = view.tables[0]
    rows = sum(each.data.rows for each in batch if each.data.table == core.name)
    return bool(core.keys) and rows > lay_rows


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
