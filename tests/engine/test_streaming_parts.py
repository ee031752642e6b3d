"""Streaming's small parts, without Spark and without a broker."""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.errors import KafkaError

from schemas.errors import BadUse, DamagedFile, OffsetsGone, RangeInvalid, RecordsOutsideRange
from schemas.ledger.instant import microseconds
from schemas.ledger.process import is_running, this_process
from schemas.observed import Epoch, Seen
from schemas.position import Position, Range
from schemas.stored_file import StoredFile
from streaming import flow as flow_module
from streaming import run, source
from streaming.epoch import Enough, check_offsets, merge_suspended, observed
from streaming.flow import Flow, fresh_checkpoint, next_most, one_line
from streaming.orphans import remove_unnamed, token_of
from streaming.report import LogEnds, Report, StreamReport
from streaming.seen import reasons, seen_times
from streaming.session import levers
from streaming.settings import Settings
from streaming.task import TaskReport
from tests.folding import Folding, load, records


def test_starts_are_the_logs_at_first_and_then_the_ledgers() -> None:
    assert source.starts("s", Position(), (0, 1), {0: 10, 1: 7}) == {0: 10, 1: 7}
    assert source.starts("s", Position({0: 50}), (0, 1), {0: 10, 1: 0}) == {0: 50, 1: 0}


def test_a_partition_that_came_later_is_read_from_its_first_offset() -> None:
    with pytest.raises(OffsetsGone) as gone:
        source.starts("s", Position({0: 50}), (0, 1), {0: 10, 1: 7})
    assert gone.value.missing == ((1, 0, 7),)


def test_offsets_that_are_gone_are_named_exactly() -> None:
    with pytest.raises(OffsetsGone) as gone:
        source.starts("s", Position({0: 50, 1: 3}), (0, 1), {0: 50, 1: 9})
    assert gone.value.missing == ((1, 3, 9),)
    with pytest.raises(OffsetsGone) as gone:
        source.starts("s", Position({0: 5, 1: 3}), (0, 1), {0: 50, 1: 9})
    assert gone.value.missing == ((0, 5, 50), (1, 3, 9))


def test_a_loss_that_was_accepted_is_gone_on_from_and_no_more() -> None:
    position, accepted = Position({0: 50, 1: 3}), [Range(1, 3, 5), Range(1, 5, 9), Range(0, 0, 99)]
    assert source.starts("s", position, (0, 1), {0: 0, 1: 9}, accepted) == {0: 50, 1: 3}
    for lost in ([Range(1, 3, 8)], [Range(1, 4, 9)], [Range(0, 3, 9)], [Range(1, 3, 5)]):
        with pytest.raises(OffsetsGone):
            source.starts("s", position, (0, 1), {0: 50, 1: 9}, lost)


def test_the_plan_of_a_micro_batch(tmp_path: Path) -> None:
    (tmp_path / "offsets").mkdir()
    told = '{"batchWatermarkMs":0,"batchTimestampMs":1767261600250}'
    text = f'v1\n{told}\n{{"t":{{"1":7,"0":5}}}}'
    (tmp_path / "offsets" / "12").write_text(text, encoding="utf-8")
    plan = source.planned(tmp_path, 12, "t")
    assert plan.ends == {0: 5, 1: 7}
    assert plan.at == datetime(2026, 1, 1, 10, 0, 0, 250_000, tzinfo=UTC)
    (tmp_path / "offsets" / "12").write_text(text.replace(told, "{}"), encoding="utf-8")
    assert source.planned(tmp_path, 12, "t") == replace(plan, at=None)
    assert source.ranges({0: 5}, plan.ends) == (Range(0, 5, 5), Range(1, 0, 7))
    with pytest.raises(RangeInvalid):
        source.ranges({0: 6}, plan.ends)


def spark_takes(unread: Sequence[int], most: int) -> list[int]:
    """How much of what is unread Spark's Kafka source plans for a micro-batch."""
    total = sum(unread)
    if total <= 0:
        return list(unread)
    shares = [most * (each / total) for each in unread]
    rounded = [math.ceil(s) if s < 1 else math.floor(s) for s in shares]
    return [min(each, share) for each, share in zip(unread, rounded, strict=True)]


