"""Events of files folded for one view in this process: no Kafka, no Spark, no state.

    files -> batches of bounded bytes -> Engine.fold, as in a task -> partials, merged as they come
          -> a database as serving has it -> the answer

What is in memory grows with the groups of the view, not with the events: ids that were counted go
to files in a folder of its own, which is gone at the end, and so does what folding spills.

All events are as if produced now, in this order, to a topic of one partition: `_offset` counts the
records of all files from 0, `_timestamp` is when the file was last changed (of stdin: now), and an
id that comes again is a duplicate whatever `dedup_within` says.
"""

from __future__ import annotations

import itertools
import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from infra.records import LONGEST, Source
from schemas.compile import CompiledStream, CompiledView, PartialTable
from schemas.engine import ENGINE_FAULTS, RECORDS, Engine, Folded, connect
from schemas.errors import EverviewError, ViewFailed
from schemas.id_file import IdFile
from schemas.language.stream import Stream
from schemas.project import Project
from serving.coverage import Coverage
from serving.query import Query, Whole
from serving.worker.job import Job
from serving.worker.new_view import NewView
from serving.worker.tables import Change, Tables

BATCH_BYTES = 16 * 2**20
BATCH_RECORDS = 100_000
MERGE_ROWS = 200_000
"""Rows of partials that may wait to be merged; more where the merged ones are more."""
IDS_IN_MEMORY = 500_000
OFFSET = re.compile(r"partition 0, offset (\d+)")
SHOWN_BYTES = 2_000
"""Bytes of a reject's value that are kept."""


class TrialFailed(EverviewError):
    """A view cannot be folded or presented over these events, or not within this memory."""

    def __init__(self, view: str, message: str) -> None:
        self.view, self.message = view, message
        super().__init__(f"view {view!r} must be answered; got: {message}")


@dataclass(frozen=True)
class Reject:
    """An event that does not fit: its file and line, what is wrong, and the start of its bytes."""

    file: str
    line: int
    reason: str
    column: str | None
    expected: str
    found: str | None
    value: bytes


@dataclass
class Trial:
    """What files came to. `reasons` counts rejects by (reason, column)."""

    view: CompiledView
    partials: Mapping[str, pa.Table] = field(default_factory=dict)
    events: int = 0
    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    seconds: float = 0.0
    rejects: list[Reject] = field(default_factory=list)
    reasons: Counter[tuple[str, str | None]] = field(default_factory=Counter)


@dataclass
class _Batch:
    """Records, their lines, and with which of them a file begins."""

    first: int
    values: list[bytes] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    files: list[tuple[int, str]] = field(default_factory=list)
    stamps: list[int] = field(default_factory=list)
    bytes: int = 0

    def place(self, at: int) -> tuple[str, int]:
        name = next(name for start, name in reversed(self.files) if start <= at)
        return name, self.lines[at]

    def placed(self, message: str) -> str:
        """The engine's message with a file and a line in place of an offset."""
        found = OFFSET.search(message)
        if found is None:
            return message
        name, line = self.place(int(found[1]) - self.first)
        return message.replace(found[0], f"{name}:{line}")

    def records(self) -> pa.Table:
        long = [len(value) > LONGEST for value in self.values]
        table = table_of(self.values, self.first, self.stamps)
        return table.filter(pa.array([not each for each in long])) if any(long) else table


def table_of(values: Sequence[bytes], first: int, stamps: Sequence[int]) -> pa.Table:
    """Records of partition 0 from an offset on, as a task has them; `stamps` are microseconds."""
    count = len(values)
    columns = [
        pa.array(itertools.repeat(0, count), pa.int32()),
        pa.array(range(first, first + count), pa.int64()),
        pa.array(stamps, pa.timestamp("us")),
        pa.nulls(count, pa.binary()),
        pa.array(values, pa.binary()),
        pa.nulls(count, RECORDS.field("_headers").type),
    ]
    return pa.table(columns, schema=RECORDS)


def fold(
    loaded: Project, view: CompiledView, sources: Sequence[Source], memory: str, shown: int
) -> Trial:
    """Fold all records of `sources`; `shown` rejects are kept. `memory` bounds the engine.

    Raises BadUse for a file that cannot be read, TrialFailed.
    """
    begun = time.monotonic()
    trial = Trial(view)
    with tempfile.TemporaryDirectory(prefix="everview-try-") as folder:
        try:
            work = _Work(loaded, trial, Path(folder), memory, shown)
            for batch in _batches(sources):
                work.fold(batch)
            trial.partials = work.partials()
        except ENGINE_FAULTS as error:
            raise TrialFailed(view.name, _short(str(error), memory)) from error
    trial.seconds = time.monotonic() - begun
    return trial


def answer(trial: Trial, query: str, media_type: str, limit: int, memory: str) -> bytes:
    """The body of serving's answer to a query over the view. Raises RequestError, TrialFailed."""
    view = trial.view
    position = {"0": trial.events}
    covered = Coverage(view.name, view.version, view.stream, 0, 1, position, None, None, None)
    tables = Tables(memory_limit=memory)
    try:
        new = NewView(view, partials=trial.partials or None)
        tables.apply(Change((covered,), create=(new,)))
        sink = Whole()
        Job(tables, Query(query, None, limit, media_type), time.monotonic).run(sink)
        return sink.body()
    except ViewFailed as error:
        raise TrialFailed(view.name, _short(error.message, memory)) from error
    finally:
        tables.close()


