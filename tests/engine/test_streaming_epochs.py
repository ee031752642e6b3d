"""The epoch writer without Spark: tasks run in this process, everything else is real."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self, cast

import pyarrow as pa
import pytest
from pyspark.sql import DataFrame

from schemas import project, registered
from schemas.engine import HEADERS, Engine
from schemas.errors import (
    EpochIncomplete,
    RangeNotContiguous,
    RecordsOutsideRange,
    StaleToken,
    TopicMissing,
    TopicRecreated,
)
from schemas.ledger.connect import Ledger, open_ledger
from schemas.ledger.epochs import CommittedEpoch, epochs_after, lease_name, progress
from schemas.ledger.leases import take
from schemas.ledger.process import is_running, this_process
from schemas.ledger.versions import register, set_topic, views
from schemas.segment import SegmentReader
from schemas.storage import DataRoot
from streaming import task as task_module
from streaming.epoch import Enough, EpochWriter, Leaving, check_written
from streaming.sealer import Sealer
from streaming.settings import Settings
from streaming.task import FoldTask, TaskReport
from streaming.topics import TopicFacts, Topics
from tests.engine.yard import Direct

STREAM = """CREATE STREAM orders (id BIGINT PRIMARY KEY, price INTEGER)
WITH (topic = 'orders', format = 'json');
"""
VIEW = "CREATE VIEW sales AS SELECT count(*) AS orders, sum(price) AS total FROM orders;\n"
SECOND = "CREATE VIEW cheap AS SELECT count(*) AS orders FROM orders WHERE price < 10;\n"
FAILING = "CREATE VIEW shares AS SELECT sum(100 // price) AS shares FROM orders;\n"

Record = tuple[int, int, bytes | None]  # partition, offset, value


def order(number: int, price: int = 5) -> bytes:
    return json.dumps({"id": number, "price": price}).encode()


@dataclass(frozen=True)
class Row:
    report: str


@dataclass
class Frame:
    """Stands in for Spark's: `mapInArrow` runs the task here, one call per part."""

    parts: list[list[Record]]
    calls: list[FoldTask] = field(default_factory=list)
    one: bool = False

    def coalesce(self, _tasks: int) -> Self:
        self.one = True
        return self

    def mapInArrow(self, task: FoldTask, _schema: str) -> Self:
        self.calls.append(task)
        return self

    def collect(self) -> list[Row]:
        parts = [[each for part in self.parts for each in part]] if self.one else self.parts
        out = []
        for part in parts:
            for batch in self.calls[-1](iter([arrow(part)])):
                out += [Row(str(text)) for text in batch.column("report").to_pylist()]
        return out


def arrow(records: Iterable[Record]) -> pa.RecordBatch:
    """As Spark hands records over: times with a zone."""
    rows = list(records)
    stamp = datetime(2026, 1, 1, tzinfo=UTC)
    columns: dict[str, pa.Array[Any]] = {
        "_partition": pa.array([row[0] for row in rows], pa.int32()),
        "_offset": pa.array([row[1] for row in rows], pa.int64()),
        "_timestamp": pa.array([stamp] * len(rows), pa.timestamp("us", "UTC")),
        "_key": pa.nulls(len(rows), pa.binary()),
        "_value": pa.array([row[2] for row in rows], pa.binary()),
        "_headers": pa.nulls(len(rows), HEADERS),
    }
    return pa.record_batch(columns)


@dataclass
class Broker:
    """Stands in for Topics."""

    id: str | None = "id-1"

    def facts(self, _topic: str) -> TopicFacts | None:
        return None if self.id is None else TopicFacts(self.id, (0, 1))


