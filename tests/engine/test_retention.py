"""Retention of the master: what it removes, what it keeps, and that totals outlive the detail.

The oracle is DuckDB over every event there ever was, and a twin that keeps all of its master:
estimates have to be those of the twin to the last bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from batch import retention as work
from batch.compiled import Compiled
from batch.verify import Verified, verify
from schemas.errors import (
    DamagedFile,
    LeaseHeld,
    RetentionMoved,
    RetentionNotNext,
    RetentionRefused,
    SealingNotNext,
    StaleToken,
)
from schemas.ledger import builds, copies, files, leases, retention, sealing, tables, versions
from schemas.ledger.files import BASE, BATCH, IDS, MASTER, REJECTS
from schemas.ledger.leases import Holder
from tests.api.world import START, STREAM, Served
from tests.engine import retaining
from tests.engine.batching import EVENT_COLUMNS, NOW, Sealed, events, ordered
from tests.engine.conftest import ROOT
from tests.engine.retaining import LATER
from tests.engine.test_batch_proof import alter, file_of
from tests.engine.yard import KEYED, Yard
from tests.oracle import Oracle

pytestmark = pytest.mark.slow

VIEWS = {
    "by_key": """SELECT k, count(*) AS hits, sum(n) AS total, avg(n) AS mean, min(n) AS low,
        max(n) AS high FROM hits GROUP BY k""",
    "everything": "SELECT count(*) AS hits, sum(n) AS total, max(k) AS last FROM hits",
    "visitors": "SELECT k, approx_count_distinct(u) AS visitors FROM hits GROUP BY k",
    "middle": "SELECT k, count(*) AS hits, approx_quantile(n, 0.5) AS m FROM hits GROUP BY k",
}
EXACT = ("by_key", "everything")
TALLY = "SELECT k, count(*) AS hits, approx_count_distinct(u) AS visitors FROM hits GROUP BY k"
MORE = "SELECT k, count(*) AS hits, min(u) AS least FROM hits GROUP BY k"
HERE = Holder("here", 1, 0.0)
MOMENTS = ("before_files", "after_files", "in_commit", "after_commit")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Sealed]:
    made = Sealed(tmp_path / "one", views=VIEWS)
    yield made
    made.ledger.close()


@pytest.fixture
def twin(tmp_path: Path) -> Iterator[Sealed]:
    made = Sealed(tmp_path / "other", views=VIEWS)
    yield made
    made.ledger.close()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Sealed]:
    """Of one view: epochs 1 to 3 and 4 are sealed ranges, and published."""
    made = Sealed(tmp_path / "small", views={"tally": TALLY})
    made.epochs(events(40), [], events(60, start=30))
    made.epochs(events(50, start=90))
    build(made, "tally")
    yield made
    made.ledger.close()


def retainer(world: Sealed, epoch: int, now: datetime = LATER) -> work.Retainer:
    return retaining.retainer(world.state, world.ledger, epoch, now)


def build(world: Sealed, view: str, *, full: bool = False, **settings: Any) -> Any:
    return world.builder(**settings).all_steps(view, full=full, until=None)


def build_all(world: Sealed, *, full: bool = False) -> None:
    for view in VIEWS:
        build(world, view, full=full, rollback_window=timedelta(0))


def check(world: Sealed, view: str, served: Any = None) -> Verified:
    definitions = Compiled(world.ledger)
    return verify(world.ledger, world.root, definitions, view, served, memory="512MB", threads=1)


def counting(world: Sealed, kind: str) -> list[tuple[int, int]]:
    """The epochs of the files of a kind that count, all of which are there and whole."""
    f = tables.files.c
    with world.ledger.read() as connection:
        query = select(tables.files).where(f.kind == kind, f.removed_state.is_(None))
        found = [files.data_file(row) for row in connection.execute(query.order_by(f.id))]
    assert all(world.root.check(each.file) for each in found)
    return sorted({(each.first, each.last) for each in found})


def on_disk(world: Sealed, folder: str) -> set[str]:
    found = (world.state / folder).rglob("*")
    return {each.relative_to(world.state).as_posix() for each in found if each.is_file()}


def named(world: Sealed, kind: str) -> set[str]:
    return set(files.named(world.ledger, kind, world.name))


def states(world: Sealed) -> list[tuple[str, int]]:
    r = tables.retentions.c
    with world.ledger.read() as connection:
        rows = connection.execute(select(r.state, r.epoch).order_by(r.id))
        return [(row.state, row.epoch) for row in rows]


def agree(world: Sealed, twin: Sealed, epoch: int) -> None:
    """What is published, what the twin has, what DuckDB says, and what `verify` finds."""
    for view, text in VIEWS.items():
        assert world.finished(view) == twin.finished(view), view
        if view in EXACT:
            oracle = Oracle()
            oracle.fill("hits", EVENT_COLUMNS, world.told[epoch])
            assert world.finished(view) == ordered(oracle.answer(text)), view
        done = check(world, view)
        assert (done.comparison.different, done.epoch) == (0, epoch), done.json()


def test_totals_outlive_the_detail(world: Sealed, twin: Sealed) -> None:
    for each in (world, twin):
        each.epochs(events(40), [], events(60, start=30))
        each.epochs(events(50, start=90))
        build_all(each)
    done = retainer(world, 3).retain(world.name)
    assert (done.plan.before, done.plan.epoch, done.plan.events) == (0, 3, 100)
    assert counting(world, MASTER) == [(4, 4)]
    assert counting(world, BASE) == [(1, 3)]
    agree(world, twin, 4)

    for each in (world, twin):  # incremental, and full from base and what is left
        each.epochs(events(45, start=120), [{"k": "new", "u": 1, "n": 1, "moment": None}])
        build_all(each)
    agree(world, twin, 6)
    for view in VIEWS:
        full = build(world, view, full=True)
        told = full.proof.evidence["retention"]
        keyed = view != "everything"
        assert full.proof.verdict == "equal"
        assert (told["epoch"], told["on_base"], told["own_select"]) == (
            (3, 6, 1) if keyed else (3, 1, 0)
        )
        assert full.proof.evidence["master"]["rows"] == 96
    agree(world, twin, 6)

    # a rollback goes back to what is kept, whose cut is not below what was removed
    for each in (world, twin):
        each.epochs(events(30, start=400))
        for view in VIEWS:
            build(each, view)
    assert builds.rollback(world.ledger, "by_key", None, NOW).cut == 6
    done_at_6 = check(world, "by_key")
    assert (done_at_6.comparison.different, done_at_6.epoch, done_at_6.cut) == (0, 7, 6)
    build(world, "by_key", full=True)
    again = retainer(world, 7).retain(world.name)
    assert (again.plan.before, again.plan.epoch, again.plan.wanted) == (3, 6, 7)
    assert counting(world, MASTER) == [(7, 7)]
    assert counting(world, BASE) == [(1, 6)]
    build_all(world, full=True)
    agree(world, twin, 7)


def test_what_needs_detail_keeps_it_and_is_named(small: Sealed) -> None:
    small.epochs(events(5))
    plan = retainer(small, 5).plan(small.name)
    assert (plan.epoch, plan.wanted) == (4, 5)
    assert [each.what for each in plan.holds] == ["publication 1 of view 'tally', which is served"]
    begun = small.builder().plan("tally", full=False, until=None)
    plan = retainer(small, 5, NOW).plan(small.name)
    assert plan.empty
    assert f"build {begun.id} of view 'tally', which is at work" in work.words(plan)
    small.builder().release(begun.id)
    assert retainer(small, 5, NOW).plan(small.name).epoch == 4

    small.deploy(small.state.parent / "project2", STREAM, {"tally": TALLY, "more": MORE})
    done = retainer(small, 5).retain(small.name)
    assert done.plan.empty
    assert "`everview rebuild more` builds one: after 0" in done.words
    assert counting(small, MASTER) == [(1, 3), (4, 4), (5, 5)]
    assert states(small) == []


def test_a_version_that_was_registered_later_says_since_when_it_counts(small: Sealed) -> None:
    retainer(small, 3).retain(small.name)
    small.deploy(small.state.parent / "project2", STREAM, {"tally": TALLY, "more": MORE})
    small.epochs(events(10, start=7))
    done = build(small, "more")
    assert done.proof.verdict == "equal"
    assert done.proof.evidence["retention"] is None
    oracle = Oracle()
    oracle.fill("hits", EVENT_COLUMNS, small.told[5][100:])
    assert small.finished("more") == ordered(oracle.answer(MORE))
    told = check(small, "more").json()
    assert (told["different"], told["since"], told["on_base"]) == (0, 4, 0)
    served = Served(small.state)
    served.catch_up()
    assert [served.coverage(view)["since"] for view in ("more", "tally")] == [4, None]
    assert ordered(served.rows("FROM more")) == small.finished("more")

    build(small, "tally")
    retainer(small, 4).retain(small.name)  # it has a base by now, and counts from where it did
    assert counting(small, BASE) == [(1, 4), (4, 4)]
    build(small, "more", full=True)
    assert small.finished("more") == ordered(oracle.answer(MORE))
    assert versions.version(small.ledger, "more", done.build.version).since_epoch == 4
    assert check(small, "more").json()["different"] == 0


def test_a_base_that_is_not_what_is_published_removes_nothing(small: Sealed) -> None:
    alter(small, file_of(small, BATCH, small.folding.view("tally").version), "_count_0")

    with pytest.raises(RetentionRefused, match=r"view 'tally', core, group .*_count_0"):
        retainer(small, 3).retain(small.name)

    assert counting(small, MASTER) == [(1, 3), (4, 4)]
    assert counting(small, BASE) == []
    assert states(small) == [("refused", 3)]
    assert build(small, "tally", full=True).proof.verdict == "repair"
    assert retainer(small, 3).retain(small.name).plan.epoch == 3
    assert on_disk(small, "base") == named(small, BASE)  # what was refused is gone


def test_a_wrong_batch_view_is_told_from_its_base_and_repaired(small: Sealed) -> None:
    retainer(small, 3).retain(small.name)
    small.epochs(events(5))
    alter(small, file_of(small, BATCH, small.folding.view("tally").version), "_count_0")
    found = check(small, "tally")
    assert found.comparison.different == 6
    layers = {layer.words for each in found.layers.values() for layer in each}
    assert layers == {"the batch view of epochs 1..4"}
    assert build(small, "tally", full=True).proof.verdict == "repair"
    assert check(small, "tally").comparison.different == 0


def test_what_a_base_lacks_is_a_difference(small: Sealed) -> None:
    retainer(small, 3).retain(small.name)
    file = file_of(small, BASE, small.folding.view("tally").version)
    alter(small, file, "_count_0")
    assert check(small, "tally").comparison.different == 6
    small.root.local(file.file.path).write_bytes(b"")
    with pytest.raises(DamagedFile, match=file.file.path):
        check(small, "tally")
    with pytest.raises(DamagedFile, match=file.file.path):
        build(small, "tally", full=True)


def test_a_build_that_began_before_is_not_published(small: Sealed) -> None:
    small.epochs(events(5))
    begun = small.builder().plan("tally", full=True, until=None)
    small.builder().rebuild(begun.id)
    small.builder().prove(begun.id)
    retainer(small, 3).retain(small.name)  # an hour later: its lease has run out
    with pytest.raises(RetentionMoved, match="epochs up to 0; retention has removed those up to 3"):
        small.builder().publish(begun.id)
    with pytest.raises(RetentionMoved):
        small.builder().prove(begun.id)
    small.builder().release(begun.id)
    assert build(small, "tally", full=True).proof.verdict == "equal"


def test_a_build_that_begins_meanwhile_keeps_what_it_reads(
    small: Sealed, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.epochs(events(5))

    def begin(moment: str) -> None:
        if moment == "retention.after_files":
            small.builder().plan("tally", full=True, until=None)

    monkeypatch.setattr(work, "failpoint", begin)
    with pytest.raises(RetentionNotNext, match="build 2 of view 'tally', which is at work"):
        retainer(small, 3, NOW).retain(small.name)
    assert states(small) == [("failed", 3)]
    assert counting(small, MASTER) == [(1, 3), (4, 4), (5, 5)]
    small.builder().rebuild(2)
    small.builder().prove(2)
    small.builder().publish(2)


def test_one_retains_at_a_time(small: Sealed) -> None:
    name, other = retention.lease_name(small.name), Holder("elsewhere", 7, 0.0)
    leases.take(small.ledger, name, other, LATER, timedelta(hours=1), alive=lambda _: True)
    with pytest.raises(LeaseHeld, match="elsewhere"):
        retainer(small, 3).retain(small.name)
    assert counting(small, MASTER) == [(1, 3), (4, 4)]


def test_one_that_was_paused_commits_nothing(
    small: Sealed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease is another one's by the time that it wakes up."""

    def paused(moment: str) -> None:
        if moment == "retention.after_files":
            monkeypatch.undo()
            with small.ledger.write() as connection:
                tokens = tables.leases.c
                this = tables.leases.update().where(tokens.name == "retention/hits")
                connection.execute(this.values(host=None))
            retainer(small, 3).retain(small.name)

    monkeypatch.setattr(work, "failpoint", paused)
    with pytest.raises(StaleToken):
        retainer(small, 3).retain(small.name)
    assert [state for state, _ in states(small)] == ["failed", "retained"]
    assert check(small, "tally").comparison.different == 0
    assert on_disk(small, "base") >= named(small, BASE)
    retainer(small, 3).retain(small.name)  # nothing to do, but what was left goes
    assert on_disk(small, "base") == named(small, BASE)


