"""On an executor: the records of one task become one segment.

    Arrow batches (_partition, _offset, _timestamp, _key, _value, _headers)
      -> one table -> schemas.engine folds it for every view -> <epoch>-<task>-<token>-<uuid>.zip
      -> one row of JSON for the driver, never a value of an event

A Python worker keeps its engine from task to task, and with it, for a stream with a primary key,
the ids of committed epochs that are not sealed. Those of sealed ones stay in their files, which are
looked into. Both come from what the ledger names, so an epoch that was folded and never committed
leaves nothing behind. A worker that is further behind than the files that travel with the task asks
for them instead of folding.
"""

from __future__ import annotations

import gc
import json
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
from pyspark import TaskContext

from schemas import id_file
from schemas.compile import CompiledStream, CompiledView
from schemas.engine import RECORDS, Engine, Folded, connect, hash_probe
from schemas.errors import EpochIncomplete
from schemas.failpoints import failpoint
from schemas.id_file import IdFile
from schemas.ledger.replays import Place
from schemas.observed import Seen
from schemas.position import Range
from schemas.segment import Segment, SegmentOrigin, SegmentReader, encode
from schemas.storage import DataRoot
from schemas.stored_file import StoredFile
from streaming.seen import reasons, seen_times

REPORT_SCHEMA = "report string"
FORGET_PARTS = 24  # ids that no longer matter go this often per `dedup_within`


@dataclass(frozen=True)
class EpochIds:
    """The segments with the ids of an epoch that is not sealed; there may be none."""

    epoch: int
    files: tuple[StoredFile, ...]


@dataclass(frozen=True)
class SealedIds:
    """The sorted files with the ids of sealed epochs."""

    until: int = 0  # the last of these epochs
    files: tuple[StoredFile, ...] = ()


@dataclass(frozen=True)
class Tried:
    """How far a task of a replay came."""

    until: Place
    considered: int  # rejects that were not re-admitted before
    last: bool  # nothing is left


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
    left_out: tuple[tuple[str, int], ...] = ()  # version, accepted events that do not fit it
    tried: Tried | None = None  # of a replay
    times: Mapping[int, Seen] = field(default_factory=dict)  # by partition
    future: int = 0  # accepted events with an event time after the epoch's instant
    reasons: Mapping[str, int] = field(default_factory=dict)  # of rejects

    def json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> TaskReport:
        found = json.loads(text)
        found["seen"] = {int(p): (first, last) for p, (first, last) in found["seen"].items()}
        found["file"] = None if found["file"] is None else StoredFile(**found["file"])
        found["suspended"] = tuple((version, message) for version, message in found["suspended"])
        found["left_out"] = tuple((version, count) for version, count in found["left_out"])
        found["times"] = {int(p): Seen(**seen) for p, seen in found["times"].items()}
        if found["tried"] is not None:
            until = Place(**found["tried"].pop("until"))
            found["tried"] = Tried(until, **found["tried"])
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
    sealed: SealedIds
    ids: tuple[EpochIds, ...]  # the unsealed epochs just before this one, without a hole
    task_memory: str
    threads: int = 1  # of DuckDB
    ids_whole: bool = False  # no unsealed epoch before those has an id counted after `since`
    ranges: tuple[Range, ...] = ()  # the offsets of the epoch, all its tasks together
    topic_id: str | None = None
    alone: bool = False  # whether the epoch has no other task

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        records = collect(batches)
        if records.num_rows:
            report = self._run(records)
            yield pa.record_batch({"report": pa.array([report.json()], pa.string())})

    def _run(self, records: pa.Table) -> TaskReport:
        task, seen = _task_number(), offsets(records)
        folded = self._fold(records)
        if isinstance(folded, int):
            return TaskReport(task, seen, needs_ids_from=folded)
        written = folded.accepted + folded.rejected
        if written != records.num_rows:
            found = f"{written} of {records.num_rows} in task {task}"
            raise EpochIncomplete(self.stream.name, self.epoch, found)
        times, future = seen_times(self.stream, records, folded.master, self.instant)
        report = self._written(task, seen, folded)
        return replace(report, times=times, future=future, reasons=reasons(folded.rejects))

    def _fold(self, records: pa.Table) -> Folded | int:
        """What the records come to, or the first epoch whose ids this worker lacks for it."""
        name = self.stream.name
        engine = worker_engine(
            self.task_memory, name, self.stream.version, self.epoch, self.sealed.until
        )
        engine.use_threads(self.threads)
        sealed: list[IdFile] = []
        if self.stream.key:
            sealed = self._sealed_ids(engine)
            missing = self._add_ids(engine, name)
            if missing is not None:
                return missing
            self._forget_ids(engine, name)
        self._load_references(engine)
        return engine.fold(
            self.stream,
            self.views,
            records,
            epoch=self.epoch,
            instant=self.instant,
            since=self.since,
            sealed_ids=sealed,
        )

    def _written(
        self, task: int, seen: Mapping[int, tuple[int, int]], folded: Folded
    ) -> TaskReport:
        """The segment, and what is told of it."""
        name = self.stream.name
        segment = Segment(
            name,
            self.epoch,
            self.token,
            folded.master,
            folded.rejects,
            folded.ids,
            folded.partials,
            self.ranges,
            SegmentOrigin(
                instant=self.instant.isoformat(),
                stream_version=self.stream.version,
                topic_id=self.topic_id,
                alone=self.alone,
            ),
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
            folded.accepted + folded.rejected,
            folded.accepted,
            folded.duplicates,
            folded.rejected,
            bool(folded.ids is not None and folded.ids.num_rows),
            tuple(sorted(folded.suspended.items())),
            left_out=tuple(sorted(folded.left_out.items())),
        )

    def _sealed_ids(self, engine: Engine) -> list[IdFile]:
        """The files to look into; what they hold leaves the worker's memory."""
        name, opened = self.stream.name, _Worker.sealed.get(self.stream.name, {})
        _Worker.sealed[name] = {
            file: opened[file] if file in opened else open_ids(self.root, file, engine, self.stream)
            for file in self.sealed.files
        }
        if self.sealed.until > _Worker.left.get(name, 0):
            engine.leave_ids(self.stream, self.sealed.until)
            _Worker.left[name] = self.sealed.until
        key = list(self.stream.key)  # ids of another one, declared earlier, make no duplicates
        return [each for each in _Worker.sealed[name].values() if each.key == key]

    def _add_ids(self, engine: Engine, name: str) -> int | None:
        """Bring the worker's ids up to the epoch before this one; the first one missing, if any."""
        known = engine.ids_epoch(name)
        if known >= self.epoch - 1:
            return None
        whole = self.ids_whole or (bool(self.ids) and self.ids[0].epoch <= known + 1)
        if not whole:
            return known + 1
        for each in self.ids:
            if each.epoch > known:
                tables = (ids for file in each.files for ids in self._ids(file))
                engine.add_ids(self.stream, each.epoch, tables)
        if engine.ids_epoch(name) < self.epoch - 1:  # no epoch matters
            engine.add_ids(self.stream, self.epoch - 1, [])
        return None

    def _ids(self, file: StoredFile) -> Iterator[pa.Table]:
        """Nothing where the ids are those of another primary key, declared earlier."""
        ids = segment_ids(self.root, file)
        if ids is not None and ids.column_names[1:-1] == list(self.stream.key):
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


