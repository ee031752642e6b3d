"""On an executor: many files of epochs become few, in one task over one row.

    segments of epochs 41..47      ->  master/<stream>/41-47-<token>-<uuid>.parquet
                                       rejects/<stream>/41-47-...       where there are any
                                       ids/<stream>/41-47-...arrow      where there are any
                                       runs/<view>/<version>/<table>/41-47-...
    files of ranges 1..40, 41..47  ->  the same, of epochs 1..47

Memory does not grow with the number of epochs: rows pass in row groups of bounded bytes, partials
are merged while they are gathered, and runs are merged by the engine, which spills. The report says
which files there are now, durable; they mean nothing until the ledger names them.
"""

from __future__ import annotations

import functools
import itertools
import json
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark import SparkFiles, TaskContext

from schemas import id_file, rejects
from schemas.compile import CompiledStream, CompiledView, sql
from schemas.compile.partials import PartialTable
from schemas.engine import ENGINE_FAULTS, RECORDS, Engine, connect
from schemas.errors import EverviewError, SealingFailed
from schemas.ledger.epochs import SegmentFile
from schemas.ledger.files import IDS, MASTER, REJECTS, RUN, DataFile
from schemas.parquet import Description, Origin, described, union
from schemas.position import Range
from schemas.segment import SegmentReader
from schemas.storage import DataRoot
from schemas.stored_file import StoredFile
from streaming.row_groups import RowGroups
from streaming.task import segment_ids

REPORT_SCHEMA = "report string"
MERGE_BYTES = 32 << 20  # of one table's partials in memory, at which they are merged
IDENTITY = ("_partition", "_offset")


@dataclass(frozen=True)
class Sealing:
    """What a task needs to write files of epochs `first` to `last`; the function that `mapInArrow`
    calls."""

    stream: str
    token: int
    first: int
    last: int
    root: DataRoot
    memory: str  # DuckDB's limit
    row_group_bytes: int

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            if batch.num_rows:
                yield pa.record_batch({"report": pa.array([self._report()], pa.string())})

    def _report(self) -> str:
        """Files or trouble. Trouble is told, not raised: a Python worker ends with an exception,
        and the ids that it keeps for the stream's epochs end with it."""
        try:
            return json.dumps({"files": [asdict(each) for each in self.run()]})
        except EverviewError as error:
            return json.dumps({"trouble": str(error)})
        except (OSError, pa.ArrowException, *ENGINE_FAULTS) as error:
            return json.dumps({"trouble": f"{type(error).__name__}: {error}"})
        finally:
            pa.default_memory_pool().release_unused()

    def run(self) -> tuple[DataFile, ...]:
        """The files, durable; none of them is left behind if this raises."""
        made: list[DataFile] = []
        try:
            with tempfile.TemporaryDirectory(prefix="everview-seal-", dir=_scratch()) as spill:
                made.extend(self._files(spill))
        except BaseException:
            for each in made:
                self.root.remove(each.file.path)
            raise
        return tuple(made)

    def _files(self, spill: str) -> Iterator[DataFile]:
        raise NotImplementedError

    def _write_rows(self, said: Description, tables: Iterable[pa.Table]) -> DataFile:
        """One file of the rows of these tables, of which there is at least one."""
        kind, groups = said.kind, RowGroups(said.metadata(), self.row_group_bytes)
        file = self.root.write(
            f"{kind}/{self.stream}", self._name(said), lambda path: groups.write(path, tables)
        )
        return DataFile(
            kind,
            file,
            said.first,
            said.last,
            groups.rows,
            accepted=groups.rows if kind == MASTER else 0,
            duplicates=groups.duplicates,
            rejected=groups.rows if kind == REJECTS else 0,
        )

    def _write_ids(
        self,
        engine: Engine,
        said: Description,
        key: Sequence[tuple[str, str]],
        tables: Iterable[pa.Table],
        since: datetime | None = None,
    ) -> DataFile:
        """One file of ids that can be looked into; without those counted before `since`."""
        rows = 0

        def write(path: Path) -> None:
            nonlocal rows
            rows = engine.write_ids(path, key, tables, since=since, told=said.metadata())

        file = self.root.write(f"ids/{self.stream}", self._name(said, "arrow"), write)
        return DataFile(IDS, file, said.first, said.last, rows)

    def _write_run(
        self, engine: Engine, said: Description, table: PartialTable, source: str
    ) -> DataFile:
        """The merge of the partials in a relation, by their keys."""
        keys = sql.names(name for name, _ in table.keys)
        merged = table.merge(source) + (f" ORDER BY {keys}" if keys else "")
        rows = 0

        def write(path: Path) -> None:
            nonlocal rows
            rows = engine.copy(merged, path, said)

        folder = f"runs/{said.view}/{said.version}/{said.table}"
        file = self.root.write(folder, self._name(said), write)
        return DataFile(
            RUN, file, said.first, said.last, rows, version=said.version, table=said.table
        )

    def _name(self, said: Description, ending: str = "parquet") -> str:
        return f"{said.first}-{said.last}-{self.token}-{uuid.uuid4().hex}.{ending}"


