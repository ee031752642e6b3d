"""P16: after a fix, a replay of rejects gives the state that would have been, once, however often
it runs and wherever it is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas import rejects as reading
from schemas.errors import DamagedFile, ReplayMoved
from schemas.ledger import rejects
from schemas.ledger.epochs import EpochCommit, commit_epoch, progress
from schemas.ledger.files import REJECTS, DataFile
from schemas.ledger.replays import Place, ReplayPart
from schemas.ledger.sealing import sealed_ranges
from schemas.parquet import Description
from schemas.position import Range
from streaming.epoch import Enough
from streaming.sealing import MergedRun, MergeTask
from tests.engine.live import START, Frame, Live, Row
from tests.engine.test_declarations import (
    BY_KEY,
    COUNT,
    NARROW,
    WIDE,
    WIDE_COLUMNS,
    Event,
    answer,
    hit,
    sent,
)

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
GOOD = [hit(1, n=5), hit(2, n=7, k="b")]
FIXED = [hit(3, n=2**40), hit(4, n=-5), hit(5, n=2**41, k="b"), hit(1, n=-9), hit(4, n=-6)]
STILL = [b"no event", b'{"id":9,"n":-5000}']
LATER = [hit(6, n=1), hit(3, n=2)]  # 3 counts here before its reject is tried again
VIEWS = ("by_key", "everything")


@pytest.fixture
def live(state: Path) -> Iterator[Live]:
    made = Live(state)
    made.declare(NARROW, BY_KEY, COUNT)
    made.start()
    yield made
    made.ledger.close()


def reject_some(live: Live) -> None:
    live.send(*sent(GOOD[:1]), *sent(FIXED[:2]), STILL[0])
    live.send(*sent(FIXED[2:4]), partition=1)
    live.epoch()
    live.send(*sent(FIXED[4:]), STILL[1], partition=1)
    live.epoch(*sent(GOOD[1:]))


def counted_ids(live: Live) -> list[int]:
    return sorted(row["id"] for row in live.master() if not row["_duplicate"])


def as_it_would_have_been(live: Live, events: list[Event]) -> None:
    """The answers are the oracle's over all events that fit the declaration of now."""
    for view in VIEWS:
        assert live.answer(f"FROM {view}") == answer(view, WIDE_COLUMNS, events)
    assert set(live.verified().values()) == {0}
    handoff = live.answer("SELECT view, gaps, doubles FROM everview.handoff")
    assert handoff == [(view, 0, 0) for view in sorted(VIEWS)]


def test_a_replay_gives_the_state_that_would_have_been(live: Live) -> None:
    reject_some(live)
    before = progress(live.ledger, "hits")
    live.declare(WIDE, BY_KEY, COUNT)

    done = live.replay()

    assert (done.considered, done.accepted, done.duplicates) == (7, 5, 2)
    assert done.finished is not None
    assert done.trouble is None
    epoch = live.epochs()[-1]
    assert (epoch.epoch, epoch.ranges, epoch.rejected) == (3, (), 0)
    assert epoch.position == before.position
    assert counted_ids(live) == [1, 2, 3, 4, 5]
    live.epoch(*sent(LATER))  # a micro-batch goes on where the one before ended
    live.seal()
    for view in VIEWS:
        live.build(view)
    as_it_would_have_been(live, [*GOOD, *FIXED, *LATER])


def test_a_twin_that_was_declared_right_from_the_start_answers_the_same(
    live: Live, tmp_path: Path
) -> None:
    reject_some(live)
    live.declare(WIDE, BY_KEY, COUNT)
    live.replay()
    live.seal()
    for view in VIEWS:
        live.build(view)
    twin = Live(tmp_path / "twin")
    twin.declare(WIDE, BY_KEY, COUNT)
    twin.start()
    reject_some(twin)
    for view in VIEWS:
        assert live.answer(f"FROM {view}") == twin.answer(f"FROM {view}")
    twin.ledger.close()


