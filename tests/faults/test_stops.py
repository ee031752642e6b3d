"""A stream that stopped, and a loss that somebody decided to go on without."""

from __future__ import annotations

import pytest

from schemas.errors import NothingLost, StaleToken, StreamUnknown
from schemas.ledger import stops, versions
from schemas.ledger.connect import Ledger
from schemas.position import Range
from tests.faults.committer import FLIGHTS, NOW, TTL, hold, rows

LOST = (Range(0, 10, 25), Range(1, 3, 4))
NEXT, BEGINS = {0: 10, 1: 3}, {0: 0, 1: 0}


def row(ledger: Ledger) -> versions.StreamRow:
    (found,) = versions.streams(ledger)
    return found


def test_a_stop_is_told_until_the_stream_goes_on(ledger: Ledger) -> None:
    token = hold(ledger).token
    assert not stops.stopped(ledger, FLIGHTS)
    stops.stop(ledger, FLIGHTS, token, "the topic is another one", (), NOW)
    assert row(ledger).stopped == "the topic is another one"
    assert stops.stopped(ledger, FLIGHTS)
    before = rows(ledger)
    with pytest.raises(NothingLost, match=FLIGHTS):
        stops.accept_loss(ledger, FLIGHTS, NOW)
    assert rows(ledger) == before
    stops.went_on(ledger, FLIGHTS, token, NEXT, BEGINS)
    assert row(ledger).stopped is None
    state = ledger.state()
    stops.went_on(ledger, FLIGHTS, token, NEXT, BEGINS)
    assert ledger.state() == state


def test_an_accepted_loss_is_kept_for_ever_and_grows_with_what_follows_it(ledger: Ledger) -> None:
    token = hold(ledger).token
    stops.stop(ledger, FLIGHTS, token, "gone", LOST, NOW)
    assert stops.accept_loss(ledger, FLIGHTS, NOW) == LOST
    assert not stops.stopped(ledger, FLIGHTS)
    assert stops.accepted(ledger, FLIGHTS) == list(LOST)
    assert row(ledger).lost == ((0, 10, 25), (1, 3, 4))
    with pytest.raises(NothingLost):
        stops.accept_loss(ledger, FLIGHTS, NOW)

    # more went before it was gone on from
    stops.stop(ledger, FLIGHTS, token, "gone", [Range(0, 10, 40)], NOW)
    assert stops.accept_loss(ledger, FLIGHTS, NOW + TTL) == (Range(0, 10, 40),)
    assert stops.accepted(ledger, FLIGHTS) == [Range(0, 10, 40), Range(1, 3, 4)]
    stops.went_on(ledger, FLIGHTS, token, {0: 10, 1: 3}, {0: 40, 1: 4})
    assert row(ledger).lost == ((0, 10, 40), (1, 3, 4))
    # what was gone on from is lost for ever, wherever the log begins
    stops.went_on(ledger, FLIGHTS, token, {0: 50, 1: 9}, {0: 0, 1: 0})
    assert row(ledger).lost == ((0, 10, 40), (1, 3, 4))


def test_what_is_there_again_before_it_was_gone_on_from_is_not_lost(ledger: Ledger) -> None:
    token = hold(ledger).token
    stops.stop(ledger, FLIGHTS, token, "gone", LOST, NOW)
    stops.accept_loss(ledger, FLIGHTS, NOW)
    stops.went_on(ledger, FLIGHTS, token, {0: 10, 1: 3}, {0: 18, 1: 0})
    assert row(ledger).lost == ((0, 10, 18),)


def test_a_driver_that_is_none_any_more_says_nothing(ledger: Ledger) -> None:
    stale = hold(ledger).token
    token = hold(ledger, pid=2).token
    before = rows(ledger)
    with pytest.raises(StaleToken):
        stops.stop(ledger, FLIGHTS, stale, "gone", LOST, NOW)
    assert rows(ledger) == before
    stops.stop(ledger, FLIGHTS, token, "gone", LOST, NOW)
    with pytest.raises(StaleToken):
        stops.went_on(ledger, FLIGHTS, stale, NEXT, BEGINS)
    assert stops.stopped(ledger, FLIGHTS)
    with pytest.raises(StreamUnknown):
        stops.accept_loss(ledger, "nowhere", NOW)