@given(st.lists(st.integers(0, 40), min_size=1, max_size=6), st.integers(1, 60))
def test_a_partition_that_is_called_read_to_its_end_is(unread: list[int], most: int) -> None:
    taken = spark_takes(unread, most)
    ranges = [Range(p, 100, 100 + size) for p, size in enumerate(taken)]
    ended = source.read_to_their_ends(ranges, most)
    assert all(taken[each] == unread[each] for each in ended)
    if sum(unread) < most - len(unread):
        assert ended == set(range(len(unread)))


KINDS = """
CREATE STREAM hits (u BIGINT PRIMARY KEY, n INTEGER CHECK (n >= 0), moment TIMESTAMP)
WITH (topic = 'hits', format = 'json', event_time = 'Moment');
"""


def test_what_a_task_sees_of_event_times(tmp_path: Path) -> None:
    """Duplicates, rejects and NULLs say nothing; what is in the future is counted."""
    folding = Folding(load(tmp_path, KINDS, "CREATE VIEW v AS SELECT count(*) AS c FROM hits;"))
    instant = datetime(2026, 1, 1, 11, tzinfo=UTC)
    values = [
        b'{"u": 1, "n": 1, "moment": "2026-01-01T10:30:00"}',
        b'{"u": 2, "n": 1, "moment": "2026-01-01T10:10:00"}',
        b'{"u": 1, "n": 1, "moment": "2026-01-01T09:00:00"}',
        b'{"u": 3, "n": -1, "moment": "2026-01-01T08:00:00"}',
        b'{"u": 4, "n": 1}',
        b'{"u": 5, "n": 1, "moment": "infinity"}',
        b"not json",
        b'{"u": 6, "n": 1, "moment": "2099-01-01T00:00:00"}',
    ]
    read = pa.concat_tables([records(values, 0, 5), records([b'{"u": 9, "n": 2}'], 1)])
    (folded,) = folding.epoch(1, instant, read)
    times, future = seen_times(folding.stream, read, folded.master, instant)
    stamp = microseconds(datetime(2026, 1, 1, tzinfo=UTC))
    at = {minute: microseconds(instant) - (60 - minute) * 60_000_000 for minute in (10, 30, 60)}
    newest = microseconds(datetime(2099, 1, 1, tzinfo=UTC))
    assert times == {
        0: Seen(newest, at[60], at[10], at[30] - at[10], stamp),
        1: Seen(stamped=stamp),
    }
    assert future == 1
    found = reasons(folded.rejects)  # of a check, of no JSON, of a time that is none
    assert sum(found.values()) == folded.rejected == 3
    assert len(found) == 3
    bare = replace(folding.stream, event_time=None)
    assert seen_times(bare, read, folded.master, instant)[0][0] == Seen(stamped=stamp)


def test_tasks_are_put_together_in_the_order_of_offsets() -> None:
    def part(task: int, first: int, time: int) -> TaskReport:
        told = {0: Seen(time, time, time)}
        return TaskReport(task, {0: (first, first)}, times=told, future=1, reasons={"json": 2})

    at, ended = datetime(2026, 1, 1, tzinfo=UTC), frozenset({0, 1})
    told = observed([part(0, 7, 3), part(1, 2, 9)], read_to=at, ended=ended, timed=True)
    assert told == Epoch({0: Seen(9, 9, 3, 6)}, at, ended, {"json": 4}, 2)


def report(task: int, **seen: tuple[int, int]) -> TaskReport:
    return TaskReport(task, {int(name[1:]): offsets for name, offsets in seen.items()})


def test_tasks_may_not_share_records() -> None:
    ranges = (Range(0, 10, 20), Range(1, 0, 5))
    check_offsets("s", ranges, [report(0, p0=(10, 14), p1=(0, 4)), report(1, p0=(15, 19))])
    check_offsets("s", ranges, [report(0, p0=(12, 12))])
    for wrong in (
        [report(0, p0=(9, 12))],
        [report(0, p0=(10, 20))],
        [report(0, p2=(0, 0))],
        [report(0, p0=(10, 15)), report(1, p0=(15, 19))],
    ):
        with pytest.raises(RecordsOutsideRange):
            check_offsets("s", ranges, wrong)


