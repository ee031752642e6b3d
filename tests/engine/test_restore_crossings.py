"""A ledger that is lost after rejects were re-admitted, or after retention let events go: what the
files and a copy tell is neither too little nor too much."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from batch import publish
from batch.retention import Retainer
from batch.settings import Settings
from infra.damage import scrub
from infra.damage.repair import Repairer
from infra.damage.scrub import Pace
from infra.recovery import restore
from schemas import project
from schemas.ages import Ages
from schemas.errors import RestoreRefused
from schemas.ledger import rejects, repairs
from schemas.ledger.connect import NAME, open_ledger
from schemas.ledger.copies import back_up, backups
from schemas.ledger.files import BATCH, REJECTS
from streaming import epoch as streaming_epoch
from tests.engine.damaging import Kept, flip
from tests.engine.live import START, Live
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
from tests.engine.test_replay import FIXED, GOOD, reject_some

pytestmark = pytest.mark.slow
VIEWS = ("by_key", "everything")
AFTERWARDS = datetime(2026, 9, 1, tzinfo=UTC)  # every lease has expired
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
KEPT = [hit(1, n=5), hit(2, n=7, k="b"), hit(3, n=1), hit(4, n=1)]


@pytest.fixture
def live(state: Path) -> Iterator[Live]:
    made = Live(state)
    made.declare(NARROW, BY_KEY, COUNT)
    made.start()
    yield made
    made.ledger.close()


def unsaid(text: str) -> None:
    raise AssertionError(text)


def lose_and_restore(live: Live) -> list[str]:
    live.ledger.close()
    for file in live.state.glob(f"{NAME}*"):
        file.unlink()
    loaded = project.load(live.state / "project")
    try:
        told = restore.restore(live.state, lambda: loaded, AFTERWARDS, lambda _: None)
    finally:
        live.ledger = open_ledger(live.state, create=True)
    live.start()
    return told.notes


def answers(live: Live, events: list[Event]) -> None:
    for view in VIEWS:
        assert live.answer(f"FROM {view}") == answer(view, WIDE_COLUMNS, events)
    assert set(live.verified().values()) == {0}


# ---- replays


@pytest.mark.parametrize("sealed", [False, True])
def test_a_replay_after_a_restore_re_admits_nothing_again(live: Live, sealed: bool) -> None:
    reject_some(live)
    live.declare(WIDE, BY_KEY, COUNT)
    back_up(live.state, unsaid)
    assert live.replay().accepted == 5
    if sealed:
        live.seal()

    notes = lose_and_restore(live)
    again = live.replay()

    assert notes == ["stream hits: 5 rejects were re-admitted already"]
    assert (again.considered, again.accepted) == (2, 0)
    live.seal()
    for view in VIEWS:
        live.build(view)
    answers(live, [*GOOD, *FIXED])


def test_a_copy_that_knows_the_replay_is_not_told_twice(live: Live) -> None:
    reject_some(live)
    live.declare(WIDE, BY_KEY, COUNT)
    live.replay()
    back_up(live.state, unsaid)
    assert len(backups(live.state)) == 1

    assert lose_and_restore(live) == []
    assert len(rejects.sources(live.ledger, live.name).replays) == 1
    assert live.replay().accepted == 0


def test_a_part_of_a_replay_that_was_not_committed_is_not_adopted(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no offsets, so it would follow any epoch."""
    reject_some(live)
    live.seal()
    live.declare(WIDE, BY_KEY, COUNT)
    back_up(live.state, unsaid)
    rejects.ask(live.ledger, live.name, live.clock)

    def away(*_: object) -> None:
        raise OSError

    with monkeypatch.context() as patch:
        patch.setattr(streaming_epoch, "commit_epoch", away)
        with pytest.raises(OSError):  # noqa: PT011
            live.replay_part()
    (left,) = (live.state / "segments").rglob("3-*.zip")
    left.rename(left.with_name("-".join([*left.name.split("-")[:3], f"{'0' * 32}.zip"])))
    more = [hit(6, n=4), hit(7, n=5)]
    live.epoch(*sent(more[:1]))
    while live.replay_part():
        pass
    live.epoch(*sent(more[1:]))

    assert lose_and_restore(live) == ["stream hits: 5 rejects were re-admitted already"]
    live.seal()
    for view in VIEWS:
        live.build(view)
    answers(live, [*GOOD, *FIXED, *more])


