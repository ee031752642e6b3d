"""One stream from its records to answers in one process: streaming's writer and sealer, batch's
builder and recount, serving's follower; without Spark and Kafka.

`python -m tests.engine.live STATE` works on the replay that was asked for, until it may be killed.
"""

from __future__ import annotations

import json
import pickle
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self, cast

import pyarrow as pa
from pyspark.sql import DataFrame

from batch import verify
from batch.build import Done
from batch.compiled import Compiled
from batch.verify import Verified
from schemas import project, registered
from schemas.engine import RECORDS
from schemas.ledger import rejects
from schemas.ledger.connect import open_ledger
from schemas.ledger.epochs import CommittedEpoch, epochs_after, lease_name, progress
from schemas.ledger.leases import Holder, take
from schemas.ledger.replays import Replay
from schemas.ledger.versions import ViewRow, register, set_topic, views
from schemas.segment import SegmentReader
from schemas.storage import DataRoot
from streaming import task as task_module
from streaming.epoch import EpochWriter
from streaming.sealer import Sealer
from streaming.settings import Settings
from streaming.topics import TopicFacts, Topics
from tests.api.world import Served
from tests.engine.batching import builder, ordered
from tests.engine.yard import Direct

START = datetime(2026, 1, 1, 10, tzinfo=UTC)
Value = bytes | None
Headers = Sequence[tuple[str, bytes]] | None


@dataclass(frozen=True)
class Row:
    report: str


@dataclass
class Frame:
    """Stands in for Spark's: the task runs here, over one part."""

    part: pa.RecordBatch
    task: Any = None

    def coalesce(self, _tasks: int) -> Self:
        return self

    def mapInArrow(self, task: Any, _schema: str) -> Self:
        self.task = pickle.loads(pickle.dumps(task))
        return self

    def collect(self) -> list[Row]:
        found = self.task(iter([self.part]))
        return [Row(str(text)) for batch in found for text in batch.column("report").to_pylist()]


class Broker:
    """Stands in for Topics."""

    def facts(self, _topic: str) -> TopicFacts | None:
        return TopicFacts("id-1", (0, 1))


class Live:
    """Sent records wait until the next epoch takes them all."""

    def __init__(self, state: Path, **settings: Any) -> None:
        self.state, self.root = state, DataRoot(state)
        self.settings = Settings(state, "127.0.0.1:1", **settings)
        self.ledger = open_ledger(state, create=True)
        self.clock = START
        self.sent: list[tuple[int, Value, Headers]] = []
        self.batch = 0

    def declare(self, *sql: str) -> None:
        folder = self.state / "project"
        folder.mkdir(exist_ok=True)
        (folder / "all.sql").write_text("".join(sql), encoding="utf-8")
        loaded = project.load(folder)
        register(self.ledger, *registered.rows(loaded, self.root), self.clock)
        (stream,) = loaded.streams()
        self.name = stream.name

    def start(self) -> None:
        """A driver begins: in this process, with workers that know nothing."""
        task_module._Worker.engine = None
        set_topic(self.ledger, self.name, "id-1")
        lease = take(
            self.ledger,
            lease_name(self.name),
            Holder("here", 1, 0.0),
            START,
            timedelta(days=9),
            alive=lambda _: False,
        )
        self.token = lease.token
        self.writer = EpochWriter(
            settings=self.settings,
            ledger=self.ledger,
            root=self.root,
            topics=cast(Topics, Broker()),
            stream=self.name,
            token=self.token,
            now=lambda: self.clock,
            stopping=threading.Event(),
        )
        at = progress(self.ledger, self.name)
        checkpoint = self.state / "checkpoint"
        (checkpoint / "offsets").mkdir(parents=True, exist_ok=True)
        starts = {0: 0, 1: 0} | dict(at.position.offsets)
        self.batch = 0
        self.writer.begin(checkpoint, at, "id-1", starts)

    def send(self, *values: Value, partition: int = 0, headers: Headers = None) -> None:
        self.sent += [(partition, value, headers) for value in values]

    def epoch(self, *values: Value, markers: int = 0) -> int:
        """A micro-batch of these, and of what was sent; gives its number. So many offsets behind
        them hold no record."""
        self.send(*values)
        self.clock += timedelta(seconds=1)
        until = {0: 0, 1: 0} | dict(progress(self.ledger, self.name).position.offsets)
        rows: list[dict[str, Any]] = []
        for partition, value, headers in self.sent:
            told = [{"key": key, "value": each} for key, each in headers or ()] or None
            rows.append(
                {
                    "_partition": partition,
                    "_offset": until[partition],
                    "_timestamp": START.replace(tzinfo=None),
                    "_key": b"key",
                    "_value": value,
                    "_headers": told,
                }
            )
            until[partition] += 1
        self.sent = []
        until[0] += markers
        topic = registered.plan(self.ledger, self.name).topic
        plan = json.dumps({topic: {str(each): end for each, end in until.items()}})
        file = self.state / "checkpoint" / "offsets" / str(self.batch)
        file.write_text(f"v1\n{{}}\n{plan}", encoding="utf-8")
        part = pa.RecordBatch.from_pylist(rows, RECORDS)
        self.writer(cast(DataFrame, Frame(part)), self.batch)
        self.batch += 1
        return self.writer.progress.epoch

    def replay_part(self) -> bool:
        one = pa.record_batch({"id": pa.array([0])})
        return self.writer.replay(lambda: cast(DataFrame, Frame(one)))

    def replay(self) -> Replay:
        """Ask for one, work on it to its end; gives what came of it."""
        asked = rejects.ask(self.ledger, self.name, self.clock)
        while self.replay_part():
            pass
        return rejects.replay(self.ledger, asked.id)

    def seal(self, **settings: Any) -> None:
        """Seal every epoch, and merge what may be."""
        sealer = Sealer(
            settings=replace(self.settings, seal_every=timedelta(0), **settings),
            ledger=self.ledger,
            root=self.root,
            stream=self.name,
            token=self.token,
            now=lambda: self.clock,
            run=Direct(),
            moved=self.writer.moved,
            fatal=lambda _: None,
            done=lambda: None,
        )
        sealer.step()
        assert sealer.error is None

    def build(self, view: str, *, full: bool = False) -> Done:
        return builder(self.state, self.ledger).all_steps(view, full=full, until=None)

    def verify(self, view: str) -> Verified:
        """What the files hold beside the recount."""
        definitions = Compiled(self.ledger)
        return verify.verify(
            self.ledger, self.root, definitions, view, None, memory="256MB", threads=1
        )

    def verified(self) -> dict[str, int]:
        """How many rows of each view differ from its recount."""
        return {row.name: self.verify(row.name).comparison.different for row in views(self.ledger)}

    def served(self) -> Served:
        """Serving, at the ledger's state."""
        found = Served(self.state)
        found.catch_up()
        return found

    def answer(self, sql: str) -> list[tuple[Any, ...]]:
        return ordered(self.served().rows(sql))

    def views(self) -> list[ViewRow]:
        return views(self.ledger)

    def epochs(self) -> list[CommittedEpoch]:
        return epochs_after(self.ledger, self.name, 0, 10_000)

    def master(self) -> Iterator[Mapping[str, Any]]:
        """Rows of unsealed epochs."""
        for epoch in self.epochs():
            for each in epoch.segments:
                reader = SegmentReader(self.root.get(each.file), each.file.path)
                yield from reader.master().to_pylist()


if __name__ == "__main__":
    live = Live(Path(sys.argv[1]), replay_rows=2)
    (live.name,) = {row.stream for row in views(live.ledger)}
    live.start()
    while live.replay_part():
        pass