@dataclass(frozen=True)
class SealTask(Sealing):
    """The segments of epochs that are next to be sealed become the files of one range."""

    ranges: tuple[Range, ...]  # the offsets of those epochs, by partition
    epochs: tuple[tuple[SegmentFile, ...], ...]
    compiled: CompiledStream
    views: tuple[CompiledView, ...]  # those whose runs are written
    origin: Origin | None = None  # what the ledger has of those epochs

    def _files(self, spill: str) -> Iterator[DataFile]:
        rows = Description(
            MASTER, self.stream, self.first, self.last, self.ranges, origin=self.origin
        )
        yield self._write_rows(rows, self._master())
        if any(each.rejected for epoch in self.epochs for each in epoch):
            yield self._write_rows(replace(rows, kind=REJECTS), self._rejects())
        with _engine(self.memory, spill) as engine:
            if any(each.has_ids for epoch in self.epochs for each in epoch):
                said = replace(rows, kind=IDS)
                yield self._write_ids(engine, said, self.compiled.key_types, self._ids())
            gathered = self._gather(engine)
            for view in self.views:
                run = replace(rows, kind=RUN, view=view.name, version=view.version)
                for table in view.tables:
                    with gathered[view.version, table.name].relation() as source:
                        said = replace(run, table=table.name)
                        yield self._write_run(engine, said, table, source)

    def _master(self) -> Iterator[pa.Table]:
        """In order of (epoch, partition, offset)."""
        for epoch in self.epochs:
            yield from in_order([self._read(each).master() for each in epoch])
        if not any(self.epochs):
            yield self._nothing()

    def _nothing(self) -> pa.Table:
        """The master of no records: epochs of markers alone have no segment to take it from."""
        instant = datetime(1970, 1, 1, tzinfo=UTC)
        folded = connect().fold(
            self.compiled,
            (),
            RECORDS.empty_table(),
            epoch=self.first,
            instant=instant,
            since=instant,
        )
        return folded.master

    def _rejects(self) -> Iterator[pa.Table]:
        for number, epoch in enumerate(self.epochs, self.first):
            tables = [self._read(each).rejects() for each in epoch if each.rejected]
            for table in in_order([rejects.with_headers(each) for each in tables]):
                yield rejects.of_epoch(table, number)

    def _ids(self) -> Iterator[pa.Table]:
        for epoch in self.epochs:
            for each in epoch:
                ids = segment_ids(self.root, each.file) if each.has_ids else None
                if ids is not None:
                    yield ids

    def _gather(self, engine: Engine) -> Mapping[tuple[str, str], Gathered]:
        found = {
            (view.version, table.name): Gathered(engine, table)
            for view in self.views
            for table in view.tables
        }
        if self.views:
            for segment in (each for epoch in self.epochs for each in epoch):
                reader = self._read(segment)
                for view in self.views:
                    for name, rows in reader.partials(view.version).items():
                        found[view.version, name].add(rows)
        return found

    def _read(self, segment: SegmentFile) -> SegmentReader:
        return SegmentReader(self.root.get(segment.file), segment.file.path)


@dataclass(frozen=True)
class MergedRun:
    """Runs of adjacent epochs that become one."""

    table: PartialTable
    files: tuple[DataFile, ...]


