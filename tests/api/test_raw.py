"""`raw.<stream>`: a view's own SELECT over it is the view, wherever its events lie."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas import registered
from schemas.compile import CompiledRaw
from schemas.errors import VersionOfAnotherRelease
from schemas.ledger.versions import StreamRow
from schemas.storage import DataRoot
from schemas.stored_file import StoredFile
from serving.follower import raw
from serving.worker.laid import LaidFile
from tests.api.sealed import SealedWorld
from tests.api.test_follow import rows
from tests.api.world import VIEWS as PLAIN
from tests.api.world import Row, Served, ask, serving
from tests.engine.batching import builder
from tests.engine.retaining import retainer

pytestmark = pytest.mark.slow

KEYED = """
CREATE STREAM hits (id BIGINT PRIMARY KEY, k VARCHAR, u BIGINT, n INTEGER, moment TIMESTAMP,
    j JSON, twice INTEGER GENERATED ALWAYS AS (n * 2))
WITH (topic = 'hits', format = 'json', event_time = 'moment');
"""
VIEWS = {
    **PLAIN,
    "places": """SELECT _partition AS part, max(_offset) AS last, sum(twice) AS more,
        count(j->>'$.a') AS a FROM hits GROUP BY ALL""",
    "events": "SELECT id, k, j->>'$.a' AS a, moment, twice FROM hits WHERE n > 2 OR n IS NULL",
}
COLUMNS = ["id", "k", "u", "n", "moment", "j", "twice", "_epoch", "_partition", "_offset"]
COLUMNS += ["_timestamp", "_key", "_value", "_misfit"]


def events(seed: int, count: int, first: int) -> list[Row | bytes]:
    """Ids from `first` on, each third one twice; some that are rejected."""
    told: list[Row | bytes] = []
    for at, row in enumerate(rows(seed, count)):
        told.append({"id": first + at, "j": {"a": at}, **row})
        if at % 3 == 0:
            told.append({"id": first + at, "j": None, **row})
        if at % 5 == 0:
            told.append(b'{"id": "no number"}')
    return told


def check(served: Served, views: dict[str, str] = VIEWS) -> None:
    for view, select in views.items():
        own = select.replace("FROM hits", "FROM raw.hits")
        own = own.replace("approx_count_distinct(", "count(DISTINCT ")
        found = Counter(map(repr, served.rows(own)))
        assert found == Counter(map(repr, served.rows(f"FROM {view}"))), view
        assert served.degraded(view) is None


def kept(served: Served) -> raw.FollowedRaw:
    found = served.follower.streams["hits"].raw
    assert found is not None
    return found


def waits(served: Served) -> str | None:
    ((found,),) = served.rows("SELECT raw_waits FROM everview.streams")
    assert found is None or isinstance(found, str)
    return found


@pytest.fixture
def world(tmp_path: Path) -> Iterator[SealedWorld]:
    made = SealedWorld(tmp_path, stream=KEYED, views=VIEWS)
    yield made
    made.ledger.close()


def test_the_select_of_each_view_over_raw_is_the_view(world: SealedWorld) -> None:
    live = Served(world.state)
    live.check()
    check(live)
    for epoch in range(1, 9):
        tasks = [events(10 * epoch + task, 12, 100 * epoch + task) for task in range(epoch % 3)]
        world.epoch(*tasks)
        live.catch_up()
        assert waits(live) is None
        check(live)
        if epoch in (3, 5, 7):
            world.seal_all(merge_fanout=3 if epoch == 7 else 100)
            live.catch_up()
            check(live)  # from memory still, or from files already
            live.check()
            assert kept(live).until == epoch
            check(live)
            fresh = Served(world.state)
            fresh.check()
            check(fresh)
    assert len(world.master()) == 1
    everything = "FROM raw.hits ORDER BY _epoch, _partition, _offset"
    fresh = Served(world.state)
    fresh.check()
    assert fresh.rows(everything) == live.rows(everything)
    repeats = 'FROM everview.duplicates ORDER BY epoch, partition, "offset"'
    assert fresh.rows(repeats) == live.rows(repeats)
    assert [row[0] for row in live.rows("DESCRIBE raw.hits")] == COLUMNS
    ((count, stream, ids),) = live.rows(
        "SELECT count(*), any_value(stream), count(DISTINCT id->>'$.id') FROM everview.duplicates"
    )
    ((told, counted),) = live.rows(
        "SELECT sum(duplicates), sum(accepted - duplicates) FROM everview.epochs"
    )
    assert (count, stream) == (told, "hits")
    assert 0 < ids <= told
    assert live.rows("SELECT count(*) FROM raw.hits") == [(counted,)]
    pairs = "raw.hits h JOIN everview.duplicates d ON h.id = (d.id->>'$.id')::BIGINT"
    twice = f"SELECT count(*) FROM {pairs}"
    assert live.rows(twice) == [(told,)]  # each beside the one that counts


def test_an_answer_over_raw_covers_its_stream_at_the_state_of_the_views(world: SealedWorld) -> None:
    world.epoch(events(1, 9, 100))
    world.seal_all()
    world.epoch(events(2, 9, 200))
    served = Served(world.state)
    served.catch_up()
    with serving(served) as client:
        refused = ask(client, "SELECT count(*) FROM raw.hits")
        if refused.status_code != 200:  # the file may have been checked meanwhile
            assert refused.status_code == 503
            size = world.master()[0].file.bytes
            assert refused.json()["error"]["message"] in (
                f"raw.hits is not ready: 0 of {size:,} bytes of its files are checked",
                "raw.hits is not ready: its files were not looked at yet",
            )
        served.check()
        answer = ask(client, "SELECT count(*) FROM RAW.Hits, by_key").json()
        of_view, of_raw = answer["coverage"]
        assert of_view["view"] == "by_key"
        assert of_raw == {
            **of_view,
            "view": "raw.hits",
            "version": world.folding.stream.version,
            "cut": 1,
            "kept_from": None,
        }
        assert of_raw["epoch"] == 2
        (covered,) = ask(client, "FROM everview.duplicates").json()["coverage"]
        assert covered == of_raw
        for name, place in (("raw.nothing", 6), ("raw.by_key", 6), ("memory.raw.hits", 6)):
            unknown = ask(client, f"FROM {name}").json()["error"]
            assert (unknown["code"], unknown["column"]) == ("unknown_view", place)
        assert "there is: hits" in ask(client, "FROM raw.nothing").json()["error"]["message"]


def test_files_are_read_only_as_they_were_checked(world: SealedWorld) -> None:
    for epoch in range(3):
        world.epoch(events(epoch, 9, 100 * epoch))
        world.seal_all()
    live = Served(world.state)
    live.check()
    check(live)
    (file, *_) = world.master()
    path = world.state / file.file.path
    whole = path.read_bytes()
    path.write_bytes(whole[:-20] + bytes([whole[-20] ^ 1]) + whole[-19:])
    fresh = Served(world.state)
    fresh.check()
    with serving(live) as client, serving(fresh) as other:
        refused = ask(client, "SELECT count(*) FROM raw.hits")  # seen as it is opened
        assert refused.status_code == 503
        assert file.file.path in refused.json()["error"]["message"]
        world.epoch(events(4, 9, 400))
        for each in (live, fresh):
            each.check()
            assert file.file.path in str(waits(each))
            assert "sha256" in str(waits(each))
            assert str(world.state) not in str(waits(each))
            assert each.coverage("by_key")["epoch"] == 4
            assert each.degraded("by_key") is None
        for asked in (client, other):
            refused = ask(asked, "FROM everview.duplicates")
            assert refused.status_code == 503
            assert file.file.path in refused.json()["error"]["message"]
            assert ask(asked, "FROM by_key").status_code == 200
        path.write_bytes(whole)
        for served in (live, fresh):  # though the ledger has no news
            served.step(10)
            served.check()
            check(served)
        path.unlink()
        refused = ask(client, "SELECT count(*) FROM raw.hits")
        assert refused.status_code == 503
        assert str(world.state) not in refused.text


def test_files_are_checked_before_they_are_read_and_nothing_else_waits_for_that(
    world: SealedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    for epoch in range(1, 4):
        world.epoch(events(epoch, 9, 100 * epoch))
        world.seal_all()
    files = world.master()
    gate, checked, really = threading.Event(), list[str](), DataRoot.check

    def slowly(root: DataRoot, file: StoredFile) -> Path:
        if file.path.startswith("master/"):
            checked.append(file.path)
            assert gate.wait(30)
        return really(root, file)

    monkeypatch.setattr(DataRoot, "check", slowly)
    served = Served(world.state)
    served.catch_up()
    world.epoch(events(4, 9, 400))
    served.catch_up()
    assert served.coverage("by_key")["epoch"] == 4
    size = sum(each.file.bytes for each in files)
    told = f"is not ready: 0 of {size:,} bytes of its files are checked"
    assert waits(served) == told
    with serving(served) as client:
        for relation in ("raw.hits", "everview.duplicates"):
            refused = ask(client, f"SELECT count(*) FROM {relation}")
            assert refused.status_code == 503
            assert refused.json()["error"]["message"] == f"raw.hits {told}"
    gate.set()
    served.check()
    check(served)
    assert checked == [each.file.path for each in reversed(files)]  # the newest first
    gate.clear()
    world.seal_all()
    served.catch_up()
    world.epoch(events(5, 9, 500))
    served.catch_up()
    assert (waits(served), kept(served).until) == (None, 3)  # 4 and 5 from memory meanwhile
    check(served)
    gate.set()
    served.check()
    assert kept(served).until == 4
    check(served)


@pytest.mark.parametrize("touch", [Path.unlink, Path.touch])
def test_a_file_that_changes_under_a_statement_is_no_answer(
    world: SealedWorld, monkeypatch: pytest.MonkeyPatch, touch: Callable[[Path], None]
) -> None:
    world.epoch(events(1, 9, 100))
    world.seal_all()
    served = Served(world.state)
    served.check()
    (file,) = world.master()
    asked, checked = list[str](), LaidFile.check

    def change(each: LaidFile) -> None:
        checked(each)
        asked.append(each.path)
        if len(asked) == 1:  # just before the statement
            touch(each.local)

    monkeypatch.setattr(LaidFile, "check", change)
    with serving(served) as client:
        refused = ask(client, "SELECT count(*) FROM raw.hits")
        assert refused.status_code == 503
        assert file.file.path in refused.json()["error"]["message"]
        assert len(asked) == 1
        monkeypatch.setattr(LaidFile, "check", lambda _: None)
        (world.state / file.file.path).write_bytes(b"nothing")
        refused = ask(client, "SELECT count(*) FROM raw.hits")
        assert refused.status_code == 400
        assert file.file.path in refused.text
        assert str(world.state) not in refused.text


def test_sealing_that_does_not_keep_up_makes_raw_wait_and_nothing_else(
    world: SealedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = Served(world.state)
    live.check()
    world.epoch(events(1, 20, 100))
    live.catch_up()
    ((_, size),) = kept(live).held
    monkeypatch.setattr(raw, "HELD_BYTES", 3 * size)
    for epoch in range(2, 6):
        world.epoch(events(epoch, 20, 100 * epoch))
        live.catch_up()
        known = kept(live)
        ((held,),) = live.rows('SELECT count(DISTINCT _epoch) FROM everview_internal."raw.hits"')
        assert held == len(known.held) <= 3
        if epoch > 3:
            assert "epochs 1..3 are neither in checked files nor among" in str(waits(live))
            assert live.coverage("by_key")["epoch"] == epoch
    world.epoch(events(7, 200, 1000))  # alone too much
    live.catch_up()
    assert live.rows('FROM everview_internal."raw.hits"') == []
    world.seal_all()
    live.check()
    check(live)
    world.epoch(events(8, 3, 2000))
    live.catch_up()
    assert waits(live) is None
    check(live)


def test_events_of_another_declaration_are_read_by_that_of_now(
    world: SealedWorld, tmp_path: Path
) -> None:
    world.epoch(events(1, 9, 100))
    world.seal_all()
    world.epoch(events(2, 9, 200))
    live = Served(world.state)
    live.check()
    changed = """
    CREATE STREAM hits (id BIGINT PRIMARY KEY, k INTEGER, n INTEGER, more VARCHAR)
    WITH (topic = 'hits', format = 'json');
    """
    views = {"sums": "SELECT k, sum(n) AS total, max(more) AS more FROM hits GROUP BY k"}
    world.deploy(tmp_path / "again", changed, views)
    own = "SELECT id, k, n, more, _misfit FROM raw.hits ORDER BY _offset"
    told: list[tuple[Any, ...]] = [
        (row["id"], None, row["n"], None, None if row["k"] is None else "type of k")
        for seed, first in ((1, 100), (2, 200))
        for row in rows_once(events(seed, 9, first))
    ]
    for each in (live, Served(world.state)):
        each.check()
        assert each.rows(own) == told
    world.epoch([{"id": 1, "k": 5, "n": 7, "more": "x"}, {"id": 1}, {"id": 2}])
    told += [(1, 5, 7, "x", None), (2, None, None, None, None)]
    for _ in range(2):
        for each in (live, Served(world.state)):
            each.check()
            assert each.rows(own) == told
        world.seal_all()
    builder(world.state, world.ledger).all_steps("sums", full=False, until=None)
    live.check()
    fits = "SELECT k, sum(n), max(more) FROM raw.hits WHERE _misfit IS NULL GROUP BY k ORDER BY ALL"
    assert live.rows(fits) == live.rows("FROM sums ORDER BY ALL")


def rows_once(told: list[Row | bytes]) -> list[Row]:
    found = {each["id"]: each for each in reversed(told) if not isinstance(each, bytes)}
    return [found[key] for key in sorted(found)]


def test_what_retention_removed_is_not_there_and_the_answer_says_so(tmp_path: Path) -> None:
    views = {"everything": VIEWS["everything"]}
    world = SealedWorld(tmp_path, stream=KEYED, views=views)
    for epoch in range(1, 4):
        world.epoch(events(epoch, 6, 100 * epoch))
        world.seal_all()
    world.epoch(events(4, 6, 400))
    live = Served(world.state)
    live.check()
    check(live, views)
    told = live.rows("FROM raw.hits WHERE _epoch > 2 ORDER BY _epoch, _offset")
    builder(world.state, world.ledger).all_steps("everything", full=False, until=None)
    assert retainer(world.state, world.ledger, 2).retain("hits").plan.epoch == 2
    for each in (live, Served(world.state)):
        each.check()
        assert each.rows("FROM raw.hits ORDER BY _epoch, _offset") == told
        with serving(each) as client:
            answer = ask(client, "SELECT count(*) FROM raw.hits").json()
            (covered,) = answer["coverage"]
            assert (covered["since"], covered["epoch"]) == (3, 4)
            assert answer["rows"] == [[len(told)]]
    world.ledger.close()


def test_a_declaration_that_this_release_cannot_read_keeps_the_views(
    world: SealedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(row: StreamRow) -> CompiledRaw:
        kind = "stream"
        raise VersionOfAnotherRelease(kind, row.name, row.version, "another")

    monkeypatch.setattr(registered, "raw", unreadable)
    world.epoch(events(1, 9, 100))
    world.seal_all()
    world.epoch(events(2, 9, 200))
    served = Served(world.state)
    served.check()
    world.epoch(events(3, 9, 300))
    served.check()
    assert "another" in str(waits(served))
    assert served.coverage("by_key")["epoch"] == 3
    assert served.rows("FROM everview.duplicates") == []
