"""What the two stages of a rebuild do, without Spark: any engine that shuffles may call them.

    master files  (bounded bytes each)      base batch files
       | fold: V's partials, in DuckDB         | the partials that they hold
       +--------------------+------------------+
                            | pieces: (bucket of the group keys, Arrow IPC bytes)
                            v shuffle: all pieces of a bucket in one task
       merge: pieces of a bucket -> one row per group
         -> batch/<view>/<version>/<build>/<table>/<bucket>-<uuid>.parquet    sorted by keys
         -> views/<view>/<build>/<bucket>-<uuid>.parquet                      the view's own rows

The bucket is computed by DuckDB, over the keys in their declared types, so a group never lies in
two (invariant 9). A task that runs twice leaves files that nobody names.
"""

from __future__ import annotations

import json
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa

from schemas import reading
from schemas.bound import Bound
from schemas.compile import (
    CompiledReference,
    CompiledStream,
    CompiledView,
    PartialTable,
    portable,
    sql,
)
from schemas.engine import Engine, connect, hash_probe
from schemas.errors import BuildFailed
from schemas.ledger.declared import Declared
from schemas.ledger.files import BATCH, FINISHED, DataFile
from schemas.parquet import Description
from schemas.position import Range
from schemas.storage import DataRoot
from schemas.stored_file import StoredFile

CORE = "core"
TABLE = b"table"  # the key under which a piece says of which table it is

# no definition and no partial may have a name with a dollar sign
BUCKET = "$bucket"
PIECE = "$piece"
FINISHED_ROWS = "$finished"

Piece = tuple[int, bytes]


@dataclass(frozen=True)
class Part:
    """What one task of the first stage reads: files of the master, or of the base's batch view."""

    files: tuple[DataFile, ...]
    is_master: bool


@dataclass(frozen=True)
class Job:
    """One build as it travels to its tasks. The master's epochs are `first` to `cut`."""

    root: DataRoot
    stream: CompiledStream
    view: CompiledView
    build: int
    first: int
    cut: int
    ranges: tuple[Range, ...]  # the offsets of epochs up to the cut
    parts: tuple[Part, ...]
    buckets: int
    memory: str
    piece_rows: int
    probe: str  # of the engine that planned it; another one would make other buckets
    declared: tuple[Declared, ...]  # which version of the stream accepted which epochs
    bounds: tuple[Bound, ...] = ()  # from when on the view keeps its groups


def plan(files: Sequence[DataFile], base: Sequence[DataFile], task_bytes: int) -> tuple[Part, ...]:
    """Files in groups of about so many bytes; one that is larger is a group of its own."""
    parts: list[Part] = []
    for listed, is_master in ((files, True), (base, False)):
        group: list[DataFile] = []
        size = 0
        for each in listed:
            if group and size + each.file.bytes > task_bytes:
                parts.append(Part(tuple(group), is_master))
                group, size = [], 0
            group.append(each)
            size += each.file.bytes
        if group:
            parts.append(Part(tuple(group), is_master))
    return tuple(parts)


