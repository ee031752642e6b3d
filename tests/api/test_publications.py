"""What a publication changes in the tables: only the files where it is proven equal, else all."""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from schemas.bound import Bound
from schemas.ledger.bounds import move_bound
from schemas.ledger.files import BATCH
from serving.follower.follow import LAY_ROWS
from serving.packing import pack
from serving.worker import core, views
from serving.worker.tables import Change
from tests.api.layers import named
from tests.api.test_follow import rows
from tests.api.test_layers import LAYERED, check, flip
from tests.api.world import START, STREAM, Served, World, ask, serving

pytestmark = pytest.mark.slow

BY_KEY = "SELECT k, moment, count(*) AS hits, sum(n) AS total FROM hits GROUP BY ALL"


class Sent(Served):
    """Its tables are in another process, as far as changes can tell."""

    def __init__(self, state: Path, **options: int) -> None:
        super().__init__(state, **options)
        self.sent: list[bytes] = []
        self.heavy: list[bool] = []
        apply = self.tables.apply

        def send(change: Change, number: int | None = None) -> Change:
            taken = apply(change, number)
            self.heavy.append(taken.heavy)
            self.sent.append(pack(change))
            return taken

        self.tables.apply = send  # type: ignore[method-assign]


def tables_of(served: Served, view: str) -> list[str]:
    """The tables behind a view, whose names tell when it was made anew."""
    found = served.rows("SELECT table_name FROM duckdb_tables() ORDER BY ALL")
    return [name for (name,) in found if name.startswith(f"{view}.")]


@pytest.mark.parametrize("publications", [9, pytest.param(50, marks=pytest.mark.long)])
def test_7_the_merged_form_outlives_equal_publications(tmp_path: Path, publications: int) -> None:
    shown = {view: LAYERED[view] for view in ("by_key", "visitors", "events")}
    world = World(tmp_path, views=shown)
    pick = random.Random(publications)
    loaded, laid = (Sent(world.state, lay_rows=lay_rows) for lay_rows in (LAY_ROWS, 0))

    def catch_up() -> None:
        for each in (loaded, laid):
            each.catch_up()

    world.epoch(rows(0, 30))
    world.seal()
    for view in shown:
        world.build(view)
    catch_up()
    made = {(each, view): tables_of(each, view) for each in (loaded, laid) for view in shown}
    for number in range(publications):
        for _ in range(pick.choice([1, 2])):
            last = world.epoch(rows(pick.randrange(10**6), pick.randrange(12)))
        catch_up()
        world.seal(pick.choice([last - 1, last]), unlink=pick.random() < 0.3)
        world.build(list(shown)[number % len(shown)], buckets=pick.randint(1, 3))
        catch_up()
    moved = {(each, view) for (each, view), was in made.items() if tables_of(each, view) != was}
    assert moved == {(laid, "events")}  # its rows in memory are in the next publication's files
    listed = named(world.ledger, world.name, "visitors")
    paths = {each.file.path for each in listed if each.kind == BATCH and each.table == "core"}
    found = laid.rows("SELECT path FROM everview_internal.laid WHERE view = 'visitors'")
    assert {path for (path,) in found} == paths
    for lay_rows in (0, LAY_ROWS):
        fresh = Served(world.state, lay_rows=lay_rows)
        fresh.catch_up()
        for each in (loaded, laid):
            check(world, each, shown)
            for view in shown:
                order = f"FROM {view} ORDER BY ALL"
                assert fresh.arrow(order).equals(each.arrow(order)), view
                assert fresh.coverage(view) == each.coverage(view)
            handoff = "FROM everview.handoff ORDER BY view"
            assert fresh.rows(handoff) == each.rows(handoff)
        fresh.close()


def tamper(served: Served) -> None:
    """What is in memory can be told from what would be made of the files."""
    (table,) = tables_of(served, "by_key")
    served.tables._writer.execute(f'UPDATE everview_internal."{table}" SET _call_0 = 1000')


def equal(world: World) -> None:
    world.build("by_key")


