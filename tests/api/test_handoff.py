"""Gaps and doubles, from what files say they cover."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import delete, insert, select, update

from schemas.ledger import tables
from schemas.ledger.files import BATCH, RUN
from schemas.position import Range
from serving.follower.handoff import Spans
from tests.api.layers import named
from tests.api.test_follow import rows
from tests.api.world import Served, World, ask, serving


@pytest.mark.parametrize("seed", range(200))
def test_spans_are_what_counting_each_offset_gives(seed: int) -> None:
    pick = random.Random(seed)
    spans = Spans()
    seen: dict[int, Counter[int]] = {0: Counter(), 7: Counter()}
    for _ in range(pick.randrange(12)):
        partition, start = pick.choice([0, 7]), pick.randrange(30)
        until = start + pick.randrange(9)
        spans = spans.add([Range(partition, start, until)])
        seen[partition].update(range(start, until))
    doubles = sum(count - 1 for each in seen.values() for count in each.values())
    gaps = sum(max(each) + 1 - min(each) - len(each) for each in seen.values() if each)
    assert (spans.gaps, spans.doubles) == (gaps, doubles)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Three sealed ranges of 20 offsets and an epoch of 20 more; a batch view up to the first."""
    world = World(tmp_path)
    for seed in range(3):
        world.epoch(rows(seed, 20))
        world.seal()
        if not seed:
            world.build("visitors")
    world.epoch(rows(9, 20))
    return world


def found(world: World, view: str = "visitors") -> tuple[int, int, str | None]:
    served = Served(world.state)
    served.catch_up()
    sql = f"SELECT gaps, doubles FROM everview.handoff WHERE view = '{view}'"
    ((gaps, doubles),) = served.rows(sql)
    with serving(served) as client:
        (covered,) = ask(client, f"FROM {view}").json()["coverage"]
    assert covered["degraded"] == served.degraded(view)
    return gaps, doubles, served.degraded(view)


def test_nothing_is_missing_and_nothing_twice(world: World) -> None:
    for view in ("visitors", "by_key", "all_visitors"):
        assert found(world, view) == (0, 0, None)


def test_a_missing_run_of_one_table_is_a_gap(world: World) -> None:
    f = tables.files.c
    run = (f.kind == RUN) & (f.from_epoch == 2) & (f.partials == "core")
    version = next(each.version for each in named(world.ledger, world.name, "visitors"))
    with world.ledger.write() as connection:
        connection.execute(delete(tables.files).where(run, f.version == version))
    served = Served(world.state)
    served.catch_up()
    with serving(served) as client:
        answer = ask(client, "FROM visitors")
    assert answer.status_code == 503
    assert "got none of epochs 2..2" in answer.json()["error"]["message"]
    assert found(world, "by_key") == (0, 0, None)


@pytest.mark.parametrize("kind", [RUN, BATCH])
def test_a_file_that_is_named_twice_is_a_double(world: World, kind: str) -> None:
    file = next(
        each
        for each in named(world.ledger, world.name, "visitors")
        if each.kind == kind and each.table == "core"
    )
    copy = f"{file.file.path}.copy"
    (world.state / copy).write_bytes((world.state / file.file.path).read_bytes())
    f = tables.files.c
    with world.ledger.write() as connection:
        row = connection.execute(select(tables.files).where(f.path == file.file.path)).one()
        values = {name: value for name, value in row._mapping.items() if name != "id"}
        connection.execute(insert(tables.files).values({**values, "path": copy}))
    _, doubles, degraded = found(world)
    assert doubles == 20
    assert degraded is not None


def test_a_run_of_other_offsets_than_its_name_says_is_damage(world: World) -> None:
    by_epoch = {
        each.first: each
        for each in named(world.ledger, world.name, "visitors")
        if each.kind == RUN and each.table == "core"
    }
    f = tables.files.c
    second, third = by_epoch[2].file, by_epoch[3].file
    (world.state / third.path).write_bytes((world.state / second.path).read_bytes())
    with world.ledger.write() as connection:
        values = {"sha256": second.sha256, "bytes": second.bytes}
        connection.execute(update(tables.files).where(f.path == third.path).values(values))
    served = Served(world.state)
    served.catch_up()
    assert "epochs 3 to 3; got run of core" in served.follower.waiting()["visitors"]
    assert served.coverage("by_key")["degraded"] is None
