"""A ledger that is lost after rejects were re-admitted knows that again from the files."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from infra.recovery import restore
from schemas import project
from schemas.ledger import rejects
from schemas.ledger.connect import NAME, open_ledger
from schemas.ledger.copies import back_up, backups
from tests.engine.live import Live
from tests.engine.test_declarations import BY_KEY, COUNT, NARROW, WIDE, WIDE_COLUMNS, answer
from tests.engine.test_replay import FIXED, GOOD, reject_some

pytestmark = pytest.mark.slow
AFTERWARDS = datetime(2026, 9, 1, tzinfo=UTC)  # every lease has expired


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
    told = restore.restore(live.state, lambda: loaded, AFTERWARDS, lambda _: None)
    live.ledger = open_ledger(live.state)
    live.start()
    return told.notes


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
    for view in ("by_key", "everything"):
        live.build(view)
        assert live.answer(f"FROM {view}") == answer(view, WIDE_COLUMNS, [*GOOD, *FIXED])


def test_a_copy_that_knows_the_replay_is_not_told_twice(live: Live) -> None:
    reject_some(live)
    live.declare(WIDE, BY_KEY, COUNT)
    live.replay()
    back_up(live.state, unsaid)
    assert len(backups(live.state)) == 1

    assert lose_and_restore(live) == []
    assert len(rejects.sources(live.ledger, live.name).replays) == 1
    assert live.replay().accepted == 0
