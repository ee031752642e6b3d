"""Whole epochs: committed with all that belongs to them, or refused by name (invariant 2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select, update

from schemas.errors import (
    EpochNotNext,
    EverviewError,
    LedgerUnwritable,
    NaiveInstant,
    RangeNotContiguous,
    StaleToken,
    StreamUnknown,
    TopicRecreated,
    VersionsDiffer,
)
from schemas.ledger import leases, tables, versions
from schemas.ledger.connect import Ledger, open_ledger
from schemas.ledger.epochs import (
    CommittedEpoch,
    EpochCommit,
    commit_epoch,
    epochs_after,
    news,
    progress,
)
from schemas.ledger.leases import Holder
from schemas.ledger.versions import StreamRow, ViewRow
from schemas.position import Position, Range
from tests.faults.committer import (
    FLIGHTS,
    FOLDED,
    NOW,
    STREAM,
    TOPIC_ID,
    TTL,
    commit_some,
    deploy,
    hold,
    next_epoch,
    rows,
)


def test_before_the_first_epoch_there_is_no_position(ledger: Ledger) -> None:
    found = progress(ledger, FLIGHTS)
    assert (found.epoch, found.position, found.topic_id, found.instant) == (
        0,
        Position(),
        None,
        None,
    )


def test_2a_an_epoch_is_committed_with_all_that_belongs_to_it(ledger: Ledger) -> None:
    commit = next_epoch(progress(ledger, FLIGHTS), hold(ledger).token)

    number = commit_epoch(ledger, commit)

    assert number == ledger.state()
    assert epochs_after(ledger, FLIGHTS, 0, 10) == [
        CommittedEpoch(
            stream=FLIGHTS,
            epoch=1,
            instant=commit.instant,
            ranges=commit.ranges,
            segments=commit.segments,
            folded=frozenset(FOLDED),
            accepted=18,
            duplicates=2,
            rejected=2,
            position=Position({0: 10, 1: 10}),
            stream_version=STREAM.version,
            topic_id=TOPIC_ID,
        )
    ]
    after = progress(ledger, FLIGHTS)
    assert (after.epoch, after.position) == (1, Position({0: 10, 1: 10}))
    assert (after.topic_id, after.instant) == (TOPIC_ID, commit.instant)


Change = Callable[[EpochCommit], EpochCommit]

WRONG: dict[str, tuple[Change, type[EverviewError], str]] = {
    "epoch after the next": (
        lambda c: replace(c, epoch=5),
        EpochNotNext,
        "number 4; got number 5",
    ),
    "epoch again": (lambda c: replace(c, epoch=3), EpochNotNext, "number 4; got number 3"),
    "instant before the last": (
        lambda c: replace(c, instant=NOW + timedelta(seconds=2)),
        EpochNotNext,
        "at or after 2026-01-01T10:00:03",
    ),
    "range with a gap": (
        lambda c: replace(c, ranges=(Range(1, 31, 40),)),
        RangeNotContiguous,
        "partition 1 must start at offset 30; got 31",
    ),
    "range that overlaps": (
        lambda c: replace(c, ranges=(Range(0, 29, 40),)),
        RangeNotContiguous,
        "partition 0 must start at offset 30; got 29",
    ),
    "another topic": (
        lambda c: replace(c, topic_id="another"),
        TopicRecreated,
        "topic-id; got another",
    ),
    "version missing": (lambda c: replace(c, folded=("v1",)), VersionsDiffer, "'v1', 'v2'"),
    "version nobody knows": (
        lambda c: replace(c, folded=("v1", "v2", "v3")),
        VersionsDiffer,
        "'v3'",
    ),
    "folded and suspended": (
        lambda c: replace(c, suspended=(("v2", "why"),)),
        VersionsDiffer,
        "v2",
    ),
    "another stream version": (lambda c: replace(c, stream_version="s0"), VersionsDiffer, "s0"),
    "larger token": (
        lambda c: replace(c, token=c.token + 1),
        StaleToken,
        "under token 2",
    ),
    "smaller token": (
        lambda c: replace(c, token=c.token - 1),
        StaleToken,
        "under token 0",
    ),
    "another stream": (lambda c: replace(c, stream="trains"), StaleToken, "stream/trains"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_2a_what_does_not_follow_is_refused_by_name_and_changes_nothing(
    ledger: Ledger, wrong: str
) -> None:
    change, error, text = WRONG[wrong]
    token = hold(ledger).token
    commit_some(ledger, 3, token)
    commit = next_epoch(progress(ledger, FLIGHTS), token)
    before, number = rows(ledger), ledger.state()

    with pytest.raises(error, match=text):
        commit_epoch(ledger, change(commit))

    assert rows(ledger) == before
    assert ledger.state() == number
    commit_epoch(ledger, commit)


def test_2a_an_instant_may_stay_but_not_go_back(ledger: Ledger) -> None:
    token = hold(ledger).token
    commit_some(ledger, 1, token)
    last = progress(ledger, FLIGHTS)
    assert last.instant is not None

    commit_epoch(ledger, replace(next_epoch(last, token), instant=last.instant))

    assert progress(ledger, FLIGHTS).instant == last.instant


def test_a_new_partition_may_start_anywhere(ledger: Ledger) -> None:
    token = hold(ledger).token
    commit_some(ledger, 1, token)
    commit = replace(next_epoch(progress(ledger, FLIGHTS), token), ranges=(Range(7, 500, 600),))

    commit_epoch(ledger, commit)

    assert progress(ledger, FLIGHTS).position == Position({0: 10, 1: 10, 7: 600})


def test_ranges_of_one_partition_are_one_range_of_the_epoch(ledger: Ledger) -> None:
    commit = next_epoch(progress(ledger, FLIGHTS), hold(ledger).token)
    split = (Range(0, 0, 3), Range(1, 5, 5), Range(0, 3, 3), Range(0, 3, 9))

    commit_epoch(ledger, replace(commit, ranges=split))

    (epoch,) = epochs_after(ledger, FLIGHTS, 0, 10)
    assert epoch.ranges == (Range(0, 0, 9), Range(1, 5, 5))
    assert epoch.position == Position({0: 9, 1: 5})


def test_2c_an_epoch_may_have_no_ranges_and_no_files(ledger: Ledger) -> None:
    token = hold(ledger).token
    commit_some(ledger, 1, token)
    before = progress(ledger, FLIGHTS)

    commit_epoch(ledger, replace(next_epoch(before, token), ranges=(), segments=()))

    assert progress(ledger, FLIGHTS).position == before.position
    (epoch,) = epochs_after(ledger, FLIGHTS, 1, 10)
    assert (epoch.epoch, epoch.ranges, epoch.segments, epoch.accepted) == (2, (), (), 0)


def test_a_repeated_commit_recognises_itself(ledger: Ledger) -> None:
    """Also when the lease is gone and others went on: it did go through."""
    token = hold(ledger).token
    commit = next_epoch(progress(ledger, FLIGHTS), token)
    number = commit_epoch(ledger, commit)
    successor = hold(ledger, pid=2)
    commit_some(ledger, 2, successor.token)
    before = rows(ledger)

    assert commit_epoch(ledger, commit) == number
    assert rows(ledger) == before


def test_a_uuid_is_one_epochs(ledger: Ledger) -> None:
    token = hold(ledger).token
    first = next_epoch(progress(ledger, FLIGHTS), token)
    commit_epoch(ledger, first)
    second = replace(next_epoch(progress(ledger, FLIGHTS), token), uuid=first.uuid)

    with pytest.raises(EpochNotNext, match="under that uuid"):
        commit_epoch(ledger, second)


def test_instants_are_utc_to_the_microsecond(ledger: Ledger) -> None:
    token = hold(ledger).token
    nepal = timezone(timedelta(hours=5, minutes=45))
    instant = datetime(2026, 3, 1, 1, 2, 3, 456789, tzinfo=nepal)
    commit = next_epoch(progress(ledger, FLIGHTS), token)

    commit_epoch(ledger, replace(commit, instant=instant))

    found = progress(ledger, FLIGHTS).instant
    assert found == instant
    assert found is not None
    assert found.tzinfo is UTC


def test_an_instant_without_a_zone_is_refused(ledger: Ledger) -> None:
    naive = NOW.replace(tzinfo=None)
    commit = next_epoch(progress(ledger, FLIGHTS), hold(ledger).token)
    with pytest.raises(NaiveInstant, match="2026-01-01T10:00:00"):
        replace(commit, instant=naive)
    with pytest.raises(NaiveInstant):
        leases.take(ledger, "x", Holder("here", 1, 0.0), naive, TTL, alive=lambda _: True)
    with pytest.raises(NaiveInstant):
        versions.register(ledger, [StreamRow("t", "t", "1", "d")], [], naive)


def test_a_stream_that_is_not_there_is_refused_by_name(ledger: Ledger) -> None:
    with pytest.raises(StreamUnknown, match=r"'trains' must be one of \['flights'\]"):
        progress(ledger, "trains")


def test_2a_first_epochs_and_suspensions_come_with_the_epoch(ledger: Ledger) -> None:
    token = hold(ledger).token
    commit_some(ledger, 1, token)
    late = ViewRow("late", "v3", FLIGHTS, "CREATE VIEW late ...")
    versions.register(ledger, [], [late], NOW)
    with pytest.raises(VersionsDiffer):
        commit_some(ledger, 1, token)

    commit = next_epoch(progress(ledger, FLIGHTS), token)
    commit = replace(commit, folded=("v1", "v3"), suspended=(("v2", "overflow at 0:11"),))
    commit_epoch(ledger, commit)
    commit = next_epoch(progress(ledger, FLIGHTS), token)
    commit_epoch(ledger, replace(commit, folded=("v3", "v1")))

    found = {view.name: view for view in versions.views(ledger)}
    assert {name: view.first_epoch for name, view in found.items()} == {
        "carrier_hour": 1,
        "late": 2,
        "planes": 1,
    }
    assert found["planes"].suspended_epoch == 2
    assert found["planes"].suspended_message == "overflow at 0:11"
    assert found["late"].suspended_epoch is None
    folded = [epoch.folded for epoch in epochs_after(ledger, FLIGHTS, 0, 10)]
    assert folded == [{"v1", "v2"}, {"v1", "v3"}, {"v1", "v3"}]
    assert len(rows(ledger)["folded_sets"]) == 2


@given(st.lists(st.integers(0, 3), max_size=8), st.integers(0, 9), st.integers(1, 4))
@settings(max_examples=20)
def test_2a_epochs_read_in_any_steps_are_contiguous(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], start: int, limit: int
) -> None:
    with open_ledger(tmp_path_factory.mktemp("state"), create=True) as ledger:
        deploy(ledger)
        token = hold(ledger).token
        for size in sizes:
            commit_epoch(ledger, next_epoch(progress(ledger, FLIGHTS), token, size=size))

        found: list[CommittedEpoch] = []
        while step := epochs_after(ledger, FLIGHTS, start + len(found), limit):
            assert len(step) <= limit
            found += step

        assert [epoch.epoch for epoch in found] == list(range(start + 1, len(sizes) + 1))
        for before, after in pairwise(found):
            assert before.position.advance(after.ranges) == after.position
            assert before.instant <= after.instant


def test_news_is_of_one_state(ledger: Ledger) -> None:
    deploy(ledger, "trains", "ships")
    tokens = {name: hold(ledger, name).token for name in (FLIGHTS, "trains", "ships")}
    commit_some(ledger, 3, tokens[FLIGHTS])
    commit_some(ledger, 1, tokens["trains"], "trains")

    found = news(ledger, {FLIGHTS: 1, "trains": 0, "ships": 0}, 100)

    assert found.state == ledger.state()
    numbers = {name: [each.epoch for each in epochs] for name, epochs in found.epochs.items()}
    assert numbers == {FLIGHTS: [2, 3], "trains": [1], "ships": []}
    assert [e.epoch for e in news(ledger, {FLIGHTS: 0}, 2).epochs[FLIGHTS]] == [1, 2]


def test_4b_a_removed_file_is_no_longer_named(ledger: Ledger) -> None:
    commit_some(ledger, 2, hold(ledger).token)
    with ledger.write() as connection:
        f = tables.files.c
        gone = update(tables.files).where(f.from_epoch == 1).values(removed_state=9)
        connection.execute(gone)

    first, second = epochs_after(ledger, FLIGHTS, 0, 10)

    assert (len(first.segments), len(second.segments)) == (0, 2)


def test_a_read_sees_one_state_while_others_write(ledger: Ledger) -> None:
    token = hold(ledger).token
    epochs = select(tables.epochs.c.epoch)
    with ledger.read() as connection:
        before = connection.execute(epochs).all()
        commit_some(ledger, 3, token)
        assert connection.execute(epochs).all() == before == []
    with ledger.read() as connection:
        assert len(connection.execute(epochs).all()) == 3


def test_a_read_cannot_write(ledger: Ledger) -> None:
    with pytest.raises(LedgerUnwritable), ledger.read() as connection:
        connection.execute(update(tables.streams).values(topic="other"))