@dataclass
class Bench:
    """One stream with its writer."""

    state: Path
    ledger: Ledger
    broker: Broker
    clock: list[datetime]
    writer: EpochWriter
    batch: int = 0

    def declare(self, *sql: str) -> None:
        declare(self.ledger, self.state, *sql)

    def begin(self) -> None:
        """A new query, from the ledger's word."""
        self.batch = 0
        checkpoint = self.state / "checkpoint"
        (checkpoint / "offsets").mkdir(parents=True, exist_ok=True)
        at = progress(self.ledger, "orders")
        starts = {0: 0, 1: 0} | dict(at.position.offsets)
        self.writer.begin(checkpoint, at, "id-1", starts)

    def epoch(self, parts: list[list[Record]], ends: dict[int, int]) -> Frame:
        """A micro-batch as Spark would run it."""
        plan = json.dumps({"orders": {str(each): until for each, until in ends.items()}})
        file = self.state / "checkpoint" / "offsets" / str(self.batch)
        file.write_text(f"v1\n{{}}\n{plan}", encoding="utf-8")
        frame = Frame(parts)
        batch, self.batch = self.batch, self.batch + 1
        self.writer(cast(DataFrame, frame), batch)
        return frame

    def epochs(self) -> list[CommittedEpoch]:
        return epochs_after(self.ledger, "orders", 0, 10_000)

    def master(self) -> list[dict[str, object]]:
        root = DataRoot(self.state)
        files = [segment.file for each in self.epochs() for segment in each.segments]
        readers = [SegmentReader(root.get(file), file.path) for file in files]
        return [row for reader in readers for row in reader.master().to_pylist()]


