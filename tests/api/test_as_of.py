"""As of any epoch that can be answered, every view is its own SELECT over the events up to it."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from schemas import engine, registered
from schemas.bound import Bound
from schemas.errors import DamagedFile
from schemas.ledger.bounds import move_bound
from schemas.ledger.connect import open_ledger
from schemas.ledger.epochs import epochs_after
from schemas.ledger.sealing import sealed_ranges
from schemas.storage import DataRoot
from schemas.stored_file import StoredFile
from serving.envelope import Code, RequestError
from serving.follower.past import Past, describe
from serving.packing import pack, unpack
from serving.query import Query, Whole
from serving.worker import guard, past
from serving.worker.guard import Relation
from serving.worker.job import Job
from serving.worker.past import Room
from serving.worker.tables import Tables
from tests.api.sealed import SealedWorld
from tests.api.test_raw import KEYED, events
from tests.api.world import START, STREAM, Row, Served
from tests.engine.batching import builder
from tests.engine.retaining import retainer
from tests.oracle import Oracle, counted

pytestmark = pytest.mark.slow

LETTERS = """
CREATE TABLE letters (k VARCHAR PRIMARY KEY, word VARCHAR) WITH (file = 'letters.csv');
"""
VIEWS = {
    "by_key": """SELECT k, count(*) AS hits, sum(n) AS total, avg(n) AS mean, min(n) AS low,
        max(n) AS high, count(*) FILTER (WHERE n > 5) AS large FROM hits GROUP BY k""",
    "everything": "SELECT count(*) AS hits, sum(n) AS total, max(k) AS last FROM hits",
    "visitors": "SELECT k, approx_count_distinct(u) AS visitors, median(n) AS middle "
    "FROM hits GROUP BY k",
    "words": "SELECT word, count(*) AS hits FROM hits LEFT JOIN letters USING (k) GROUP BY ALL",
    "events": "SELECT id, k, j->>'$.a' AS a, moment, twice FROM hits WHERE n > 2 OR n IS NULL",
    "late": "SELECT n % 3 AS third, count(*) AS hits FROM hits GROUP BY ALL",
}
COLUMNS = (
    ("id", "BIGINT"),
    ("k", "VARCHAR"),
    ("u", "BIGINT"),
    ("n", "INTEGER"),
    ("moment", "TIMESTAMP"),
    ("j", "JSON"),
    ("twice", "INTEGER"),
)
LAST = 13
NOW = datetime(2027, 1, 1, tzinfo=UTC)


class Told:
    """The oracle of a world of `KEYED`: what was told in each epoch."""

    def __init__(self, world: SealedWorld) -> None:
        self.world = world
        self.oracle = Oracle()
        self.epochs: list[list[Row | bytes]] = []

    def epoch(self, count: int = 12) -> None:
        at = len(self.epochs) + 1
        # of the ids some are told again in later epochs
        self.epochs.append(events(at, count, 7 * at))
        self.world.epoch(self.epochs[-1])

    def rows(self, epoch: int) -> list[Any]:
        told = [
            (START + timedelta(seconds=at), [row for row in rows if not isinstance(row, bytes)])
            for at, rows in enumerate(self.epochs[:epoch], 1)
        ]
        return [
            {
                **row,
                "j": None if row["j"] is None else json.dumps(row["j"]),
                "twice": None if row["n"] is None else 2 * row["n"],
            }
            for row in map(dict[str, Any], counted(told, ["id"], timedelta(days=7)))
        ]

    def answer(self, epoch: int, select: str, since: int = 1) -> Counter[str]:
        self.oracle.keep("letters", "FROM (VALUES ('a', 'one'), ('b', 'two')) t(k, word)")
        self.oracle.fill("hits", COLUMNS, self.rows(epoch)[len(self.rows(since - 1)) :])
        exact = select.replace("approx_count_distinct(", "count(DISTINCT ")
        return Counter(map(repr, self.oracle.answer(exact)))


def views(*names: str) -> list[Relation]:
    return [Relation(tuple(name.split(".")), None) for name in names]


def described(world: SealedWorld, when: int | str, *names: str) -> Past:
    told = describe(world.ledger, DataRoot(world.state), views(*names), when, {}, NOW)
    travelled: Past = unpack(pack(told))
    return travelled


def check(world: SealedWorld, told: Told, epoch: int, selects: dict[str, str]) -> Past:
    """Every view as of an epoch, and `raw` beside it."""
    found = described(world, epoch, *selects, "raw.hits")
    tables = Tables(readable=[world.state / "master"])
    try:
        past.fill(tables, engine.connect(), found)
        cursor = tables.cursor()
        for view in found.views:
            name = view.compiled.name
            shown = Counter(map(repr, cursor.execute(f"FROM {name}").fetchall()))
            since = view.coverage.since or 1
            assert shown == told.answer(epoch, selects[name], since), (epoch, name)
            assert (view.coverage.epoch, view.coverage.degraded) == (epoch, None)
        (raw,) = found.streams
        ids = sorted(each for (each,) in cursor.execute("SELECT id FROM raw.hits").fetchall())
        kept = told.rows(epoch)[len(told.rows((raw.raw_since or 1) - 1)) :]
        assert ids == sorted(row["id"] for row in kept)
        cursor.close()
    finally:
        tables.close()
    return found


@pytest.fixture(autouse=True)
def compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same versions are asked for all the time."""
    monkeypatch.setattr(registered, "compiled", functools.cache(registered.compiled))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[SealedWorld]:
    first = {name: select for name, select in VIEWS.items() if name != "late"}
    files = {"letters.csv": b"k,word\na,one\nb,two\n"}
    made = SealedWorld(tmp_path, stream=KEYED + LETTERS, views=first, files=files)
    yield made
    made.ledger.close()