def test_ranges_merged_meanwhile_do_not_bring_events_back(small: Sealed) -> None:
    """A merge that read files before they were let go cannot name what it made of them."""
    small.epochs(events(5))
    ranges = sealing.sealed_ranges(small.ledger, small.name)
    gone = [each for each in ranges[0].files if each.kind == MASTER]
    retainer(small, 3).retain(small.name)
    token, name = small.lease.token, small.name
    with pytest.raises(SealingNotNext, match="files that count"):
        sealing.merge_ranges(small.ledger, name, token, ranges[:1], (), gone, NOW)
    with pytest.raises(SealingNotNext, match="kept boundary 3"):
        sealing.merge_ranges(small.ledger, name, token, ranges[:2], (), (), NOW)
    assert counting(small, MASTER) == [(4, 4), (5, 5)]


def test_what_may_be_read_still_stays_on_the_disk(small: Sealed) -> None:
    before = on_disk(small, "master")
    small.epochs(events(5))
    retainer(small, 3).retain(small.name)
    assert before < on_disk(small, "master") == named(small, MASTER)
    needed = {each.path for each in copies.needed_files(small.ledger)[0]}  # by a backup
    assert named(small, BASE) < needed
    gone = {each for each in before if "/1-3-" in each}
    assert set(files.removable(small.ledger, small.name, LATER)) & before == set()
    later = LATER + timedelta(minutes=2)
    assert set(files.removable(small.ledger, small.name, later)) & before == gone
    retainer(small, 3, later).retain(small.name)  # nothing to let go, but this is due
    assert on_disk(small, "master") & before == before - gone


