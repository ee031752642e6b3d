"""What is registered, and what the next epoch therefore carries."""

from __future__ import annotations

from dataclasses import replace

import pytest

from schemas.errors import (
    EpochsMoved,
    NameTaken,
    StreamUnknown,
    TopicRecreated,
    VersionsDiffer,
    ViewMoved,
)
from schemas.ledger import versions
from schemas.ledger.connect import Ledger
from schemas.ledger.epochs import (
    commit_epoch,
    progress,
)
from schemas.ledger.versions import ReferenceRow, StreamRow, ViewRow
from tests.faults.committer import (
    FLIGHTS,
    NOW,
    STREAM,
    TTL,
    VIEWS,
    commit_some,
    hold,
    next_epoch,
    rows,
)


def test_registration_is_given_back(ledger: Ledger) -> None:
    airlines = ReferenceRow("airlines", "a" * 64, "CREATE TABLE airlines ...", 1461)
    planes = ReferenceRow("planes", "b" * 64, "CREATE TABLE planes ...")
    view = ViewRow("by_airline", "v9", FLIGHTS, "CREATE VIEW ...", (airlines, planes))
    other = ViewRow("by_plane", "v8", "trains", "CREATE VIEW ...", (planes,))
    trains = StreamRow("trains", "t", "s2", "CREATE STREAM trains ...")

    versions.register(ledger, [trains], [view, other], NOW)
    once = rows(ledger)
    versions.register(ledger, [trains], [view, other], NOW + TTL)

    assert rows(ledger) == once
    assert versions.views(ledger, "trains") == [replace(other, stream_version="s2")]
    flights = [replace(each, stream_version=STREAM.version) for each in VIEWS]
    assert versions.views(ledger) == [
        replace(view, stream_version=STREAM.version),
        replace(other, stream_version="s2"),
        *flights,
    ]
    streams = [replace(STREAM, topic="flights-topic"), trains]
    assert versions.streams(ledger) == [
        replace(each, declared=((each.version, each.definition),)) for each in streams
    ]
    assert airlines.file == "references/" + "a" * 64


def test_a_view_of_a_stream_that_is_not_there_is_refused_whole(ledger: Ledger) -> None:
    before = rows(ledger)
    with pytest.raises(StreamUnknown, match="'nowhere'"):
        versions.register(
            ledger,
            [StreamRow("trains", "t", "s2", "d")],
            [ViewRow("lost", "v9", "nowhere", "d")],
            NOW,
        )
    assert rows(ledger) == before


def test_a_changed_view_is_folded_in_both_versions_until_it_is_built(ledger: Ledger) -> None:
    token = hold(ledger).token
    commit_some(ledger, 1, token)
    changed = replace(VIEWS[0], version="v5")

    versions.register(ledger, [STREAM], [changed], NOW)

    with pytest.raises(VersionsDiffer) as caught:
        commit_some(ledger, 1, token)
    assert caught.value.registered == ("v1", "v2", "v5")
    commit = next_epoch(progress(ledger, FLIGHTS), token)
    commit_epoch(ledger, replace(commit, folded=("v1", "v2", "v5")))
    served, other = versions.views(ledger)
    assert (served.version, served.wanted, served.first_epoch) == ("v1", "v5", 1)
    assert other.version == "v2"
    built = versions.version(ledger, "carrier_hour", "v5")
    assert built.first_epoch == 2
    assert built.being_built(2)
    assert not served.being_built(2)


def test_on_a_stream_without_epochs_a_changed_view_answers_at_once(ledger: Ledger) -> None:
    versions.register(ledger, [STREAM], [replace(VIEWS[0], version="v5")], NOW)
    commit = next_epoch(progress(ledger, FLIGHTS), hold(ledger).token)
    commit_epoch(ledger, replace(commit, folded=("v2", "v5")))
    assert [view.version for view in versions.views(ledger)] == ["v5", "v2"]


def test_a_view_that_is_new_on_epochs_is_being_built(ledger: Ledger) -> None:
    token = hold(ledger).token
    commit_some(ledger, 1, token)
    late = ViewRow("late", "v7", FLIGHTS, "CREATE VIEW late ...")
    versions.register(ledger, [], [late], NOW)
    (found,) = (view for view in versions.views(ledger) if view.name == "late")
    assert found.being_built(1)

    # another definition of what was never built takes its place at once
    versions.register(ledger, [], [replace(late, version="v8")], NOW)
    commit = next_epoch(progress(ledger, FLIGHTS), token)
    commit_epoch(ledger, replace(commit, folded=("v1", "v2", "v8")))
    (found,) = (view for view in versions.views(ledger) if view.name == "late")
    assert (found.version, found.first_epoch, found.being_built(2)) == ("v8", 2, True)


