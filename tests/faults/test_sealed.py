"""Sealing in the ledger: epochs become ranges, ranges become fewer; nothing is lost or doubled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from schemas.errors import SealingNotNext, StaleToken
from schemas.ledger import sealing, tables, versions
from schemas.ledger.connect import Ledger
from schemas.ledger.contents import contents
from schemas.ledger.epochs import commit_epoch, epochs_after, news, progress
from schemas.ledger.figures import figures
from schemas.ledger.files import IDS, MASTER, RUN, SEGMENT, DataFile, forget, named, removable
from schemas.ledger.sealing import SealedRange, counted_ids, sealed_ranges, sealed_until
from schemas.observed import Epoch, Observed, Seen
from schemas.position import Position, Range
from schemas.stored_file import StoredFile
from tests.faults.committer import FLIGHTS, FOLDED, NOW, VIEWS, commit_some, hold, next_epoch, rows

LATER = NOW + timedelta(hours=1)


def data_file(kind: str, first: int, last: int, version: str | None = None) -> DataFile:
    path = f"{kind}/{version}/{first}-{last}.parquet"
    table = "core" if kind == RUN else None
    stored = StoredFile(path, "0" * 64, 10)
    return DataFile(kind, stored, first, last, 1, version=version, table=table)


def sealed_files(first: int, last: int, folded: Sequence[str] = FOLDED) -> list[DataFile]:
    return [
        data_file(MASTER, first, last),
        data_file(IDS, first, last),
        *(data_file(RUN, first, last, version) for version in folded),
    ]


def seal(ledger: Ledger, token: int, first: int, last: int) -> None:
    sealing.seal(ledger, FLIGHTS, token, first, last, sealed_files(first, last), NOW)


def merge(ledger: Ledger, token: int, ranges: Sequence[SealedRange]) -> None:
    added = sealed_files(ranges[0].first, ranges[-1].last)
    removed = [file for each in ranges for file in each.files]
    sealing.merge_ranges(ledger, FLIGHTS, token, ranges, added, removed, LATER)


def count(ledger: Ledger, table: str) -> int:
    with ledger.read() as connection:
        found = tables.metadata.tables[table]
        return int(connection.scalar(select(func.count()).select_from(found)) or 0)


def test_2_a_sealed_range_is_its_epochs(ledger: Ledger) -> None:
    token = hold(ledger).token
    commit_some(ledger, 5, token)
    before = epochs_after(ledger, FLIGHTS, 0, 10)

    seal(ledger, token, 1, 3)

    (sealed,) = sealed_ranges(ledger, FLIGHTS)
    assert (sealed.first, sealed.last, sealed.level) == (1, 3, 0)
    assert sealed.ranges == (Range(0, 0, 30), Range(1, 0, 30))
    assert sealed.position == before[2].position == Position({0: 30, 1: 30})
    assert sealed.accepted == sum(each.accepted for each in before[:3])
    assert sealed.duplicates == sum(each.duplicates for each in before[:3])
    assert sealed.rejected == sum(each.rejected for each in before[:3])
    assert (sealed.first_instant, sealed.instant) == (before[0].instant, before[2].instant)
    assert sealed.folded == frozenset(FOLDED)
    assert {each.file.path for each in sealed.files} == {
        each.file.path for each in sealed_files(1, 3)
    }
    assert epochs_after(ledger, FLIGHTS, 0, 10) == before[3:]
    assert count(ledger, "epochs") == 2
    assert sealed_until(ledger, FLIGHTS) == 3
    # segments no longer count, but their files are known until they are unlinked
    segments = {file.file.path for epoch in before[:3] for file in epoch.segments}
    assert segments < named(ledger, SEGMENT, FLIGHTS)
    assert set(removable(ledger, FLIGHTS, LATER)) == segments
    assert removable(ledger, FLIGHTS, NOW) == []
    forget(ledger, [*segments, sealed.files[0].file.path])
    assert not segments & named(ledger, SEGMENT, FLIGHTS)
    assert sealed.files[0].file.path in named(ledger, MASTER, FLIGHTS)


def test_2_a_commit_that_is_repeated_is_recognised_when_it_is_sealed(ledger: Ledger) -> None:
    token = hold(ledger).token
    commit = next_epoch(progress(ledger, FLIGHTS), token)
    commit_epoch(ledger, commit)
    seal(ledger, token, 1, 1)
    before = rows(ledger)
    commit_epoch(ledger, commit)
    assert rows(ledger) == before


def test_2_epochs_go_on_after_all_are_sealed(ledger: Ledger) -> None:
    token = hold(ledger).token
    commit_some(ledger, 3, token)
    last = progress(ledger, FLIGHTS)
    seal(ledger, token, 1, 3)

    assert progress(ledger, FLIGHTS) == last
    commit_some(ledger, 1, token)

    found = news(ledger, {FLIGHTS: 1}, 10)
    assert found.sealed == {FLIGHTS: 3}
    assert [each.epoch for each in found.epochs[FLIGHTS]] == [4]


@pytest.mark.parametrize(("first", "last"), [(2, 3), (1, 6), (4, 4)])
def test_only_the_next_epochs_can_be_sealed(ledger: Ledger, first: int, last: int) -> None:
    token = hold(ledger).token
    commit_some(ledger, 5, token)
    before = rows(ledger)
    with pytest.raises(SealingNotNext, match="epochs 1"):
        seal(ledger, token, first, last)
    assert rows(ledger) == before


def test_3_a_driver_that_lost_its_lease_seals_nothing(ledger: Ledger) -> None:
    token = hold(ledger).token
    commit_some(ledger, 2, token)
    hold(ledger, pid=2)
    before = rows(ledger)
    with pytest.raises(StaleToken):
        seal(ledger, token, 1, 2)
    assert rows(ledger) == before


def test_a_range_never_crosses_a_change_of_versions(ledger: Ledger) -> None:
    token = hold(ledger).token
    commit_some(ledger, 2, token)
    versions.register(ledger, [], [replace(VIEWS[0], version="v5")], NOW)
    commit = next_epoch(progress(ledger, FLIGHTS), token)
    commit_epoch(ledger, replace(commit, folded=("v1", "v2", "v5")))
    before = rows(ledger)
    with pytest.raises(SealingNotNext, match="the same versions"):
        seal(ledger, token, 1, 3)
    assert rows(ledger) == before


def test_ranges_merge_into_one_of_the_next_level(ledger: Ledger) -> None:
    token = hold(ledger).token
    commit_some(ledger, 6, token)
    for first in (1, 3, 5):
        seal(ledger, token, first, first + 1)
    whole = sealed_ranges(ledger, FLIGHTS)
    merge(ledger, token, whole[:2])

    merged, last = sealed_ranges(ledger, FLIGHTS)
    assert (merged.first, merged.last, merged.level) == (1, 4, 1)
    assert merged.ranges == (Range(0, 0, 40), Range(1, 0, 40))
    assert merged.position == whole[1].position
    assert merged.accepted == whole[0].accepted + whole[1].accepted
    assert [(each.first, each.last) for each in merged.files] == [(1, 4)] * 4
    assert last == whole[2]
    with pytest.raises(SealingNotNext, match="ranges that are there"):
        merge(ledger, token, whole[:2])


def test_a_follower_gets_what_there_is_in_one_piece(ledger: Ledger) -> None:
    token = hold(ledger).token
    commit_some(ledger, 5, token)
    for first in (1, 3):
        seal(ledger, token, first, first + 1)
    found = contents(ledger, FLIGHTS)
    assert found.state == ledger.state()
    assert (found.sealed, found.position) == (4, Position({0: 40, 1: 40}))
    assert [each.epoch for each in found.epochs] == [5]
    assert found.ranges == (Range(0, 0, 40), Range(1, 0, 40))
    hour = found.views["carrier_hour"]
    assert (hour.publication, hour.batch, hour.epoch, hour.being_built) == (None, (), 4, False)
    assert [(each.first, each.last, each.version) for each in hour.runs] == [
        (1, 2, "v1"),
        (3, 4, "v1"),
    ]


def test_a_request_stands_until_that_much_is_sealed(ledger: Ledger) -> None:
    token = hold(ledger).token
    assert sealing.request_seal(ledger, FLIGHTS) == 0
    assert sealing.requested_seal(ledger, FLIGHTS) == 0
    commit_some(ledger, 4, token)
    assert sealing.request_seal(ledger, FLIGHTS) == 4
    commit_some(ledger, 1, token)
    seal(ledger, token, 1, 3)
    assert sealing.requested_seal(ledger, FLIGHTS) == 4
    seal(ledger, token, 4, 4)
    assert sealing.requested_seal(ledger, FLIGHTS) == 0


def test_ids_come_without_a_hole(ledger: Ledger) -> None:
    token = hold(ledger).token
    commit_some(ledger, 6, token)
    seal(ledger, token, 1, 2)
    seal(ledger, token, 3, 4)
    found = counted_ids(ledger, FLIGHTS, 0)
    assert found.sealed_until == 4
    assert found.sealed == tuple(
        each.file
        for one in sealed_ranges(ledger, FLIGHTS)
        for each in one.files
        if each.kind == IDS
    )
    assert len(found.sealed) == 2
    assert [(epoch, len(files)) for epoch, files in found.epochs] == [(5, 2), (6, 2)]
    assert [epoch for epoch, _ in counted_ids(ledger, FLIGHTS, 5).epochs] == [6]
    assert counted_ids(ledger, FLIGHTS, 6).epochs == ()
    first, second = sealed_ranges(ledger, FLIGHTS)
    assert counted_ids(ledger, FLIGHTS, 0, first.instant).sealed == found.sealed[1:]
    late = counted_ids(ledger, FLIGHTS, 0, second.instant)
    assert (late.sealed, [epoch for epoch, _ in late.epochs]) == ((), [5, 6])


def test_what_was_observed_goes_on_over_sealing_and_merging(ledger: Ledger) -> None:
    """It follows from epoch to epoch, like the position; an old ledger begins without."""
    token = hold(ledger).token
    commit_some(ledger, 1, token)
    assert progress(ledger, FLIGHTS).observed is None
    expected = Observed()
    for time in (5, 3, 9, 4):
        commit = next_epoch(progress(ledger, FLIGHTS), token)
        told = Epoch({0: Seen(time, time, time, stamped=time)}, commit.instant, frozenset({0}))
        expected = expected.advance(commit.instant, told)
        commit_epoch(ledger, replace(commit, observed=told))
    commit_some(ledger, 1, token)  # a replay's tells nothing
    assert progress(ledger, FLIGHTS).observed == expected
    assert expected.marks[0].disorder[0] == 5
    (*_, last) = epochs_after(ledger, FLIGHTS, 0, 10)
    assert last.observed == expected
    seal(ledger, token, 1, 3)
    seal(ledger, token, 4, 6)
    assert progress(ledger, FLIGHTS).observed == expected
    merge(ledger, token, sealed_ranges(ledger, FLIGHTS))
    assert progress(ledger, FLIGHTS).observed == contents(ledger, FLIGHTS).observed == expected


def test_figures_add_up_what_is_sealed_and_what_is_not(ledger: Ledger) -> None:
    token = hold(ledger).token
    assert figures(ledger).streams[FLIGHTS].position == Position()
    commit_some(ledger, 5, token)
    seal(ledger, token, 1, 2)
    seal(ledger, token, 3, 4)
    found = figures(ledger)
    stream = found.streams[FLIGHTS]
    assert (stream.epoch, stream.instant) == (5, NOW + timedelta(seconds=5))
    assert stream.position == Position({0: 50, 1: 50})
    # a segment per epoch and partition, of 9 accepted, 1 of them a duplicate, and 1 reject
    assert (stream.accepted, stream.duplicates, stream.rejected) == (90, 10, 10)
    assert (stream.segments, stream.unsealed_since) == (2, NOW + timedelta(seconds=5))
    assert stream.master_bytes == 20
    assert found.files == {SEGMENT: 2, MASTER: 2, IDS: 2, RUN: 4}
    assert found.leases == {f"stream/{FLIGHTS}": token}
    seal(ledger, token, 5, 5)
    assert figures(ledger).streams[FLIGHTS].unsealed_since is None
    assert figures(ledger).streams[FLIGHTS].epoch == 5
