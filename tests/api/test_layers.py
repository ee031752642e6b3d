"""Batch and speed together give the view's own SELECT, however epochs are split between them."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from schemas.errors import NothingSealed, NothingToBuild
from schemas.ledger.builds import publications
from schemas.ledger.sealing import sealed_until
from serving.follower import load
from serving.worker import batch
from tests.api.layers import named
from tests.api.test_follow import rows
from tests.api.world import COLUMNS, STREAM, VIEWS, Row, Served, World, ask, serving
from tests.oracle import Oracle

pytestmark = pytest.mark.slow

LAYERED = {
    **VIEWS,
    "two_wide": """SELECT n % 3 AS third, k, approx_count_distinct(u) AS users, sum(n) AS total,
        approx_count_distinct(moment) AS moments FROM hits GROUP BY ALL""",
    "by_value": """SELECT k, count(DISTINCT u) AS users, histogram(n) AS ns,
        median(moment) AS middle, quantile_disc(n, [0.1, 0.9]) AS ends,
        median(n) FILTER (WHERE u > 3) AS half FROM hits GROUP BY k""",
    "events": "SELECT k, u + 1 AS more, moment FROM hits WHERE n > 2 OR n IS NULL",
}


def expected(select: str, told: list[Row]) -> Counter[str]:
    oracle = Oracle()
    oracle.fill("hits", COLUMNS, [{**dict.fromkeys(dict(COLUMNS)), **row} for row in told])
    exact = select.replace("approx_count_distinct(", "count(DISTINCT ")
    return Counter(map(repr, oracle.answer(exact)))


def shown(served: Served, view: str) -> Counter[str]:
    """Its rows; as texts, since a list or a map has no hash."""
    return Counter(map(repr, served.rows(f"FROM {view}")))


def check(world: World, served: Served, views: dict[str, str] = LAYERED) -> None:
    for view, select in views.items():
        coverage = served.coverage(view)
        assert coverage["degraded"] is None, coverage
        told = world.told[coverage["epoch"]]
        assert shown(served, view) == expected(select, told), (view, coverage)
        assert coverage["position"] == ({"0": len(told)} if coverage["epoch"] else {})
    handoff = served.rows("FROM everview.handoff")
    assert len(handoff) == len(views)
    for view, _, cut, of_batch, of_speed, gaps, doubles, _ in handoff:
        epoch = served.coverage(view)["epoch"]
        assert (of_batch, of_speed, gaps, doubles) == (cut, epoch - cut, 0, 0)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, views=LAYERED)


SEEDS = [0, 1, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 12))]


@pytest.mark.parametrize("seed", SEEDS)
def test_any_split_gives_the_oracles_answer(
    world: World, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pick = random.Random(seed)
    if seed % 2:  # rounds of a part of a file, tables that are made anew all the time
        monkeypatch.setattr("serving.worker.new_view.ROUND_BYTES", 1)
        monkeypatch.setattr("serving.worker.batch.BATCH_ROWS", 3)
        monkeypatch.setattr("serving.worker.views.SPARE_ROWS", 2)
        monkeypatch.setattr("serving.worker.core.SPARE_ROWS", 2)
    live = Served(world.state, lay_rows=pick.choice([0, 10**6]))
    live.catch_up()
    last = 0

    def epoch() -> None:
        nonlocal last
        tasks = [
            rows(pick.randrange(10**6), pick.randrange(25)) for _ in range(pick.choice([0, 1, 2]))
        ]
        last = world.epoch(*tasks)

    def seal() -> None:
        if pick.random() < 0.5:
            step()
        reached = sealed_until(world.ledger, world.name)
        if last > reached:
            world.seal(pick.randint(reached + 1, last), unlink=pick.random() < 0.5)

    def build() -> None:
        view = pick.choice(list(LAYERED))
        try:
            world.build(view, full=pick.random() < 0.3, buckets=pick.randint(1, 3))
        except (NothingSealed, NothingToBuild):
            return
        if pick.random() < 0.7:
            step()

    def rollback() -> None:
        view = pick.choice(list(LAYERED))
        listed = publications(world.ledger, view)
        others = [each.id for each in listed if each.kept and not each.served]
        if others:
            world.rollback(view, pick.choice(others))

    def merge() -> None:
        world.layers.merge(world.tick(), unlink=pick.random() < 0.5)

    def step() -> None:
        live.catch_up()
        check(world, live)

    actions: list[Callable[[], None]] = [epoch, epoch, epoch, seal, seal, build, build, build]
    actions += [merge, rollback]
    for _ in range(45):
        pick.choice(actions)()
    step()
    for round_epochs, lay_rows in ((1, 10**6), (256, 0)):
        fresh = Served(world.state, round_epochs=round_epochs, lay_rows=lay_rows)
        fresh.catch_up()
        check(world, fresh)
        for view in LAYERED:
            order = f"FROM {view} ORDER BY ALL"
            assert fresh.arrow(order).equals(live.arrow(order)), view
            assert fresh.coverage(view) == live.coverage(view)
        fresh.close()


def test_groups_in_batch_alone_in_speed_alone_and_in_both(world: World) -> None:
    live = Served(world.state)
    world.epoch(
        [{"k": k, "u": u, "n": 1} for k in ("batch", "both", None) for u in range(5)],
    )
    world.seal(unlink=True)
    for view in LAYERED:
        world.build(view)
    live.catch_up()
    check(world, live)
    world.epoch([{"k": "both", "u": 3, "n": 1}, {"k": "both", "u": 9, "n": 2}, {"k": "both"}])
    live.catch_up()
    check(world, live)
    world.epoch([{"k": "speed", "u": 3, "n": 1}, {"k": None, "u": 77, "n": 1}])
    live.catch_up()
    check(world, live)
    assert dict(live.rows("FROM visitors")) == {"batch": 5, "both": 6, None: 6, "speed": 1}


def test_a_group_that_speed_touches_without_a_wide_row_keeps_its_estimate(world: World) -> None:
    world.epoch([{"k": "a", "u": u} for u in range(7)])
    world.seal()
    world.build("visitors")
    world.build("all_visitors")
    world.epoch([{"k": "a", "u": None, "n": 3}])
    served = Served(world.state)
    served.catch_up()
    assert served.rows("FROM visitors") == [("a", 7)]
    assert served.rows("FROM all_visitors") == [(7, 7)]


def test_wide_rows_stay_on_the_disk_until_their_group_is_touched(world: World) -> None:
    world.epoch([{"k": f"k{n % 40}", "u": n} for n in range(200)])
    world.seal()
    published = world.build("visitors")
    served = Served(world.state)
    served.catch_up()
    (table,) = [
        row[0]
        for row in served.rows("SELECT table_name FROM duckdb_tables()")
        if row[0].startswith("visitors.") and not row[0].endswith(".core")
    ]
    count = f'SELECT count(*) FROM everview_internal."{table}"'
    assert published.cut == served.coverage("visitors")["cut"] == 1
    assert served.held(count) == [(0,)]
    world.epoch([{"k": "k7", "u": 10_000}])
    served.catch_up()
    assert served.held(count) == [(6,)]
    check(world, served)


def test_a_folder_that_is_named_like_a_column_is_none(tmp_path: Path) -> None:
    (tmp_path / "k=evil").mkdir()
    world = World(tmp_path / "k=evil" / "n=7", views=LAYERED)
    for seed in range(3):
        world.epoch(rows(seed, 30))
        world.seal()
    for view in LAYERED:
        world.build(view)
    world.epoch(rows(9, 20))
    world.seal()
    world.epoch(rows(10, 20))
    live = Served(world.state)
    live.catch_up()
    assert {live.coverage(view)["cut"] for view in LAYERED} == {3}
    check(world, live)


def test_falling_behind_sealing(world: World) -> None:
    world.epoch(rows(1, 20))
    live = Served(world.state)
    live.catch_up()
    for seed in range(2, 6):
        world.epoch(rows(seed, 20))
    world.seal(unlink=True)
    world.build("visitors")
    world.epoch(rows(7, 20))
    live.catch_up()
    assert live.coverage("by_key")["epoch"] == 6
    assert (live.coverage("visitors")["cut"], live.coverage("by_key")["cut"]) == (5, 0)
    check(world, live)


def test_segments_that_vanish_under_a_round_lead_to_a_snapshot(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = Served(world.state)
    live.catch_up()
    for seed in range(3):
        world.epoch(rows(seed, 20))
    read = load.segments

    def sealed_meanwhile(*arguments: Any) -> Any:
        monkeypatch.setattr("serving.follower.follow.segments", read)
        world.seal(unlink=True)
        return read(*arguments)

    monkeypatch.setattr("serving.follower.follow.segments", sealed_meanwhile)
    live.catch_up()
    assert live.follower.unready(live.now) == []
    assert live.coverage("by_key")["epoch"] == 3
    check(world, live)


def test_runs_that_vanish_under_a_load_lead_to_another_snapshot(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(4):
        world.epoch(rows(seed, 20))
        world.seal(unlink=True)
    check_files = batch.checked

    def merged_meanwhile(*arguments: Any) -> Any:
        monkeypatch.setattr("serving.follower.load.checked", check_files)
        world.layers.merge(world.tick(), unlink=True)
        return check_files(*arguments)

    monkeypatch.setattr("serving.follower.load.checked", merged_meanwhile)
    fresh = Served(world.state)
    fresh.step()
    check(world, fresh)


def test_10_a_missing_run_holds_up_its_own_view_alone(world: World) -> None:
    for seed in range(2):
        world.epoch(rows(seed, 20))
        world.seal()
    with world.ledger.write() as connection:
        gone = "DELETE FROM files WHERE kind = 'run' AND from_epoch = 2 AND version = ?"
        connection.exec_driver_sql(gone, (world.folding.view("by_key").version,))
    live = Served(world.state)
    live.catch_up()
    assert "must have partials of every epoch after its cut 0" in str(
        live.follower.waiting()["by_key"]
    )
    for view in LAYERED.keys() - {"by_key"}:
        assert live.coverage(view)["epoch"] == 2
        assert shown(live, view) == expected(LAYERED[view], world.told[2]), view


def flip(path: Path) -> bytes:
    whole = path.read_bytes()
    path.write_bytes(whole[:-20] + bytes([whole[-20] ^ 1]) + whole[-19:])
    return whole


def test_damage_in_a_batch_file_is_never_a_number(world: World) -> None:
    live = Served(world.state)
    world.epoch(rows(1, 20))
    live.catch_up()
    world.epoch(rows(2, 20))
    world.seal()
    world.build("by_key")
    path = next(world.state / each.file.path for each in named(world.ledger, world.name, "by_key"))
    whole = flip(path)
    world.epoch(rows(3, 20))
    live.catch_up()
    degraded = live.degraded("by_key")
    assert degraded is not None
    assert path.name in degraded
    assert str(world.state) not in degraded
    assert live.coverage("by_key")["cut"] == 0  # what it served before, and goes on with
    told = world.told[live.coverage("by_key")["epoch"]]
    assert shown(live, "by_key") == expected(LAYERED["by_key"], told)
    fresh = Served(world.state)
    fresh.catch_up()
    assert fresh.follower.unready(fresh.now) == []
    assert set(fresh.follower.waiting()) == {"by_key"}
    check_others = {view: select for view, select in LAYERED.items() if view != "by_key"}
    for view, select in check_others.items():
        assert shown(fresh, view) == expected(select, world.told[3])
        assert fresh.degraded(view) is None
    with serving(fresh) as client:
        refused = ask(client, "FROM by_key")
        assert refused.status_code == 503
        assert path.name in refused.json()["error"]["message"]
    path.write_bytes(whole)
    for each in (live, fresh):
        each.step(120)
        each.catch_up()
        assert each.coverage("by_key")["cut"] == 2
        check(world, each)


def test_damage_before_a_group_is_fetched_stops_the_view_alone(world: World) -> None:
    world.epoch([{"k": "a", "u": u} for u in range(7)])
    world.seal()
    world.build("visitors")
    served = Served(world.state)
    served.catch_up()
    wide = [
        world.state / each.file.path
        for each in named(world.ledger, world.name, "visitors")
        if each.table != "core"
    ]
    whole = {path: flip(path) for path in wide}
    world.epoch([{"k": "a", "u": 1000}])
    served.catch_up()
    assert served.rows("FROM visitors") == [("a", 7)]
    assert served.coverage("visitors")["epoch"] == 1
    assert "visitors" in str(served.degraded("visitors"))
    assert served.coverage("by_key")["epoch"] == 2
    for path, data in whole.items():
        path.write_bytes(data)
    served.step(120)
    served.catch_up()
    assert served.rows("FROM visitors") == [("a", 8)]
    check(world, served)


def test_a_suspended_view_keeps_its_epoch_through_sealing(world: World) -> None:
    world.epoch(rows(1, 20))
    world.epoch(rows(2, 20), suspend={"by_key": "no"})
    world.epoch(rows(3, 20))
    live = Served(world.state)
    live.catch_up()
    world.seal(unlink=True)
    world.epoch(rows(4, 20))
    fresh = Served(world.state)
    for each in (live, fresh):
        each.catch_up()
        coverage = each.coverage("by_key")
        assert (coverage["epoch"], coverage["position"]) == (1, {"0": 20})
        assert coverage["fresh_as_of"] == "2026-01-01T10:00:01.000Z"
        assert coverage["degraded"] == "suspended at epoch 2: no"
        assert shown(each, "by_key") == expected(LAYERED["by_key"], world.told[1])
        assert each.coverage("two_wide")["epoch"] == 4


def test_another_version_takes_over_when_it_is_published(world: World, tmp_path: Path) -> None:
    live = Served(world.state)
    world.epoch(rows(1, 20))
    world.epoch(rows(2, 20))
    live.catch_up()
    world.seal()
    world.build("everything")
    first = live.coverage("everything")["version"]
    changed = {**LAYERED, "everything": "SELECT count(n) AS ns, approx_count_distinct(u) FROM hits"}
    world.deploy(tmp_path / "again", STREAM, changed)
    world.epoch(rows(3, 20))
    live.catch_up()
    assert live.coverage("everything")["version"] == first
    check(world, live)
    world.seal()
    world.build("everything")
    world.epoch(rows(4, 20))
    fresh = Served(world.state)
    for each in (live, fresh):
        each.catch_up()
        assert each.coverage("everything")["version"] != first
        check(world, each, changed)
    world.rollback("everything")
    for each in (live, fresh):
        each.step()
        each.catch_up()
        assert each.coverage("everything")["version"] == first
        check(world, each)


POLLS = {
    "everything": "FROM everything",
    "by_key": "FROM by_key",
    "visitors": "FROM visitors",
    "all_visitors": "FROM all_visitors",
}


def test_queries_during_swaps_see_one_state(world: World) -> None:
    served = Served(world.state)
    served.catch_up()
    done = threading.Event()
    epochs = 12
    right: dict[tuple[str, int], Counter[str]] = {}

    def poll(client: httpx.Client, view: str) -> set[tuple[int, int]]:
        seen: list[tuple[int, int]] = [(0, 0)]
        while not done.is_set() or seen[-1][1] < epochs:
            answer = ask(client, POLLS[view]).json()
            (covered,) = answer["coverage"]
            cut, epoch = covered["cut"], covered["epoch"]
            assert epoch >= seen[-1][1], "an answer went back"
            assert cut >= seen[-1][0], "a cut went back"
            assert covered["degraded"] is None
            told = world.told[epoch]
            assert covered["position"] == ({"0": len(told)} if epoch else {})
            found = Counter(repr(tuple(row)) for row in answer["rows"])
            if (view, epoch) not in right:
                right[view, epoch] = expected(LAYERED[view], told)
            assert found == right[view, epoch], (view, covered)
            seen.append((cut, epoch))
        return set(seen)

    with serving(served) as client, ThreadPoolExecutor(len(POLLS)) as pool:
        polls = [pool.submit(poll, client, view) for view in POLLS]
        try:
            for epoch in range(1, epochs + 1):
                world.epoch(plain(epoch))
                served.step(0.3)
                if epoch % 3 == 0:
                    world.seal(epoch - 1, unlink=True)
                    for view in POLLS:
                        world.build(view, full=epoch % 2 == 0)
                    served.step(2)
        finally:
            served.catch_up()
            served.step(2)
            done.set()
        for each in polls:
            seen = each.result()
            assert len({cut for cut, _ in seen}) > 2


def plain(seed: int) -> list[Row]:
    """What JSON spells as SQL does."""
    return [{**row, "moment": None} for row in rows(seed, 15)]