def segment_ids(root: DataRoot, file: StoredFile) -> pa.Table | None:
    """The ids in a segment."""
    return SegmentReader(root.get(file), file.path).ids()


def open_ids(root: DataRoot, file: StoredFile, engine: Engine, stream: CompiledStream) -> IdFile:
    """A sealed file of ids, read once to see that it is whole. One that is not sorted, or by hashes
    that another engine made, is written anew, for as long as this worker has it."""
    path = root.check(file)
    if id_file.sorted_file(file.path):
        found = IdFile.open(path, file.path)
        if found.probe == hash_probe() or found.key != list(stream.key):
            return found
    with tempfile.TemporaryDirectory(prefix="everview-ids-") as folder:
        again, tables = Path(folder) / "ids.arrow", id_file.tables(path, file.path)
        own = (each for each in tables if id_file.key_of(each.schema) == list(stream.key))
        engine.write_ids(again, stream.key_types, own)
        return IdFile.open(again, file.path)


class _Worker:
    """What a Python worker keeps between tasks."""

    engine: ClassVar[Engine | None] = None
    versions: ClassVar[dict[str, str]] = {}  # stream -> the version that its ids are of
    forgotten: ClassVar[dict[str, datetime]] = {}  # stream -> when ids were last forgotten
    sealed: ClassVar[dict[str, dict[StoredFile, IdFile]]] = {}  # stream -> its files of ids
    left: ClassVar[dict[str, int]] = {}  # stream -> up to which epoch they are in files alone


def worker_engine(
    memory: str = "1GB",
    stream: str | None = None,
    version: str = "",
    epoch: int = 1,
    sealed: int = 0,
) -> Engine:
    """This worker's engine. Its ids start anew if the stream's declaration changed, if they hold
    epochs that are not before the one at work, or if they lack epochs that are not sealed for it.
    """
    engine = _Worker.engine
    if engine is not None and stream is not None:
        changed = _Worker.versions.setdefault(stream, version) != version
        lacking = _Worker.left.get(stream, 0) > sealed
        if changed or lacking or engine.ids_epoch(stream) >= epoch:
            engine = None
    if engine is None:
        first = _Worker.engine is None
        temp = Path(tempfile.gettempdir()) / "everview-task"
        engine = _Worker.engine = connect(memory_limit=memory, threads=1, temp=str(temp))
        _Worker.versions = {} if stream is None else {stream: version}
        _Worker.forgotten, _Worker.sealed, _Worker.left = {}, {}, {}
        if first:
            gc.collect()
            gc.freeze()  # Spark collects after each task; imported modules need not be walked
    return engine


def leave_engine() -> None:
    """Let go of this process's engine, and of the ids that it knows."""
    _Worker.engine, _Worker.versions = None, {}
    _Worker.forgotten, _Worker.sealed, _Worker.left = {}, {}, {}
    gc.unfreeze()


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
