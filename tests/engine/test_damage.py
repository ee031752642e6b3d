"""Damage is found, named exactly, and repaired where that is possible: no number changes by it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.damage import scrub
from infra.damage.scrub import Pace
from schemas.errors import RepairRefused, SealingNotNext
from schemas.ledger import repairs, sealing
from schemas.ledger.files import IDS, MASTER, REJECTS, RUN, SEGMENT
from schemas.segment import SegmentReader
from tests.engine.damaging import Logged, flip
from tests.engine.yard import KEYED, STREAM

pytestmark = pytest.mark.slow


def hit(u: int, n: int = 1) -> bytes:
    return json.dumps({"k": f"k{u % 5}", "u": u, "n": n}).encode()


def hits(first: int, until: int, partition: int = 0, n: int = 1) -> dict[int, list[bytes]]:
    return {partition: [hit(u, n) for u in range(first, until)]}


@pytest.fixture(scope="module", params=[STREAM, KEYED], ids=["plain", "keyed"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Logged:
    """A merged range of four epochs, a range of two, two epochs that are not sealed; rejects and
    repeated ids in each."""
    made = Logged(tmp_path_factory.mktemp("yard"), request.param)
    for at in range(8):
        bad = {1: [b"no json", hit(100 + at, at)]}
        tasks = (hits(at * 3, at * 3 + 6), bad)
        made.epoch(*(tasks if request.param == STREAM else ({**tasks[0], **bad},)))
        if at == 3:
            seal(made, seal_epochs=2, merge_fanout=2)
        if at == 5:
            seal(made, merge_fanout=10)
    assert made.spans() == [(1, 4), (5, 6)]
    return made


@pytest.fixture
def yard(made: Logged, tmp_path: Path) -> Iterator[Logged]:
    copied = made.copied(tmp_path)
    yield copied
    copied.ledger.close()


def seal(yard: Logged, **settings: Any) -> None:
    settings = {"seal_every": timedelta(0), "keep_removed": timedelta(0)} | settings
    yard.sealer(**settings).step()


def rows_of(yard: Logged, held: repairs.Held) -> list[dict[str, Any]]:
    """A file's rows but for their epochs, in one order."""
    if held.data.kind == SEGMENT:
        reader = SegmentReader(yard.root.get(held.data.file), held.data.file.path)
        table = reader.master()
    elif held.data.kind == IDS:
        table = yard._rows(held.data).drop_columns("_instant")
    else:
        table = pq.read_table(yard.root.check(held.data.file)).replace_schema_metadata()
    names = [name for name in table.column_names if name != "_epoch"]
    rows: list[dict[str, Any]] = table.select(names).to_pylist()
    return sorted(rows, key=repr)


def test_nothing_is_damaged(yard: Logged) -> None:
    found = yard.scrub()
    held = repairs.counting(yard.ledger)
    assert (found.files, found.damaged, found.stray) == (len(held), [], [])
    assert found.bytes == sum(each.data.file.bytes for each in held)


@pytest.mark.parametrize("kind", [SEGMENT, MASTER, REJECTS, IDS, RUN])
def test_a_damaged_file_is_named_and_made_again(yard: Logged, kind: str) -> None:
    before = yard.answers()
    listed = [each for each in repairs.counting(yard.ledger) if each.data.kind == kind]
    if not listed:  # a stream without a primary key has no ids
        assert (kind, bool(yard.folding.stream.key)) == (IDS, False)
        return
    rows = [rows_of(yard, each) for each in listed]
    for at, each in enumerate(listed):
        if at % 2:
            yard.root.remove(each.data.file.path)
        else:
            flip(yard.root, each.data.file.path)

    found = yard.scrub().damaged
    assert [each.path for each in found] == [each.data.file.path for each in listed]
    for damage, held in zip(found, listed, strict=True):
        assert damage.kind == kind
        assert damage.covered is not None
        assert damage.covered.exact
        spans = {(s.first, s.last): s.ranges for s in repairs.spans(yard.ledger, yard.name)}
        assert damage.covered.ranges == spans[held.data.first, held.data.last]
        assert "offsets 0: " in damage.words

    outcome = yard.repair(found)
    assert {text.partition(":")[0] for text in outcome.values()} == {"repaired"}, outcome
    assert yard.scrub().damaged == []
    again = [each for each in repairs.counting(yard.ledger) if each.data.kind == kind]
    if kind == SEGMENT and not yard.folding.stream.key:  # two of an epoch became one
        assert [e.data.first for e in again] == sorted({e.data.first for e in listed})
        together = [row for each in again for row in rows_of(yard, each)]
        assert sorted(together, key=repr) == sorted((r for part in rows for r in part), key=repr)
    else:
        assert [rows_of(yard, each) for each in again] == rows
    assert {each.data.file.path for each in again}.isdisjoint(e.data.file.path for e in listed)
    assert yard.answers() == before

    # and what follows goes on from there
    seal(yard, merge_fanout=2)
    yard.clock += timedelta(minutes=1)
    seal(yard, merge_fanout=2)
    assert yard.spans() == [(1, 8)]
    assert yard.answers() == before
    assert yard.scrub().damaged == []