def ask(world: SealedWorld, sql: str, when: Any) -> dict[str, Any]:
    query = Query(sql, None, 1000, "application/json", as_of=when)
    sink = Whole()
    room = Room(world.root)
    try:
        with closing(room.tables.cursor()) as cursor:
            relations = guard.check(cursor, sql).relations
        with open_ledger(world.state) as ledger:
            try:
                past = describe(ledger, world.root, relations, when, {}, NOW)
            except DamagedFile as error:  # as the follower says it
                raise RequestError(Code.NOT_READY, str(error)) from error
        room.fill(past)
        Job(room.tables, query, lambda: 0.0).run(sink)
    finally:
        room.close()
    answer: dict[str, Any] = json.loads(sink.body())
    return answer


def refused(world: SealedWorld, sql: str, when: Any) -> RequestError:
    with pytest.raises(RequestError) as caught:
        ask(world, sql, when)
    return caught.value


def test_every_epoch_that_can_be_answered(world: SealedWorld, tmp_path: Path) -> None:
    told = Told(world)

    def epochs(count: int, **settings: Any) -> None:
        for _ in range(count):
            told.epoch()
        world.seal_all(**settings)

    def build(*names: str) -> None:
        for name in names:
            builder(world.state, world.ledger).all_steps(name, full=False, until=None)

    epochs(3)
    build(*list(VIEWS)[:5])  # cut 3
    epochs(2)
    build("by_key", "visitors")  # cut 5
    ids = world.folding.engine
    files = {"letters.csv": b"k,word\na,one\nb,two\n"}
    world.deploy(tmp_path / "again", KEYED + LETTERS, VIEWS, files)
    world.folding.engine = ids
    epochs(3)
    build("by_key", "late", "events")  # cut 8
    world.rollback("by_key")
    epochs(2, seal_epochs=1, seal_every=timedelta(days=1))
    epochs(1, merge_fanout=3)
    told.epoch()
    told.epoch(4)
    assert [each.last for each in sealed_ranges(world.ledger, "hits")] == [3, 5, 8, 11]
    cuts = {name: set[int]() for name in VIEWS}
    folded = dict.fromkeys(VIEWS, 0)
    for epoch in range(LAST + 1):
        found = check(world, told, epoch, VIEWS)
        for view in found.views:
            cuts[view.compiled.name].add(view.coverage.cut)
            folded[view.compiled.name] += len(view.folds)
    assert cuts == {
        "by_key": {0, 3, 5},
        "everything": {0, 3},
        "visitors": {0, 3, 5},
        "words": {0, 3},
        "events": {0, 3, 8},
        "late": {0, 8},
    }
    # inside a sealed range it is on record when the first and the last epoch were, no other one
    inside = ask(world, "FROM everything", 7)["coverage"][0]
    before = ask(world, "FROM everything", "2026-01-01T10:00:07.500Z")["coverage"][0]
    assert (inside["epoch"], inside["fresh_as_of"]) == (7, "2026-01-01T10:00:06.000Z")
    assert (before["epoch"], before["fresh_as_of"]) == (6, "2026-01-01T10:00:06.000Z")
    # in the middle of 1..3, of 4..5, of 6..8, of 9..11; and late up to 8, as it was not folded
    assert folded == {**dict.fromkeys(VIEWS, 2 + 1 + 2 + 2), "late": 8 - 1 + 2}
    assert retainer(world.state, world.ledger, 3).retain("hits").plan.epoch == 3
    younger = {"younger": "SELECT u, count(*) AS hits FROM hits GROUP BY u"}
    world.deploy(tmp_path / "younger", KEYED + LETTERS, younger, files)
    world.folding.engine = ids
    epochs(1)
    build("younger")
    for epoch in (3, 4, 7, 12, 14):
        check(world, told, epoch, {**VIEWS, **younger})
    for epoch in (0, 2):
        for name in ("by_key", "late", "younger", "raw.hits"):
            error = refused(world, f"FROM {name}", epoch)
            assert (error.code, error.status) == (Code.TOO_FAR_BACK, 410)
            assert "as of epoch 3 (2026-01-01T10:00:03.000Z) and later ones" in error.message
    assert refused(world, "FROM late", "2026-01-01T10:00:02Z").code == Code.TOO_FAR_BACK