def full(world: World) -> None:
    world.build("by_key", full=True)


def repair(world: World) -> None:
    world.build("by_key", verdict="repair")


def not_compared(world: World) -> None:
    world.build("by_key", partials=[])


def two_at_once(world: World) -> None:
    world.build("by_key")
    world.build("by_key", full=True)


def rolled_back_and_forth(world: World) -> None:
    build = world.build("by_key").id
    world.rollback("by_key")
    world.rollback("by_key", build)


def retained(world: World) -> None:
    build = world.build("by_key")
    with world.ledger.write() as connection:
        sql = "UPDATE builds SET retained = 1 WHERE id = ?"
        connection.exec_driver_sql(sql, (build.id,))


def bounded(world: World) -> None:
    move_bound(world.ledger, "by_key", Bound("moment", START - timedelta(days=9)), world.tick())
    world.build("by_key")


def another_version(world: World) -> None:
    changed = {"by_key": BY_KEY.replace("sum(n)", "sum(u)")}
    world.deploy(world.state.parent / "again", STREAM, changed)
    world.epoch(rows(9, 5))
    world.seal()
    world.build("by_key")


CASES: list[tuple[Callable[[World], None], bool]] = [
    (equal, True),
    (full, True),
    (repair, False),
    (not_compared, False),
    (two_at_once, False),
    (rolled_back_and_forth, False),
    (retained, False),
    (bounded, False),
    (another_version, False),
]


@pytest.mark.parametrize(("publish", "kept"), CASES)
def test_7_only_what_is_proven_equal_is_kept(
    tmp_path: Path, publish: Callable[[World], None], kept: bool
) -> None:
    world = World(tmp_path, views={"by_key": BY_KEY})
    world.epoch(rows(1, 20))
    world.seal()
    world.build("by_key")
    world.epoch(rows(2, 20))
    served = Served(world.state)
    served.catch_up()
    made = tables_of(served, "by_key")
    tamper(served)
    world.seal()
    publish(world)
    served.follow()
    counts = {hits for (hits,) in served.rows("SELECT hits FROM by_key")}
    assert (tables_of(served, "by_key") == made) == kept
    assert (counts == {1000}) == kept
    assert served.coverage("by_key")["cut"] >= 2


def test_7_the_first_publication_of_another_version_is_loaded(tmp_path: Path) -> None:
    """As nothing was published before, either follows nothing."""
    world = World(tmp_path, views={"by_key": BY_KEY})
    world.epoch(rows(1, 20))
    served = Served(world.state)
    served.catch_up()
    changed = {"by_key": BY_KEY.replace("sum(n)", "sum(u)")}
    world.deploy(tmp_path / "again", STREAM, changed)
    world.epoch(rows(2, 20))
    served.catch_up()
    world.seal()
    world.build("by_key")
    served.catch_up()
    assert served.coverage("by_key")["cut"] == 2
    check(world, served, changed)


def test_a_view_that_is_behind_the_cut_is_made_anew(tmp_path: Path) -> None:
    """It stopped at an epoch whose groups it could not fetch, which the next batch view has."""
    shown = {"visitors": LAYERED["visitors"]}
    world = World(tmp_path, views=shown)
    world.epoch(rows(1, 20))
    world.seal()
    world.build("visitors")
    served = Served(world.state)
    served.catch_up()
    made = tables_of(served, "visitors")
    listed = named(world.ledger, world.name, "visitors")
    kept = {path: flip(path) for each in listed if (path := world.state / each.file.path)}
    world.epoch(rows(2, 20))
    served.catch_up()
    assert "stopped before epoch 2" in str(served.degraded("visitors"))
    for path, whole in kept.items():
        path.write_bytes(whole)
    world.seal()
    world.build("visitors")
    served.step(120)
    served.catch_up()
    assert tables_of(served, "visitors") != made
    check(world, served, shown)


