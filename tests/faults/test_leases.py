"""One writer: growing tokens, checked inside the committing transaction (invariant 3)."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from sqlalchemy import update

from schemas.errors import (
    LeaseHeld,
    StaleToken,
)
from schemas.ledger import leases, tables
from schemas.ledger.connect import Ledger, open_ledger
from schemas.ledger.epochs import (
    commit_epoch,
    progress,
)
from schemas.ledger.leases import Holder
from tests.faults.committer import (
    FLIGHTS,
    NOW,
    TTL,
    commit_some,
    deploy,
    hold,
    next_epoch,
    rows,
)

US = Holder("here", 1, 100.0)
THEM = Holder("here", 2, 100.0)
FAR = Holder("there", 1, 100.0)


def test_3a_tokens_grow_and_never_come_again(ledger: Ledger) -> None:
    first = leases.take(ledger, "view/a", US, NOW, TTL, alive=lambda _: True)
    leases.release(ledger, first)
    second = leases.take(ledger, "view/a", THEM, NOW, TTL, alive=lambda _: True)
    again = leases.take(ledger, "view/a", THEM, NOW, TTL, alive=lambda _: True)
    other = leases.take(ledger, "view/b", US, NOW, TTL, alive=lambda _: True)

    assert [first.token, second.token, again.token, other.token] == [1, 2, 3, 1]
    assert leases.leases(ledger) == [again, other]


@pytest.mark.parametrize("other", [THEM, FAR])
def test_3a_a_second_writer_is_told_who_holds_the_lease(ledger: Ledger, other: Holder) -> None:
    held = leases.take(ledger, "stream/flights", other, NOW, TTL, alive=lambda _: True)

    with pytest.raises(LeaseHeld) as caught:
        leases.take(ledger, "stream/flights", US, NOW, TTL, alive=lambda _: True)

    error = caught.value
    assert (error.host, error.pid, error.token) == (other.host, other.pid, held.token)
    assert "2026-01-01T10:00:30" in str(error)
    assert leases.leases(ledger) == [held]


def test_a_dead_process_on_this_host_holds_nothing(ledger: Ledger) -> None:
    asked: list[Holder] = []

    def alive(holder: Holder) -> bool:
        asked.append(holder)
        return False

    leases.take(ledger, "a", THEM, NOW, TTL, alive)
    assert leases.take(ledger, "a", US, NOW, TTL, alive).token == 2
    assert asked == [THEM]

    leases.take(ledger, "b", FAR, NOW, TTL, alive)
    with pytest.raises(LeaseHeld):
        leases.take(ledger, "b", US, NOW, TTL, alive)
    assert asked == [THEM]


def test_a_lease_that_ran_out_can_be_taken(ledger: Ledger) -> None:
    leases.take(ledger, "a", FAR, NOW, TTL, alive=lambda _: True)
    assert leases.take(ledger, "a", US, NOW + TTL, TTL, alive=lambda _: True).token == 2


def test_a_renewed_lease_runs_on(ledger: Ledger) -> None:
    lease = leases.take(ledger, "a", FAR, NOW, TTL, alive=lambda _: True)
    renewed = leases.renew(ledger, lease, NOW + TTL, TTL)
    assert (renewed.token, renewed.expires) == (lease.token, NOW + 2 * TTL)
    with pytest.raises(LeaseHeld):
        leases.take(ledger, "a", US, NOW + TTL, TTL, alive=lambda _: True)


def test_3a_a_lost_or_released_lease_cannot_be_renewed_or_given_back(ledger: Ledger) -> None:
    lost = leases.take(ledger, "a", THEM, NOW, TTL, alive=lambda _: False)
    ours = leases.take(ledger, "a", US, NOW, TTL, alive=lambda _: False)

    with pytest.raises(StaleToken, match="'a' must be held under token 1") as caught:
        leases.renew(ledger, lost, NOW, TTL)
    assert caught.value.current == 2
    leases.release(ledger, lost)
    assert leases.leases(ledger) == [ours]

    leases.release(ledger, ours)
    leases.release(ledger, ours)
    with pytest.raises(StaleToken):
        leases.renew(ledger, ours, NOW, TTL)


def test_3g_a_paused_writer_that_wakes_up_late_commits_nothing(ledger: Ledger) -> None:
    asleep = hold(ledger, pid=1)
    commit_some(ledger, 1, asleep.token)
    late = next_epoch(progress(ledger, FLIGHTS), asleep.token)
    successor = hold(ledger, pid=2)
    commit_some(ledger, 5, successor.token)
    before = rows(ledger)

    with pytest.raises(StaleToken, match="under token 1") as caught:
        commit_epoch(ledger, late)

    assert caught.value.current == successor.token == 2
    assert rows(ledger) == before


def test_3a_the_lease_is_checked_inside_the_committing_transaction(state: Path) -> None:
    """A successor that takes the lease while a commit waits for the lock wins; the commit loses."""
    with open_ledger(state, create=True) as ours, open_ledger(state) as theirs:
        deploy(ours)
        late = next_epoch(progress(ours, FLIGHTS), hold(ours).token)
        caught: list[BaseException] = []
        waiting = threading.Event()

        def commit() -> None:
            waiting.set()
            try:
                commit_epoch(ours, late)
            except StaleToken as error:
                caught.append(error)

        thread = threading.Thread(target=commit)
        with theirs.write() as connection:
            thread.start()
            waiting.wait()
            connection.execute(update(tables.leases).values(token=2, pid=2))
        thread.join()

        assert [type(error) for error in caught] == [StaleToken]
        assert progress(ours, FLIGHTS).epoch == 0