def test_what_an_answer_covers_and_what_is_refused(world: SealedWorld, tmp_path: Path) -> None:
    told = Told(world)
    for _ in range(2):
        told.epoch()
    ids, files = world.folding.engine, {"letters.csv": b"k,word\na,one\nb,two\n"}
    other = "CREATE STREAM others (x INTEGER) WITH (topic = 'others', format = 'json');"
    world.deploy(tmp_path / "again", KEYED + LETTERS, VIEWS, files)
    world.folding.engine = ids
    told.epoch()
    told.epochs.append(events(4, 6, 100))  # the last record is rejected
    world.epoch(told.epochs[-1], suspend={"by_key": "no"})
    told.epoch()
    positions = {
        each.epoch: each.position.json() for each in epochs_after(world.ledger, "hits", 0, 9)
    }
    others = {name: select for name, select in VIEWS.items() if name != "by_key"}
    for epoch in range(6):  # of `late`, epochs 1 and 2 are folded again from segments
        check(world, told, epoch, others)
    for sealed in (False, True):
        if sealed:
            world.seal_all()
            assert [each.last for each in sealed_ranges(world.ledger, "hits")] == [2, 3, 5]
        for epoch in range(1, 6):
            answer = ask(world, "SELECT sum(hits) FROM everything, (FROM raw.hits LIMIT 1)", epoch)
            view, raw = answer["coverage"]
            assert answer["rows"] == [[len(told.rows(epoch))]]
            assert view["position"] == raw["position"] == positions[epoch]
            assert (view["epoch"], view["cut"], view["degraded"]) == (epoch, 0, None)
            assert (raw["view"], raw["epoch"], raw["since"]) == ("raw.hits", epoch, None)
            assert view["fresh_as_of"] == f"2026-01-01T10:00:0{epoch}.000Z"
        for time, epoch in {
            "2026-01-01T10:00:02Z": 2,
            "2026-01-01 10:00:02.5": 2,
            "2026-01-01T12:00:03.999+02:00": 3,
            "2026-01-01T10:00:04.5Z": 4,
            "2026-01-01": 0,
            "2027-01-01": 5,
        }.items():
            (covered,) = ask(world, "FROM everything", time)["coverage"]
            assert covered["epoch"] == epoch, (time, sealed)
        (covered,) = ask(world, "FROM by_key", 5)["coverage"]
        assert (covered["epoch"], covered["position"]) == (3, positions[3])
        assert covered["degraded"] == "suspended at epoch 4: no"
    world.deploy(tmp_path / "others", KEYED + LETTERS + other, {}, files)
    for sql, when, code, words in (
        ("FROM everything", 6, Code.BAD_REQUEST, "from 0 to 5, the last one of stream 'hits'"),
        ("FROM everything", -1, Code.BAD_REQUEST, "from 0 to 5"),
        ("FROM everything", "2027-01-01T01:00:00+00:59", Code.BAD_REQUEST, "has been"),
        ("SELECT 1", "2027-01-02", Code.BAD_REQUEST, "it is 2027-01-01T00:00:00.000Z"),
        ("FROM everything", "yesterday", Code.BAD_REQUEST, "got 'yesterday'"),
        ("FROM everview.duplicates", 3, Code.BAD_REQUEST, "as it is now alone"),
        ("FROM nowhere", 3, Code.UNKNOWN_VIEW, "there is: by_key"),
        ("FROM raw.nowhere", 3, Code.UNKNOWN_VIEW, "raw.hits"),
        ("FROM raw.others, everything", 0, Code.BAD_REQUEST, "hits, others"),
        ("FROM read_text('x')", 3, Code.REFUSED, "read_text"),
        ("SELECT nope FROM everything", 3, Code.BAD_SQL, "nope"),
    ):
        error = refused(world, sql, when)
        assert error.code == code, (sql, error)
        assert words in error.message
    assert ask(world, "SELECT count(*) FROM raw.others", "2026-02-01")["rows"] == [[0]]
    (*_, file) = world.master()  # of epochs 4 and 5
    path = world.state / file.file.path
    whole = path.read_bytes()
    path.write_bytes(whole[:-20] + bytes([whole[-20] ^ 1]) + whole[-19:])
    for name in ("everything", "raw.hits"):
        error = refused(world, f"FROM {name}", 4)
        assert error.code == Code.NOT_READY
        assert file.file.path in error.message
        assert str(world.state) not in error.message
    ask(world, "FROM everything", 3)


