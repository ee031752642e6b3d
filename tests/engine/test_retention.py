"""Retention of the master: what it removes, what it keeps, and that totals outlive the detail.

The oracle is DuckDB over every event there ever was, and a twin that keeps all of its master:
estimates have to be those of the twin to the last bit."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from batch.compiled import Compiled
from batch.retention import Retainer
from batch.settings import Settings
from batch.verify import verify
from schemas.ages import Ages
from schemas.ledger import builds, retention
from schemas.ledger.files import BASE, MASTER
from tests.api.world import START
from tests.engine.batching import EVENT_COLUMNS, NOW, Sealed, events, ordered
from tests.oracle import Oracle

VIEWS = {
    "by_key": """SELECT k, count(*) AS hits, sum(n) AS total, avg(n) AS mean, min(n) AS low,
        max(n) AS high FROM hits GROUP BY k""",
    "everything": "SELECT count(*) AS hits, sum(n) AS total, max(k) AS last FROM hits",
    "visitors": "SELECT k, approx_count_distinct(u) AS visitors FROM hits GROUP BY k",
    "median": """SELECT k, count(*) AS hits, approx_quantile(n, 0.5) AS middle FROM hits
        GROUP BY k""",
    "by_hour": """SELECT time_bucket(INTERVAL '1 hour', moment) AS hour, count(n) AS ns,
        sum(n) AS total FROM hits GROUP BY 1""",
}
EXACT = ("by_key", "everything", "by_hour")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Sealed]:
    made = Sealed(tmp_path / "one", views=VIEWS)
    yield made
    made.ledger.close()


@pytest.fixture
def twin(tmp_path: Path) -> Iterator[Sealed]:
    made = Sealed(tmp_path / "other", views=VIEWS)
    yield made
    made.ledger.close()


LATER = NOW + timedelta(minutes=1)


def age_of(epoch: int) -> timedelta:
    """The age at which epochs up to this one are old."""
    return LATER - START - timedelta(seconds=epoch + 0.5)


def retainer(world: Sealed, epoch: int) -> Retainer:
    """Removes epochs up to this one, if they can go."""
    ages = Ages(age_of(epoch))
    settings = Settings(state=world.state, memory="512MB", retain=ages, keep_removed=timedelta(0))
    return Retainer(settings, world.ledger, lambda: LATER, threads=1)


def build(world: Sealed, view: str, *, full: bool = False, **settings: Any) -> Any:
    return world.builder(**settings).all_steps(view, full=full, until=None)


def build_all(world: Sealed, *, full: bool = False) -> None:
    for view in VIEWS:
        build(world, view, full=full, rollback_window=timedelta(0))


def kinds(world: Sealed, kind: str) -> list[tuple[int, int]]:
    """The epochs of the files of a kind that count and are on the disk."""
    left = retention.remains(world.ledger, world.name, world.folding.view("by_key").version)
    found = left.master if kind == MASTER else left.base
    assert all(world.root.check(each.file).is_file() for each in found)
    return sorted((each.first, each.last) for each in found)


def agree(world: Sealed, twin: Sealed, epoch: int) -> None:
    """What is published, what the twin has, what DuckDB says, and what `verify` finds."""
    for view, text in VIEWS.items():
        assert world.finished(view) == twin.finished(view), view
        if view in EXACT:
            oracle = Oracle()
            oracle.fill("hits", EVENT_COLUMNS, world.told[epoch])
            assert world.finished(view) == ordered(oracle.answer(text)), view
        done = verify(
            world.ledger, world.root, Compiled(world.ledger), view, None, memory="512MB", threads=1
        )
        assert (done.comparison.different, done.epoch) == (0, epoch), done.json()


def test_totals_outlive_the_detail(world: Sealed, twin: Sealed) -> None:
    for each in (world, twin):
        each.epochs(events(40), [], events(60, start=30))
        each.epochs(events(50, start=90))
        build_all(each)
    done = retainer(world, 3).retain(world.name)
    assert (done.plan.before, done.plan.epoch, done.plan.events) == (0, 3, 100)
    assert kinds(world, MASTER) == [(4, 4)]
    assert set(kinds(world, BASE)) == {(1, 3)}
    agree(world, twin, 4)

    for each in (world, twin):  # incremental, and full from base and what is left
        each.epochs(events(45, start=120), events(5))
        build_all(each)
    agree(world, twin, 6)
    for view in VIEWS:
        full = build(world, view, full=True, rollback_window=timedelta(days=1))
        told = full.proof.evidence["retention"]
        assert full.proof.verdict == "equal"
        assert (told["epoch"], told["on_base"] > 0) == (3, True)
        assert full.proof.evidence["master"]["rows"] == 100
    agree(world, twin, 6)

    # a rollback may go back: its publication's cut is not below what was removed
    for each in (world, twin):
        each.epochs(events(30, start=400))
        for view in VIEWS:
            build(each, view)
    served = builds.rollback(world.ledger, "by_key", None, NOW)
    assert served.cut == 6
    agree_at = verify(
        world.ledger, world.root, Compiled(world.ledger), "by_key", None, memory="1GB", threads=1
    )
    assert (agree_at.comparison.different, agree_at.epoch, agree_at.cut) == (0, 7, 6)
    build(world, "by_key", full=True)
    again = retainer(world, 7).retain(world.name)
    assert (again.plan.before, again.plan.epoch, again.plan.wanted) == (3, 6, 7)
    assert kinds(world, MASTER) == [(7, 7)]
    assert set(kinds(world, BASE)) == {(1, 6)}
    build_all(world, full=True)
    agree(world, twin, 7)