def test_what_a_retention_at_work_reads_is_not_removed(small: Sealed) -> None:
    """However long it takes: it holds its lease."""
    name, ttl = retention.lease_name(small.name), timedelta(days=2)
    lease = leases.take(small.ledger, name, HERE, LATER, ttl, alive=lambda _: True)
    old = LATER - START - timedelta(seconds=3.5)
    assert retention.begin(small.ledger, small.name, lease, LATER - old, LATER).epoch == 3
    with small.ledger.write() as connection:  # as a merge of ranges would
        f = tables.files.c
        held = connection.scalars(select(f.id).where(f.kind == MASTER)).all()
        files.remove(connection, held, LATER)
    later = LATER + timedelta(days=1)
    assert set(files.removable(small.ledger, small.name, later)) & named(small, MASTER) == set()
    leases.release(small.ledger, lease)
    assert set(files.removable(small.ledger, small.name, later)) > named(small, MASTER)


def killed(world: Sealed, moment: str) -> int:
    own = {"EVERVIEW_FAILPOINTS": f"retention.{moment}=kill", "EVERVIEW_TEST": "1"}
    command = [sys.executable, "-m", "tests.engine.retaining", str(world.state), world.name, "3"]
    whole = os.environ | own | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=whole, cwd=ROOT, check=False, timeout=60).returncode


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_kill_at_any_moment_loses_nothing(small: Sealed, moment: str) -> None:
    before = small.finished("tally")
    assert killed(small, moment) == -signal.SIGKILL

    done = moment == "after_commit"
    assert counting(small, MASTER) == ([(4, 4)] if done else [(1, 3), (4, 4)])
    assert counting(small, BASE) == ([(1, 3)] if done else [])
    assert check(small, "tally").comparison.different == 0
    again = retainer(small, 3).retain(small.name)
    assert again.plan.empty == done
    assert counting(small, MASTER) == [(4, 4)]
    assert counting(small, BASE) == [(1, 3)]
    assert on_disk(small, "base") == named(small, BASE)
    assert check(small, "tally").comparison.different == 0
    assert build(small, "tally", full=True).proof.verdict == "equal"
    assert small.finished("tally") == before


