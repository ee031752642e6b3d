"""On an executor: the records of one task become one segment.

    Arrow batches (_partition, _offset, _timestamp, _key, _value)
      -> one table -> schemas.engine folds it for every view -> <epoch>-<task>-<token>-<uuid>.zip
      -> one row of JSON for the driver, never a value of an event

A Python worker keeps its engine from task to task, and with it, for a stream with a primary key,
the ids of the committed epochs. Those come from files of committed epochs only, so one that was
folded and never committed leaves nothing behind. A worker that is further behind than the files
that travel with the task asks for them instead of folding.
"""

from __future__ import annotations

import gc
import json
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark import TaskContext

from schemas.compile import CompiledStream, CompiledView
from schemas.engine import RECORDS, Engine, connect
from schemas.errors import EpochIncomplete
from schemas.failpoints import failpoint
from schemas.position import Range
from schemas.segment import Segment, SegmentReader, encode
from schemas.storage import DataRoot
from schemas.stored_file import StoredFile

REPORT_SCHEMA = "report string"
FORGET_PARTS = 24  # ids that no longer matter go this often per `dedup_within`


@dataclass(frozen=True)
class EpochIds:
    """The files with the ids of an epoch or of a sealed range of epochs; there may be none."""

    first: int
    last: int  # in it too
    files: tuple[StoredFile, ...]  # segments, or the Parquet files of a range


@dataclass(frozen=True)
class TaskReport:
    """What a task tells the driver. With `needs_ids_from` set it folded and wrote nothing."""

    task: int
    seen: Mapping[int, tuple[int, int]]  # partition -> first and last offset
    file: StoredFile | None = None
    rows: int = 0
    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    has_ids: bool = False
    suspended: tuple[tuple[str, str], ...] = ()  # version, message
    needs_ids_from: int | None = None  # the first epoch whose ids the worker lacks

    def json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> TaskReport:
        found = json.loads(text)
        found["seen"] = {int(p): (first, last) for p, (first, last) in found["seen"].items()}
        found["file"] = None if found["file"] is None else StoredFile(**found["file"])
        found["suspended"] = tuple((version, message) for version, message in found["suspended"])
        return cls(**found)


@dataclass(frozen=True)
class FoldTask:
    """One epoch's work as it travels to a task; the function that `mapInArrow` calls."""

    stream: CompiledStream
    views: tuple[CompiledView, ...]
    epoch: int
    token: int
    instant: datetime
    since: datetime  # an id that was counted later than this makes a duplicate
    root: DataRoot
    ids: tuple[EpochIds, ...]  # the epochs just before this one, without a hole
    task_memory: str
    ids_whole: bool = False  # no epoch before those has an id that was counted after `since`
    ranges: tuple[Range, ...] = ()  # the offsets of the epoch, all its tasks together

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        records = collect(batches)
        if records.num_rows:
            report = self._run(records)
            yield pa.record_batch({"report": pa.array([report.json()], pa.string())})

    def _run(self, records: pa.Table) -> TaskReport:
        name = self.stream.name
        task, seen = _task_number(), offsets(records)
        engine = worker_engine(self.task_memory, name, self.stream.version, self.epoch)
        if self.stream.key:
            missing = self._add_ids(engine, name)
            if missing is not None:
                return TaskReport(task, seen, needs_ids_from=missing)
            self._forget_ids(engine, name)
        self._load_references(engine)
        folded = engine.fold(
            self.stream,
            self.views,
            records,
            epoch=self.epoch,
            instant=self.instant,
            since=self.since,
        )
        written = folded.accepted + folded.rejected
        if written != records.num_rows:
            found = f"{written} of {records.num_rows} in task {task}"
            raise EpochIncomplete(name, self.epoch, found)
        segment = Segment(
            name,
            self.epoch,
            self.token,
            folded.master,
            folded.rejects,
            folded.ids,
            folded.partials,
            self.ranges,
        )
        failpoint("task.before_segment")
        file = self.root.put(
            f"segments/{name}",
            f"{self.epoch}-{task}-{self.token}-{uuid.uuid4().hex}.zip",
            encode(segment),
        )
        failpoint("task.after_segment")
        return TaskReport(
            task,
            seen,
            file,
            records.num_rows,
            folded.accepted,
            folded.duplicates,
            folded.rejected,
            bool(folded.ids is not None and folded.ids.num_rows),
            tuple(sorted(folded.suspended.items())),
        )

    def _add_ids(self, engine: Engine, name: str) -> int | None:
        """Bring the worker's ids up to the epoch before this one; the first one missing, if any."""
        known = engine.ids_epoch(name)
        if known >= self.epoch - 1:
            return None
        whole = self.ids_whole or (bool(self.ids) and self.ids[0].first <= known + 1)
        if not whole:
            return known + 1
        for each in self.ids:
            if each.last > known:  # to take an id twice, where a range began earlier, is harmless
                tables = (ids for file in each.files for ids in self._ids(file))
                engine.add_ids(self.stream, each.last, tables)
        if engine.ids_epoch(name) < self.epoch - 1:  # no epoch matters
            engine.add_ids(self.stream, self.epoch - 1, [])
        return None

    def _ids(self, file: StoredFile) -> Iterator[pa.Table]:
        """Nothing where the ids are those of another primary key, declared earlier."""
        key = list(self.stream.key)
        for ids in id_tables(self.root, file):
            if ids.column_names[1:-1] == key:
                yield ids

    def _forget_ids(self, engine: Engine, name: str) -> None:
        """Now and then, as it looks at every id."""
        last = _Worker.forgotten.get(name)
        if last is None or self.since - last >= (self.instant - self.since) / FORGET_PARTS:
            engine.forget_ids(self.stream, self.since)
            _Worker.forgotten[name] = self.since

    def _load_references(self, engine: Engine) -> None:
        for view in self.views:
            for reference in view.references:
                if not engine.has_reference(reference):
                    engine.load_reference(reference, self.root.get(reference.file))


