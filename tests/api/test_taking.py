"""What the spare has merged a worker takes: the same rows, or none and its end."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from serving.worker import core
from serving.worker.core import RowsDiffer
from serving.worker.tables import Change
from tests.api.test_follow import rows
from tests.api.test_layers import LAYERED, check
from tests.api.world import Served, World

pytestmark = pytest.mark.slow

TYPED = {
    "by_type": """SELECT encode(k) AS bytes, CAST(moment AS DATE) AS day, n > 3 AS more,
        CAST(n AS DECIMAL(10, 3)) AS exact, CAST(n AS FLOAT) / 3 AS single,
        CAST(moment AS TIME) AS clock, CAST(moment AS TIMESTAMPTZ) AS zoned,
        count(*) AS hits, sum(u) AS total, avg(n) AS mean, stddev(n) AS spread,
        max(moment) AS newest, max_by(k, u) AS owner, bool_or(n > 2) AS some,
        sum(CAST(n AS DECIMAL(20, 5))) AS sums, min(n / 7.0) AS least
        FROM hits GROUP BY ALL""",
}


class Kept(Served):
    """Keeps what workers are to take."""

    def __init__(self, state: Path) -> None:
        super().__init__(state)
        self.taken: list[Change] = []
        apply = self.tables.apply

        def take(change: Change, number: int | None = None) -> Change:
            self.taken.append(change)
            return apply(change, number)

        self.tables.apply = take  # type: ignore[method-assign]


@pytest.fixture
def served(tmp_path: Path) -> tuple[World, Kept]:
    world = World(tmp_path, views=LAYERED)
    world.epoch(rows(1, 40))
    made = Kept(world.state)
    made.catch_up()
    made.taken.clear()
    return world, made


def test_values_of_any_type_arrive_as_they_are(tmp_path: Path) -> None:
    world = World(tmp_path, views=TYPED)
    live = Served(world.state)
    for seed in range(1, 30):
        world.epoch(rows(seed, 20))
        live.catch_up()
    check(world, live, TYPED)


def test_a_worker_merges_only_what_it_cannot_take(served: tuple[World, Kept]) -> None:
    world, live = served
    (table,) = _tables(live, "visitors.", ".registers_0")
    sketches = f"SELECT k FROM everview_internal.\"{table}\" WHERE k = 'new'"
    world.epoch([{"k": "new", "u": u, "n": 1} for u in range(9)])
    live.catch_up()
    (change,) = (each for each in live.taken if each.merged)
    assert set(change.partials) == {"by_value", "events"}  # rows move, and rows that are not merged
    assert set(change.merged) == LAYERED.keys() - change.partials.keys()
    assert (len(live.held(sketches)), len(live.rows(sketches))) == (9, 0)
    check(world, live)


@pytest.mark.parametrize("spoil", ["DELETE FROM {}", "UPDATE {} SET _hash = _hash + 1"])
def test_one_that_has_other_rows_takes_nothing(served: tuple[World, Kept], spoil: str) -> None:
    world, live = served
    (table,) = _tables(live, "by_key.", ".core")
    live.tables.cursor().execute(spoil.format(f'everview_internal."{table}"'))
    shown = live.rows("FROM everything")
    world.epoch(rows(2, 40))
    with pytest.raises(RowsDiffer, match=r"view 'by_key': .* rows were to change, 0 are there"):
        live.follow()
    assert live.rows("FROM everything") == shown


def test_rows_that_are_sorted_anew_are_so_in_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sort, done = core.Core.sort, list[str]()

    def spied(self: core.Core, connection: duckdb.DuckDBPyConnection) -> None:
        done.append(self.name)
        sort(self, connection)

    monkeypatch.setattr(core, "SPARE_ROWS", 30)
    monkeypatch.setattr(core.Core, "sort", spied)
    world = World(tmp_path, views={"by_key": LAYERED["by_key"]})
    live = Served(world.state)
    for seed in range(20):
        world.epoch([*rows(seed, 20), {"k": f"z{30 - seed}"}])
        live.catch_up()
    assert len(done) >= 2
    assert done[::2] == done[1::2]  # one and the other
    check(world, live, {"by_key": LAYERED["by_key"]})


def _tables(served: Served, begin: str, end: str) -> list[str]:
    found = served.rows("SELECT table_name FROM duckdb_tables()")
    return [name for (name,) in found if name.startswith(begin) and name.endswith(end)]