def test_rejects_go_with_the_master_and_ids_stay_as_long_as_they_make_duplicates(
    tmp_path: Path,
) -> None:
    keyed = KEYED.replace("format = 'json'", "format = 'json', dedup_within = '3 seconds'")
    yard = Yard(tmp_path, keyed, {})
    for at in range(6):
        yard.epoch({0: [b'{"u": %d, "k": "a", "n": 1}' % at, b"no JSON"]})
        yard.clock += timedelta(milliseconds=1)
        yard.sealer(seal_epochs=1, merge_fanout=1000).step()
    assert yard.spans() == [(at, at) for at in range(1, 7)]
    done = retaining.retainer(yard.state, yard.ledger, 5).retain(yard.name)
    assert (done.plan.epoch, done.plan.events, done.plan.rejects) == (5, 5, 5)
    kept = {
        kind: [f.first for one in yard.ranges() for f in one.files if f.kind == kind]
        for kind in (MASTER, REJECTS, IDS)
    }
    assert kept == {MASTER: [6], REJECTS: [6], IDS: [4, 5, 6]}
    yard.sealer(merge_fanout=2, seal_epochs=1).step()  # on either side of it, as ever
    assert yard.spans() == [(1, 4), (5, 5), (6, 6)]
    yard.ledger.close()