def test_twice_is_once(live: Live) -> None:
    reject_some(live)
    live.declare(WIDE, BY_KEY, COUNT)
    live.replay()
    epoch = progress(live.ledger, "hits").epoch

    again = live.replay()

    assert (again.considered, again.accepted) == (2, 0)
    assert progress(live.ledger, "hits").epoch == epoch
    live.seal()
    assert (live.replay().considered, counted_ids(live)) == (2, [])
    assert progress(live.ledger, "hits").epoch == epoch


def test_an_id_that_counted_meanwhile_makes_a_duplicate(live: Live) -> None:
    reject_some(live)
    live.declare(WIDE, BY_KEY, COUNT)
    live.epoch(*sent(LATER))
    done = live.replay()
    assert (done.accepted, done.duplicates) == (5, 3)
    live.seal()
    for view in VIEWS:
        live.build(view)
    as_it_would_have_been(live, [*GOOD, *LATER, *FIXED])


def test_rejects_are_tried_again_in_parts_between_micro_batches(state: Path) -> None:
    live = Live(state, replay_rows=2)
    live.declare(NARROW, BY_KEY, COUNT)
    live.start()
    reject_some(live)
    live.seal()
    live.declare(WIDE, BY_KEY, COUNT)
    asked = rejects.ask(live.ledger, "hits", live.clock)

    cursors = []
    for number in range(20, 24):
        assert live.replay_part()
        cursors.append(rejects.replay(live.ledger, asked.id).cursor)
        live.epoch(*sent([hit(number, n=2**33)]))
    assert not live.replay_part()

    assert cursors == sorted(set(cursors))
    done = rejects.replay(live.ledger, asked.id)
    assert (done.considered, done.accepted, done.duplicates) == (7, 5, 2)
    live.seal(merge_fanout=2)
    for view in VIEWS:
        live.build(view, full=True)
    more = [hit(number, n=2**33) for number in range(20, 24)]
    as_it_would_have_been(live, [*GOOD, *FIXED, *more])
    live.ledger.close()


def test_a_part_ends_where_it_has_enough_bytes(state: Path) -> None:
    live = Live(state, replay_bytes=1)
    live.declare(NARROW, BY_KEY, COUNT)
    live.start()
    reject_some(live)
    live.declare(WIDE, BY_KEY, COUNT)
    before = progress(live.ledger, "hits").epoch
    done = live.replay()
    assert (done.considered, done.accepted) == (7, 5)
    assert progress(live.ledger, "hits").epoch == before + 5  # one for each that was accepted
    live.ledger.close()


def test_sealed_replays_are_merged_built_and_recounted(live: Live) -> None:
    reject_some(live)
    live.seal()
    live.declare(WIDE, BY_KEY, COUNT)
    live.replay()
    live.seal()
    live.epoch(*sent(LATER))
    live.seal(merge_fanout=2)
    assert [(each.first, each.last) for each in sealed_ranges(live.ledger, "hits")] == [
        (1, 2),
        (3, 4),
    ]
    for view in VIEWS:
        assert live.build(view).proof.verdict == "equal"
    as_it_would_have_been(live, [*GOOD, *FIXED, *LATER])
    live.epoch(*sent([hit(30, n=1)]))
    live.seal()
    for view in VIEWS:
        assert live.build(view, full=True).proof.verdict == "equal"
    as_it_would_have_been(live, [*GOOD, *FIXED, *LATER, hit(30, n=1)])


def test_a_range_of_nothing_but_a_replay_covers_no_offsets(live: Live) -> None:
    reject_some(live)
    live.declare(WIDE, BY_KEY, COUNT)
    live.seal()
    live.replay()
    live.seal()
    (of_replay,) = sealed_ranges(live.ledger, "hits")[1:]
    assert (of_replay.ranges, of_replay.accepted, of_replay.rejected) == ((), 5, 0)
    assert of_replay.position == sealed_ranges(live.ledger, "hits")[0].position


def test_what_is_tried_and_rejected_again_makes_no_epoch(live: Live) -> None:
    reject_some(live)
    done = live.replay()
    assert (done.considered, done.accepted) == (7, 0)
    assert done.finished is not None
    assert progress(live.ledger, "hits").epoch == 2


