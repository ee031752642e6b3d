"""A damaged file is never a number, and what takes its place is served without a restart."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from infra.damage import scrub
from infra.damage.repair import Repairer
from infra.damage.scrub import Pace
from schemas.ledger import repairs
from schemas.ledger.files import RUN, SEGMENT
from tests.api.test_follow import check, rows
from tests.api.world import VIEWS, Served, serving
from tests.engine.batching import NOW, Sealed
from tests.engine.damaging import Kept, flip

pytestmark = pytest.mark.slow


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Sealed]:
    """Two sealed epochs and two that are not."""
    made = Sealed(tmp_path)
    for seed in (1, 2):
        made.epoch(rows(seed, 20), rows(10 * seed, 5))
    made.seal_all()
    for seed in (3, 4):
        made.epoch(rows(seed, 20), rows(10 * seed, 5))
    yield made
    made.ledger.close()


def repaired(world: Sealed) -> list[str]:
    log = Kept([table for _, tables in world.layers.records.values() for table in tables])
    found = scrub.scrub(world.ledger, world.root, Pace(0), lambda *_: None)
    repairer = Repairer(world.ledger, world.root, log, list, lambda: NOW + timedelta(hours=1))
    return list(repairer.all(found.damaged).values())


@pytest.mark.parametrize("kind", [SEGMENT, RUN])
def test_damage_at_the_start_is_not_served_until_it_is_repaired(world: Sealed, kind: str) -> None:
    held = [each for each in repairs.counting(world.ledger) if each.data.kind == kind]
    path = held[-1].data.file.path
    flip(world.root, path)
    served = Served(world.state)
    served.catch_up()
    with serving(served) as client:
        answers = [client.get("/sql", params={"q": f"FROM {view}"}) for view in VIEWS]
        assert 503 in {each.status_code for each in answers}
        assert all(each.status_code in (200, 503) for each in answers)
        damage = [each.text for each in answers if each.status_code == 503]
        damage += served.follower.unready(served.now)
        assert any(path in each for each in damage)

        assert all(text.startswith("repaired") for text in repaired(world))
        for _ in range(20):
            served.step(5.0)
        assert client.get("/readyz").json()["ready"] is True
    check(served, world.told[4])
    assert [served.degraded(view) for view in VIEWS] == [None] * len(VIEWS)


def test_damage_met_while_serving_is_said_and_heals(world: Sealed) -> None:
    served = Served(world.state)
    served.catch_up()
    world.epoch(rows(5, 20), rows(6, 3))
    flip(world.root, repairs.counting(world.ledger)[-1].data.file.path)
    served.step()
    assert served.degraded("by_key") is not None
    check(served, world.told[4])
    assert all(text.startswith("repaired") for text in repaired(world))
    served.step(5.0)
    served.catch_up()
    check(served, world.told[5])
    assert served.degraded("by_key") is None
    assert served.follower.unready(served.now) == []