def test_what_a_repair_replaced_is_not_trusted(tmp_path: Path) -> None:
    days = "SELECT CAST(moment AS DATE) AS day, count(*) AS hits FROM hits GROUP BY day"
    views = {"everything": VIEWS["everything"], "days": days}
    world = SealedWorld(tmp_path, stream=STREAM, views=views)
    wrong = engine.connect()
    for epoch in range(1, 6):
        moments = [datetime(2026, 1, day) for day in range(1, epoch + 1)]  # noqa: DTZ001
        rows: list[Row] = [{"k": "a", "n": 1, "moment": each} for each in moments]
        core = world.folding.view("everything").tables[0]
        columns = ", ".join(f"CAST(1 AS {kind}) AS {name}" for name, kind, _ in core.values[:2])
        nulls = ", ".join(f"CAST(NULL AS {kind}) AS {name}" for name, kind, _ in core.values[2:])
        spoilt = {"everything": wrong.arrow(f"SELECT {columns}, {nulls}")} if epoch == 3 else {}
        world.epoch(rows, spoil=spoilt)
        world.seal_all()
        if epoch == 2:
            world.build("everything")
    sums = {epoch: epoch * (epoch + 1) // 2 for epoch in range(6)}
    assert ask(world, "SELECT hits FROM everything", 3)["rows"] == [[sums[2] + 1]]  # as it stands
    world.build("everything", verdict="repair", until=4)
    for epoch in range(6):
        answer = ask(world, "SELECT hits FROM everything", epoch)
        assert answer["rows"] == [[sums[epoch]]]
        assert answer["coverage"][0]["cut"] == (4 if epoch >= 4 else 0)  # what was before, never
    world.rollback("everything")
    assert ask(world, "SELECT hits FROM everything", 3)["rows"] == [[sums[2] + 1]]
    bound = Bound("day", datetime(2026, 1, 2, tzinfo=UTC))
    assert move_bound(world.ledger, "days", bound, world.tick())
    answer = ask(world, "FROM days ORDER BY day", 3)  # groups that are not kept now were then
    assert answer["rows"] == [["2026-01-02", 2], ["2026-01-03", 1]]
    assert answer["coverage"][0]["kept_from"] == {"day": "2026-01-02T00:00:00Z"}
    world.ledger.close()


def test_what_was_rolled_back_is_trusted_by_nothing_built_later(tmp_path: Path) -> None:
    views = {"by_key": "SELECT k, count(*) AS hits FROM hits GROUP BY k"}
    world = SealedWorld(tmp_path, views=views)
    for number in range(1, 5):
        world.epoch([{"k": "a", "n": 1}])
        world.seal_all()
        stream, tasks = world.layers.records[number]
        if number == 2:  # its records are counted three times
            world.layers.records[number] = (stream, tasks * 3)
        if number < 4:
            world.build("by_key")
        world.layers.records[number] = (stream, tasks)
        if number == 2:
            world.rollback("by_key")
    for epoch in range(1, 5):
        assert ask(world, "FROM by_key", epoch)["rows"] == [["a", epoch]]
    world.ledger.close()


def test_files_that_vanish_under_it_are_an_error_and_then_others(
    world: SealedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told(world)
    told.epoch()
    told.epoch()
    found = describe

    def sealed_meanwhile(*arguments: Any) -> Past:
        seen = found(*arguments)
        if not world.master():
            segments = list((world.state / "segments").rglob("*.zip"))
            world.seal_all()
            for each in segments:
                each.unlink(missing_ok=True)
        return seen

    monkeypatch.setitem(globals(), "describe", sealed_meanwhile)
    with pytest.raises(RequestError, match="segments/") as caught:
        ask(world, "SELECT sum(hits) FROM everything", 1)
    assert caught.value.code == Code.NOT_READY
    assert str(world.state) not in caught.value.message
    answer = ask(world, "SELECT sum(hits) FROM everything", 1)
    assert answer["rows"] == [[len(told.rows(1))]]
    assert world.master()


def test_what_no_run_holds_is_folded_again(world: SealedWorld) -> None:
    told = Told(world)
    told.epoch()
    told.epoch()
    world.seal_all()
    with world.ledger.write() as connection:
        gone = "DELETE FROM files WHERE kind = 'run' AND version = ? AND partials <> 'core'"
        connection.exec_driver_sql(gone, (world.folding.view("visitors").version,))
        gone = "DELETE FROM files WHERE kind = 'run' AND version = ?"
        connection.exec_driver_sql(gone, (world.folding.view("everything").version,))
    some = {name: VIEWS[name] for name in ("visitors", "everything", "by_key")}
    assert [len(view.folds) for view in check(world, told, 2, some).views] == [1, 1, 0]


def test_events_of_another_declaration_are_folded_by_that_of_the_version(tmp_path: Path) -> None:
    world = SealedWorld(tmp_path, stream=KEYED, views={"everything": VIEWS["everything"]})
    told = Told(world)
    told.epoch()
    world.seal_all()
    told.epoch()
    changed = """
    CREATE STREAM hits (id BIGINT PRIMARY KEY, k INTEGER, n INTEGER)
    WITH (topic = 'hits', format = 'json');
    """
    sums = "SELECT k, sum(n) AS total, count(*) AS hits FROM hits GROUP BY k"
    world.deploy(tmp_path / "again", changed, {"sums": sums})
    world.epoch([{"id": 1, "k": 5, "n": 7}, {"id": 2}])
    own = "SELECT k, sum(n), count(*) FROM raw.hits WHERE _misfit IS NULL GROUP BY k ORDER BY k"
    for epoch in (1, 2, 3):
        answer, raw = (ask(world, sql, epoch)["rows"] for sql in ("FROM sums ORDER BY k", own))
        assert answer == raw
        assert [k for k, *_ in answer if k != 5] == [None]
        assert ([5, 7, 1] in answer) == (epoch == 3)
    world.ledger.close()


def test_what_the_follower_has_checked_is_not_read_again(
    world: SealedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told(world)
    for _ in range(2):
        told.epoch()
    world.seal_all()
    served = Served(world.state)
    served.check()
    read, really = list[str](), DataRoot.check

    def check_file(root: DataRoot, file: StoredFile) -> Path:
        read.append(file.path)
        return really(root, file)

    monkeypatch.setattr(DataRoot, "check", check_file)
    relations, (file,) = views("everything", "raw.hits"), world.master()
    for known, count in ((served.follower.checker.stamps(), 0), ({}, 1)):
        read.clear()
        describe(world.ledger, DataRoot(world.state), relations, 1, known, NOW)
        assert read.count(file.file.path) == count
    (world.state / file.file.path).touch()
    read.clear()
    known = served.follower.checker.stamps()
    describe(world.ledger, DataRoot(world.state), relations, 1, known, NOW)
    assert read.count(file.file.path) == 1
