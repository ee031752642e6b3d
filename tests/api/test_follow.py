"""Epochs in the ledger -> answers: any way of loading them gives the view's own SELECT."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from schemas.ledger import stops
from schemas.position import Range
from serving.query import Query, Whole
from serving.worker.job import Job
from serving.worker.views import ServedView
from tests.api.world import COLUMNS, STREAM, VIEWS, Row, Served, World, ask, serving
from tests.oracle import Oracle

EPOCHS = 7


def rows(seed: int, count: int) -> list[Row]:
    """Events with NULL in every column, a few groups, all values distinct enough to tell."""
    pick = random.Random(seed)
    moment = datetime(2013, 1, 1)  # noqa: DTZ001
    return [
        {
            "k": pick.choice([None, "", "a", "b", "c" * 40]),
            "u": pick.choice([None, pick.randrange(12)]),
            "n": pick.choice([None, *range(-3, 9)]),
            "moment": pick.choice([None, moment + timedelta(minutes=pick.randrange(10_000))]),
        }
        for _ in range(count)
    ]


def expected(view: str, told: list[Row]) -> Counter[tuple[Any, ...]]:
    """So few users never share a register: the estimate is the count itself."""
    oracle = Oracle()
    oracle.fill("hits", COLUMNS, told)
    return Counter(oracle.answer(VIEWS[view].replace("approx_count_distinct(", "count(DISTINCT ")))


def check(served: Served, told: list[Row]) -> None:
    for view in VIEWS:
        assert Counter(served.rows(f"FROM {view}")) == expected(view, told), view


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def filled(world: World) -> World:
    for seed in range(EPOCHS):
        world.epoch(*[rows(10 * seed + task, 15) for task in range(1 + seed % 2)])
    return world


def test_each_epoch_is_its_oracle(world: World) -> None:
    served = Served(world.state)
    for seed in range(EPOCHS):
        number = world.epoch(rows(seed, 20))
        served.catch_up()
        check(served, world.told[number])
        coverage = served.coverage("by_key")
        assert coverage["epoch"] == number
        assert coverage["position"] == {"0": 20 * number}
        assert coverage["fresh_as_of"] == f"2026-01-01T10:00:0{number}.000Z"
        assert coverage["degraded"] is None


@pytest.mark.parametrize("round_epochs", [1, 3, 256])
def test_rounds_of_any_length_give_the_same_bits(filled: World, round_epochs: int) -> None:
    whole, split = Served(filled.state), Served(filled.state, round_epochs=round_epochs)
    whole.catch_up()
    split.catch_up()
    check(split, filled.told[EPOCHS])
    for view in VIEWS:
        order = f"FROM {view} ORDER BY ALL"
        assert split.arrow(order).equals(whole.arrow(order)), view
        assert split.coverage(view) == whole.coverage(view)


def test_a_restart_in_between_changes_nothing(filled: World) -> None:
    first = Served(filled.state, round_epochs=2)
    first.step()
    again = Served(filled.state)
    filled.epoch(rows(99, 30))
    again.catch_up()
    first.catch_up()
    for served in (first, again):
        check(served, filled.told[EPOCHS + 1])


def test_a_view_without_keys_has_one_row_before_any_event(world: World) -> None:
    served = Served(world.state)
    served.catch_up()
    assert served.rows("FROM everything") == [(0, None, None)]
    assert served.rows("FROM all_visitors") == [(0, 0)]
    assert served.rows("FROM by_key") == []
    assert served.follower.unready(served.now) == []


def test_an_epoch_without_events_moves_the_position_only(filled: World) -> None:
    served = Served(filled.state)
    served.catch_up()
    filled.epoch()
    filled.epoch([])
    served.catch_up()
    check(served, filled.told[EPOCHS])
    assert served.coverage("by_key")["epoch"] == EPOCHS + 2


def test_not_ready_before_the_ledgers_state_at_the_start(filled: World) -> None:
    served = Served(filled.state, round_epochs=2)
    assert served.follower.unready(0.0) == ["starting"]
    assert served.step()
    assert served.follower.unready(served.now) == ["stream 'hits': epoch 2 of 7 is loaded"]
    served.catch_up()
    assert served.follower.unready(served.now) == []


def test_ready_ends_when_news_are_not_loaded(filled: World) -> None:
    served = Served(filled.state)
    served.catch_up()
    assert served.follower.unready(served.now + 9) == []
    (reason,) = served.follower.unready(served.now + 11)
    assert reason == "the ledger's news are not loaded for more than 10 s"


def test_a_suspended_version_stays_at_the_epoch_before(world: World) -> None:
    served = Served(world.state)
    world.epoch(rows(1, 20))
    world.epoch(rows(2, 20), suspend={"by_key": "Conversion Error: 'x'"})
    world.epoch(rows(3, 20))
    live, late = served, Served(world.state, round_epochs=1)
    for each in (live, late):
        each.catch_up()
        assert Counter(each.rows("FROM by_key")) == expected("by_key", world.told[1])
        assert Counter(each.rows("FROM by_two")) == expected("by_two", world.told[3])
        coverage = each.coverage("by_key")
        assert (coverage["epoch"], coverage["position"]) == (1, {"0": 20})
        assert coverage["fresh_as_of"] == "2026-01-01T10:00:01.000Z"
        assert coverage["degraded"] == "suspended at epoch 2: Conversion Error: 'x'"
        assert each.coverage("by_two")["epoch"] == 3
        assert each.follower.unready(each.now) == []


def test_a_stopped_stream_and_what_it_lost_are_on_every_answer(world: World) -> None:
    served = Served(world.state)
    world.epoch(rows(1, 20))
    served.catch_up()
    assert (served.degraded("by_key"), served.coverage("by_key")["lost"]) == (None, [])
    token, lost = world.lease.token, Range(0, 20, 30)
    stops.stop(world.ledger, world.name, token, "offsets are gone", [lost], world.tick())
    served.step()
    for view in VIEWS:
        assert served.degraded(view) == "its stream stopped: offsets are gone"
    check(served, world.told[1])
    assert served.rows("SELECT degraded FROM everview.streams") == [("offsets are gone",)]

    stops.accept_loss(world.ledger, world.name, world.tick())
    served.step()
    assert served.degraded("by_key") is None
    assert served.coverage("by_key")["lost"] == []  # nothing that it counts is after it
    late = Served(world.state)
    world.offset = 30
    world.epoch(rows(2, 20), lost=10)
    for each in (served, late):
        each.catch_up()
        check(each, world.told[2])
        assert each.degraded("by_key") is None
        assert each.coverage("by_key")["lost"] == [[0, 20, 30]]
        assert each.coverage("by_key")["position"] == {"0": 50}
        ((lost, *others),) = each.rows("SELECT DISTINCT lost, gaps, doubles FROM everview.handoff")
        assert (json.loads(lost), others) == ([[0, 20, 30]], [0, 0])


def test_suspension_is_noticed_while_running(world: World) -> None:
    served = Served(world.state)
    world.epoch(rows(1, 20))
    served.catch_up()
    world.epoch(rows(2, 20), suspend={"visitors": "no"})
    served.step(0.01)
    assert served.coverage("visitors")["epoch"] == 1
    assert served.degraded("visitors") == "suspended at epoch 2: no"
    assert Counter(served.rows("FROM visitors")) == expected("visitors", world.told[1])


def test_damage_holds_the_stream_and_heals(world: World) -> None:
    served = Served(world.state)
    world.epoch(rows(1, 20))
    served.catch_up()
    world.epoch(rows(2, 20))
    world.epoch(rows(3, 20))
    (path,) = (world.state / "segments" / "hits").glob("2-*.zip")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    served.step()
    (reason,) = served.follower.unready(served.now)
    assert f"segments/hits/{path.name}" in reason
    assert str(world.state) not in reason
    assert served.degraded("by_key") is not None
    check(served, world.told[1])
    served.step(0.1)
    check(served, world.told[1])
    path.write_bytes(whole)
    served.step(2.0)
    check(served, world.told[3])
    assert served.degraded("by_key") is None
    assert served.follower.unready(served.now) == []


def test_damage_before_the_state_at_the_start_is_not_served(filled: World) -> None:
    (path,) = (filled.state / "segments" / "hits").glob("3-*.zip")
    path.unlink()
    served = Served(filled.state)
    served.catch_up()
    (reason,) = served.follower.unready(served.now)
    assert f"segments/hits/{path.name}" in reason
    stream = served.follower.streams["hits"]
    assert (stream.epoch, stream.ready) == (2, False)


def test_a_segment_of_another_epoch_is_damage(world: World) -> None:
    world.epoch(rows(1, 5))
    world.epoch(rows(1, 5))
    served = Served(world.state)
    with world.ledger.write() as connection:
        connection.exec_driver_sql(
            "UPDATE files SET sha256 = a.sha256, bytes = a.bytes FROM files AS a "
            "WHERE a.from_epoch = 1 AND files.from_epoch = 2"
        )
    (first,) = (world.state / "segments" / "hits").glob("1-*.zip")
    (second,) = (world.state / "segments" / "hits").glob("2-*.zip")
    second.write_bytes(first.read_bytes())
    served.catch_up()
    (reason,) = served.follower.unready(served.now)
    assert "must be a segment of epoch 2 of 'hits'; got epoch 1 of 'hits'" in reason


def test_a_view_deployed_later_is_being_built(world: World, tmp_path: Path) -> None:
    served = Served(world.state)
    world.epoch(rows(1, 20))
    served.catch_up()
    later = {"later": "SELECT count(*) AS hits FROM hits"}
    world.deploy(tmp_path / "again", STREAM, {**VIEWS, **later})
    served.step()
    world.epoch(rows(2, 20))
    again = Served(world.state)
    why = "is being built: run `everview rebuild later`"
    for each in (served, again):
        each.catch_up()
        assert each.degraded("later") == why
        assert each.degraded("by_key") is None
        assert each.follower.unready(each.now) == []
        assert each.follower.waiting() == {"later": why}
        with serving(each) as client:
            refused = ask(client, "FROM later")
            assert refused.status_code == 503
            assert f"view 'later' {why}" in refused.json()["error"]["message"]
            assert ask(client, "FROM by_key").status_code == 200
            assert client.get("/readyz").json() == {"ready": True, "waiting": {"later": why}}
    world.seal()
    world.build("later")
    world.epoch(rows(3, 20))
    for each in (served, again, Served(world.state)):
        each.catch_up()
        assert each.rows("FROM later") == [(60,)]
        assert each.coverage("later")["cut"] == 2
        assert each.degraded("later") is None
        assert each.follower.waiting() == {}


def test_a_changed_view_takes_the_place_of_the_old_one(world: World, tmp_path: Path) -> None:
    served = Served(world.state)
    served.catch_up()
    before = served.coverage("everything")["version"]
    changed = {**VIEWS, "everything": "SELECT count(n) AS ns FROM hits"}
    world.deploy(tmp_path / "again", STREAM, changed)
    world.epoch([{"k": "a", "u": 1, "n": 1, "moment": None}, *rows(2, 20)])
    served.catch_up()
    told = [row for row in world.told[1] if row["n"] is not None]
    assert served.rows("SELECT ns FROM everything") == [(len(told),)]
    assert served.coverage("everything")["version"] != before
    assert served.degraded("everything") is None


@pytest.mark.parametrize("round_epochs", [1, 256])
def test_a_view_that_cannot_be_merged_stops_alone(world: World, round_epochs: int) -> None:
    world.epoch(rows(1, 20))
    world.epoch(rows(2, 20))
    world.epoch(rows(3, 20), spoil={"keys": pa.table({"other": [1]})})
    world.epoch(rows(4, 20))
    served = Served(world.state, round_epochs=round_epochs)
    served.catch_up()
    assert served.coverage("keys")["epoch"] == 2
    assert str(served.degraded("keys")).startswith("stopped before epoch 3: ")
    assert Counter(served.rows("FROM keys")) == expected("keys", world.told[2])
    assert Counter(served.rows("FROM by_key")) == expected("by_key", world.told[4])
    assert served.coverage("by_key")["epoch"] == 4
    assert served.follower.unready(served.now) == []


def test_tables_that_change_a_lot_are_made_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.worker.views.SPARE_ROWS", 5)
    served = Served(world.state)
    for seed in range(EPOCHS):
        world.epoch(rows(seed, 20))
        served.catch_up()
    check(served, world.told[EPOCHS])


def test_waits_for_a_ledger_and_for_a_stream(tmp_path: Path) -> None:
    served = Served(tmp_path / "nowhere")
    assert not served.step()
    (reason,) = served.follower.unready(served.now)
    assert reason == "there is no ledger yet; run `everview deploy` or `everview up`"


def test_a_ledger_of_a_newer_release_is_named_without_its_folder(world: World) -> None:
    with world.ledger.write() as connection:
        connection.exec_driver_sql("INSERT INTO migrations VALUES (999)")
    served = Served(world.state)
    served.catch_up()
    (reason,) = served.follower.unready(served.now)
    assert "ledger 'ledger.db' must have at most migration" in reason
    assert str(world.state) not in reason


def test_statements_go_on_while_a_change_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path)
    world.epoch([{"k": "a", "n": 1}])
    served = Served(world.state)
    served.catch_up()
    begun, go_on = threading.Event(), threading.Event()
    apply = ServedView.apply

    def slow(self: ServedView, *told: Any) -> None:
        apply(self, *told)
        begun.set()
        assert go_on.wait(30)

    def hits() -> tuple[int, int]:
        sink = Whole()
        job = Job(
            served.tables, Query("FROM everything", None, 10, "application/json"), time.monotonic
        )
        job.run(sink)
        return job.number, json.loads(sink.body())["rows"][0][0]

    served.tables.state = replace(served.tables.state, number=6)
    monkeypatch.setattr(ServedView, "apply", slow)
    monkeypatch.setattr(served.tables, "apply", partial(served.tables.apply, number=7))
    world.epoch([{"k": "a", "n": 1}])
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(served.catch_up)
        assert begun.wait(30)
        assert hits() == (6, 1)
        go_on.set()
        following.result(30)
    assert hits() == (7, 2)