def test_a_version_that_missed_epochs_begins_anew(ledger: Ledger) -> None:
    token = hold(ledger).token
    commit_some(ledger, 1, token)
    old, new = VIEWS[0], replace(VIEWS[0], version="v5")

    def commit(*folded: str) -> None:
        following = next_epoch(progress(ledger, FLIGHTS), token)
        commit_epoch(ledger, replace(following, folded=folded))

    versions.register(ledger, [], [new], NOW)
    commit("v1", "v2", "v5")
    versions.register(ledger, [], [old], NOW)  # taken back: v5 retires
    commit("v1", "v2")
    versions.register(ledger, [], [new], NOW)
    assert versions.version(ledger, "carrier_hour", "v5").first_epoch is None
    commit("v1", "v2", "v5")
    assert versions.version(ledger, "carrier_hour", "v5").first_epoch == 4


def test_two_views_may_share_a_version(ledger: Ledger) -> None:
    twin = ViewRow("twin", "v1", FLIGHTS, "CREATE VIEW twin ...")
    versions.register(ledger, [], [twin], NOW)

    commit_some(ledger, 1, hold(ledger).token)

    found = {view.name: (view.definition, view.first_epoch) for view in versions.views(ledger)}
    assert found["twin"] == ("CREATE VIEW twin ...", 1)
    assert found["carrier_hour"] == (VIEWS[0].definition, 1)


def test_10_a_recreated_topic_is_refused(ledger: Ledger) -> None:
    versions.set_topic(ledger, FLIGHTS, "first")
    versions.set_topic(ledger, FLIGHTS, "first")
    with pytest.raises(TopicRecreated, match=r"'flights-topic' .* id first; got second"):
        versions.set_topic(ledger, FLIGHTS, "second")
    assert progress(ledger, FLIGHTS).topic_id == "first"


def test_a_change_is_refused_when_its_stream_moved_on(ledger: Ledger) -> None:
    commit_some(ledger, 1, hold(ledger).token)
    before = rows(ledger)
    changes: tuple[tuple[list[StreamRow], list[ViewRow]], ...] = (
        ([replace(STREAM, version="s2")], []),
        ([STREAM], [replace(VIEWS[0], version="v5")]),
        ([STREAM], [ViewRow("more", "v6", FLIGHTS, "CREATE VIEW more ...")]),
    )
    for streams, views in changes:
        for seen in ({FLIGHTS: 0}, {}):
            with pytest.raises(EpochsMoved, match=r"at epoch 0.* got epoch 1.*deploy` again"):
                versions.register(ledger, streams, views, NOW, seen)
    assert rows(ledger) == before

    trains = StreamRow("trains", "t", "s2", "CREATE STREAM trains ...")
    versions.register(ledger, [STREAM, trains], list(VIEWS), NOW, {FLIGHTS: 0})
    versions.register(ledger, *changes[1], NOW, {FLIGHTS: 1})


def test_a_topic_that_changes_before_the_first_epoch_is_seen_anew(ledger: Ledger) -> None:
    versions.set_topic(ledger, FLIGHTS, "first")
    versions.register(ledger, [replace(STREAM, version="s2")], [], NOW)
    assert progress(ledger, FLIGHTS).topic_id == "first"

    versions.register(ledger, [replace(STREAM, topic="other", version="s3")], [], NOW)

    assert progress(ledger, FLIGHTS).topic_id is None
    versions.set_topic(ledger, FLIGHTS, "second")


def test_a_topic_that_changes_after_an_epoch_keeps_its_id(ledger: Ledger) -> None:
    commit_some(ledger, 1, hold(ledger).token)
    versions.register(ledger, [replace(STREAM, topic="other")], [], NOW)
    with pytest.raises(TopicRecreated):
        versions.set_topic(ledger, FLIGHTS, "second")


def test_a_view_stays_over_its_stream(ledger: Ledger) -> None:
    trains = StreamRow("trains", "t", "s2", "CREATE STREAM trains ...")
    moved = replace(VIEWS[0], version="v5", stream="trains")
    versions.register(ledger, [trains], [], NOW)
    commit_some(ledger, 1, hold(ledger).token)
    before = rows(ledger)
    with pytest.raises(ViewMoved, match=r"stay over stream 'flights'.* got 'trains'"):
        versions.register(ledger, [], [moved], NOW)
    assert rows(ledger) == before


def test_names_that_differ_by_case_are_one_name(ledger: Ledger) -> None:
    before = rows(ledger)
    with pytest.raises(NameTaken, match="stream 'Flights' is registered as 'flights'"):
        versions.register(ledger, [replace(STREAM, name="Flights")], [], NOW)
    with pytest.raises(NameTaken, match="view 'PLANES' is registered as 'planes'"):
        versions.register(ledger, [], [replace(VIEWS[1], name="PLANES")], NOW)
    assert rows(ledger) == before
