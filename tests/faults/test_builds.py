"""Builds in the ledger: steps in order, under one lease, published by compare-and-swap."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from schemas.errors import (
    BuildNotReady,
    CutGoesBack,
    GapBetweenLayers,
    LeaseHeld,
    MasterIncomplete,
    NothingSealed,
    NothingToBuild,
    PublicationMoved,
    PublicationUnknown,
    SealingNotNext,
    StaleToken,
    VersionSuspended,
    ViewUnknown,
)
from schemas.ledger import builds, files, leases, sealing, versions
from schemas.ledger.builds import Build, PublicationRow
from schemas.ledger.connect import Ledger
from schemas.ledger.contents import contents
from schemas.ledger.epochs import commit_epoch, progress
from schemas.ledger.files import BATCH, FINISHED, MASTER, RUN, DataFile
from schemas.ledger.history import history
from schemas.ledger.leases import Holder, Lease
from schemas.ledger.sealing import sealed_ranges
from schemas.stored_file import StoredFile
from tests.faults.committer import FLIGHTS, NOW, TTL, VIEWS, commit_some, hold, next_epoch, rows
from tests.faults.test_sealed import sealed_files

VIEW = VIEWS[0].name
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


def build_files(build: Build, name: str = "a") -> list[DataFile]:
    folder = f"{build.view}/{build.version}/{build.id}"
    return [
        DataFile(
            kind,
            StoredFile(f"{kind}/{folder}/{name}", "1" * 64, 7),
            1,
            build.cut,
            3,
            version=build.version,
            table="core" if kind == BATCH else None,
        )
        for kind in (BATCH, FINISHED)
    ]


def lease(ledger: Ledger, pid: int = 1, now: datetime = NOW) -> Lease:
    holder = Holder("here", pid, 0.0)
    return leases.take(ledger, builds.build_lease(VIEW), holder, now, TTL, lambda _: False)


def grow(ledger: Ledger, count: int) -> int:
    """Commit and seal some epochs; gives the last."""
    token = hold(ledger).token
    first = progress(ledger, FLIGHTS).epoch + 1
    commit_some(ledger, count, token)
    last = first + count - 1
    sealing.seal(ledger, FLIGHTS, token, first, last, sealed_files(first, last), NOW)
    return last


def proven(ledger: Ledger, *, full: bool = False, verdict: builds.Verdict = "equal") -> Build:
    held = lease(ledger)
    made = builds.begin(ledger, VIEW, held, NOW, full=full)
    builds.finish(ledger, made.id, held.token, build_files(made), NOW)
    return builds.prove(ledger, made.id, held.token, verdict, {"rows": 3}, NOW)


def published(
    ledger: Ledger, now: datetime = NOW, *, full: bool = False, window: timedelta = DAY
) -> PublicationRow:
    made = proven(ledger, full=full)
    return builds.publish(ledger, made.id, made.token, now, window)


def counted(ledger: Ledger, kind: str) -> list[str]:
    """Files that count: those that are not removable, whenever that is asked."""
    gone = files.removable(ledger, FLIGHTS, NOW + 400 * DAY)
    return sorted(files.named(ledger, kind, FLIGHTS) - set(gone))


def test_12_the_first_publication_takes_the_place_of_speed(ledger: Ledger) -> None:
    grow(ledger, 3)
    grow(ledger, 2)
    held = lease(ledger)
    made = builds.begin(ledger, VIEW, held, NOW)
    assert (made.base, made.base_cut, made.cut, made.state) == (None, 0, 5, "building")
    read = builds.inputs(ledger, made.id)
    assert [(each.first, each.last) for each in read.master] == [(1, 3), (4, 5)]
    assert read.master == read.whole_master
    assert [(each.first, each.last, each.version) for each in read.runs] == [
        (1, 3, "v1"),
        (4, 5, "v1"),
    ]
    assert read.runs_whole
    assert [(each.partition, each.start, each.until) for each in read.ranges] == [
        (0, 0, 50),
        (1, 0, 50),
    ]
    builds.finish(ledger, made.id, held.token, build_files(made), NOW)
    assert contents(ledger, FLIGHTS).views[VIEW].publication is None
    builds.prove(ledger, made.id, held.token, "equal", {}, NOW)

    found = builds.publish(ledger, made.id, held.token, NOW, DAY)

    assert (found.cut, found.kind, found.served, found.kept) == (5, "build", True, True)
    grow(ledger, 1)
    seen = contents(ledger, FLIGHTS).views[VIEW]
    assert seen.publication == found
    assert [each.kind for each in seen.batch] == [BATCH]
    assert [(each.first, each.last) for each in seen.runs] == [(6, 6)]
    (row,) = (each for each in versions.views(ledger) if each.name == VIEW)
    assert (row.publication, row.cut) == (found.id, 5)
    # publishing again is the same publication, not another one
    assert builds.publish(ledger, made.id, held.token, NOW + HOUR, DAY) == found


def test_an_incremental_build_reads_what_follows_its_base(ledger: Ledger) -> None:
    grow(ledger, 3)
    first = published(ledger)
    grow(ledger, 2)
    made = builds.begin(ledger, VIEW, lease(ledger), NOW)
    read = builds.inputs(ledger, made.id)
    assert (made.base, made.base_cut, made.cut) == (first.id, 3, 5)
    assert [(each.first, each.last) for each in read.master] == [(4, 5)]
    assert [(each.first, each.last) for each in read.whole_master] == [(1, 3), (4, 5)]
    assert [each.file.path for each in read.base] == [f"batch/{VIEW}/v1/{first.id}/a"]
    assert [(each.first, each.last) for each in read.runs] == [(4, 5)]

    full = builds.begin(ledger, VIEW, lease(ledger), NOW, full=True)
    read = builds.inputs(ledger, full.id)
    assert read.master == read.whole_master
    assert read.base == ()
    assert len(read.base_batch) == 1
    assert builds.build(ledger, made.id).state == "abandoned"


def test_a_build_that_makes_no_sense_is_not_begun(ledger: Ledger) -> None:
    held = lease(ledger)
    with pytest.raises(NothingSealed, match="there is none"):
        builds.begin(ledger, VIEW, held, NOW)
    grow(ledger, 2)
    with pytest.raises(ViewUnknown, match=f"there is: {VIEW}, planes"):
        builds.begin(ledger, "nowhere", held, NOW)
    published(ledger)
    held = lease(ledger)
    with pytest.raises(NothingToBuild, match="up to epoch 2"):
        builds.begin(ledger, VIEW, held, NOW)
    assert builds.begin(ledger, VIEW, held, NOW, full=True).cut == 2


def test_the_cut_never_goes_back(ledger: Ledger) -> None:
    grow(ledger, 2)
    grow(ledger, 2)
    published(ledger)
    with pytest.raises(CutGoesBack, match="up to epoch 4; got 2"):
        builds.begin(ledger, VIEW, lease(ledger), NOW, until=3)


def test_a_suspended_version_is_not_built(ledger: Ledger) -> None:
    token = hold(ledger).token
    commit = next_epoch(progress(ledger, FLIGHTS), token)
    commit_epoch(ledger, replace(commit, folded=("v2",), suspended=(("v1", "overflow"),)))
    sealing.seal(ledger, FLIGHTS, token, 1, 1, sealed_files(1, 1, ("v2",)), NOW)
    with pytest.raises(VersionSuspended, match="since epoch 1: overflow"):
        builds.begin(ledger, VIEW, lease(ledger), NOW)


def test_3_steps_out_of_order_or_under_an_old_token_change_nothing(ledger: Ledger) -> None:
    grow(ledger, 2)
    held = lease(ledger)
    made = builds.begin(ledger, VIEW, held, NOW)
    with pytest.raises(BuildNotReady, match="must be equal or repair; it is building"):
        builds.publish(ledger, made.id, held.token, NOW, DAY)
    with pytest.raises(BuildNotReady, match="must be built"):
        builds.prove(ledger, made.id, held.token, "equal", {}, NOW)
    builds.finish(ledger, made.id, held.token, build_files(made), NOW)
    builds.prove(ledger, made.id, held.token, "equal", {}, NOW)
    lease(ledger, pid=2)
    before = rows(ledger)
    with pytest.raises(StaleToken):
        builds.publish(ledger, made.id, held.token, NOW, DAY)
    assert rows(ledger) == before


def test_3_a_refused_build_is_not_published(ledger: Ledger) -> None:
    grow(ledger, 2)
    made = proven(ledger, verdict="refused")
    with pytest.raises(BuildNotReady, match="it is refused"):
        builds.publish(ledger, made.id, made.token, NOW, DAY)
    (proof,) = history(ledger).proofs
    assert (proof.build, proof.verdict, proof.evidence) == (made.id, "refused", {"rows": 3})
    # its files stay to be looked at, until the next build begins
    assert len(counted(ledger, BATCH)) == 1
    builds.begin(ledger, VIEW, lease(ledger), NOW)
    assert counted(ledger, BATCH) == []


def test_3_a_rollback_between_proof_and_publication_stops_it(ledger: Ledger) -> None:
    grow(ledger, 2)
    first = published(ledger)
    grow(ledger, 2)
    second = published(ledger)
    grow(ledger, 2)
    made = proven(ledger)

    assert builds.rollback(ledger, VIEW, None, NOW).id == first.id

    with pytest.raises(StaleToken):
        builds.publish(ledger, made.id, made.token, NOW, DAY)
    seen = contents(ledger, FLIGHTS).views[VIEW]
    assert seen.publication is not None
    assert (seen.publication.id, seen.publication.cut) == (first.id, 2)
    # speed covers from there on
    assert [(each.first, each.last) for each in seen.runs] == [(3, 4), (5, 6)]
    states = {each.id: (each.served, each.kept) for each in builds.publications(ledger, VIEW)}
    assert states == {first.id: (True, True), second.id: (False, True)}
    # forward again, and then a build goes on from there
    assert builds.rollback(ledger, VIEW, second.id, NOW).id == second.id
    assert builds.begin(ledger, VIEW, lease(ledger), NOW).base == second.id


def test_a_swap_of_what_is_served_stops_a_publication(ledger: Ledger) -> None:
    grow(ledger, 2)
    first = published(ledger)
    grow(ledger, 2)
    published(ledger)
    grow(ledger, 1)
    made = proven(ledger)
    builds.rollback(ledger, VIEW, first.id, NOW)
    with ledger.write() as connection:  # even if somebody had the same token
        connection.exec_driver_sql(f"UPDATE leases SET token = {made.token}, host = 'x', pid = 1")
        connection.exec_driver_sql("UPDATE leases SET started = 0, expires = 0")
        connection.exec_driver_sql(f"UPDATE builds SET state = 'equal' WHERE id = {made.id}")
    with pytest.raises(PublicationMoved, match=f"{first.id} is served by now"):
        builds.publish(ledger, made.id, made.token, NOW, DAY)


def test_only_kept_publications_are_targets(ledger: Ledger) -> None:
    grow(ledger, 2)
    with pytest.raises(PublicationUnknown, match=r"^there is no earlier .* kept: none"):
        builds.rollback(ledger, VIEW, None, NOW)
    first = published(ledger)
    for to in (None, first.id, 99):
        with pytest.raises(PublicationUnknown):
            builds.rollback(ledger, VIEW, to, NOW)


def test_12_what_no_rollback_needs_goes(ledger: Ledger) -> None:
    grow(ledger, 2)
    first = published(ledger, NOW)
    grow(ledger, 2)
    second = published(ledger, NOW + HOUR)
    assert [each.rpartition("/")[2] for each in counted(ledger, RUN) if "v1" in each] == [
        "3-4.parquet"
    ]
    grow(ledger, 2)
    third = published(ledger, NOW + 2 * HOUR, window=HOUR / 2)

    kept = {each.id: each.kept for each in builds.publications(ledger, VIEW)}
    assert kept == {first.id: False, second.id: True, third.id: True}
    assert counted(ledger, BATCH) == [f"batch/{VIEW}/v1/{each.id}/a" for each in (second, third)]
    assert [each.rpartition("/")[2] for each in counted(ledger, RUN) if "v1" in each] == [
        "5-6.parquet"
    ]
    # another view's runs and the master are not touched
    assert len([each for each in counted(ledger, RUN) if "v2" in each]) == 3
    assert len(counted(ledger, MASTER)) == 3


def test_kept_cuts_and_those_of_builds_are_boundaries(ledger: Ledger) -> None:
    token = 0
    for _ in range(3):
        grow(ledger, 2)
    published(ledger)
    grow(ledger, 2)
    builds.begin(ledger, VIEW, lease(ledger), NOW)
    grow(ledger, 2)
    assert sealing.kept_boundaries(ledger, FLIGHTS) == {6, 8}
    token = hold(ledger).token
    ranges = sealed_ranges(ledger, FLIGHTS)
    for part in (ranges[2:4], ranges[3:5]):
        with pytest.raises(SealingNotNext, match="no range across the kept boundary"):
            sealing.merge_ranges(ledger, FLIGHTS, token, part, [], [], NOW)
    sealing.merge_ranges(ledger, FLIGHTS, token, ranges[:3], [], [], NOW)
    assert [each.last for each in sealed_ranges(ledger, FLIGHTS)] == [6, 8, 10]


def test_files_that_a_build_reads_stay(ledger: Ledger) -> None:
    grow(ledger, 2)
    grow(ledger, 2)
    held = lease(ledger)
    made = builds.begin(ledger, VIEW, held, NOW)
    token = hold(ledger).token
    ranges = sealed_ranges(ledger, FLIGHTS)
    gone = [each for part in ranges for each in part.files]
    added = sealed_files(1, 4)
    sealing.merge_ranges(ledger, FLIGHTS, token, ranges, added, gone, NOW)
    soon = NOW + TTL / 2
    paths = {each.file.path for each in gone}
    assert not paths & set(files.removable(ledger, FLIGHTS, soon))
    # a build that was killed keeps nothing for longer than its lease
    assert paths <= set(files.removable(ledger, FLIGHTS, NOW + DAY))
    builds.fail(ledger, made.id, held.token, "out of memory", NOW)
    assert paths <= set(files.removable(ledger, FLIGHTS, soon))


def test_a_hole_in_the_master_or_the_runs_is_an_error(ledger: Ledger) -> None:
    grow(ledger, 2)
    grow(ledger, 2)
    made = builds.begin(ledger, VIEW, lease(ledger), NOW)
    with ledger.write() as connection:
        connection.exec_driver_sql("DELETE FROM files WHERE from_epoch = 3")
    with pytest.raises(MasterIncomplete, match=r"epochs 3\.\.4"):
        builds.inputs(ledger, made.id)
    found = contents(ledger, FLIGHTS).views[VIEW]
    assert isinstance(found.gap, GapBetweenLayers)
    assert (found.gap.first, found.gap.last) == (3, 4)


def test_the_lease_is_parked_between_two_steps(ledger: Ledger) -> None:
    grow(ledger, 2)
    held = lease(ledger)
    made = builds.begin(ledger, VIEW, held, NOW)
    builds.park(ledger, held, made.id, NOW, HOUR)
    with pytest.raises(LeaseHeld, match=f"build {made.id}, between two steps"):
        lease(ledger, pid=2, now=NOW + HOUR / 2)

    def alive(holder: Holder) -> bool:
        return holder.pid == 3

    third = Holder("here", 3, 0.0)
    resumed = builds.resume(ledger, made.id, third, NOW + HOUR / 2, TTL, alive)
    assert resumed.token == held.token
    with pytest.raises(LeaseHeld, match="process 3"):
        builds.resume(ledger, made.id, Holder("here", 4, 0.0), NOW + HOUR / 2, TTL, alive)
    builds.finish(ledger, made.id, resumed.token, build_files(made), NOW)

    builds.park(ledger, resumed, made.id, NOW, HOUR)
    lease(ledger, pid=2, now=NOW + HOUR)  # nobody came in time
    with pytest.raises(StaleToken):
        builds.resume(ledger, made.id, third, NOW + HOUR, TTL, alive)


def test_a_new_version_answers_from_its_first_publication_on(ledger: Ledger) -> None:
    grow(ledger, 2)
    old = published(ledger)
    changed = replace(VIEWS[0], version="v5")
    versions.register(ledger, [], [changed], NOW)
    token = hold(ledger).token

    def commit(*folded: str) -> None:
        commit_epoch(ledger, replace(next_epoch(progress(ledger, FLIGHTS), token), folded=folded))

    commit("v1", "v2", "v5")
    made = builds.begin(ledger, VIEW, lease(ledger), NOW)
    assert (made.version, made.base, made.cut) == ("v5", None, 2)
    assert not builds.inputs(ledger, made.id).runs_whole
    builds.finish(ledger, made.id, made.token, build_files(made), NOW)
    builds.prove(ledger, made.id, made.token, "equal", {}, NOW)
    builds.publish(ledger, made.id, made.token, NOW, DAY)
    (row, _) = versions.views(ledger)
    assert (row.version, row.wanted, row.publication) == ("v5", None, made.id)
    # the old one goes on being folded as long as one may go back to it
    commit("v1", "v2", "v5")
    assert builds.rollback(ledger, VIEW, old.id, NOW).version == "v1"
    builds.rollback(ledger, VIEW, made.id, NOW)
    sealing.seal(ledger, FLIGHTS, token, 3, 4, sealed_files(3, 4, ("v1", "v2", "v5")), NOW)
    made = builds.begin(ledger, VIEW, lease(ledger), NOW)
    builds.finish(ledger, made.id, made.token, build_files(made), NOW)
    builds.prove(ledger, made.id, made.token, "repair", {}, NOW)
    last = builds.publish(ledger, made.id, made.token, NOW + DAY, timedelta(0))
    assert last.kind == "repair"
    commit("v2", "v5")
    told = {each.version: each.state for each in history(ledger).versions if each.view == VIEW}
    assert told == {"v1": "retired", "v5": "served"}
    assert [each.kind for each in history(ledger).publications] == ["build", "build", "repair"]


def test_a_new_version_needs_a_boundary_behind_its_first_epoch(ledger: Ledger) -> None:
    grow(ledger, 2)
    commit_some(ledger, 1, hold(ledger).token)
    versions.register(ledger, [], [replace(VIEWS[0], version="v5")], NOW)
    with pytest.raises(NothingSealed, match="from 3 on"):
        builds.begin(ledger, VIEW, lease(ledger), NOW)


def test_a_version_that_was_suspended_meanwhile_takes_nobodys_place(ledger: Ledger) -> None:
    grow(ledger, 2)
    versions.register(ledger, [], [replace(VIEWS[0], version="v5")], NOW)
    made = proven(ledger)
    assert made.version == "v5"
    commit = next_epoch(progress(ledger, FLIGHTS), hold(ledger).token)
    commit = replace(commit, folded=("v1", "v2"), suspended=(("v5", "overflow"),))
    commit_epoch(ledger, commit)
    with pytest.raises(VersionSuspended, match="since epoch 3: overflow"):
        builds.publish(ledger, made.id, made.token, NOW, DAY)
    assert versions.views(ledger)[0].version == "v1"


def test_a_rollback_within_a_version_leaves_what_is_built_aside(ledger: Ledger) -> None:
    grow(ledger, 2)
    first = published(ledger)
    grow(ledger, 2)
    published(ledger)
    versions.register(ledger, [], [replace(VIEWS[0], version="v5")], NOW)
    builds.rollback(ledger, VIEW, first.id, NOW)
    row = versions.views(ledger)[0]
    assert (row.version, row.publication, row.wanted) == ("v1", first.id, "v5")