def test_rejects_of_several_epochs_are_not_made_anew_under_a_replay(state: Path) -> None:
    """Which epoch rejected which is known from the file alone, and a replay goes by that."""
    live = Live(state, replay_rows=2)
    live.declare(NARROW, BY_KEY, COUNT)
    live.start()
    reject_some(live)
    live.seal()
    live.declare(WIDE, BY_KEY, COUNT)
    rejects.ask(live.ledger, live.name, live.clock)
    live.replay_part()
    (file,) = (each for each in repairs.counting(live.ledger) if each.data.kind == REJECTS)
    flip(live.root, file.data.file.path)
    (damage,) = scrub.scrub(live.ledger, live.root, Pace(0), lambda *_: None).damaged

    repairer = Repairer(live.ledger, live.root, Kept(), list, lambda: live.clock)
    told = repairer.all([damage])[file.data.file.path]

    assert "rejects of the stream were replayed" in told
    assert "take the file from a backup (--from)" in told
    live.ledger.close()


# ---- retention


def retained(live: Live, *, ranges: int) -> None:
    """Epochs 1 and 2 let go, sealed as so many ranges; 3 is sealed after them."""
    live.declare(WIDE, BY_KEY, COUNT)
    live.epoch(*sent(KEPT[:2]))
    if ranges == 2:
        live.seal()
    live.epoch(*sent(KEPT[2:3]))
    live.seal()
    live.epoch(*sent(KEPT[3:]))
    live.seal()
    for view in VIEWS:
        live.build(view)
    age = NOON - START - timedelta(seconds=2.5)
    settings = Settings(
        state=live.state, memory="512MB", retain=Ages(age), keep_removed=timedelta(0)
    )
    done = Retainer(settings, live.ledger, lambda: NOON, threads=1).retain(live.name)
    assert (done.plan.epoch, done.plan.events) == (2, 3)


def unlink_removed(live: Live) -> None:
    before = datetime(2026, 1, 2, tzinfo=UTC)
    assert publish.remove_old(live.ledger, live.root, live.name, before)


def test_a_state_with_bases_is_not_damaged(live: Live) -> None:
    retained(live, ranges=1)
    found = scrub.scrub(live.ledger, live.root, Pace(0), lambda *_: None)
    assert found.damaged == []


@pytest.mark.parametrize("ranges", [1, 2])
@pytest.mark.parametrize("unlinked", [False, True])
def test_what_retention_removed_stays_removed(live: Live, ranges: int, unlinked: bool) -> None:
    retained(live, ranges=ranges)
    if unlinked:
        unlink_removed(live)

    assert lose_and_restore(live) == []

    answers(live, KEPT)
    live.epoch(*sent([hit(1, n=9), hit(5, n=2)]))  # the first is a duplicate
    live.seal()
    for view in VIEWS:
        live.build(view, full=True)
    answers(live, [*KEPT, hit(5, n=2)])


def test_a_batch_view_that_is_damaged_is_built_again_from_its_base(live: Live) -> None:
    retained(live, ranges=2)
    unlink_removed(live)
    version = {each.name: each.version for each in live.views()}["by_key"]
    file = next(
        each.data.file
        for each in repairs.counting(live.ledger)
        if each.data.kind == BATCH and each.data.version == version
    )
    flip(live.root, file.path)

    lose_and_restore(live)
    live.build("by_key", full=True)

    answers(live, KEPT)


def test_without_a_copy_bases_are_not_given_up(live: Live) -> None:
    retained(live, ranges=1)
    unlink_removed(live)
    shutil.rmtree(live.state / "backups")
    with pytest.raises(RestoreRefused, match="retention has removed events"):
        lose_and_restore(live)