def buckets(view: CompiledView, parts: Sequence[Part], bucket_bytes: int, most: int) -> int:
    """How many buckets the group keys are divided into; a view without keys has one group."""
    size = sum(each.file.bytes for part in parts for each in part.files)
    return min(max(1, -(-size // bucket_bytes)), most) if view.keys else 1


def fold(job: Job, part: Part, temp: Path | None = None) -> Iterator[Piece]:
    """The first stage: partials of one part of the input, divided into buckets."""
    if hash_probe() != job.probe:
        raise BuildFailed(job.view.name, "a task whose DuckDB is not that of the driver")
    with working(job.memory, temp=temp) as engine:
        load_references(engine, job.root, job.view.references)
        if part.is_master:
            files = [(each, job.root.check(each.file)) for each in part.files]
            listed = reading.rows(engine, job.declared, files)
            engine.count_from(reading.counted(job.view, listed, job.first, job.cut))
            for table in job.view.tables:
                yield from _pieces(engine, job, table, table.fold)
            return
        for table in job.view.tables:
            own = [each.file for each in part.files if each.table == table.name]
            if own:
                source = engine.files([job.root.check(file) for file in own])
                yield from _pieces(engine, job, table, partials(table, source))


def merge(
    job: Job, pieces: Iterable[Piece], whole: Iterable[int] = (), temp: Path | None = None
) -> Iterator[DataFile]:
    """The second stage: the files of every bucket of which there are pieces, and of those in
    `whole` even without any."""
    with working(job.memory, temp=temp) as engine:
        seen: set[int] = set()
        for bucket in whole:
            _begin(engine, job, bucket, seen)
        for bucket, data in pieces:
            _begin(engine, job, bucket, seen)
            name, rows = read(data)
            engine.register(PIECE, rows)
            table = next(each for each in job.view.tables if each.name == name)
            into = sql.name(_gathered(bucket, name))
            engine.execute(f"INSERT INTO {into} {partials(table, sql.name(PIECE))}")
            engine.con.unregister(PIECE)
        for bucket in sorted(seen):
            yield from _bucket(engine, job, bucket)


def in_process(job: Job) -> list[DataFile]:
    """Both stages one after the other, without Spark."""
    return list(merge(job, (piece for part in job.parts for piece in fold(job, part))))


def read(data: bytes) -> tuple[str, pa.Table]:
    """The table of a piece, and its rows."""
    with pa.ipc.open_stream(data) as reader:
        return (reader.schema.metadata or {})[TABLE].decode(), reader.read_all()


def partials(table: PartialTable, source: str) -> str:
    """SELECT of a table's own columns in their types: neither Arrow nor Parquet has all of them,
    and a batch file of the core has finished columns beside."""
    typed = ", ".join(
        f"CAST({sql.name(name)} AS {kind}) AS {sql.name(name)}" for name, kind in columns(table)
    )
    return f"SELECT {typed} FROM {source}"


def columns(table: PartialTable) -> list[tuple[str, str]]:
    """Keys and values with their types."""
    return [*table.keys, *((name, kind) for name, kind, _ in table.values)]


def load_references(
    engine: Engine, root: DataRoot, references: Iterable[CompiledReference]
) -> None:
    for reference in references:
        if not engine.has_reference(reference):
            engine.load_reference(reference, root.get(reference.file))


@contextmanager
def working(memory: str, threads: int = 1, temp: Path | None = None) -> Iterator[Engine]:
    """An engine of one piece of work, which spills to a folder of its own in `temp`."""
    there = temp if temp is not None and temp.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="everview-batch-", dir=there) as spill:
        engine = connect(memory_limit=memory, threads=threads, temp=spill)
        try:
            yield engine
        finally:
            engine.con.close()


def to_json(file: DataFile) -> str:
    return json.dumps(asdict(file))


def from_json(text: str) -> DataFile:
    found = json.loads(text)
    return DataFile(**{**found, "file": StoredFile(**found["file"])})


def _pieces(engine: Engine, job: Job, table: PartialTable, select: str) -> Iterator[Piece]:
    keys = ", ".join(f"CAST({sql.name(name)} AS {kind})" for name, kind in table.group)
    bucket = f"(hash({keys}) % {job.buckets})" if keys and job.buckets > 1 else "0"
    ordered = (
        f"SELECT CAST({bucket} AS INTEGER) AS {sql.name(BUCKET)}, * FROM ({select}) ORDER BY 1"
    )
    reader = engine.con.sql(ordered).to_arrow_reader(job.piece_rows)
    schema = pa.schema(list(reader.schema)[1:], {TABLE: table.name.encode()})
    for batch in reader:
        numbers = batch.column(0).to_numpy()
        rows = pa.RecordBatch.from_arrays(batch.columns[1:], schema=schema)
        start = 0
        for number in dict.fromkeys(numbers.tolist()):
            until = int(numbers.searchsorted(number, side="right"))
            yield number, _ipc(rows.slice(start, until - start))
            start = until


def _ipc(rows: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_batch(rows)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _gathered(bucket: int, table: str) -> str:
    return f"$gathered_{bucket}_{table}"


def _begin(engine: Engine, job: Job, bucket: int, seen: set[int]) -> None:
    if bucket in seen:
        return
    seen.add(bucket)
    for table in job.view.tables:
        listed = ", ".join(f"{sql.name(name)} {kind}" for name, kind in columns(table))
        engine.execute(f"CREATE TEMP TABLE {sql.name(_gathered(bucket, table.name))} ({listed})")


def _bucket(engine: Engine, job: Job, bucket: int) -> Iterator[DataFile]:
    """Merge, finish and write one bucket."""
    merged: dict[str, str] = {}
    for table in job.view.tables:
        gathered = sql.name(_gathered(bucket, table.name))
        merged[table.name] = sql.name(f"$merged_{table.name}")
        kept = job.view.within(f"({table.merge(gathered)})", job.bounds)
        engine.execute(f"CREATE OR REPLACE TEMP TABLE {merged[table.name]} AS FROM {kept}")
        engine.execute(f"DROP TABLE {gathered}")
    finished = sql.name(FINISHED_ROWS)
    wide = {name: relation for name, relation in merged.items() if name != CORE}
    select = job.view.finished(merged[CORE], wide)
    engine.execute(f"CREATE OR REPLACE TEMP TABLE {finished} AS {select}")
    for table in job.view.tables:
        source = finished if table.name == CORE else merged[table.name]
        folder = f"batch/{job.view.name}/{job.view.version}/{job.build}/{table.name}"
        order = _order(name for name, _ in table.keys)
        yield _write(engine, job, bucket, folder, f"SELECT * FROM {source}{order}", table.name)
    ordered = f"(SELECT * FROM {finished}{_order(name for name, _ in job.view.keys)})"
    shown = portable.select(job.view.columns, f"({job.view.present(ordered)})")
    yield _write(engine, job, bucket, f"views/{job.view.name}/{job.build}", shown, None)


def _write(
    engine: Engine, job: Job, bucket: int, folder: str, select: str, table: str | None
) -> DataFile:
    kind = FINISHED if table is None else BATCH
    told = Description(
        kind=kind,
        stream=job.stream.name,
        first=1,
        last=job.cut,
        ranges=job.ranges,
        view=job.view.name,
        version=job.view.version,
        table=table,
    )
    rows = 0

    def write(path: Path) -> None:
        nonlocal rows
        rows = engine.copy(select, path, told)

    file = job.root.write(folder, f"{bucket}-{uuid.uuid4().hex}.parquet", write)
    return DataFile(kind, file, 1, job.cut, rows, version=job.view.version, table=table)


def _order(keys: Iterable[str]) -> str:
    listed = sql.names(keys)
    return f" ORDER BY {listed}" if listed else ""