def test_a_publication_is_swapped_in_when_its_files_are_whole(tmp_path: Path) -> None:
    world = World(tmp_path, views={"by_key": BY_KEY, "visitors": LAYERED["visitors"]})
    world.epoch([*rows(1, 20), {"k": "untouched", "u": 1}])
    world.seal()
    for view in ("by_key", "visitors"):
        world.build(view)
    served = Served(world.state)
    served.catch_up()
    made = tables_of(served, "visitors")
    world.epoch(rows(2, 20))
    served.catch_up()
    world.seal()
    published = world.build("visitors")
    wide = [each for each in named(world.ledger, world.name, "visitors") if each.table != "core"]
    path = world.state / wide[0].file.path
    whole = flip(path)
    served.catch_up()
    assert path.name in str(served.degraded("visitors"))
    assert served.coverage("visitors")["cut"] == 1
    path.write_bytes(whole)
    served.step(120)
    served.catch_up()
    assert served.coverage("visitors")["cut"] == 2
    assert tables_of(served, "visitors") == made
    for each in named(world.ledger, world.name, "visitors"):
        (world.state / each.file.path).unlink()
    world.epoch([{"k": "untouched", "u": 2}])  # fetched from the files of now
    served.catch_up()
    assert f"/{published.id}/" in str(served.degraded("visitors"))


def test_rows_that_pile_up_over_swaps_are_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "HELD_ROWS", 40)
    world = World(tmp_path, views={"visitors": LAYERED["visitors"]})
    served = Sent(world.state)
    served.catch_up()
    held, heavy = [], []
    for number in range(12):
        world.epoch([{"k": f"k{number}", "u": u} for u in range(10)])
        served.heavy.clear()
        served.catch_up()
        world.seal()
        world.build("visitors")
        served.catch_up()
        (wide,) = [each for each in tables_of(served, "visitors") if "core" not in each]
        ((count,),) = served.held(f'SELECT count(*) FROM everview_internal."{wide}"')
        held.append(count)
        heavy.append(any(served.heavy))
    assert max(held) <= 40
    assert heavy == [count == 0 for count in held]  # made anew: not for every worker to do
    assert sorted(set(held)) == [0, 10, 20, 30, 40]
    check(world, served, {"visitors": LAYERED["visitors"]})


def test_a_view_that_grows_too_large_is_laid(tmp_path: Path) -> None:
    world = World(tmp_path, views={"by_key": BY_KEY})
    served = Served(world.state, lay_rows=12)
    for number in range(3):
        world.epoch([{"k": f"{number} {n}", "n": n} for n in range(5)])
        served.catch_up()
        world.seal()
        world.build("by_key")
        served.catch_up()
        check(world, served, {"by_key": BY_KEY})
        listed = served.rows("SELECT count(*) FROM everview_internal.laid")
        assert listed == [(2 if number == 2 else 0,)]


def test_groups_whose_hashes_collide_stay_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core, "group_hash", lambda _, row="": "7::UBIGINT")  # noqa: ARG005
    world = World(tmp_path, views={"visitors": LAYERED["visitors"]})
    served = Served(world.state)
    for seed in range(3):
        world.epoch(rows(seed, 10))
        served.catch_up()
    check(world, served, {"visitors": LAYERED["visitors"]})


# laid


@pytest.fixture
def laid(tmp_path: Path) -> tuple[World, Served]:
    """A view in files, one group of which speed has touched."""
    world = World(tmp_path, views={"by_key": BY_KEY, "keys": LAYERED["keys"]})
    world.epoch([{"k": f"k{n}", "n": n} for n in range(50)] + [{"k": None, "n": 3}])
    world.seal()
    world.build("by_key", buckets=1)
    served = Served(world.state, lay_rows=10)
    served.catch_up()
    world.epoch([{"k": "k7", "n": 1}])
    served.catch_up()
    return world, served


