"""A state with committed epochs, made without Spark and Kafka, and its sealer, stepped by hand."""

from __future__ import annotations

import pickle
import threading
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from schemas import registered
from schemas.compile.partials import PartialTable
from schemas.engine import connect
from schemas.id_file import IdFile
from schemas.ledger import files, leases
from schemas.ledger.connect import open_ledger
from schemas.ledger.epochs import (
    CommittedEpoch,
    EpochCommit,
    SegmentFile,
    commit_epoch,
    epochs_after,
    lease_name,
    progress,
)
from schemas.ledger.files import DataFile
from schemas.ledger.leases import Holder
from schemas.ledger.sealing import SealedRange, sealed_ranges
from schemas.ledger.versions import register
from schemas.position import Range
from schemas.segment import Segment, SegmentOrigin, SegmentReader, encode
from schemas.storage import DataRoot
from streaming.sealer import Sealer
from streaming.sealing import Sealing, from_json
from streaming.settings import Settings
from tests.folding import Folding, load, records

START = datetime(2026, 1, 1, 10, tzinfo=UTC)
STREAM = """
CREATE STREAM hits (k VARCHAR, u BIGINT, n INTEGER CHECK (n >= 0))
WITH (topic = 'hits', format = 'json');
"""
KEYED = """
CREATE STREAM hits (u BIGINT PRIMARY KEY, k VARCHAR, n INTEGER)
WITH (topic = 'hits', format = 'json');
"""
VIEWS = {
    "by_key": "SELECT k, count(*) AS hits, sum(n) AS total, max(n) AS high FROM hits GROUP BY k",
    "everything": "SELECT count(*) AS hits, sum(n) AS total FROM hits",
    "visitors": "SELECT k, approx_count_distinct(u) AS visitors FROM hits GROUP BY k",
}
Task = Mapping[int, Sequence[bytes]]  # partition -> values


@dataclass
class Direct:
    """Runs tasks here, as they would come out of a pickle; keeps them."""

    tasks: list[Sealing] = field(default_factory=list)
    error: Exception | None = None

    def __call__(self, task: Sealing) -> tuple[DataFile, ...]:
        if self.error is not None:
            raise self.error
        self.tasks.append(task)
        travelled: Sealing = pickle.loads(pickle.dumps(task))
        (batch,) = travelled(iter([pa.record_batch({"id": pa.array([0])})]))
        return from_json(str(batch.column("report")[0]))

    def cancel(self) -> None:
        pass