def test_one_segment_of_two_is_made_of_the_records_that_the_other_lacks(tmp_path: Path) -> None:
    yard = Logged(tmp_path)
    yard.epoch(hits(0, 5), hits(5, 9, partition=1), {0: [b"bad"]})
    held = [yard.held(SEGMENT, at) for at in range(3)]
    flip(yard.root, held[1].data.file.path)
    (outcome,) = yard.repair().values()
    assert outcome.startswith("repaired")
    (made,) = [
        each
        for each in repairs.counting(yard.ledger)
        if each.data.file.path not in {one.data.file.path for one in held}
    ]
    assert (made.data.rows, made.data.accepted) == (4, 4)
    assert yard.scrub().damaged == []


def test_a_run_can_follow_the_master_that_it_needs(yard: Logged) -> None:
    before = yard.answers()
    for kind in (MASTER, RUN):
        for each in [e for e in repairs.counting(yard.ledger) if e.data.kind == kind]:
            flip(yard.root, each.data.file.path)
    assert all(text.startswith("repaired") for text in yard.repair().values())
    assert yard.answers() == before


def test_what_has_other_counts_is_no_repair(yard: Logged) -> None:
    """The log has one record less: not the events that were counted."""
    for kind in (SEGMENT, MASTER):
        flip(yard.root, yard.held(kind).data.file.path)
    yard.log.tables = [each.slice(1) for each in yard.log.tables]
    before, files = repairs.counting(yard.ledger), yard.on_disk()
    told = yard.repair()
    assert len(told) == 2
    assert all("as the ledger has it" in text or "no part" in text for text in told.values()), told
    assert repairs.counting(yard.ledger) == before
    assert yard.on_disk() == files
    yard.log.tables = []
    assert all("not repaired" in text for text in yard.repair().values())
    assert repairs.counting(yard.ledger) == before


def test_what_the_log_no_longer_has_is_named(yard: Logged) -> None:
    held = yard.held(MASTER)
    flip(yard.root, held.data.file.path)
    yard.log.first = {0: 5}
    (told,) = yard.repair().values()
    assert "offsets 0..4 of partition 0" in told
    assert "Restore the file from a backup" in told
    yard.log.first, yard.log.until = {}, {0: 7}
    (told,) = yard.repair().values()
    assert "offsets 7..23 of partition 0" in told
    yard.log.until, yard.log.topic_id = {}, "another"
    (told,) = yard.repair().values()
    assert "topic id is another" in told


def test_which_of_two_partitions_counted_is_told_by_the_runs(tmp_path: Path) -> None:
    yard = Logged(tmp_path, KEYED)
    yard.epoch(hits(0, 3, partition=1, n=7))
    yard.epoch({0: [hit(0, 1), hit(9, 9)]})  # a duplicate, which comes first by partition
    seal(yard)
    before = yard.answers()
    held = yard.held(MASTER)
    flip(yard.root, held.data.file.path)
    (told,) = yard.repair().values()
    assert "two partitions have events that differ" in told
    assert yard.held(MASTER) == held
    assert yard.answers() == before

    # but where the log says which one was there first, it is tried, and the runs agree
    early = pa.array([datetime(2025, 1, 1)] * 3, pa.timestamp("us"))  # noqa: DTZ001
    first = yard.log.tables[0]
    yard.log.tables[0] = first.set_column(2, first.schema.field(2), early)
    (told,) = yard.repair().values()
    assert told.startswith("repaired")
    assert yard.answers() == before
    seal(yard)
    run = yard.held(RUN)
    flip(yard.root, run.data.file.path)
    assert all(text.startswith("repaired") for text in yard.repair().values())
    assert yard.answers() == before


