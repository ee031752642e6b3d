"""The demo's feed: the same for ever, continued from wherever the partitions of a topic end."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import count, islice
from pathlib import Path

import feed
import pytest
from feed import BENDS, KINDS, Feed
from hypothesis import given
from hypothesis import strategies as st
from prepare import prepare

from schemas import project
from tests.folding import Folding, records

EXAMPLE = Path(__file__).parents[2] / "examples" / "flights"
FLIGHTS = 336_776
LINE = b"2013,1,1,517,515,2,830,819,11,UA,%d,N14228,EWR,IAH,227,1400,5,15,2013-01-01T10:00:00Z"
FEW = [LINE % at for at in range(2000)]
FEW_FEEDS = {partitions: Feed(FEW, partitions) for partitions in range(1, 6)}


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example with its data."""
    folder = tmp_path_factory.mktemp("flights")
    for file in EXAMPLE.glob("*.sql"):
        (folder / file.name).write_bytes(file.read_bytes())
    prepare(folder / "data")
    return folder


@pytest.fixture(scope="module")
def flights(example: Path) -> list[bytes]:
    return feed.read(example / "data" / "flights.csv")


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=5))
def test_it_goes_on_where_each_partition_ends(offsets: list[int]) -> None:
    few, place = FEW_FEEDS[len(offsets)], dict(enumerate(offsets))

    for record in islice(few.behind(place), 100):
        partition = few.partition(record.number)
        assert record.number == few.number(partition, place[partition])
        place[partition] += 1

    # the partition that was furthest behind goes first
    numbers = [few.number(*end) for end in place.items()]
    begun = [few.number(*end) for end in enumerate(offsets)]
    assert all(new == old or new <= max(numbers) for new, old in zip(numbers, begun, strict=True))
    assert sum(place.values()) == sum(offsets) + 100


def test_a_whole_topic_is_the_feed_in_its_order() -> None:
    few = FEW_FEEDS[3]

    begun = list(islice(few.behind({0: 0, 1: 0, 2: 0}), 9000))

    assert begun == [few.record(number) for number in range(9000)]


def test_a_record_depends_on_its_number_alone(flights: list[bytes]) -> None:
    one, other = Feed(flights, 2), Feed(flights, 3)
    numbers = [0, 1, 340_000, 341_000, 682_500, 123_456_789]

    assert [one.record(n) for n in numbers] == [other.record(n) for n in numbers[::-1]][::-1]


def test_flights_come_in_the_order_of_time_but_for_the_late_ones(flights: list[bytes]) -> None:
    whole, newest, held = Feed(flights, 2), datetime(2013, 1, 1, tzinfo=UTC), []
    for number in range(400_000):
        record = whole.record(number)
        if record.kind in ("malformed", "repeated"):
            continue
        *_, minute, hour = record.value.split(b",")
        due = datetime.fromisoformat(hour.decode()) + timedelta(minutes=int(minute))
        if record.kind == "in time":
            assert due >= newest
            newest = due
        else:
            held.append(newest - due)

    held.sort()
    assert held[0] < timedelta(hours=3)
    assert timedelta(hours=6) < held[len(held) // 2] < timedelta(days=3)
    assert timedelta(days=20) < held[-1] < timedelta(days=40)


def test_each_year_has_each_flight_once_with_new_ids(flights: list[bytes]) -> None:
    whole = Feed(flights, 2)
    kinds: Counter[str] = Counter()
    years: Counter[bytes] = Counter()
    ids: set[bytes] = set()
    again: set[bytes] = set()
    for number in range(round(3 * FLIGHTS * 1.0125)):  # a bit less than three turns
        record = whole.record(number)
        kinds[record.kind] += 1
        if record.kind == "malformed":
            continue
        fields = record.value.split(b",")
        event_id = b",".join(fields[at] for at in (18, 9, 10))
        if record.kind == "repeated":
            assert event_id in ids, "a copy comes after its flight"
            again.add(event_id)
        else:
            assert event_id not in ids
            ids.add(event_id)
            years[fields[0]] += 1

    assert (years[b"2013"], years[b"2014"]) == (FLIGHTS, FLIGHTS)
    assert set(years) == {b"2013", b"2014", b"2015"}
    assert len(again) == kinds["repeated"], "no flight comes a third time"
    share = {kind: kinds[kind] / len(ids) for kind in KINDS}
    assert share["late"] == pytest.approx(0.03, rel=0.1)
    assert share["repeated"] == pytest.approx(0.01, rel=0.1)
    assert share["malformed"] == pytest.approx(0.003, rel=0.1)


def test_the_29th_of_february_has_no_flights_but_an_evening_in_utc() -> None:
    evening = b"2013,2,28,1900,2013-03-01T00:00:00Z"
    morning = b"2013,3,1,1900,2013-03-01T10:00:00Z"
    last = b"2013,12,31,2000,2014-01-01T01:00:00Z"

    assert feed.moved(evening, 1) == b"2014,2,28,1900,2014-03-01T00:00:00Z"
    assert feed.moved(evening, 3) == b"2016,2,28,1900,2016-02-29T00:00:00Z"
    assert feed.moved(morning, 3) == b"2016,3,1,1900,2016-03-01T10:00:00Z"
    assert feed.moved(last, 3) == b"2016,12,31,2000,2017-01-01T01:00:00Z"


def test_malformed_records_are_rejects_and_all_others_fit(
    example: Path, flights: list[bytes]
) -> None:
    folding = Folding(project.load(example))
    whole = Feed(flights, 1)
    numbers = [*range(10_000), *range(400_000, 410_000), *range(3_000_000, 3_010_000)]
    numbers += _malformed(whole, 500)
    sent = [whole.record(number) for number in dict.fromkeys(numbers)]

    (folded,) = folding.epoch(1, datetime(2026, 1, 1, tzinfo=UTC), records(r.value for r in sent))

    bent = {at for at, record in enumerate(sent) if record.kind == "malformed"}
    assert set(folded.rejects["_offset"].to_pylist()) == bent
    assert len(set(folded.rejects["_column"].to_pylist())) >= len(BENDS) - 2


def _malformed(whole: Feed, many: int) -> list[int]:
    found = (n for n in count(10_000) if whole.record(n).kind == "malformed")
    return list(islice(found, many))