class Yard:
    """One stream, deployed; epochs are committed as streaming would."""

    def __init__(
        self, folder: Path, stream: str = STREAM, views: Mapping[str, str] = VIEWS
    ) -> None:
        self.folder, self.state = folder, folder / "state"
        self.state.mkdir(parents=True)
        self.root = DataRoot(self.state)
        self.ledger = open_ledger(self.state, create=True)
        self.clock = START
        self.run = Direct()
        self.fatal: list[BaseException] = []
        self.moved = threading.Event()
        self.declare(stream, views)
        self.lease()

    def declare(self, stream: str, views: Mapping[str, str]) -> None:
        definitions = [f"CREATE VIEW {name} AS {select};" for name, select in views.items()]
        self.folding = Folding(load(self.folder / uuid.uuid4().hex, stream, *definitions))
        self.name = self.folding.stream.name
        register(self.ledger, *registered.rows(self.folding.project, self.root), START)

    def lease(self) -> None:
        """Takes it, again too: as a driver that starts."""
        self.token = leases.take(
            self.ledger,
            lease_name(self.name),
            Holder("here", 1, 0.0),
            START,
            timedelta(days=1),
            alive=lambda _: False,
        ).token

    def epoch(self, *tasks: Task, suspend: Iterable[str] = ()) -> int:
        """Commit an epoch of these records, a segment per task; without tasks offsets move alone.
        The clock goes on by a second."""
        last = progress(self.ledger, self.name)
        number, self.clock = last.epoch + 1, self.clock + timedelta(seconds=1)
        gone = {self.folding.view(name).version: "it fails" for name in suspend}
        self.folding.views = [each for each in self.folding.views if each.version not in gone]
        until = {0: 0, 1: 0} | dict(last.position.offsets)
        starts, parts = dict(until), []
        for task in tasks:
            tables = []
            for partition, values in task.items():
                tables.append(records(values, partition, until[partition]))
                until[partition] += len(values)
            parts.append(pa.concat_tables(tables))
        if not tasks:
            until[0] += 1
        ranges = tuple(Range(p, start, until[p]) for p, start in starts.items())
        commit_epoch(
            self.ledger,
            EpochCommit(
                stream=self.name,
                epoch=number,
                instant=self.clock,
                token=self.token,
                stream_version=self.folding.stream.version,
                topic_id="topic-id",
                ranges=ranges,
                segments=tuple(self._segments(number, ranges, parts)),
                folded=tuple(view.version for view in self.folding.views),
                suspended=tuple(gone.items()),
                uuid=uuid.uuid4().hex,
            ),
        )
        return number

    def _segments(
        self, epoch: int, ranges: tuple[Range, ...], parts: Sequence[pa.Table]
    ) -> Iterable[SegmentFile]:
        for at, folded in enumerate(self.folding.epoch(epoch, self.clock, *parts)):
            segment = Segment(
                self.name,
                epoch,
                self.token,
                folded.master,
                folded.rejects,
                folded.ids,
                folded.partials,
                ranges,
                SegmentOrigin(
                    instant=self.clock.isoformat(),
                    stream_version=self.folding.stream.version,
                    topic_id="topic-id",
                    alone=len(parts) == 1,
                ),
            )
            name = f"{epoch}-{at}-{self.token}-{uuid.uuid4().hex}.zip"
            yield SegmentFile(
                self.root.put(f"segments/{self.name}", name, encode(segment)),
                folded.accepted + folded.rejected,
                folded.accepted,
                folded.duplicates,
                folded.rejected,
                folded.ids is not None,
            )

    def sealer(self, **settings: Any) -> Sealer:
        return Sealer(
            settings=replace(Settings(self.state, "127.0.0.1:1"), **settings),
            ledger=self.ledger,
            root=self.root,
            stream=self.name,
            token=self.token,
            now=lambda: self.clock,
            run=self.run,
            moved=self.moved,
            fatal=self.fatal.append,
            done=lambda: None,
        )

    def epochs(self) -> list[CommittedEpoch]:
        return epochs_after(self.ledger, self.name, 0, 10_000)

    def segments(self) -> list[SegmentReader]:
        found = [each.file for epoch in self.epochs() for each in epoch.segments]
        return [SegmentReader(self.root.get(file), file.path) for file in found]

    def ranges(self) -> list[SealedRange]:
        return sealed_ranges(self.ledger, self.name)

    def spans(self) -> list[tuple[int, int]]:
        return [(each.first, each.last) for each in self.ranges()]

    def files(self, kind: str, version: str | None = None, table: str | None = None) -> pa.Table:
        """The rows of all files of a kind, in order."""
        chosen = [
            each
            for one in self.ranges()
            for each in one.files
            if (each.kind, each.version, each.table) == (kind, version, table)
        ]
        found = [self._rows(each) for each in chosen]
        assert [each.num_rows for each in found] == [each.rows for each in chosen]
        return pa.concat_tables(found)

    def _rows(self, file: DataFile) -> pa.Table:
        path = self.root.check(file.file)
        if file.kind != files.IDS:
            return pq.read_table(path).replace_schema_metadata()
        ids = IdFile.open(path, file.file.path)
        return pa.Table.from_batches(ids.batches, ids.schema).replace_schema_metadata()

    def on_disk(self) -> set[str]:
        """Data files that are there, finished or not."""
        folders = ("segments", "master", "rejects", "ids", "runs")
        return {
            path.relative_to(self.state).as_posix()
            for folder in folders
            for path in (self.state / folder).rglob("*")
            if path.is_file()
        }

    def named(self) -> set[str]:
        kinds = (files.SEGMENT, *files.SEALED)
        return {path for kind in kinds for path in files.named(self.ledger, kind, self.name)}


def same_rows(table: PartialTable, ours: pa.Table, theirs: pa.Table) -> bool:
    """Whether two relations of merged partials are one multiset."""
    engine = connect()
    engine.register("ours", ours)
    engine.register("theirs", theirs)
    names = ", ".join(f'"{name}"' for name, *_ in (*table.keys, *table.values))
    one, two = f"SELECT {names} FROM ours", f"SELECT {names} FROM theirs"
    both = f"(({one}) EXCEPT ALL ({two})) UNION ALL (({two}) EXCEPT ALL ({one}))"
    return engine.arrow(both).num_rows == 0 and ours.num_rows == theirs.num_rows