def declare(ledger: Ledger, state: Path, *sql: str) -> None:
    folder = state / "project"
    folder.mkdir(exist_ok=True)
    (folder / "all.sql").write_text("".join(sql), encoding="utf-8")
    rows = registered.rows(project.load(folder), DataRoot(state))
    register(ledger, *rows, datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture
def new_worker() -> Iterator[Callable[[], None]]:
    """Makes this process a Python worker that has kept nothing."""

    def forget() -> None:
        task_module._Worker.engine = None

    forget()
    yield forget
    forget()


@pytest.fixture
def bench(state: Path, now: datetime, new_worker: Callable[[], None]) -> Iterator[Bench]:  # noqa: ARG001
    with open_ledger(state, create=True) as ledger:
        declare(ledger, state, STREAM, VIEW)
        set_topic(ledger, "orders", "id-1")
        lease = take(
            ledger, lease_name("orders"), this_process(), now, timedelta(seconds=15), is_running
        )
        broker, clock = Broker(), [now]
        writer = EpochWriter(
            settings=Settings(state, "127.0.0.1:1", ids_in_task=3, small_epoch=10),
            ledger=ledger,
            root=DataRoot(state),
            topics=cast(Topics, broker),
            stream="orders",
            token=lease.token,
            now=lambda: clock[0],
            stopping=threading.Event(),
        )
        made = Bench(state, ledger, broker, clock, writer)
        made.begin()
        yield made


def test_ranges_counts_and_instant_of_an_epoch(bench: Bench, now: datetime) -> None:
    bench.epoch([[(0, 0, order(1)), (1, 0, b"bad")], [(0, 1, order(1))]], {0: 2, 1: 1})
    bench.clock[0] = now - timedelta(hours=1)
    bench.epoch([[(1, 3, order(2))]], {0: 2, 1: 9})

    first, second = bench.epochs()
    assert [(each.partition, each.start, each.until) for each in first.ranges] == [
        (0, 0, 2),
        (1, 0, 1),
    ]
    assert (first.accepted, first.duplicates, first.rejected) == (2, 1, 1)
    assert len(first.segments) == 1
    assert [(each.partition, each.start, each.until) for each in second.ranges] == [(1, 1, 9)]
    assert second.instant == first.instant == now
    assert second.position.json() == {"0": 2, "1": 9}
    assert bench.writer.progress == progress(bench.ledger, "orders")


def test_10_a_view_of_another_release_is_suspended_and_the_stream_goes_on(bench: Bench) -> None:
    (row,) = views(bench.ledger)
    definition = row.definition.replace(f"VIEW {row.name}", "VIEW other")
    other = replace(row, name="other", version="of another release", definition=definition)
    register(bench.ledger, [], [other], datetime(2026, 1, 1, tzinfo=UTC))

    bench.epoch([[(0, 0, order(1))]], {0: 1})
    bench.epoch([[(0, 1, order(2))]], {0: 2})

    assert [each.folded for each in bench.epochs()] == [{row.version}] * 2
    found = {each.name: each for each in views(bench.ledger)}
    assert found["other"].suspended_epoch == 1
    assert "use the release that registered it" in str(found["other"].suspended_message)
    assert found[row.name].suspended_epoch is None


def test_nothing_moved_is_no_epoch_and_moved_without_rows_is_one(bench: Bench) -> None:
    bench.epoch([[]], {0: 0, 1: 0})
    assert bench.epochs() == []
    bench.epoch([[]], {0: 4, 1: 0})
    (only,) = bench.epochs()
    assert only.segments == ()
    assert only.position.json() == {"0": 4, "1": 0}


def test_ids_are_decided_over_all_epochs_by_any_worker(
    bench: Bench, new_worker: Callable[[], None]
) -> None:
    for number in range(8):
        bench.epoch([[(0, number, order(number))]], {0: number + 1, 1: 0})
        if number == 5:
            new_worker()  # knows nothing, and the task carries the last three epochs only
    frame = bench.epoch([[(0, 8 + n, order(n)) for n in range(9)]], {0: 17, 1: 0})
    assert len(frame.calls) == 1

    rows = bench.master()
    assert [row["id"] for row in rows if not row["_duplicate"]] == list(range(9))
    assert len(rows) == 17


def test_a_worker_that_is_behind_asks_once_for_all_ids(
    bench: Bench, new_worker: Callable[[], None]
) -> None:
    for number in range(6):
        bench.epoch([[(0, number, order(number))]], {0: number + 1, 1: 0})
    new_worker()
    behind = bench.epoch([[(0, 6, order(0))]], {0: 7, 1: 0})
    after = bench.epoch([[(0, 7, order(1))]], {0: 8, 1: 0})
    assert [len(task.ids) for task in behind.calls] == [3, 6]
    assert [len(task.ids) for task in after.calls] == [7]
    assert [each.duplicates for each in bench.epochs()] == [0] * 6 + [1, 1]


def test_workers_that_take_turns_all_catch_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        bench.epoch([[(0, number, order(number))]], {0: number + 1, 1: 0})
    idle = [None, None]  # engines of two workers; Spark takes the one that is idle longest
    collect = Frame.collect

    def by_turns(frame: Frame) -> list[Row]:
        task_module._Worker.engine = idle.pop(0)
        rows = collect(frame)
        idle.append(task_module._Worker.engine)
        return rows

    monkeypatch.setattr(Frame, "collect", by_turns)
    frames = [bench.epoch([[(0, n, order(n - 6))]], {0: n + 1, 1: 0}) for n in range(6, 20)]
    assert [len(frame.calls) for frame in frames] == [2] + [1] * 13
    assert [len(frame.calls[-1].ids) for frame in frames] == [6, 7, 8, 9, 10, 11, 12, 13] + [3] * 6
    assert [each.duplicates for each in bench.epochs()] == [0] * 6 + [1] * 6 + [0] * 8


def workers(monkeypatch: pytest.MonkeyPatch, turns: Iterable[str]) -> None:
    """Has each job run by the worker whose turn it is."""
    engines: dict[str, Engine | None] = {}
    collect, turn = Frame.collect, iter(turns)

    def by_turns(frame: Frame) -> list[Row]:
        name = next(turn)
        task_module._Worker.engine = engines.get(name)
        rows = collect(frame)
        engines[name] = task_module._Worker.engine
        return rows

    monkeypatch.setattr(Frame, "collect", by_turns)


def test_a_repeat_that_lands_on_an_emptier_worker_is_repeated(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    # `a` lacks the ids from epoch 10 on: a worker gets those of its own epoch with its next task
    workers(monkeypatch, ["a"] * 10 + ["b"] * 11 + ["a", "empty", "empty"])
    for n in range(20):
        bench.epoch([[(0, n, order(n))]], {0: n + 1, 1: 0})
    frame = bench.epoch([[(0, 20, order(0)), (0, 21, order(20))]], {0: 22, 1: 0})

    assert [task.ids[0].epoch for task in frame.calls] == [18, 10, 1]
    assert [task.ids_whole for task in frame.calls] == [False, False, True]
    last = bench.epochs()[-1]
    assert (last.accepted, last.duplicates) == (2, 1)
    assert [row["id"] for row in bench.master() if not row["_duplicate"]] == list(range(21))


def seal(bench: Bench, epochs: int) -> None:
    """Everything, that many epochs at a time; the segments are gone when this returns."""
    bench.clock[0] += timedelta(minutes=2)
    settings = replace(
        bench.writer.settings, seal_epochs=epochs, merge_fanout=2, keep_removed=timedelta(0)
    )
    sealer = Sealer(
        settings=settings,
        ledger=bench.ledger,
        root=bench.writer.root,
        stream="orders",
        token=bench.writer.token,
        now=lambda: bench.clock[0],
        run=Direct(),
        moved=bench.writer.moved,
        fatal=lambda _: None,
        done=lambda: None,
    )
    sealer.step()
    bench.clock[0] += timedelta(seconds=1)
    settings = replace(settings, seal_every=timedelta(days=1))
    sealer._tidy_at = 0.0
    sealer.step()
    assert list((bench.state / "segments" / "orders").iterdir()) == []


def test_ids_of_sealed_epochs_reach_every_worker(
    bench: Bench, new_worker: Callable[[], None]
) -> None:
    for n in range(6):
        bench.epoch([[(0, n, order(n))]], {0: n + 1, 1: 0})
    seal(bench, 3)
    frames = [bench.epoch([[(0, 6, order(0)), (0, 7, order(6))]], {0: 8, 1: 0})]
    new_worker()
    frames += [bench.epoch([[(0, 8, order(1)), (0, 9, order(6))]], {0: 10, 1: 0})]
    bench.begin()
    new_worker()
    frames += [bench.epoch([[(0, 10, order(6)), (0, 11, order(5))]], {0: 12, 1: 0})]
    told = [[each.epoch for each in frame.calls[-1].ids] for frame in frames]
    assert told == [[], [7], [7, 8]]
    assert {frame.calls[-1].sealed.until for frame in frames} == {6}
    assert [len(frame.calls) for frame in frames] == [1, 1, 1]
    assert [each.duplicates for each in bench.epochs()] == [1, 2, 2]


def test_a_worker_that_stopped_inside_a_sealed_range_takes_all_of_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers(monkeypatch, ["a"] * 2 + ["b"] * 6 + ["a"] * 2 + ["empty"])
    for n in range(8):
        bench.epoch([[(0, n, order(n))]], {0: n + 1, 1: 0})
    seal(bench, 8)
    for n in range(3):
        records: list[Record] = [(0, 8 + 2 * n, order(n)), (0, 9 + 2 * n, order(7 - n))]
        frame = bench.epoch([records], {0: 10 + 2 * n, 1: 0})
        assert len(frame.calls) == 1
        assert [row.duplicates for row in bench.epochs()] == [2] * (n + 1)


def test_an_epoch_whose_workers_lack_ids_for_ever_is_left(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.epoch([[(0, 0, order(0))]], {0: 1, 1: 0})
    monkeypatch.setattr(FoldTask, "_add_ids", lambda *_: 1)
    with pytest.raises(EpochIncomplete):
        bench.epoch([[(0, 1, order(1))]], {0: 2, 1: 0})
    assert len(bench.epochs()) == 1


def test_a_task_that_read_and_did_not_write_is_refused(bench: Bench) -> None:
    task = bench.epoch([[(0, 0, order(0))]], {0: 1, 1: 0}).calls[0]
    check_written(task, [TaskReport(0, {})])
    with pytest.raises(EpochIncomplete):
        check_written(task, [TaskReport(0, {0: (0, 0)})])


def test_a_fold_that_loses_an_event_is_refused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold = Engine.fold

    def losing(*arguments: Any, **named: Any) -> Any:
        folded = fold(*arguments, **named)
        return replace(folded, accepted=folded.accepted - 1)

    monkeypatch.setattr(Engine, "fold", losing)
    with pytest.raises(EpochIncomplete):
        bench.epoch([[(0, 0, order(1)), (0, 1, b"bad")]], {0: 2, 1: 0})
    assert bench.epochs() == []


def test_a_worker_jumps_over_epochs_that_are_too_old(
    bench: Bench, now: datetime, new_worker: Callable[[], None]
) -> None:
    for number in range(12):
        if number == 6:
            bench.clock[0] = now + timedelta(days=7)  # epochs 1..6 of `now` stop to matter
        bench.epoch([[(0, number, order(number))]], {0: number + 1, 1: 0})
    new_worker()
    frame = bench.epoch([[(0, 12, order(0)), (0, 13, order(6))]], {0: 14, 1: 0})
    assert [[each.epoch for each in task.ids] for task in frame.calls] == [
        [10, 11, 12],
        [7, 8, 9, 10, 11, 12],
    ]
    assert [task.ids_whole for task in frame.calls] == [False, True]
    assert bench.epochs()[-1].duplicates == 1

    new_worker()
    bench.clock[0] = now + timedelta(days=30)
    bench.epoch([[(0, 14, order(6)), (0, 15, order(6))]], {0: 16, 1: 0})
    assert bench.epochs()[-1].duplicates == 1

    bench.begin()
    new_worker()
    bench.clock[0] = now + timedelta(days=60)
    frame = bench.epoch([[(0, 16, order(6))]], {0: 17, 1: 0})
    assert [len(task.ids) for task in frame.calls] == [1, 0]
    assert bench.epochs()[-1].duplicates == 0


def test_only_tasks_that_fail_say_that_a_range_is_too_large(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.broker.id = "id-2"
    with pytest.raises(TopicRecreated):
        bench.epoch([[(0, 0, order(1))]], {0: 7, 1: 0})
    assert bench.writer.failed_size == 0
    bench.broker.id = "id-1"

    def dies(_frame: Frame) -> list[Row]:
        raise RuntimeError

    with monkeypatch.context() as patched:
        patched.setattr(Frame, "collect", dies)
        with pytest.raises(RuntimeError):
            bench.epoch([[(0, 0, order(1))]], {0: 7, 1: 2})
    assert bench.writer.failed_size == 9
    bench.begin()
    assert bench.writer.failed_size == 0


def test_a_query_of_a_reduced_size_ends_after_some_epochs(bench: Bench) -> None:
    checkpoint = bench.state / "checkpoint"
    bench.writer.begin(checkpoint, bench.writer.progress, "id-1", {0: 0, 1: 0}, enough=2)
    for number in range(2):
        bench.epoch([[(0, number, order(number))]], {0: number + 1, 1: 0})
    with pytest.raises(Enough):
        bench.epoch([[(0, 2, order(2))]], {0: 3, 1: 0})
    assert len(bench.epochs()) == 2


def test_an_epoch_that_was_not_committed_leaves_no_ids(bench: Bench) -> None:
    bench.broker.id = "id-2"
    with pytest.raises(TopicRecreated):
        bench.epoch([[(0, 0, order(1))]], {0: 1, 1: 0})
    bench.broker.id = "id-1"
    bench.begin()
    bench.epoch([[(0, 0, order(1))]], {0: 1, 1: 0})
    assert [row["_duplicate"] for row in bench.master()] == [False]


def test_a_key_counts_again_after_dedup_within(bench: Bench, now: datetime) -> None:
    bench.epoch([[(0, 0, order(1))]], {0: 1, 1: 0})
    bench.clock[0] = now + timedelta(days=7, seconds=1)
    bench.epoch([[(0, 1, order(1)), (0, 2, order(1))]], {0: 3, 1: 0})
    assert [row["_duplicate"] for row in bench.master()] == [False, False, True]


def test_a_view_that_is_deployed_meanwhile_is_in_the_next_epoch(bench: Bench) -> None:
    bench.epoch([[(0, 0, order(1))]], {0: 1, 1: 0})
    bench.declare(STREAM, VIEW, SECOND)
    bench.epoch([[(0, 1, order(2))]], {0: 2, 1: 0})
    first, second = bench.epochs()
    assert len(first.folded) == 1
    assert second.folded == {view.version for view in views(bench.ledger)}


def test_a_view_deployed_while_tasks_run_has_the_epoch_planned_anew(bench: Bench) -> None:
    class Deploying(Broker):
        asked = 0

        def facts(self, topic: str) -> TopicFacts | None:
            self.asked += 1
            if self.asked == 1:
                bench.declare(STREAM, VIEW, SECOND)
            return super().facts(topic)

    bench.writer.topics = cast(Topics, Deploying())
    frame = bench.epoch([[(0, 0, order(1))]], {0: 1, 1: 0})
    assert [len(task.views) for task in frame.calls] == [1, 2]
    assert [row["_duplicate"] for row in bench.master()] == [False]
    (only,) = bench.epochs()
    assert len(only.folded) == 2


def test_a_view_that_fails_is_suspended_and_the_others_go_on(bench: Bench) -> None:
    bench.declare(STREAM, VIEW, FAILING)
    bench.epoch([[(0, 0, order(1, price=0))]], {0: 1, 1: 0})
    bench.epoch([[(0, 1, order(2, price=4))]], {0: 2, 1: 0})
    suspended = {view.name: view.suspended_epoch for view in views(bench.ledger)}
    assert suspended == {"sales": None, "shares": 1}
    assert [len(each.folded) for each in bench.epochs()] == [1, 1]
    assert len(bench.master()) == 2


def test_records_outside_the_ranges_are_refused(bench: Bench) -> None:
    with pytest.raises(RecordsOutsideRange) as refusal:
        bench.epoch([[(0, 0, order(1)), (0, 5, order(2))]], {0: 5, 1: 0})
    assert (refusal.value.start, refusal.value.until, refusal.value.last) == (0, 5, 5)
    with pytest.raises(RecordsOutsideRange):
        bench.epoch([[(2, 0, order(1))]], {0: 5, 1: 0})
    assert bench.epochs() == []


def test_an_end_before_the_begin_names_the_topic_first(bench: Bench) -> None:
    bench.epoch([[(0, 0, order(1))]], {0: 5, 1: 0})
    with pytest.raises(RangeNotContiguous):
        bench.epoch([[]], {0: 3, 1: 0})
    bench.broker.id = "id-2"
    with pytest.raises(TopicRecreated):
        bench.epoch([[]], {0: 3, 1: 0})


def test_a_topic_that_is_gone_commits_nothing(bench: Bench) -> None:
    bench.broker.id = None
    with pytest.raises(TopicMissing):
        bench.epoch([[(0, 0, order(1))]], {0: 1, 1: 0})
    assert bench.epochs() == []
    assert isinstance(bench.writer.error, TopicMissing)


def test_a_writer_whose_lease_was_taken_commits_nothing(bench: Bench, now: datetime) -> None:
    later = now + timedelta(minutes=1)
    other = this_process()
    take(bench.ledger, lease_name("orders"), other, later, timedelta(seconds=15), is_running)
    with pytest.raises(StaleToken):
        bench.epoch([[(0, 0, order(1))]], {0: 1, 1: 0})
    assert bench.epochs() == []


def test_nothing_begins_once_asked_to_stop(bench: Bench) -> None:
    bench.writer.stopping.set()
    with pytest.raises(Leaving):
        bench.epoch([[(0, 0, order(1))]], {0: 1, 1: 0})
    assert bench.epochs() == []
    assert bench.writer.idle.is_set()