def id_tables(root: DataRoot, file: StoredFile) -> Iterator[pa.Table]:
    """The ids in a segment, or those in a sealed file, row group by row group."""
    if not file.path.endswith(".parquet"):
        ids = SegmentReader(root.get(file), file.path).ids()
        if ids is not None:
            yield ids
        return
    with pq.ParquetFile(root.check(file)) as sealed:
        for group in range(sealed.num_row_groups):
            yield sealed.read_row_group(group)


class _Worker:
    """What a Python worker keeps between tasks."""

    engine: ClassVar[Engine | None] = None
    versions: ClassVar[dict[str, str]] = {}  # stream -> the version that its ids are of
    forgotten: ClassVar[dict[str, datetime]] = {}  # stream -> when ids were last forgotten


def worker_engine(
    memory: str = "1GB", stream: str | None = None, version: str = "", epoch: int = 1
) -> Engine:
    """This worker's engine. Its ids start anew if the stream's declaration changed, or if they
    hold epochs that are not before the one at work."""
    engine = _Worker.engine
    if engine is not None and stream is not None:
        changed = _Worker.versions.setdefault(stream, version) != version
        if changed or engine.ids_epoch(stream) >= epoch:
            engine = None
    if engine is None:
        first = _Worker.engine is None
        temp = Path(tempfile.gettempdir()) / "everview-task"
        engine = _Worker.engine = connect(memory_limit=memory, threads=1, temp=str(temp))
        _Worker.versions = {} if stream is None else {stream: version}
        _Worker.forgotten = {}
        if first:
            gc.collect()
            gc.freeze()  # Spark collects after each task; imported modules need not be walked
    return engine


def collect(batches: Iterator[pa.RecordBatch]) -> pa.Table:
    """All records of a task, with times in UTC and without a zone."""
    return pa.Table.from_batches([batch.cast(RECORDS) for batch in batches], RECORDS)


def offsets(records: pa.Table) -> dict[int, tuple[int, int]]:
    """Partition -> first and last offset among the records."""
    found = records.group_by("_partition").aggregate([("_offset", "min"), ("_offset", "max")])
    return {
        row["_partition"]: (row["_offset_min"], row["_offset_max"]) for row in found.to_pylist()
    }


def _task_number() -> int:
    context = TaskContext.get()
    return 0 if context is None else context.partitionId()
