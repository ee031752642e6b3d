"""The law: present(merge(fold(part), ...)) is the view's own SELECT over all counted events, for
any split of the events into tasks and epochs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.measures import ALL
from tests import events, oracle
from tests.events import Event
from tests.folding import Folding, load, presented, records
from tests.oracle import Oracle, Row

VIEWS = {
    "by_city": """SELECT city, cities.country, time_bucket(INTERVAL '1 hour', moment) AS hour,
        count(*) AS trips, count(delay), sum(delay) AS total, avg(delay) AS mean,
        min(delay), max(delay), count(*) FILTER (WHERE delay > 15) AS late,
        100.0 * count(*) FILTER (WHERE delay > 15) / count(*) AS late_pct,
        sum(delay) FILTER (WHERE vip) AS vip_delay
      FROM trips LEFT JOIN cities USING (city) GROUP BY ALL""",
    "wide_numbers": """SELECT vip, sum(distance), avg(distance) AS a, sum(fare) AS fares,
        avg(fare) AS mean_fare, min(fare), max(fare), min(weight) AS w0, max(weight) AS w1,
        min(moment), max(moment), min(city), max(city), sum(seats) AS seats,
        min(vip), count(seats) + 1 AS n
      FROM trips WHERE distance IS NULL OR distance <> 7 GROUP BY vip""",
    "inner_country": """SELECT c.country, upper(c.country) || '!' AS shout,
        max(delay)::BIGINT - min(delay) AS spread, coalesce(sum(c.people), 0) AS people
      FROM trips AS t JOIN cities c ON t.city = c.city GROUP BY c.country""",
    "everything": "SELECT count(*) AS trips, sum(delay) AS total, avg(fare) AS fare FROM trips",
    "by_key_only": "SELECT city FROM trips GROUP BY 1",
    "by_weight": "SELECT weight, count(*) AS n, 1 AS one FROM trips GROUP BY weight",
}
# each runs every view through the engine and through the oracle
EXAMPLES = 10
DISTINCT = """SELECT vip, approx_count_distinct(trip) AS trips, count(*) AS n
    FROM trips GROUP BY vip"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("projects")


@pytest.fixture(scope="module")
def keyed(folder: Path) -> Folding:
    return _folding(folder / "keyed", events.STREAM)


@pytest.fixture(scope="module")
def unkeyed(folder: Path) -> Folding:
    return _folding(folder / "unkeyed", events.UNKEYED)


def _folding(folder: Path, stream: str) -> Folding:
    views = [f"CREATE VIEW {name} AS {select};" for name, select in VIEWS.items()]
    views.append(f"CREATE VIEW distincts AS {DISTINCT};")
    files = {"cities.csv": events.CITIES_CSV}
    return Folding(load(folder, stream, events.CITIES, *views, files=files))


def split(data: st.DataObject, items: list[Event]) -> list[list[Event]]:
    """Any division of a list into runs, empty ones too."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(items)), max_size=6)))
    edges = [0, *cuts, len(items)]
    return [items[a:b] for a, b in pairwise(edges)]


@settings(max_examples=EXAMPLES)
@given(data=st.data(), listed=events.events())
def test_any_split_into_epochs(keyed: Folding, data: st.DataObject, listed: list[Event]) -> None:
    """Repeated ids count once, within the bound, on whatever side of an epoch they fall."""
    epochs = split(data, listed)
    hours = data.draw(st.lists(st.sampled_from([0, 1, 30, 61]), min_size=len(epochs), max_size=60))
    instant = events.START
    keyed.restart()
    told, parts, offset, rejected = [], [], 0, 0
    for number, epoch in enumerate(epochs, 1):
        instant += timedelta(minutes=hours[(number - 1) % len(hours)])
        (folded,) = keyed.epoch(
            number, instant, records([event.value for event in epoch], offset=offset)
        )
        offset += len(epoch)
        told.append((instant, [event.row for event in epoch if event.row is not None]))
        parts.append(folded)
        rejected += folded.rejected
        assert not folded.suspended
    counted = oracle.counted(told, ["trip", "leg"], timedelta(hours=1))
    assert rejected == sum(event.row is None for event in listed)
    assert sum(p.accepted for p in parts) == sum(len(rows) for _, rows in told)
    assert sum(p.accepted - p.duplicates for p in parts) == len(counted)
    _check(keyed, [part.partials for part in parts], counted)


@settings(max_examples=EXAMPLES)
@given(data=st.data(), listed=events.events())
def test_any_split_into_tasks(unkeyed: Folding, data: st.DataObject, listed: list[Event]) -> None:
    """Without an id every event counts; tasks of one epoch may be cut anywhere."""
    tasks = split(data, listed)
    offset, tables = 0, []
    for task in tasks:
        tables.append(records([event.value for event in task], offset=offset))
        offset += len(task)
    parts = data.draw(st.permutations(unkeyed.epoch(1, events.START, *tables)))
    rows = [event.row for event in listed if event.row is not None]
    _check(unkeyed, [part.partials for part in parts], rows)


@settings(max_examples=EXAMPLES)
@given(data=st.data(), listed=events.events(least=4))
def test_every_split_gives_the_same_bits(
    unkeyed: Folding, data: st.DataObject, listed: list[Event]
) -> None:
    """Approximate measures too: split or whole, the answer is the same."""
    whole = unkeyed.epoch(1, events.START, records([event.value for event in listed]))
    tasks = [records([e.value for e in task]) for task in split(data, listed)]
    parts = unkeyed.epoch(1, events.START, *tasks)
    for view in unkeyed.views:
        one = presented(view, [part.partials[view.version] for part in whole])
        many = presented(view, [part.partials[view.version] for part in parts])
        assert Counter(map(repr, one)) == Counter(map(repr, many))


def _check(
    folding: Folding, parts: Sequence[Mapping[str, Mapping[str, pa.Table]]], rows: Sequence[Row]
) -> None:
    truth = Oracle()
    truth.fill("trips", events.COLUMNS, rows)
    truth.fill("cities", events.CITIES_COLUMNS, events.CITIES_ROWS)
    for name, select in VIEWS.items():
        view = folding.view(name)
        found = presented(view, [part[view.version] for part in parts])
        expected = truth.answer(select)
        assert _multiset(found) == _multiset(expected), name
    view = folding.view("distincts")
    found = presented(view, [part[view.version] for part in parts])
    exact = truth.answer("SELECT vip, count(DISTINCT trip), count(*) FROM trips GROUP BY 1")
    # so few values never share a register twice: the estimate is the count itself
    assert _multiset(found) == _multiset(exact)
    assert ALL["approx_count_distinct"].exactness == "approximate"


def _multiset(rows: Iterable[tuple[object, ...]]) -> Counter[tuple[object, ...]]:
    return Counter(tuple(_plain(value) for value in row) for row in rows)


def _plain(value: object) -> object:
    """-0.0 is 0.0, and NaN is itself."""
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else value + 0.0
    return value