def test_rejects_of_epochs_after_the_request_are_left_to_the_next_one(live: Live) -> None:
    reject_some(live)
    asked = rejects.ask(live.ledger, "hits", live.clock)
    live.epoch(*sent([hit(30, n=-1)]))
    while live.replay_part():
        pass
    assert rejects.replay(live.ledger, asked.id).considered == 7
    assert live.replay().considered == 8


@dataclass
class Slow(Frame):
    """Its job waits until it is let go."""

    working: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)

    def collect(self) -> list[Row]:
        self.working.set()
        assert self.go.wait(60)
        return super().collect()


def test_a_replay_and_a_micro_batch_wait_for_each_other(live: Live) -> None:
    reject_some(live)
    live.declare(WIDE, BY_KEY, COUNT)
    rejects.ask(live.ledger, "hits", live.clock)
    slow = Slow(pa.record_batch({"id": pa.array([0])}))
    replay = threading.Thread(target=live.writer.replay, args=(lambda: slow,))
    batch = threading.Thread(target=live.epoch, args=sent([hit(30, n=1)]))
    replay.start()
    assert slow.working.wait(60)
    batch.start()
    batch.join(0.3)
    assert batch.is_alive()
    assert live.writer.progress.epoch == 2
    slow.go.set()
    for each in (replay, batch):
        each.join(60)
    assert [(each.epoch, bool(each.ranges)) for each in live.epochs()[2:]] == [
        (3, False),
        (4, True),
    ]


def test_a_query_of_reduced_size_ends_though_replays_came_between(state: Path) -> None:
    live = Live(state, replay_rows=2)
    live.declare(NARROW, BY_KEY, COUNT)
    live.start()
    reject_some(live)
    live.declare(WIDE, BY_KEY, COUNT)
    live.writer.begin(state / "checkpoint", live.writer.progress, "id-1", {0: 0, 1: 0}, enough=1)
    assert live.replay().accepted == 5
    assert live.writer.commits > 1
    with pytest.raises(Enough):
        live.epoch(*sent([hit(30, n=1)]))
    live.ledger.close()


KILLED = -signal.SIGKILL


@pytest.mark.parametrize("moment", ["rejects.before_commit=kill@3", "epoch.in_commit=kill@2"])
def test_a_replay_that_is_killed_goes_on_where_it_was(live: Live, moment: str) -> None:
    """In parts of two rejects: the third one is folded and never committed."""
    reject_some(live)
    live.declare(WIDE, BY_KEY, COUNT)
    asked = rejects.ask(live.ledger, "hits", live.clock)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "EVERVIEW_TEST": "1",
        "EVERVIEW_FAILPOINTS": moment,
    }
    command = [sys.executable, "-m", "tests.engine.live", str(live.state)]
    ended = subprocess.run(command, env=environment, cwd=ROOT, check=False, timeout=120)
    assert ended.returncode == KILLED
    killed_at = rejects.replay(live.ledger, asked.id)
    assert killed_at.finished is None
    assert 0 < killed_at.considered < 7

    live.start()
    while live.replay_part():
        pass

    done = rejects.replay(live.ledger, asked.id)
    assert (done.considered, done.accepted, done.duplicates) == (7, 5, 2)
    live.seal()
    for view in VIEWS:
        live.build(view)
    as_it_would_have_been(live, [*GOOD, *FIXED])


def test_a_part_that_was_committed_is_never_committed_again(live: Live) -> None:
    reject_some(live)
    live.declare(WIDE, BY_KEY, COUNT)
    asked = rejects.ask(live.ledger, "hits", live.clock)
    part = ReplayPart(asked.id, Place(), Place(1, 0, 1), 1, 0, 0, last=False)
    rejects.move(live.ledger, "hits", live.token, part, START)
    last = live.epochs()[-1]
    with pytest.raises(ReplayMoved, match="replay 1 of stream 'hits' must go on behind Place"):
        commit_epoch(
            live.ledger,
            EpochCommit(
                stream="hits",
                epoch=last.epoch + 1,
                instant=last.instant,
                token=live.token,
                stream_version=live.writer.plan.stream.version,
                topic_id="id-1",
                ranges=(),
                segments=(),
                folded=tuple(view.version for view in live.writer.plan.views),
                suspended=(),
                uuid=uuid.uuid4().hex,
                replay=part,
            ),
        )
    assert progress(live.ledger, "hits").epoch == last.epoch


