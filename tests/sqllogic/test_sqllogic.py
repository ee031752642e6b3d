"""What is served, as SQL logic tests: `*.test`, over views of ten events, some in the batch view,
some in runs and some not sealed. What is expected was worked out by hand from `EVENTS`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.world import Row, Served, World, ask, serving
from tests.sqllogic import records
from tests.sqllogic.records import Ask

pytestmark = pytest.mark.slow

FILES = sorted(Path(__file__).parent.glob("*.test"))
VIEWS = {
    "by_key": """SELECT k, count(*) AS hits, sum(n) AS total, avg(n) AS mean, min(n) AS low,
        max(n) AS high, count(*) FILTER (WHERE n > 5) AS large FROM hits GROUP BY k""",
    "hourly": """SELECT time_bucket(INTERVAL '1 hour', moment) AS hour, count(*) AS hits,
        sum(n) AS total FROM hits GROUP BY ALL""",
    "minutes": """SELECT date_trunc('minute', moment) AS minute, count(*) AS hits FROM hits
        WHERE moment IS NOT NULL GROUP BY 1""",
    "key_hours": """SELECT k, extract(hour FROM moment) AS h, count(*) AS hits FROM hits
        GROUP BY ALL""",
    "everything": """SELECT count(*) AS hits, sum(n) AS total, max(k) AS last,
        min(moment) AS first_at, max(moment) AS last_at FROM hits""",
    "visitors": "SELECT k, approx_count_distinct(u) AS visitors FROM hits GROUP BY k",
    "tops": "SELECT approx_top_k(k, 2) AS top, approx_quantile(n, 0.5) AS middle FROM hits",
}


def _at(hour: int, minute: int) -> datetime:
    return datetime(2013, 1, 1, hour, minute)  # noqa: DTZ001


EVENTS: tuple[tuple[Row, ...], ...] = (
    (
        {"k": "a", "u": 1, "n": 5, "moment": _at(10, 0)},
        {"k": "a", "u": 2, "n": 7, "moment": _at(10, 5)},
        {"k": "b", "u": 1, "n": None, "moment": _at(10, 30)},
        {"k": None, "u": 3, "n": 1, "moment": _at(11, 10)},
    ),
    (
        {"k": "a", "u": 1, "n": -2, "moment": _at(11, 15)},
        {"k": "b", "u": None, "n": 10, "moment": _at(11, 15)},
        {"k": "c", "u": 4, "n": 0, "moment": _at(13, 0)},
    ),
    (
        {"k": "a", "u": 5, "n": 5, "moment": _at(13, 59)},
        {"k": "b", "u": 1, "n": 3, "moment": _at(14, 0)},
        {"k": None, "u": None, "n": None, "moment": None},
    ),
)


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Epoch 1 in batch views of two, epoch 2 in runs, epoch 3 in a segment."""
    world = World(tmp_path_factory.mktemp("sqllogic"), views=VIEWS)
    world.epoch(EVENTS[0])
    world.seal()
    world.build("by_key")
    world.build("hourly")
    world.epoch(EVENTS[1])
    world.seal()
    world.epoch(EVENTS[2])
    served = Served(world.state)
    served.catch_up()
    with serving(served) as client:
        yield lambda sql: _answer(client, sql)
    served.close()


def _answer(client: httpx.Client, sql: str) -> tuple[int, Any]:
    answer = ask(client, sql)
    told = answer.json()
    if answer.status_code == 200:
        return 200, told["rows"]
    return answer.status_code, told["error"]["message"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_records(answered: Ask, path: Path) -> None:
    judged = [(record, records.wrong(record, answered)) for record in records.read(path)]
    said = [f"{path.name}:{record.line}: {text}" for record, text in judged if text]
    assert not said, "\n".join(said)


def test_there_are_records_of_every_kind() -> None:
    listed = [record for path in FILES for record in records.read(path)]
    assert len(listed) >= 100
    assert {(record.kind, record.expect[:1]) for record in listed} >= {
        ("statement", "o"),
        ("statement", "e"),
        ("query", "T"),
        ("query", "I"),
    }


def test_the_runner_tells_a_wrong_answer(tmp_path: Path) -> None:
    path = tmp_path / "wrong.test"
    path.write_text(
        "query TI rowsort\nSELECT 1\n----\nb\t2\na\t1\n\n"
        "query I\nSELECT 2\n----\n1\n\n"
        "statement ok\nSELECT 3\n\n"
        "statement error\nSELECT 4\n----\n403 no\n\n"
        "query TI valuesort\nSELECT 5\n----\n1\t2\na\tb\n"
    )
    listed = list(records.read(path))
    assert [record.line for record in listed] == [1, 7, 12, 15, 20]
    right: list[tuple[int, Any]] = [
        (200, [["a", 1], ["b", 2]]),
        (200, [[1]]),
        (200, []),
        (403, "it says no, and why"),
        (200, [["a", 1], ["b", 2]]),
    ]
    off: list[tuple[int, Any]] = [
        (200, [["a", 1], ["b", 3]]),
        (200, [[1], [1]]),
        (400, "no"),
        (200, []),
        (200, [["a", 1], ["b", 1]]),
    ]
    for record, good, bad in zip(listed, right, off, strict=True):
        assert records.wrong(record, dict.fromkeys([record.sql], good).__getitem__) is None
        assert records.wrong(record, dict.fromkeys([record.sql], bad).__getitem__) is not None
    path.write_text("qery I\nSELECT 1\n")
    with pytest.raises(ValueError, match=r"wrong.test:1: record must be"):
        list(records.read(path))
