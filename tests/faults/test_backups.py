"""A copy of the ledger is kept at each publication and deploy: whole, and the newest few."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas import failpoints
from schemas.errors import LedgerMissing
from schemas.ledger import builds, copies
from schemas.ledger.connect import NAME, open_ledger
from schemas.ledger.copies import BACKUPS, KEPT, back_up, backups
from tests.engine.batching import Sealed, events


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Sealed]:
    made = Sealed(tmp_path)
    yield made
    made.ledger.close()


def unsaid(text: str) -> None:
    raise AssertionError(text)


def published(backup: Path, aside: Path) -> int:
    """How many publications a copy has."""
    aside.mkdir()
    (aside / NAME).write_bytes(backup.read_bytes())
    with open_ledger(aside) as ledger:
        return len(builds.publications(ledger, "by_key"))


def test_a_publication_is_in_a_copy_of_the_ledger(world: Sealed, tmp_path: Path) -> None:
    for at in range(2):
        world.epochs(events(10, start=10 * at))
        world.builder().all_steps("by_key", full=False, until=None)
    newest, before = backups(world.state)
    assert published(newest, tmp_path / "newest") == 2
    assert published(before, tmp_path / "before") == 1


def test_the_newest_are_kept(world: Sealed) -> None:
    named = []
    for _ in range(KEPT + 2):
        world.epoch(events(2))
        named.append(back_up(world.state, unsaid))
    assert backups(world.state) == named[:1:-1]
    assert len(list((world.state / BACKUPS).iterdir())) == KEPT


def test_trouble_does_not_fail_the_publication(
    world: Sealed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world.epochs(events(10))
    full = failpoints.parse("backup.before_name=raise:ENOSPC")
    monkeypatch.setattr(failpoints, "_ACTIONS", full)
    done = world.builder().all_steps("by_key", full=False, until=None)
    assert done.publication.served
    assert "not backed up: " in (told := capsys.readouterr().err)
    assert errno.errorcode[errno.ENOSPC] in told or "No space left" in told
    assert backups(world.state) == []
    assert (world.state / BACKUPS / NAME).exists()
    monkeypatch.setattr(failpoints, "_ACTIONS", {})
    named = back_up(world.state, unsaid)
    assert list((world.state / BACKUPS).iterdir()) == [named]  # and what was left is gone


def test_where_there_is_no_ledger_that_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    assert copies.back_up(tmp_path, said.append) is None
    assert said == [f"the ledger was not backed up: {LedgerMissing(str(tmp_path / NAME))}"]