def test_rejects_keep_the_headers_of_their_records(live: Live) -> None:
    told = [("trace", b"\x00\xff"), ("trace", b"2")]
    live.send(b"bad", headers=told)
    live.epoch(b"worse")
    live.seal()
    live.send(b"late", headers=[("a", b"")])
    live.epoch()
    found = reading.newest(live.root, rejects.sources(live.ledger, "hits"), 10)
    assert found is not None
    listed = [{"key": key, "value": value} for key, value in told]
    assert found["_headers"].to_pylist() == [listed, None, [{"key": "a", "value": b""}]]
    assert found["_value"].to_pylist() == [b"bad", b"worse", b"late"]


def test_reject_files_of_before_headers_were_kept_are_merged_and_read(live: Live) -> None:
    live.epoch(b"bad")
    live.seal()
    (new,) = (
        each
        for one in sealed_ranges(live.ledger, "hits")
        for each in one.files
        if each.kind == REJECTS
    )
    told = Description(REJECTS, "hits", 1, 1, (Range(0, 0, 1),))
    rows = pq.read_table(live.root.check(new.file)).drop_columns("_headers")
    with_words = rows.replace_schema_metadata(told.metadata())
    old = live.root.write(
        "rejects/hits", "0-0-1-old.parquet", lambda path: pq.write_table(with_words, path)
    )
    early = DataFile(REJECTS, old, 0, 0, 1, rejected=1)
    task = MergeTask(
        stream="hits",
        token=live.token,
        first=0,
        last=1,
        root=live.root,
        memory="256MB",
        row_group_bytes=1 << 20,
        groups=((early, new), (new, early)),
        ids=(),
        key=(),
        runs=tuple[MergedRun, ...](),
        since=START,
    )
    for made in task.run():
        merged = pq.read_table(live.root.check(made.file))
        assert merged["_headers"].to_pylist() == [None, None]
        assert merged["_value"].to_pylist() == [b"bad", b"bad"]
    found = reading.newest(live.root, rejects.Sources(sealed=(early, new)), 2)
    assert found is not None
    assert found["_headers"].to_pylist() == [None, None]


def test_a_damaged_file_of_rejects_ends_the_replay_and_not_the_stream(live: Live) -> None:
    reject_some(live)
    live.seal()
    (file,) = (
        each
        for one in sealed_ranges(live.ledger, "hits")
        for each in one.files
        if each.kind == REJECTS
    )
    live.root.local(file.file.path).write_bytes(b"gone")
    asked = rejects.ask(live.ledger, "hits", live.clock)
    with pytest.raises(DamagedFile):
        live.replay_part()
    live.writer.give_up_replay("it is damaged")
    done = rejects.replay(live.ledger, asked.id)
    assert (done.trouble, done.considered) == ("it is damaged", 0)
    assert not live.replay_part()
    live.epoch(*sent([hit(30, n=1)]))
    assert progress(live.ledger, "hits").epoch == 3


def test_the_newest_rejects_are_the_last_ones(live: Live) -> None:
    for number in range(4):
        live.epoch(*[b"%d-%d" % (number, at) for at in range(3)])
        if number == 1:
            live.seal()
    found = rejects.sources(live.ledger, "hits")
    for rows in (1, 4, 7, 11, 99):
        newest = reading.newest(live.root, found, rows)
        assert newest is not None
        every = [b"%d-%d" % (number, at) for number in range(4) for at in range(3)]
        assert newest["_value"].to_pylist() == every[-rows:]
    assert reading.newest(live.root, rejects.Sources(), 5) is None
