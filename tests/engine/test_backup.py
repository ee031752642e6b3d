"""A copy of a state that is written to meanwhile is a state: right, and one that goes on."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from infra import backup
from schemas.errors import BackupRefused, DamagedFile, LedgerMissing
from schemas.ledger.connect import open_ledger
from schemas.ledger.epochs import lease_name
from schemas.ledger.leases import Holder, leases, take
from schemas.ledger.sealing import sealed_until
from schemas.storage import DataRoot
from tests.api.test_follow import check, rows
from tests.api.world import Served
from tests.engine.batching import NOW, Sealed


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Sealed]:
    """Two sealed epochs, of which a view is built, and two that are not sealed."""
    made = Sealed(tmp_path / "original")
    for seed in (1, 2):
        made.epoch(rows(seed, 20), rows(10 * seed, 5))
    made.seal_all()
    made.builder().all_steps("by_key", full=False, until=None)
    for seed in (3, 4):
        made.epoch(rows(seed, 20))
    yield made
    made.ledger.close()


def say(text: str) -> None:
    raise AssertionError(text)


def answers(state: Path) -> Served:
    served = Served(state)
    served.catch_up()
    return served


def on_disk(folder: Path) -> Counter[str]:
    return Counter(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


def test_a_restored_state_answers_and_goes_on(world: Sealed, tmp_path: Path) -> None:
    copy, again = tmp_path / "copy", tmp_path / "again"
    told = backup.take(world.state, copy, NOW, say)
    assert told.epochs == {"hits": 4}
    assert told.bytes == sum(
        path.stat().st_size for path in copy.rglob("*") if path.is_file() and path.parent != copy
    )
    before, offset = on_disk(copy), world.offset
    world.epoch(rows(5, 20))
    world.seal_all()
    assert backup.restore(copy, again) == told
    assert on_disk(copy) == before
    assert not list(again.glob(".*"))
    with open_ledger(again) as ledger, ledger.read() as reader:
        assert reader.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        with ledger.write():  # beside one who reads
            pass
    served = answers(again)
    check(served, world.told[4])
    assert served.coverage("by_key")["cut"] == 2
    with open_ledger(again) as ledger:
        assert leases(ledger) == []
        assert sealed_until(ledger, "hits") == 2
    assert (again / "views" / "by_key" / "current.json").exists()

    # it is a state of its own: its next epoch is another one
    world.ledger.close()
    world.state, world.root, world.ledger = again, DataRoot(again), open_ledger(again)
    world.offset, holder = offset, Holder("elsewhere", 1, 0.0)
    name = lease_name(world.name)
    world.lease = take(world.ledger, name, holder, NOW, timedelta(1), alive=lambda _: True)
    assert world.epoch(rows(6, 20)) == 5
    served.catch_up()
    check(served, world.told[5])


def test_nothing_is_made_where_there_is_no_state(tmp_path: Path) -> None:
    with pytest.raises(LedgerMissing):
        backup.take(tmp_path / "nowhere", tmp_path / "copy", NOW, say)
    assert not (tmp_path / "copy").exists()


def test_what_goes_while_it_is_copied_is_taken_from_a_newer_ledger(
    world: Sealed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[str] = []
    copyfile = shutil.copyfile
    done: list[Path] = []

    def seal_first(path: Path, to: Path) -> Path:
        if not done:
            done.append(path)
            world.seal_all()
            for segment in (world.state / "segments" / "hits").iterdir():
                segment.unlink()
        return copyfile(path, to)

    monkeypatch.setattr(shutil, "copyfile", seal_first)
    told = backup.take(world.state, tmp_path / "copy", NOW, notes.append)
    assert len(notes) == 1
    assert told.epochs == {"hits": 4}
    backup.restore(tmp_path / "copy", tmp_path / "again")
    check(answers(tmp_path / "again"), world.told[4])
    with open_ledger(tmp_path / "again") as ledger:
        assert sealed_until(ledger, "hits") == 4
    assert not list((tmp_path / "copy" / "segments").rglob("*.zip"))


def test_damage_is_never_copied_or_restored(world: Sealed, tmp_path: Path) -> None:
    (segment, *_) = sorted((world.state / "segments" / "hits").glob("3-*.zip"))
    whole = segment.read_bytes()
    segment.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(DamagedFile, match=segment.name):
        backup.take(world.state, tmp_path / "copy", NOW, say)
    segment.unlink()
    with pytest.raises(DamagedFile, match="no file"):
        backup.take(world.state, tmp_path / "other", NOW, say)
    segment.write_bytes(whole)

    for folder in ("copy", "other"):
        with pytest.raises(BackupRefused, match=r"backup\.json"):
            backup.restore(tmp_path / folder, tmp_path / "again")
        with pytest.raises(BackupRefused, match="empty or missing"):
            backup.take(world.state, tmp_path / folder, NOW, say)
    backup.take(world.state, tmp_path / "good", NOW, say)
    (held,) = (tmp_path / "good" / "segments" / "hits").glob("3-*.zip")
    held.write_bytes(whole[:-1])
    with pytest.raises(DamagedFile, match=held.name):
        backup.restore(tmp_path / "good", tmp_path / "again")
    assert not (tmp_path / "again" / "ledger.db").exists()
    held.write_bytes(whole)
    backup.restore(tmp_path / "good", tmp_path / "again")
    check(answers(tmp_path / "again"), world.told[4])
    with pytest.raises(BackupRefused, match="must have no ledger"):
        backup.restore(tmp_path / "good", tmp_path / "again")
