"""Sealing without Spark: tasks run in this process, everything else is real."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import func, select

from schemas.engine import connect
from schemas.errors import SealingFailed, StaleToken
from schemas.ledger import builds, files, tables
from schemas.ledger.epochs import progress
from schemas.ledger.files import DataFile
from schemas.ledger.leases import Holder, take
from schemas.ledger.sealing import (
    SealedRange,
    counted_ids,
    request_seal,
    requested_seal,
    sealed_until,
)
from schemas.parquet import described, union
from schemas.position import Position
from schemas.segment import SegmentReader
from schemas.storage import DataRoot
from schemas.stored_file import StoredFile
from streaming import levels
from streaming.orphans import remove_orphans
from streaming.sealer import Sealer
from streaming.sealing import Sealing
from tests.engine.conftest import ROOT, wait_until
from tests.engine.yard import KEYED, START, STREAM, VIEWS, Direct, Task, Yard, same_rows
from tests.folding import merged


def hit(u: int, n: int = 1) -> bytes:
    return json.dumps({"k": f"k{u % 5}", "u": u, "n": n}).encode()


def hits(first: int, until: int, partition: int = 0) -> Task:
    return {partition: [hit(u) for u in range(first, until)]}


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    made = Yard(tmp_path)
    yield made
    made.ledger.close()


@pytest.fixture
def keyed(tmp_path: Path) -> Iterator[Yard]:
    made = Yard(tmp_path, KEYED)
    yield made
    made.ledger.close()


def some_epochs(yard: Yard) -> None:
    """Of one and several tasks, with rejects, without a record, in turns."""
    yard.epoch(hits(0, 30))
    yard.epoch(hits(30, 50, 1), hits(50, 60, 0), {0: [hit(1, -1), b"no json"], 1: [b"{"]})
    yard.epoch()
    # segments of one epoch that do not lie apart
    yard.epoch({0: [hit(1)], 1: [hit(2)]}, {0: [hit(3), hit(4)], 1: [hit(5), hit(6, -1)]})
    yard.epoch(hits(60, 90), {1: [hit(7)]})
    yard.epoch(hits(90, 95))
    yard.epoch(hits(95, 99))


def place(row: dict[str, Any]) -> tuple[int, int, int]:
    return row["_epoch"], row["_partition"], row["_offset"]


Partials = Mapping[tuple[str, str], pa.Table]


def expected(yard: Yard, readers: Sequence[SegmentReader]) -> Partials:
    """Partials of all segments, merged, by version and table."""
    found = {}
    for view in yard.folding.views:
        parts = [each.partials(view.version) for each in readers]
        for name, rows in merged(view, parts).items():
            found[view.version, name] = rows
    return found


def check_runs(yard: Yard, wanted: Partials) -> None:
    engine = connect()
    for view in yard.folding.views:
        for table in view.tables:
            engine.register("parts", yard.files(files.RUN, view.version, table.name))
            ours = engine.arrow(table.merge("parts"))
            assert same_rows(table, ours, wanted[view.version, table.name]), (view.name, table.name)


def seal(yard: Yard, **settings: Any) -> Sealer:
    """Everything there is, a minute later."""
    yard.clock += timedelta(minutes=1)
    sealer = yard.sealer(**settings)
    sealer.step()
    return sealer


@pytest.mark.parametrize(
    ("settings", "spans"),
    [
        ({}, [(1, 7)]),
        ({"seal_epochs": 2}, [(1, 2), (3, 4), (5, 6), (7, 7)]),
        ({"seal_epochs": 1, "merge_fanout": 2}, [(1, 4), (5, 6), (7, 7)]),
        ({"seal_epochs": 1, "merge_fanout": 7}, [(1, 7)]),
    ],
)
def test_a_sealed_range_holds_what_its_segments_held(
    yard: Yard, settings: dict[str, int], spans: list[tuple[int, int]]
) -> None:
    some_epochs(yard)
    readers, before = yard.segments(), yard.epochs()
    master = [row for each in readers for row in each.master().to_pylist()]
    rejects = [
        {"_epoch": each.header["epoch"], **row}
        for each in readers
        for row in each.rejects().to_pylist()
    ]
    wanted = expected(yard, readers)
    at = progress(yard.ledger, yard.name)

    seal(yard, **settings)

    assert yard.epochs() == []
    assert yard.spans() == spans
    assert progress(yard.ledger, yard.name) == at
    ranges = yard.ranges()
    found = yard.files(files.MASTER).to_pylist()
    assert found == sorted(master, key=place)
    assert yard.files(files.REJECTS).to_pylist() == sorted(rejects, key=place)
    assert len(rejects) == 4
    check_runs(yard, wanted)
    assert yard.on_disk() == yard.named()

    for one in ranges:
        inside = [each for each in before if one.first <= each.epoch <= one.last]
        of = [each for each in one.files if each.kind == files.MASTER]
        assert sum(each.accepted for each in of) == one.accepted
        assert one.ranges == union(each for epoch in inside for each in epoch.ranges)
        for each in one.files:
            said = described(yard.root.local(each.file.path), each.file.path)
            assert (said.kind, said.first, said.last) == (each.kind, each.first, each.last)
            assert (said.version, said.table) == (each.version, each.table)
            if each.kind in (files.MASTER, files.RUN):
                assert said.ranges == one.ranges


def test_epochs_wait_until_they_are_old_or_many_or_large_or_asked_for(yard: Yard) -> None:
    sealer = yard.sealer(seal_epochs=4)
    yard.epoch(hits(0, 3))
    yard.clock += timedelta(seconds=59)
    sealer.step()
    assert sealer.sealed == 0
    yard.clock += timedelta(seconds=1)
    sealer.step()
    assert (sealer.sealed, yard.spans()) == (1, [(1, 1)])

    for n in range(3):
        yard.epoch(hits(n, n + 1))
    sealer.step()
    assert sealer.sealed == 1
    yard.epoch(hits(3, 4))
    sealer.step()
    assert yard.spans() == [(1, 1), (2, 5)]

    yard.epoch(hits(4, 5))
    sealer.step()
    assert sealer.sealed == 5
    assert request_seal(yard.ledger, yard.name) == 6
    sealer.step()
    assert requested_seal(yard.ledger, yard.name) == 0
    assert yard.spans() == [(1, 1), (2, 5), (6, 6)]

    yard.epoch(hits(0, 5))
    size = sum(each.file.bytes for each in yard.epochs()[0].segments)
    large = yard.sealer(seal_bytes=2 * size + 100)
    large.step()
    assert large.sealed == 6
    for n in range(4):  # a backlog is sealed in several ranges
        yard.epoch(hits(5 * n, 5 * n + 5))
    large.step()
    assert yard.spans()[3:] == [(7, 8), (9, 10)]
    assert large.sealed == sealed_until(yard.ledger, yard.name) == 10
    assert [each.epoch for each in yard.epochs()] == [11]


def test_an_epoch_larger_than_a_range_may_be_is_sealed_alone(yard: Yard) -> None:
    for n in range(3):
        yard.epoch(hits(0, 10 + n))
    seal(yard, seal_bytes=10)
    assert yard.spans() == [(1, 1), (2, 2), (3, 3)]


def test_a_range_is_of_epochs_that_carry_the_same_versions(yard: Yard) -> None:
    yard.epoch(hits(0, 10))
    yard.epoch(hits(10, 20))
    failing = yard.folding.view("by_key")
    yard.epoch(hits(20, 30), suspend=["by_key"])
    yard.epoch(hits(30, 40))
    wanted = merged(failing, [each.partials(failing.version) for each in yard.segments()[:2]])

    seal(yard, seal_epochs=1, merge_fanout=2)
    assert yard.spans() == [(1, 2), (3, 4)]
    # it answers as of the epoch before, so its runs stay
    core = failing.tables[0]
    assert same_rows(core, yard.files(files.RUN, failing.version, "core"), wanted["core"])
    first, second = yard.ranges()
    assert failing.version in {each.version for each in first.files}
    assert failing.version not in {each.version for each in second.files}


def test_runs_of_a_version_that_retires_stop_counting(tmp_path: Path) -> None:
    views = {"everything": VIEWS["everything"]}
    changed = {"everything": "SELECT count(*) AS hits FROM hits"}
    yard = Yard(tmp_path, views=views)
    yard.epoch(hits(0, 10))
    old = yard.folding.views
    yard.declare(STREAM, changed)  # folded and built aside
    new = yard.folding.views
    yard.folding.views = [*old, *new]
    for n in range(2):
        yard.epoch(hits(10 * n, 10 * n + 10))
        seal(yard, seal_epochs=1)
    yard.epoch(hits(90, 99))

    def versions() -> list[set[str | None]]:
        return [{each.version for each in one.files} - {None} for one in yard.ranges()]

    both = {old[0].version, new[0].version}
    assert versions() == [{old[0].version}, both, both]
    yard.declare(STREAM, views)  # and given up
    assert yard.folding.views == old
    yard.epoch(hits(100, 105))
    assert versions() == [{old[0].version}] * 3
    seal(yard, seal_epochs=1)
    assert versions() == [{old[0].version}] * 5
    seal(yard, merge_fanout=2)
    assert yard.spans() == [(1, 1), (2, 3), (4, 4), (5, 5)]
    assert versions() == [{old[0].version}] * 4
    yard.ledger.close()


def test_epochs_without_a_record_have_a_master_of_the_right_columns(yard: Yard) -> None:
    yard.epoch()
    yard.epoch()
    seal(yard)
    yard.epoch(hits(0, 3))
    seal(yard, merge_fanout=2)
    assert yard.spans() == [(1, 3)]
    empty = Yard(yard.folder / "other")
    empty.epoch()
    seal(empty)
    assert empty.files(files.MASTER).schema == yard.files(files.MASTER).schema
    (only,) = empty.ranges()
    assert {each.kind for each in only.files} == {files.MASTER, files.RUN}
    empty.ledger.close()


def test_rows_pass_in_row_groups_of_bounded_bytes(yard: Yard) -> None:
    for n in range(4):
        yard.epoch(hits(1000 * n, 1000 * n + 1000))
    seal(yard, row_group_bytes=50_000)
    (master,) = (each for each in yard.ranges()[0].files if each.kind == files.MASTER)
    with pq.ParquetFile(yard.root.check(master.file)) as file:
        sizes = [file.metadata.row_group(at).num_rows for at in range(file.num_row_groups)]
        assert len(sizes) > 4
        assert max(file.read_row_group(at).nbytes for at in range(len(sizes))) < 60_000
    assert sum(sizes) == 4000


def ids_of(yard: Yard) -> list[int]:
    return sorted(int(each) for each in yard.files(files.IDS)["u"].to_pylist() if each is not None)


def test_ids_are_dropped_when_they_make_no_duplicate_any_more(keyed: Yard) -> None:
    keyed.epoch(hits(0, 10))
    keyed.epoch(hits(5, 15))
    seal(keyed)
    assert ids_of(keyed) == list(range(15))
    keyed.clock += timedelta(days=3)
    keyed.epoch(hits(15, 20))
    seal(keyed)
    seal(keyed, merge_fanout=2)
    (file,) = counted_ids(keyed.ledger, keyed.name, 2).sealed
    assert described(keyed.root.check(file), file.path).last == 3
    assert len(keyed.files(files.IDS)) == 20

    keyed.clock += timedelta(days=5)
    keyed.epoch(hits(0, 2))
    keyed.epoch(hits(2, 4))
    seal(keyed, seal_epochs=1, merge_fanout=2)
    assert keyed.spans() == [(1, 5)]
    assert ids_of(keyed) == [*range(4), *range(15, 20)]

    keyed.clock += timedelta(days=30)
    for _ in range(4):
        keyed.epoch()
    seal(keyed, seal_epochs=1, merge_fanout=2)
    assert keyed.spans() == [(1, 9)]
    assert keyed.moved.is_set()
    assert counted_ids(keyed.ledger, keyed.name, 0).sealed == ()
    assert keyed.on_disk() == keyed.named()


def test_what_was_replaced_goes_after_a_while_and_nothing_else(yard: Yard) -> None:
    for n in range(4):
        yard.epoch(hits(n, n + 3))
    sealer = yard.sealer(keep_removed=timedelta(minutes=10), seal_epochs=2, merge_fanout=2)
    yard.clock += timedelta(minutes=2)
    before = yard.on_disk()
    sealer.step()
    assert yard.spans() == [(1, 4)]
    assert before < yard.on_disk() == yard.named()

    yard.clock += timedelta(minutes=10)
    yard.epoch(hits(0, 1))
    seal(yard, keep_removed=timedelta(minutes=10), seal_epochs=2)
    counting = {each.file.path for one in yard.ranges() for each in one.files}
    replaced = yard.named() - counting
    assert yard.on_disk() == yard.named()
    assert {path.split("/")[0] for path in replaced} == {"segments"}
    assert len(replaced) == 1

    seal(yard, keep_removed=timedelta(0))
    assert yard.on_disk() == yard.named() == counting


def test_files_that_a_build_may_read_stay(yard: Yard) -> None:
    for n in range(2):
        yard.epoch(hits(n, n + 3))
    seal(yard, seal_epochs=1)
    lease = take(
        yard.ledger,
        builds.build_lease("by_key"),
        Holder("here", 1, 0.0),
        yard.clock,
        timedelta(days=1),
        lambda _: False,
    )
    build = builds.begin(yard.ledger, "by_key", lease, yard.clock, until=2)
    read = {each.file.path for each in builds.inputs(yard.ledger, build.id).master}
    yard.epoch(hits(5, 6))
    yard.epoch(hits(6, 7))
    seal(yard, seal_epochs=1, merge_fanout=2)
    # the build's cut is a boundary that no merge crosses
    assert yard.spans() == [(1, 2), (3, 4)]
    seal(yard, keep_removed=timedelta(0))
    assert read <= yard.on_disk()

    builds.fail(yard.ledger, build.id, lease.token, "given up", yard.clock)
    seal(yard, keep_removed=timedelta(0), merge_fanout=2)
    assert read.isdisjoint(yard.on_disk())
    yard.epoch(hits(7, 8))
    seal(yard, merge_fanout=2)
    assert yard.spans()[0] == (1, 4)


@dataclass
class Naming(Direct):
    """Writes nothing: says that it did."""

    ranges: Callable[[], list[SealedRange]] = list
    version: str = ""
    most: int = 0

    def __call__(self, task: Sealing) -> tuple[DataFile, ...]:
        self.most = max(self.most, len(self.ranges()))
        path = f"{task.first}-{task.last}-{uuid.uuid4().hex}"
        master = StoredFile(f"master/{path}", "0" * 64, 10_000)
        run = StoredFile(f"runs/{path}", "0" * 64, 10)
        return (
            DataFile(files.MASTER, master, task.first, task.last, 1, accepted=1),
            DataFile(files.RUN, run, task.first, task.last, 1, version=self.version, table="core"),
        )


@pytest.mark.slow
def test_neither_files_nor_rows_grow_with_the_number_of_epochs(tmp_path: Path) -> None:
    yard = Yard(tmp_path, views={"everything": VIEWS["everything"]})
    run = yard.run = Naming(ranges=yard.ranges, version=yard.folding.views[0].version)
    for _ in range(625):
        yard.epoch()
    seal(yard, seal_epochs=1, merge_fanout=5)
    assert yard.spans() == [(1, 625)]
    assert run.most <= 4 + 4 + 4 + 5
    seal(yard, keep_removed=timedelta(0))
    with yard.ledger.read() as connection:
        counts = {
            table.name: connection.scalar(select(func.count()).select_from(table)) or 0
            for table in tables.metadata.sorted_tables
        }
    assert (counts["epochs"], counts["ranges"], counts["sealed"], counts["files"]) == (0, 0, 1, 2)
    assert max(count for table, count in counts.items() if table != "migrations") <= 2
    yard.ledger.close()


def test_a_damaged_segment_stops_sealing_and_nothing_else(yard: Yard) -> None:
    for n in range(3):
        yard.epoch(hits(n, n + 3))
    path = yard.root.local(yard.epochs()[1].segments[0].file.path)
    whole = path.read_bytes()
    path.write_bytes(whole[:100] + b"?" + whole[101:])
    with pytest.raises(SealingFailed, match=path.name):
        seal(yard)
    assert yard.on_disk() == yard.named()
    assert yard.epoch(hits(3, 4)) == 4
    path.write_bytes(whole)
    seal(yard)
    assert yard.spans() == [(1, 4)]


def test_a_full_disk_leaves_nothing_behind(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    yard.epoch(hits(0, 3))
    written, write = [], DataRoot.write

    def full(root: DataRoot, folder: str, name: str, writer: Callable[[Path], None]) -> StoredFile:
        written.append(folder)
        if len(written) == 3:
            raise OSError(errno.ENOSPC, "no space")
        return write(root, folder, name, writer)

    with monkeypatch.context() as patched:
        patched.setattr(DataRoot, "write", full)
        with pytest.raises(SealingFailed, match=r"OSError: .* no space"):
            seal(yard)
    assert len(written) == 3
    assert yard.on_disk() == yard.named()
    seal(yard)
    assert yard.spans() == [(1, 1)]


def test_a_sealer_that_lost_its_lease_seals_nothing(yard: Yard) -> None:
    yard.epoch(hits(0, 3))
    sealer = yard.sealer()
    yard.lease()
    yard.clock += timedelta(minutes=1)
    with pytest.raises(StaleToken):
        sealer.step()
    assert yard.ranges() == []
    assert yard.on_disk() == yard.named()


def test_trouble_is_said_once_and_tried_again(yard: Yard, caplog: pytest.LogCaptureFixture) -> None:
    yard.epoch(hits(0, 3))
    yard.clock += timedelta(minutes=1)
    caplog.set_level("INFO", "streaming")
    sealer = yard.sealer(back_off_first=0.01, back_off_most=0.02, seal_look=0.01, once_attempts=4)
    yard.run.error = OSError(errno.ENOSPC, "no space")
    sealer.start()
    wait_until(lambda: sealer.error is not None, "trouble", 10)
    yard.run.error = None
    wait_until(lambda: sealer.sealed == 1, "a range", 10)
    wait_until(lambda: sealer.error is None, "the end of the trouble", 10)
    yard.epoch(hits(0, 3))
    sealer.finish()
    wait_until(lambda: sealer.finished, "the end", 10)
    assert (sealer.sealed, yard.fatal) == (2, [])
    said = [each.message for each in caplog.records]
    assert len([each for each in said if "not sealed" in each]) == 1
    assert len([each for each in said if "goes on" in each]) == 1

    yard.epoch(hits(0, 3))
    ending = yard.sealer(back_off_first=0.01, once_attempts=2)
    yard.run.error = OSError(errno.ENOSPC, "no space")
    ending.finish()
    ending.start()
    wait_until(lambda: ending.finished, "the end", 10)
    assert ending.error is not None

    yard.run.error = None
    yard.lease()
    stale = yard.sealer()
    yard.lease()
    stale.finish()
    stale.start()
    wait_until(lambda: stale.finished, "the end", 10)
    assert isinstance(yard.fatal[0], StaleToken)


@dataclass
class Slow(Direct):
    """Goes on once it may, or until it is cancelled."""

    begun: threading.Event = field(default_factory=threading.Event)
    may: threading.Event = field(default_factory=threading.Event)
    cancelled: bool = False

    def __call__(self, task: Sealing) -> tuple[DataFile, ...]:
        self.begun.set()
        assert self.may.wait(10)
        if self.cancelled:
            text = "cancelled"
            raise OSError(text)
        return super().__call__(task)

    def cancel(self) -> None:
        self.cancelled = True
        self.may.set()


@pytest.mark.parametrize("patience", [0.0, 10.0])
def test_a_task_at_work_may_end_within_the_patience(yard: Yard, patience: float) -> None:
    for n in range(2):
        yard.epoch(hits(n, n + 3))
    yard.clock += timedelta(minutes=1)
    run = yard.run = Slow()
    sealer = yard.sealer(seal_epochs=1)
    sealer.start()
    assert run.begun.wait(10)
    sealer.stop()
    if patience:
        run.may.set()
    sealer.join(patience)
    assert sealer.finished
    assert run.cancelled == (patience == 0)
    assert (sealer.error, yard.fatal) == (None, [])
    assert yard.spans() == ([(1, 1)] if patience else [])


def test_leftovers_of_older_tokens_go(yard: Yard) -> None:
    some_epochs(yard)
    seal(yard, seal_epochs=3)
    named = yard.named()
    left = set()
    for path in sorted(yard.on_disk()):
        folder, name = path.rsplit("/", 1)
        for copy in (name[:-12] + "0" * 4 + name[-8:], f".{name}.0f.part"):
            (yard.state / folder / copy).write_bytes(b"")
            left.add(copy)
    left -= {path.rsplit("/", 1)[1] for path in named}
    assert remove_orphans(yard.root, yard.ledger, yard.name, yard.token) == []
    yard.lease()
    gone = remove_orphans(yard.root, yard.ledger, yard.name, yard.token)
    assert set(gone) == left
    assert yard.on_disk() == yard.named() == named


def sealed(first: int, last: int, level: int = 0, kind: str = "s1") -> SealedRange:
    return SealedRange(
        "s", first, last, level, START, START, kind, None, frozenset(), 0, 0, 0, (), Position(), ()
    )


def spans(ranges: Sequence[SealedRange]) -> list[tuple[int, int]]:
    return [(each.first, each.last) for each in ranges]


def test_which_ranges_become_one() -> None:
    plain = [sealed(n, n) for n in range(1, 6)]
    assert spans(levels.to_merge(plain, (), 3)) == [(1, 1), (2, 2), (3, 3)]
    assert levels.to_merge(plain, (), 6) == []
    assert spans(levels.to_merge(plain, {2}, 3)) == [(3, 3), (4, 4), (5, 5)]
    assert levels.to_merge(plain, {2, 4}, 3) == []
    assert levels.to_merge([*plain[:2], sealed(3, 3, kind="s2"), *plain[3:]], (), 3) == []
    higher = [sealed(1, 9, 1), sealed(10, 19, 1), sealed(20, 20), sealed(21, 21)]
    assert levels.to_merge(higher, (), 3) == []
    # what a boundary had cut short is merged with what came after it
    cut = [*higher, sealed(22, 29, 1), sealed(30, 30)]
    assert levels.to_merge(cut, {21}, 3) == []
    assert spans(levels.to_merge(cut, (), 3)) == [(1, 9), (10, 19), (20, 20)]


def test_no_range_lasts_longer_than_retention_allows() -> None:
    def at(first: int, last: int) -> SealedRange:
        begun, ended = START + timedelta(hours=first - 1), START + timedelta(hours=last)
        return replace(sealed(first, last), first_instant=begun, instant=ended)

    hours = [at(n, n) for n in range(1, 7)]
    assert spans(levels.to_merge(hours, (), 3)) == [(1, 1), (2, 2), (3, 3)]
    assert spans(levels.to_merge(hours, (), 3, timedelta(hours=3))) == [(1, 1), (2, 2), (3, 3)]
    assert levels.to_merge(hours, (), 3, timedelta(hours=2)) == []
    # one that lasts long does not keep later ones from being merged
    late = [at(1, 5), *(at(n, n) for n in range(6, 9))]
    assert spans(levels.to_merge(late, (), 3, timedelta(hours=3))) == [(6, 6), (7, 7), (8, 8)]
    # nothing is to be let go any more of what is behind retention
    assert spans(levels.to_merge(hours, {3}, 3, timedelta(hours=1), 3)) == spans(hours[:3])


def test_which_files_become_one() -> None:
    def file(first: int, last: int, size: int, kind: str = "master") -> DataFile:
        version, table = ("v", "core") if kind == files.RUN else (None, None)
        stored = StoredFile(f"{kind}/{first}", "0" * 64, size)
        return DataFile(kind, stored, first, last, 1, version=version, table=table)

    sizes = [40, 40, 40, 100, 10, 10, 200, 50]
    listed = [file(at, at, size) for at, size in enumerate(sizes)]
    packs = levels.packs(listed, 100)
    assert [[each.first for each in pack] for pack in packs] == [[0, 1], [4, 5]]
    assert levels.packs(listed[:1], 100) == levels.packs([], 100) == []

    runs = [file(first, last, 1, "run") for first, last in ((1, 2), (3, 3), (5, 6), (7, 9))]
    assert levels.runs([*listed, *reversed(runs)]) == {
        ("v", "core"): [tuple(runs[:2]), tuple(runs[2:])]
    }


def killed(yard: Yard, failpoints: str) -> int:
    own = {"EVERVIEW_FAILPOINTS": failpoints, "EVERVIEW_TEST": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.engine.sealing_process", str(yard.state), yard.name]
    return subprocess.run(command, env=os.environ | own, check=False, timeout=60).returncode


@pytest.mark.slow
def test_kills_at_every_moment_lose_and_double_nothing(yard: Yard) -> None:
    some_epochs(yard)
    readers = yard.segments()
    master = [row for each in readers for row in each.master().to_pylist()]
    wanted = expected(yard, readers)
    # the last two while ranges are merged
    assert killed(yard, "seal.before_files=kill@2") == -signal.SIGKILL
    assert killed(yard, "seal.after_files=kill@2") == -signal.SIGKILL
    assert yard.spans() == [(1, 1), (2, 2)]
    assert yard.on_disk() > yard.named()  # what was written and not named
    assert killed(yard, "seal.after_commit=kill@2") == -signal.SIGKILL
    assert yard.spans()[0][1] > 1
    assert yard.epochs() != []
    assert killed(yard, "clean.before_forget=kill") == -signal.SIGKILL
    assert yard.on_disk() < yard.named()  # what was unlinked and not forgotten
    assert killed(yard, "") == 0

    assert yard.epochs() == []
    found = yard.files(files.MASTER).to_pylist()
    assert found == sorted(master, key=place)
    check_runs(yard, wanted)
    counting = {each.file.path for one in yard.ranges() for each in one.files}
    assert yard.on_disk() == yard.named() == counting