def test_what_is_sealed_away_while_it_is_read_is_no_damage(yard: Logged) -> None:
    done: list[str] = []

    def progress(_done: int, _all: int, path: str) -> None:
        if path.endswith(".zip") and not done:
            done.append(path)
            seal(yard)
            yard.clock += timedelta(minutes=1)
            seal(yard)
            assert not list((yard.state / "segments" / yard.name).iterdir())

    found = scrub.scrub(yard.ledger, yard.root, Pace(0), progress)
    assert done
    assert found.damaged == []


def test_a_file_that_says_other_things_than_the_ledger_is_damaged(yard: Logged) -> None:
    """Its sha256 is the ledger's, as where a row was written by mistake."""
    one, other = yard.held(RUN, 0), yard.held(RUN, 1)
    assert one.data.table is not None
    with yard.ledger.write() as connection:
        for a, b in ((one, other),):
            connection.exec_driver_sql(
                "UPDATE files SET sha256 = ?, bytes = ?, rows = ? WHERE path = ?",
                (b.data.file.sha256, b.data.file.bytes, b.data.rows, a.data.file.path),
            )
    yard.root.local(one.data.file.path).write_bytes(yard.root.get(other.data.file))
    (found,) = yard.scrub().damaged
    assert found.path == one.data.file.path
    assert "one that says" in found.expected


def test_stray_files_are_mentioned_and_stay(yard: Logged) -> None:
    folder = yard.state / "master" / yard.name
    names = ["half.parquet", "1-4-0-" + 32 * "0" + ".parquet", "x.crc"]
    for name in names:
        (folder / name).write_bytes(b"PAR1")
    under_way = folder / f"9-9-{yard.token}-{32 * '1'}.parquet"
    under_way.write_bytes(b"")
    found = yard.scrub()
    assert sorted(found.stray) == sorted(f"master/{yard.name}/{name}" for name in names)
    assert found.damaged == []
    assert all((folder / name).exists() for name in names)


def test_a_merge_does_not_take_what_was_repaired_meanwhile(yard: Logged) -> None:
    """Its files were chosen, and read, before the repair."""
    sealer = yard.sealer(merge_fanout=2)
    ranges = yard.ranges()
    task, removed = sealer._merging(ranges)
    added = yard.run(task)
    run = yard.held(RUN)
    flip(yard.root, run.data.file.path)
    assert all(text.startswith("repaired") for text in yard.repair().values())
    with pytest.raises(SealingNotNext, match="does not any more"):
        sealing.merge_ranges(yard.ledger, yard.name, yard.token, ranges, added, removed, yard.clock)
    assert yard.spans() == [(1, 4), (5, 6)]


def test_a_seal_does_not_take_what_was_repaired_meanwhile(yard: Logged) -> None:
    epochs = [each for each in yard.epochs() if each.epoch > 6]
    read = [each.file.path for epoch in epochs for each in epoch.segments]
    flip(yard.root, read[0])
    yard.repair()
    with pytest.raises(SealingNotNext, match="segments that count"):
        sealing.seal(yard.ledger, yard.name, yard.token, 7, 8, [], yard.clock, read)


def replaced_by(yard: Logged, under: int, path: str, **other: Any) -> None:
    run = yard.held(RUN).data
    new = replace(run, file=replace(run.file, path="runs/x/y/core/1-4-1-a.parquet"), **other)
    repairs.replace(yard.ledger, yard.name, under, [path], new, yard.clock)


def test_a_repair_under_a_token_that_has_grown_is_refused(yard: Logged) -> None:
    path = yard.held(RUN).data.file.path
    under = repairs.token(yard.ledger, yard.name)
    yard.lease()
    with pytest.raises(RepairRefused, match="has grown to"):
        replaced_by(yard, under, path)
    assert yard.held(RUN).data.file.path == path


def test_a_repair_of_other_epochs_or_counts_is_refused(yard: Logged) -> None:
    path, rows = yard.held(RUN).data.file.path, yard.held(RUN).data.rows
    for other in ({"rows": rows + 1}, {"first": 2}, {"table": "other"}, {"version": "other"}):
        with pytest.raises(RepairRefused):
            replaced_by(yard, yard.token, path, **other)
    with pytest.raises(RepairRefused, match="does not count"):
        replaced_by(yard, yard.token, "runs/none")
    assert yard.held(RUN).data.file.path == path


def test_everything_of_a_range_can_be_made_again(yard: Logged) -> None:
    """All of its files are damaged, and what the unsealed epochs after it need."""
    before = yard.answers()
    for each in repairs.counting(yard.ledger):
        flip(yard.root, each.data.file.path)
    told = yard.repair()
    assert all(text.startswith("repaired") for text in told.values()), told
    assert yard.scrub().damaged == []
    assert yard.answers() == before