def test_a_laid_view_has_the_groups_in_memory_that_speed_touched(
    laid: tuple[World, Served],
) -> None:
    world, served = laid
    (table,) = tables_of(served, "by_key")
    assert served.rows(f'SELECT k FROM everview_internal."{table}"') == [("k7",)]
    check(world, served, {"by_key": BY_KEY, "keys": LAYERED["keys"]})
    world.epoch([{"k": None, "n": 1}, {"k": "new", "n": 1}])
    served.catch_up()
    assert served.rows(f'SELECT count(*) FROM everview_internal."{table}"') == [(3,)]
    check(world, served, {"by_key": BY_KEY, "keys": LAYERED["keys"]})
    plan = "".join(served.rows("EXPLAIN FROM by_key WHERE k = 'k9'")[0])
    files, _, _ = plan.partition("SEQ_SCAN")
    assert "READ_PARQUET" in files
    assert "k='k9'" in files.replace(" ", "")


@pytest.mark.parametrize("harm", ["flipped", "replaced", "gone", "cut"])
def test_5_damage_under_a_laid_view_is_never_a_number(
    laid: tuple[World, Served], harm: str
) -> None:
    world, served = laid
    (data,) = named(world.ledger, world.name, "by_key")[:1]
    path = world.state / data.file.path
    whole = path.read_bytes()
    with serving(served) as client:
        assert ask(client, "SELECT count(*) FROM by_key").json()["rows"] == [[51]]
        if harm == "flipped":
            flip(path)
        elif harm == "replaced":  # with the same bytes: who knows
            beside = path.with_name("beside")
            beside.write_bytes(whole)
            os.replace(beside, path)
        elif harm == "cut":
            os.truncate(path, len(whole) // 2)
        else:
            path.unlink()
        for sql in ("SELECT sum(hits) FROM by_key", "FROM by_key WHERE k = 'k7'"):
            answer = ask(client, sql)
            assert answer.status_code == 503
            message = answer.json()["error"]["message"]
            assert data.file.path in message
            assert str(world.state) not in message
        assert ask(client, "FROM keys").status_code == 200


def test_a_file_that_changes_under_a_statement_is_found_after_it(
    laid: tuple[World, Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    world, served = laid
    (data,) = named(world.ledger, world.name, "by_key")[:1]
    path = world.state / data.file.path
    from serving.worker.job import Job

    read = Job._relation

    def touched(*arguments: Any) -> Any:
        found = read(*arguments)
        os.utime(path)
        return found

    monkeypatch.setattr(Job, "_relation", touched)
    with serving(served) as client:
        assert data.file.path in ask(client, "FROM by_key").json()["error"]["message"]


# changes are data

APPLY = """
import os, pickle, sys
from pathlib import Path
from serving.packing import unpack
from serving.worker import tables
def threads(): return len(os.listdir("/proc/self/task"))
before = threads()
made = tables.Tables(readable=(Path(sys.argv[1]) / "batch",))
with open(sys.argv[2], "rb") as sent:
    for change in pickle.load(sent):
        made.apply(unpack(change))
cursor = made.cursor()
for view in sys.argv[3:]:
    print(cursor.execute(f"SELECT count(*), sum(hash(x)::HUGEINT) FROM {view} x").fetchall())
print(threads() - before)
"""


def test_a_change_is_applied_elsewhere_without_a_thread(tmp_path: Path) -> None:
    """Where it is applied the process is forked, which a second thread would not outlive."""
    shown = {view: LAYERED[view] for view in ("by_key", "visitors", "by_value", "events")}
    world = World(tmp_path, views=shown)
    served = Sent(world.state, lay_rows=8)
    for seed in range(3):
        world.epoch(rows(seed, 30))
    world.seal()
    world.build("by_key")
    world.build("visitors")
    world.epoch(rows(4, 30))
    world.seal()
    world.epoch(rows(5, 30))
    served.catch_up()
    world.epoch(rows(6, 30))
    world.build("by_key")
    served.catch_up()
    (tmp_path / "sent").write_bytes(pickle.dumps(served.sent))
    command = [sys.executable, "-c", APPLY, str(world.state), str(tmp_path / "sent"), *shown]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    expected = [
        str(served.rows(f"SELECT count(*), sum(hash(x)::HUGEINT) FROM {view} x")) for view in shown
    ]
    assert ran.stdout.splitlines() == [*expected, "0"], ran.stderr