def test_a_task_report_comes_back_as_it_was() -> None:
    file = StoredFile("segments/s/1-0-1-x.zip", "ab", 12)
    full = TaskReport(1, {0: (3, 9)}, file, 7, 6, 1, 1, True, (("v", "why"),), None)
    assert TaskReport.from_json(full.json()) == full
    told = replace(full, times={0: Seen(5, 4, 3, 2, 1)}, future=2, reasons={"json": 1})
    assert TaskReport.from_json(told.json()) == told
    behind = TaskReport(0, {0: (3, 9)}, needs_ids_from=4)
    assert TaskReport.from_json(behind.json()) == behind
    assert merge_suspended([full, replace(full, suspended=(("v", "later"),))]) == (("v", "why"),)


def test_only_older_unnamed_segments_are_orphans(tmp_path: Path) -> None:
    folder = tmp_path / "segments" / "s"
    folder.mkdir(parents=True)
    segments = ("1-0-1-a.zip", "2-0-1-b.zip", "2-0-2-c.zip")
    for name in (*segments, "notes.txt", ".x.part", "a-b-c-d.zip"):
        (folder / name).touch()
    gone = remove_unnamed([folder], 2, lambda: ["segments/s/1-0-1-a.zip"])
    assert gone == ["2-0-1-b.zip"]
    assert not (folder / "2-0-1-b.zip").exists()
    assert len(list(folder.iterdir())) == 5
    assert remove_unnamed([tmp_path / "segments" / "other"], 2, list) == []
    assert token_of("12-3-45-0f.zip") == 45
    assert token_of("1-99-7-0f.parquet") == token_of(".1-99-7-0f.parquet.ab.part") == 7
    assert token_of("1-99-7-0f.txt") is None


def test_unfinished_segments_of_older_tokens_go_without_a_question(tmp_path: Path) -> None:
    folder = tmp_path / "segments" / "s"
    folder.mkdir(parents=True)
    for name in (".1-0-1-a.zip.0f.part", ".2-0-2-b.zip.0f.part", ".x.part", "1-0-2-c.zip"):
        (folder / name).touch()

    def named() -> list[str]:
        raise AssertionError

    assert remove_unnamed([folder], 2, named) == [".1-0-1-a.zip.0f.part"]
    assert len(list(folder.iterdir())) == 3


def test_a_range_whose_tasks_failed_is_halved_and_grows_back(tmp_path: Path) -> None:
    settings = Settings(tmp_path, "h:1", max_events_per_epoch=10_000)
    failure = RuntimeError("a worker died")
    assert next_most(settings, 10_000, failure, 10_000) == 5_000
    assert next_most(settings, 10_000, failure, 3_000) == 1_500
    assert next_most(settings, 1_500, failure, 1_500) == 1_000
    assert next_most(settings, 1_000, failure, 1) == 1_000
    assert next_most(settings, 5_000, failure, 0) == 5_000
    assert next_most(settings, 1_500, Enough(), 0) == 3_000
    assert next_most(settings, 6_000, Enough(), 0) == 10_000
    few = replace(settings, max_events_per_epoch=10)
    assert next_most(few, 10, failure, 10) == 10


def test_a_checkpoint_is_fresh(tmp_path: Path) -> None:
    first = fresh_checkpoint(tmp_path, "s", 1)
    (first / "offsets").mkdir()
    second = fresh_checkpoint(tmp_path, "s", 1)
    assert second != first
    assert not first.exists()
    assert list(second.iterdir()) == []


def test_the_report_is_replaced_whole(tmp_path: Path, now: datetime) -> None:
    file = tmp_path / "run" / "streaming.json"
    logs = LogEnds(now, {0: 15}, 60_000)
    streams = {"s": StreamReport(3, {"0": 12}, None, 2, "no space", 0.5, 0.1, logs)}
    Report("running", now, streams).write(file)
    Report("failed", now, streams, "why").write(file)
    found = json.loads(file.read_text(encoding="utf-8"))
    assert found["pid"] == os.getpid()
    assert (found["state"], found["error"]) == ("failed", "why")
    assert found["streams"] == {
        "s": {
            "epoch": 3,
            "position": {"0": 12},
            "error": None,
            "sealed": 2,
            "sealing_error": "no space",
            "epoch_seconds": 0.5,
            "commit_seconds": 0.1,
            "logs": {"at": now.isoformat(), "ends": {"0": 15}, "kept_ms": 60_000},
        }
    }
    assert [each.name for each in file.parent.iterdir()] == ["streaming.json"]


