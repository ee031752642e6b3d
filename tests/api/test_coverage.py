"""Every answer belongs to one epoch, the one it names, while epochs arrive (invariant 11)."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.coverage import Coverage
from serving.worker.tables import Change, Tables
from tests.api.world import Row, Served, World, ask, serving

EPOCHS = 25
POLLS = {
    "everything": "FROM everything",
    "by_key": "SELECT k, hits, total FROM by_key ORDER BY k",
    "visitors": "FROM visitors ORDER BY k",
}


def rows(epoch: int) -> list[Row]:
    return [
        {"k": None if n % 5 == 0 else f"k{(epoch * n) % 7}", "u": (epoch + n) % 40, "n": n}
        for n in range(epoch % 9 + 1)
    ]


def expected(poll: str, told: list[Row]) -> list[list[Any]]:
    groups: dict[str | None, list[Row]] = {}
    for row in told:
        groups.setdefault(row["k"], []).append(row)
    keys = sorted(key for key in groups if key is not None) + [None] * (None in groups)
    if poll == "everything":
        named = [key for key in keys if key is not None]
        total = sum(row["n"] for row in told) if told else None
        return [[len(told), total, max(named) if named else None]]
    if poll == "by_key":
        return [[key, len(groups[key]), sum(row["n"] for row in groups[key])] for key in keys]
    return [[key, len({row["u"] for row in groups[key]})] for key in keys]


def test_each_answer_is_the_oracles_at_its_own_epoch(tmp_path: Path) -> None:
    world = World(tmp_path)
    served = Served(world.state)
    served.catch_up()
    done = threading.Event()

    def poll(client: httpx.Client, view: str) -> int:
        last = -1
        seen = set()
        while not done.is_set() or last < EPOCHS:
            answer = ask(client, POLLS[view]).json()
            (covered,) = answer["coverage"]
            epoch = covered["epoch"]
            assert epoch >= last, "an answer went back"
            assert answer["rows"] == expected(view, world.told[epoch]), (view, epoch)
            told = len(world.told[epoch])
            assert covered["position"] == ({"0": told} if epoch else {})
            last = epoch
            seen.add(epoch)
        return len(seen)

    with serving(served) as client, ThreadPoolExecutor(3) as pool:
        polls = [pool.submit(poll, client, view) for view in POLLS]
        try:
            for epoch in range(1, EPOCHS + 1):
                world.epoch(rows(epoch))
                served.step(0.02)
        finally:
            served.catch_up()
            done.set()
        assert max(each.result() for each in polls) > 3


def test_all_views_of_one_statement_are_at_one_epoch(tmp_path: Path) -> None:
    world = World(tmp_path)
    served = Served(world.state)
    served.catch_up()
    sql = "SELECT (SELECT hits FROM everything) = (SELECT coalesce(sum(hits), 0) FROM by_key)"
    with serving(served) as client:
        for epoch in range(1, 8):
            world.epoch(rows(epoch))
            step = threading.Thread(target=served.step)
            step.start()
            answer = ask(client, sql).json()
            step.join()
            assert answer["rows"] == [[True]]
            assert len({each["epoch"] for each in answer["coverage"]}) == 1


def test_a_reader_keeps_its_state_while_tables_are_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.worker.views.SPARE_ROWS", 0)
    world = World(tmp_path)
    world.epoch(rows(4))
    served = Served(world.state)
    served.catch_up()
    reader = served.tables.cursor()
    with served.tables.beginning(reader) as before:
        asked = reader.sql("SELECT sum(hits) FROM by_key")
    for epoch in (5, 6, 7):
        world.epoch(rows(epoch))
        served.catch_up()
    assert asked.fetchall() == [(len(world.told[1]),)]
    assert before.views["by_key"].epoch == 1
    assert served.tables.state.views["by_key"].epoch == 4
    reader.execute("ROLLBACK")
    reader.close()
    assert served.rows("SELECT sum(hits) FROM by_key") == [(len(world.told[4]),)]


def test_states_that_nobody_reads_are_let_go() -> None:
    """An unread result would pin the snapshot of its time, and every change since."""
    tables = Tables()

    def held(epochs: int) -> int:
        for epoch in range(epochs):
            position = {str(partition): epoch for partition in range(200)}
            tables.apply(Change((Coverage("a", "v", "s", 0, epoch, position, None, None, None),)))
        cursor = tables.cursor()
        ((total,),) = cursor.execute(
            "SELECT sum(memory_usage_bytes)::BIGINT FROM duckdb_memory()"
        ).fetchall()
        cursor.close()
        return int(total)

    first = held(20)
    assert held(200) < first + 2**20