@dataclass(frozen=True)
class MergeTask(Sealing):
    """Files of adjacent sealed ranges become larger ones. Each group becomes one file of its kind;
    groups are in order."""

    groups: tuple[tuple[DataFile, ...], ...]  # master, rejects
    ids: tuple[tuple[DataFile, ...], ...]
    key: tuple[tuple[str, str], ...]  # columns of the primary key, with their types
    runs: tuple[MergedRun, ...]
    since: datetime  # ids that were counted before it make no duplicate any more

    def _files(self, spill: str) -> Iterator[DataFile]:
        for group in self.groups:
            yield self._write_rows(self._together(group), self._tables(group))
        if not (self.ids or self.runs):
            return
        with _engine(self.memory, spill) as engine:
            for group in self.ids:
                said, tables = self._together(group), self._id_tables(group)
                yield self._write_ids(engine, said, self.key, tables, self.since)
            for run in self.runs:
                source = engine.files([self.root.check(each.file) for each in run.files])
                yield self._write_run(engine, self._together(run.files), run.table, source)

    def _together(self, files: tuple[DataFile, ...]) -> Description:
        """What the file says of itself that holds all of these."""
        told = [described(self.root.local(each.file.path), each.file.path) for each in files]
        return replace(
            told[0],
            first=files[0].first,
            last=files[-1].last,
            ranges=union(each for one in told for each in one.ranges),
            origin=_origin(told),
        )

    def _tables(self, group: tuple[DataFile, ...]) -> Iterator[pa.Table]:
        for each in group:
            with pq.ParquetFile(self.root.check(each.file)) as file:
                same = rejects.with_headers if each.kind == REJECTS else _as_it_is
                yield same(file.schema_arrow.empty_table())  # a file may have no row group
                for at in range(file.num_row_groups):
                    yield same(file.read_row_group(at))

    def _id_tables(self, group: tuple[DataFile, ...]) -> Iterator[pa.Table]:
        """Nothing of a primary key that was declared earlier."""
        for each in group:
            for table in id_file.tables(self.root.check(each.file), each.file.path):
                if id_file.key_of(table.schema) == [name for name, _ in self.key]:
                    yield table


@dataclass
class Gathered:
    """Partials of one table, merged whenever there are many of them."""

    engine: Engine
    table: PartialTable
    parts: list[pa.Table] = field(default_factory=list)
    bytes: int = 0

    def add(self, rows: pa.Table) -> None:
        self.parts.append(rows)
        self.bytes += rows.nbytes
        if self.bytes >= MERGE_BYTES and len(self.parts) > 1:
            with self.relation() as source:
                merged = self.engine.arrow(self.table.merge(source))
            # what is left counts half, so that each merge waits for as much again
            self.parts, self.bytes = [merged], min(merged.nbytes, MERGE_BYTES // 2)

    @contextmanager
    def relation(self) -> Iterator[str]:
        """The partials as a relation, meanwhile."""
        if not self.parts:
            yield nothing(self.table)
            return
        self.engine.register("parts", pa.concat_tables(self.parts))
        try:
            yield "parts"
        finally:
            self.engine.con.unregister("parts")


def _origin(told: Sequence[Description]) -> Origin | None:
    """That of all of these together; None where one of them does not say."""
    found = [each.origin for each in told if each.origin is not None]
    return functools.reduce(Origin.with_next, found) if len(found) == len(told) else None


def nothing(table: PartialTable) -> str:
    """A relation of no partials."""
    columns = [*table.keys, *((name, kind) for name, kind, _ in table.values)]
    nulls = ", ".join(f"CAST(NULL AS {kind}) AS {sql.name(name)}" for name, kind in columns)
    return f"(SELECT {nulls} WHERE false)"


def in_order(tables: list[pa.Table]) -> Iterator[pa.Table]:
    """The rows of one epoch by identity. Each segment is in order, and mostly they lie apart."""
    listed = sorted((each for each in tables if each.num_rows), key=lambda each: identity(each, 0))
    apart = all(identity(a, a.num_rows - 1) < identity(b, 0) for a, b in itertools.pairwise(listed))
    if apart:
        yield from listed or tables[:1]
    else:
        yield pa.concat_tables(listed).sort_by([(name, "ascending") for name in IDENTITY])


def _as_it_is(table: pa.Table) -> pa.Table:
    return table


def identity(table: pa.Table, row: int) -> tuple[int, int]:
    partition, offset = (table[name][row].as_py() for name in IDENTITY)
    return partition, offset


def from_json(report: str) -> tuple[DataFile, ...]:
    """What a task said; `SealingFailed` where that was trouble."""
    told: dict[str, Any] = json.loads(report)
    if "trouble" in told:
        raise SealingFailed(told["trouble"])
    found: list[dict[str, Any]] = told["files"]
    return tuple(DataFile(**{**each, "file": StoredFile(**each["file"])}) for each in found)


@contextmanager
def _engine(memory: str, spill: str) -> Iterator[Engine]:
    """One of its own: the worker's holds ids, and lives on."""
    engine = connect(memory_limit=memory, threads=1, temp=spill)
    try:
        yield engine
    finally:
        engine.con.close()


def _scratch() -> str | None:
    """Spark's own folder, which is emptied after a kill; outside a task the machine's."""
    return None if TaskContext.get() is None else SparkFiles.getRootDirectory()