def test_a_holder_is_a_process_not_a_number() -> None:
    this = this_process()
    assert is_running(this)
    assert not is_running(replace(this, started=this.started - 100))
    assert not is_running(replace(this, pid=2**22 + 1))


def test_an_error_is_one_line() -> None:
    text = (
        "An exception\nTraceback (most recent call last):\n  File x\nValueError: bad value\n\nat y"
    )
    assert one_line(RuntimeError(text)) == "RuntimeError: ValueError: bad value"
    assert one_line(RuntimeError()) == "RuntimeError: no message"
    assert one_line(OffsetsGone("s", [(0, 1, 5)])).startswith(
        "stream 's': offsets 1..4 of partition 0"
    )


def test_only_the_connectors_own_jars_are_taken(tmp_path: Path) -> None:
    for name in ("kafka-clients-3.9.2.jar", "scala-library-2.13.18.jar", "jsr305-3.0.0.jar"):
        (tmp_path / name).touch()
    settings = Settings(tmp_path, "h:1", jars=tmp_path)
    jars = levers(settings)["spark.jars"].split(",")
    assert [Path(jar).name for jar in jars] == ["jsr305-3.0.0.jar", "kafka-clients-3.9.2.jar"]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--state", "s"],
        ["--state", "s", "--bootstrap-servers", "h:1", "--max-events-per-epoch", "0"],
        ["--state", "s", "--bootstrap-servers", "h:1", "--jars", "/nowhere/at/all"],
        ["--state", "s", "--bootstrap-servers", "h:1", "--seal-every", "-1"],
        ["--state", "s", "--bootstrap-servers", "h:1", "--keep-removed", "inf"],
    ],
)
def test_bad_use_exits_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        run.parse(arguments)
    assert left.value.code == 2
    assert "error" in capsys.readouterr().err
    with pytest.raises(BadUse):
        Settings(Path("s"), "h:1", max_events_per_epoch=0)
    with pytest.raises(BadUse):
        Settings(Path("s"), "h:1", merge_fanout=1)


@dataclass
class Stubborn:
    """A writer whose replay fails."""

    stream: str = "s"
    stopping: threading.Event = field(default_factory=threading.Event)
    path: str = "rejects/s/1"
    tried: int = 0
    given_up: list[str] = field(default_factory=list)

    def replay(self, _frame: object) -> bool:
        if self.given_up:
            return False
        self.tried += 1
        raise DamagedFile(self.path, "a file", "none")

    def give_up_replay(self, trouble: str) -> None:
        self.given_up.append(trouble)


def test_a_replay_that_fails_again_and_again_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its trouble is not the stream's: the query goes on."""
    monkeypatch.setattr(flow_module, "is_alive", lambda _: True)
    writer = Stubborn()
    settings = Settings(tmp_path, "127.0.0.1:1", replay_attempts=3)
    flow = Flow(cast(Any, None), settings, cast(Any, writer), lambda _: None, lambda: None)
    worked = [flow._replay() for _ in range(4)]
    assert worked == [True, True, True, False]
    assert writer.tried == 3
    (trouble,) = writer.given_up
    assert "rejects/s/1" in trouble


@dataclass
class Answering:
    """A broker's answers; how long it keeps a topic it will not say."""

    asked: int = 0

    def log_ends(self, _topic: str, partitions: Sequence[int]) -> dict[int, int]:
        return dict.fromkeys(partitions, 7)

    def kept_ms(self, _topic: str) -> int:
        self.asked += 1
        raise KafkaError


def test_who_may_not_ask_how_long_a_topic_is_kept_is_told_its_ends(
    tmp_path: Path, now: datetime
) -> None:
    writer = cast(Any, Stubborn())
    writer.topics, writer.now = Answering(), lambda: now
    settings = Settings(tmp_path, "127.0.0.1:1")
    flow = Flow(cast(Any, None), settings, writer, lambda _: None, lambda: None)
    flow._look_at_logs("t", (0, 1))
    flow._look_at_logs("t", (0, 1))
    assert flow.logs == LogEnds(now, {0: 7, 1: 7}, None)
    assert writer.topics.asked == 1