class _Work:
    """The engine of a trial, the ids that were counted, and the partials so far."""

    def __init__(
        self, loaded: Project, trial: Trial, folder: Path, memory: str, shown: int
    ) -> None:
        self._trial, self._folder, self._shown = trial, folder, shown
        view = trial.view
        name = view.stream.lower()
        self._declared: Stream = loaded.definitions.streams[name]
        self._stream: CompiledStream = next(s for s in loaded.streams() if s.name == view.stream)
        self._engine: Engine = connect(memory_limit=memory, temp=str(folder))
        for reference in view.references:
            content = loaded.contents[reference.name.lower()]
            self._engine.load_reference(reference, content.data)
        self._instant = datetime.now(UTC)
        self._epoch = 0
        self._ids: list[pa.Table] = []
        self._id_files: list[IdFile] = []
        self._merged = [_Merging(self._engine, table) for table in view.tables]

    def fold(self, batch: _Batch) -> None:
        self._epoch += 1
        folded = self._engine.fold(
            self._stream,
            [self._trial.view],
            batch.records(),
            epoch=self._epoch,
            instant=self._instant,
            since=self._instant - self._declared.dedup_within,
            sealed_ids=self._id_files,
        )
        self._keep_ids(folded.ids)
        self._count(batch, folded)
        for message in folded.suspended.values():
            raise TrialFailed(self._trial.view.name, batch.placed(message))
        (partials,) = folded.partials.values()
        for merging in self._merged:
            merging.add(partials[merging.table.name])

    def partials(self) -> Mapping[str, pa.Table]:
        if not self._epoch:  # a view without keys has a row even so
            self.fold(_Batch(0))
        return {merging.table.name: merging.rows() for merging in self._merged}

    def _keep_ids(self, ids: pa.Table | None) -> None:
        if ids is None:
            return
        self._engine.add_ids(self._stream, self._epoch, [ids])
        self._ids.append(ids)
        if sum(each.num_rows for each in self._ids) >= IDS_IN_MEMORY:
            path = self._folder / f"ids-{self._epoch}.arrow"
            self._engine.write_ids(path, self._stream.key_types, self._ids)
            self._engine.leave_ids(self._stream, self._epoch)
            self._id_files.append(IdFile.open(path, path.name))
            self._ids = []

    def _count(self, batch: _Batch, folded: Folded) -> None:
        trial = self._trial
        trial.events += len(batch.values)
        trial.accepted += folded.accepted
        trial.duplicates += folded.duplicates
        found: list[tuple[int, dict[str, Any]]] = [
            (row["_offset"] - batch.first, row) for row in folded.rejects.to_pylist()
        ]
        found += [
            (at, _too_long(value)) for at, value in enumerate(batch.values) if len(value) > LONGEST
        ]
        trial.rejected += len(found)
        trial.reasons.update((row["_reason"], row["_column"]) for _, row in found)
        for at, row in sorted(found, key=lambda each: each[0])[: self._shown - len(trial.rejects)]:
            reason, column, expected, said = (
                row[name] for name in ("_reason", "_column", "_expected", "_found")
            )
            value = batch.values[at][:SHOWN_BYTES]
            trial.rejects.append(Reject(*batch.place(at), reason, column, expected, said, value))


class _Merging:
    """The merged rows of one table, and those that wait."""

    def __init__(self, engine: Engine, table: PartialTable) -> None:
        self.table = table
        self._engine = engine
        self._parts: list[pa.Table] = []
        self._most = MERGE_ROWS

    def add(self, rows: pa.Table) -> None:
        self._parts.append(rows)
        if sum(part.num_rows for part in self._parts) > self._most:
            self._most = self.rows().num_rows + MERGE_ROWS
            self._most = max(self._most, 2 * self._parts[0].num_rows)

    def rows(self) -> pa.Table:
        """All of them, merged."""
        self._engine.register("parts", pa.concat_tables(self._parts))
        merged = self._engine.arrow(self.table.merge("parts"))
        self._parts = [merged]
        return merged


def _batches(sources: Sequence[Source]) -> Iterator[_Batch]:
    batch = _Batch(0)
    for source in sources:
        name = "stdin" if source.name == "-" else source.name
        changed = time.time() if source.name == "-" else Path(source.name).stat().st_mtime
        stamp = int(changed * 1_000_000)
        batch.files.append((len(batch.values), name))
        for line, value in source.records():
            batch.values.append(value)
            batch.lines.append(line)
            batch.stamps.append(stamp)
            batch.bytes += len(value)
            if batch.bytes >= BATCH_BYTES or len(batch.values) >= BATCH_RECORDS:
                yield batch
                batch = _Batch(batch.first + len(batch.values), files=[(0, name)])
    if batch.values:
        yield batch


def _short(message: str, memory: str) -> str:
    """The first line of the engine's message, and what helps if it lacked memory."""
    first = (message.splitlines() or [message])[0]
    lacked = "memory" in first.lower()
    return f"{first}. It had {memory}; say --memory for more" if lacked else first


def _too_long(value: bytes) -> dict[str, Any]:
    more = " or more" if len(value) > LONGEST + 1 else ""
    return {
        "_reason": "too long",
        "_column": None,
        "_expected": f"at most {LONGEST} bytes, as Kafka takes",
        "_found": f"{len(value)}{more}",
    }
