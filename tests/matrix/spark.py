"""Stands in for Spark: micro-batches of a `Topic`, planned and run in this process.

As Spark does it: the plan of a micro-batch is written before it begins, a checkpoint that has plans
overrides the offsets to start from, a task that raises is tried again, and what comes out of
`foreachBatch` is known by its text alone.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import duckdb
import pyarrow as pa
from pyspark.errors import PySparkException, StreamingQueryException

from schemas.engine import HEADERS
from schemas.errors import EverviewError
from streaming.task import FoldTask
from tests.matrix.topic import Record, Topic

ATTEMPTS = 4  # local[2,4]
# what a task may meet; anything else is a fault of the test
FAULTS = (EverviewError, OSError, RuntimeError, duckdb.Error, pa.ArrowException)


class Row:
    """Of a collected frame."""

    def __init__(self, report: str) -> None:
        self.report = report


class Frame:
    """The records of a micro-batch; `mapInArrow` and `collect` run the task, one call per part."""

    def __init__(self, parts: list[list[Record]]) -> None:
        self._parts, self._task = parts, b""

    def coalesce(self, _tasks: int) -> Self:
        self._parts = [[each for part in self._parts for each in part]]
        return self

    def mapInArrow(self, task: FoldTask, _schema: str) -> Self:
        self._task = pickle.dumps(task)
        return self

    def collect(self) -> list[Row]:
        return [row for part in self._parts for row in self._run(part)]

    def _run(self, part: list[Record]) -> list[Row]:
        error: BaseException | None = None
        for _ in range(ATTEMPTS):
            task: FoldTask = pickle.loads(self._task)
            try:
                batches = list(task(iter([arrow(part)])))
            except FAULTS as failed:
                error = failed
                continue
            return [Row(str(text)) for each in batches for text in each.column(0).to_pylist()]
        message = f"Task failed {ATTEMPTS} times: {type(error).__name__}: {error}"
        raise PySparkException(message) from error


def arrow(records: list[Record]) -> pa.RecordBatch:
    """As Spark hands records over: times with a zone."""
    stamp = datetime(2026, 1, 1, tzinfo=UTC)
    columns: dict[str, pa.Array[Any]] = {
        "_partition": pa.array([each.partition for each in records], pa.int32()),
        "_offset": pa.array([each.offset for each in records], pa.int64()),
        "_timestamp": pa.array([stamp] * len(records), pa.timestamp("us", "UTC")),
        "_key": pa.nulls(len(records), pa.binary()),
        "_value": pa.array([each.value for each in records], pa.binary()),
        "_headers": pa.nulls(len(records), HEADERS),
    }
    return pa.record_batch(columns)


class Query:
    """What is in the topic when it starts, in micro-batches, when it is waited for."""

    def __init__(self, session: Session, options: Mapping[str, str], reads: Reads) -> None:
        self._session, self._reads = session, reads
        self._call = reads.call
        self._checkpoint = Path(options["checkpointLocation"])

    def awaitTermination(self) -> None:
        offsets = self._checkpoint / "offsets"
        offsets.mkdir(parents=True, exist_ok=True)
        planned = sorted(offsets.iterdir(), key=lambda file: int(file.name))
        at = dict(self._reads.starts)
        if planned:  # a checkpoint decides, whatever the offsets to start from
            at = _ends(planned[-1], self._reads.topic)
        goal, number = dict(self._session.topic.ends), len(planned)
        while at != goal:
            ends = self._next(at, goal)
            plan = json.dumps({self._reads.topic: {str(p): until for p, until in ends.items()}})
            (offsets / str(number)).write_text(f"v1\n{{}}\n{plan}", encoding="utf-8")
            try:
                self._call(self._session.frame(at, ends), number)
            except Exception as error:
                message = f"{type(error).__name__}: {error}"
                raise StreamingQueryException(message) from error
            at, number = ends, number + 1

    def stop(self) -> None:
        pass

    def _next(self, at: Mapping[int, int], goal: Mapping[int, int]) -> dict[int, int]:
        room, ends = self._reads.most, {}
        for partition, until in goal.items():
            start = at.get(partition, 0)
            ends[partition] = min(until, start + room)
            room -= ends[partition] - start
        return ends


class Reads:
    """A source with its sink, under way to a query; every step gives itself."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.call: Callable[..., None] = print
        self.topic, self.starts, self.most = "", {0: 0}, 0

    def format(self, _kind: str) -> Self:
        return self

    def options(self, **told: str) -> Self:
        self.topic, self.most = told["subscribe"], int(told["maxOffsetsPerTrigger"])
        started = json.loads(told["startingOffsets"])[self.topic]
        self.starts = {int(partition): offset for partition, offset in started.items()}
        return self

    def load(self) -> Self:
        return self

    def selectExpr(self, *_columns: str) -> Self:
        return self

    @property
    def writeStream(self) -> Self:
        return self

    def foreachBatch(self, call: Callable[..., None]) -> Self:
        self.call = call
        return self

    def queryName(self, _name: str) -> Self:
        return self

    def option(self, key: str, text: str) -> Self:
        self._told = {key: text}
        return self

    def trigger(self, **_kind: object) -> Self:
        return self

    def start(self) -> Query:
        return Query(self._session, self._told, self)


class Session:
    """A Spark session over one topic. `beyond` gives tasks records that were not planned."""

    def __init__(self, topic: Topic) -> None:
        self.topic, self.beyond = topic, 0
        self.sparkContext = self._jsc = self

    @property
    def readStream(self) -> Reads:
        return Reads(self)

    def frame(self, at: Mapping[int, int], ends: Mapping[int, int]) -> Frame:
        parts = []
        for partition, until in ends.items():
            start = at.get(partition, 0)
            if start < self.topic.starts[partition]:
                message = f"offset {start} of partition {partition} is gone (failOnDataLoss)"
                raise PySparkException(message)
            parts.append(self.topic.between(partition, start, until + self.beyond))
        return Frame(parts)

    def setLocalProperty(self, _key: str, _text: str) -> None:
        pass

    def sc(self) -> Self:
        return self

    def isStopped(self) -> bool:
        return False


def _ends(file: Path, topic: str) -> dict[int, int]:
    ends = json.loads(file.read_text(encoding="utf-8").splitlines()[-1])[topic]
    return {int(partition): until for partition, until in ends.items()}
