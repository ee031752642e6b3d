"""Views of single events, through every layer: folded, sealed, built, proven, served, verified."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch import verify
from batch.compiled import Compiled
from batch.verify import Served as Answer
from batch.verify import Verified
from schemas.ages import KeptFor
from schemas.ledger.contents import contents
from tests.api.world import Row, Served, World, serving
from tests.engine.batching import Sealed
from tests.engine.retaining import retainer
from tests.engine.test_verify import replace_file
from tests.oracle import Oracle

pytestmark = pytest.mark.slow

STREAM = """
CREATE STREAM hits (k VARCHAR, n INTEGER, x DOUBLE, d DECIMAL(12,2), b BOOLEAN, day DATE,
    moment TIMESTAMP, j JSON)
WITH (topic = 'hits', format = 'json', event_time = 'moment');
CREATE TABLE shops (k VARCHAR PRIMARY KEY, name VARCHAR) WITH (file = 'shops.csv');
"""
COLUMNS = (
    ("k", "VARCHAR"),
    ("n", "INTEGER"),
    ("x", "DOUBLE"),
    ("d", "DECIMAL(12,2)"),
    ("b", "BOOLEAN"),
    ("day", "DATE"),
    ("moment", "TIMESTAMP"),
    ("j", "JSON"),
    ("_partition", "INTEGER"),
    ("_offset", "BIGINT"),
)
SHOPS = [{"k": "k0", "name": "none"}, {"k": "k1", "name": "one"}]
VIEWS = {
    "plain": "SELECT k, n, moment FROM hits",
    "every_type": """SELECT k, n, x, d, b, day, moment, j, x / 0 AS beyond, x * 0 AS nothing,
        n::HUGEINT * 100000000000000000000 AS huge, moment::TIMESTAMPTZ AS instant,
        moment::TIME AS clock, j->>'$.a' AS a, [n, NULL] AS list, {'n': n, 'l': [k]} AS struct,
        map {k: d} AS pairs, encode(k) AS bytes, md5(k)::UUID AS id, n::FLOAT AS f,
        moment::TIMESTAMP_S AS s, [{'j': j, 'z': moment::TIMESTAMPTZ}] AS nested
        FROM hits WHERE k IS NOT NULL""",
    "constants": "SELECT 1 AS one, NULL AS nothing FROM hits WHERE n > 3",
    "joined": "SELECT k, name, upper(name) AS u FROM hits JOIN shops USING (k)",
}


SHOPS_FILE = b"k,name\nk0,none\nk1,one\n"


def layered(folder: Path, *views: str) -> Sealed:
    """Epochs 1 and 2 in batch views, 3 in a run, 4 in a segment."""
    chosen = {name: VIEWS[name] for name in views or VIEWS}
    made = Sealed(folder, stream=STREAM, views=chosen, files={"shops.csv": SHOPS_FILE})
    made.epochs(events(0, 30), events(30, 37))
    for view in views or VIEWS:
        assert build(made, view) == "equal"
    made.epochs(events(37, 60))
    made.epoch(events(60, 70), events(70, 71))
    return made


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Sealed]:
    made = layered(tmp_path, "plain")
    yield made
    made.ledger.close()


def events(first: int, last: int) -> list[Row]:
    return [
        {
            "k": None if at % 11 == 0 else f"k{at % 4}",
            "n": None if at % 7 == 0 else at % 5,
            "x": [0.0, -0.0, 1.5, -1e300, None][at % 5],
            "d": None if at % 6 == 0 else f"{at - 30}.{at % 100:02}",
            "b": [True, False, None][at % 3],
            "day": f"2026-01-{at % 28 + 1:02}",
            "moment": datetime(2026, 1, 1) + timedelta(hours=at),  # noqa: DTZ001
            "j": [None, {"a": "z"}, [1, {"b": None}], "text", 5][at % 5],
        }
        for at in range(first, last)
    ]


def typed(told: Sequence[Row]) -> list[dict[str, object]]:
    return [
        {
            **row,
            "d": None if row["d"] is None else Decimal(row["d"]),
            "day": date.fromisoformat(row["day"]),
            "j": None if row["j"] is None else json.dumps(row["j"], separators=(",", ":")),
            "_partition": 0,
            "_offset": at,
        }
        for at, row in enumerate(told)
    ]


def expected(world: World, view: str, where: str = "true") -> Counter[str]:
    oracle = Oracle()
    oracle.fill("hits", COLUMNS, typed(world.told[max(world.told)]))
    oracle.fill("shops", [("k", "VARCHAR"), ("name", "VARCHAR")], SHOPS)
    return shown(oracle.answer(f"FROM ({VIEWS[view]}) WHERE {where}"))


def shown(rows: Sequence[tuple[object, ...]]) -> Counter[str]:
    # -0.0 is not 0.0 here, and NaN is NaN
    return Counter(map(repr, rows))


def build(world: Sealed, view: str, **how: Any) -> str:
    full = how.pop("full", False)
    verdict: str = world.builder(**how).all_steps(view, full=full, until=None).proof.verdict
    return verdict


def served(world: World) -> Served:
    found = Served(world.state)
    found.catch_up()
    return found


def verified(world: World, view: str, answers: Served | None = None) -> Verified:
    answer = None
    if answers is not None:
        told = answers.coverage(view)
        answer = Answer(answers.arrow(f"FROM {view}"), told["version"], told["epoch"], told["cut"])
    return verify.verify(
        world.ledger,
        world.root,
        Compiled(world.ledger),
        view,
        answer,
        memory="256MB",
        threads=1,
    )


def test_every_layer_has_each_event_once(tmp_path: Path) -> None:
    world = layered(tmp_path)
    answers = served(world)
    with serving(answers) as client:
        told = client.get("/views/plain").json()
    # what tells events apart is not shown
    assert [each["name"] for each in told["columns"]] == ["k", "n", "moment"]
    assert [each["name"] for each in told["keys"]] == ["k", "n", "moment"]
    for turn in ("run and segment beside", "built again"):
        for view in VIEWS:
            answers.catch_up()
            assert shown(answers.rows(f"FROM {view}")) == expected(world, view), (turn, view)
            told = answers.coverage(view)
            assert (told["degraded"], told["position"]) == (None, {"0": 71})
            found = verified(world, view, answers)
            assert (found.comparison.different, found.layers) == (0, {}), (turn, view)
            assert found.comparison.built == found.comparison.expected
        if turn == "run and segment beside":
            world.seal_all()
            for view in VIEWS:
                assert build(world, view, full=view == "every_type") == "equal", view
    zeros = answers.rows("SELECT x, beyond FROM every_type WHERE x = 0")
    assert {math.copysign(1, x) for x, _ in zeros} == {1, -1}
    assert all(math.isnan(beyond) for _, beyond in zeros)
    assert len(world.finished("every_type")) == expected(world, "every_type").total()
    world.ledger.close()


def test_a_wrong_file_is_told_with_its_epochs(plain: Sealed) -> None:
    (run,) = (each.file for each in contents(plain.ledger, plain.name).views["plain"].runs)
    rows = pq.read_table(plain.root.local(run.path)).replace_schema_metadata()
    sink = pa.BufferOutputStream()
    pq.write_table(rows.filter(pa.array([at != 2 for at in range(rows.num_rows)])), sink)
    replace_file(plain, run, sink.getvalue().to_pybytes())

    found = verified(plain, "plain")

    assert found.comparison.different == 1
    (layers,) = found.layers.values()
    assert [(each.kind, each.first, each.last) for each in layers] == [("run", 3, 3)]
    (told,) = found.json()["differences"]
    assert told["group"] == {"k": "k3", "n": "4", "moment": "2026-01-02 15:00:00"}
    assert "missing from the run of epochs 3..3: `everview rebuild plain`" in told["do"]


def test_a_time_that_is_shown_can_bound_what_is_kept(plain: Sealed) -> None:
    # now is 11:00 of the first of 2026, where event 11 is
    plain.seal_all()
    assert build(plain, "plain", keep={"plain": KeptFor(timedelta(hours=1))}) == "equal"
    answers = served(plain)
    assert answers.coverage("plain")["kept_from"] == {"moment": "2026-01-01T10:00:00Z"}
    wanted = expected(plain, "plain", "moment >= TIMESTAMP '2026-01-01 10:00:00'")
    assert wanted.total() == 61
    assert shown(answers.rows("FROM plain")) == wanted
    assert verified(plain, "plain", answers).comparison.different == 0


def test_events_that_retention_removed_stay_in_their_views(plain: Sealed) -> None:
    retainer(plain.state, plain.ledger, 2).retain(plain.name)
    answers = served(plain)
    assert shown(answers.rows("FROM plain")) == expected(plain, "plain")
    found = verified(plain, "plain", answers)
    assert (found.comparison.different, found.retained) == (0, 2)
    plain.seal_all()
    assert build(plain, "plain", full=True) == "equal"
    answers.catch_up()
    assert shown(answers.rows("FROM plain")) == expected(plain, "plain")
