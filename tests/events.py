"""Generated events: values of every kind, repeated, late and malformed ones, and their fate."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

STREAM = """
CREATE STREAM trips (
    trip     VARCHAR NOT NULL,
    leg      INTEGER,
    moment   TIMESTAMP NOT NULL,
    city     VARCHAR,
    delay    INTEGER CHECK (delay > -1440),
    distance BIGINT,
    fare     DECIMAL(12,2),
    weight   DOUBLE,
    vip      BOOLEAN,
    extra    JSON,
    seats    INTEGER GENERATED ALWAYS AS (extra->>'$.seats'),
    PRIMARY KEY (trip, leg)
) WITH (topic = 'trips', format = 'json', event_time = 'moment', dedup_within = '1 hour');
"""
UNKEYED = STREAM.replace(",\n    PRIMARY KEY (trip, leg)", "")

CARRIED: tuple[tuple[str, str], ...] = (
    ("trip", "VARCHAR"),
    ("leg", "INTEGER"),
    ("moment", "TIMESTAMP"),
    ("city", "VARCHAR"),
    ("delay", "INTEGER"),
    ("distance", "BIGINT"),
    ("fare", "DECIMAL(12,2)"),
    ("weight", "DOUBLE"),
    ("vip", "BOOLEAN"),
    ("extra", "JSON"),
)
COLUMNS: tuple[tuple[str, str], ...] = (*CARRIED, ("seats", "INTEGER"))

CITIES = """
CREATE TABLE cities (city VARCHAR PRIMARY KEY, country VARCHAR, people BIGINT)
WITH (file = 'cities.csv', null = 'NA');
"""
CITIES_CSV = (
    b'city,country,people,note\nOslo,NO,700000,a\nRome,IT,NA,b\n,XX,1,empty\n"a,b",QQ,2,c\n'
)
CITIES_COLUMNS: tuple[tuple[str, str], ...] = (
    ("city", "VARCHAR"),
    ("country", "VARCHAR"),
    ("people", "BIGINT"),
)
CITIES_ROWS: tuple[Mapping[str, object], ...] = (
    {"city": "Oslo", "country": "NO", "people": 700000},
    {"city": "Rome", "country": "IT", "people": None},
    {"city": "", "country": "XX", "people": 1},
    {"city": "a,b", "country": "QQ", "people": 2},
)

# bytes that fit no declaration of the stream above, each for one reason
MALFORMED: tuple[tuple[bytes | None, str, str | None], ...] = (
    (None, "null value", None),
    (b"", "not JSON", None),
    (b"null", "not an object", None),
    (b'"x"', "not an object", None),
    (b"3", "not an object", None),
    (b"[]", "not an object", None),
    (b'{"trip":"a",', "not JSON", None),
    (b'{"trip":"a"} trailing', "not JSON", None),
    (b"{'trip':'a'}", "not JSON", None),
    (b'{"trip":"\xff"}', "not UTF-8", None),
    (b'{"trip":"a","trip":"b"}', "repeated key", None),
    (b'{"leg":1,"moment":"2013-01-01T00:00:00Z"}', "missing", "trip"),
    (b'{"trip":null,"leg":1,"moment":"2013-01-01T00:00:00Z"}', "missing", "trip"),
    (b'{"trip":"a","leg":1}', "missing", "moment"),
    (b'{"trip":5,"leg":1,"moment":"2013-01-01T00:00:00Z"}', "type", "trip"),
    (b'{"trip":"a","leg":"1","moment":"2013-01-01T00:00:00Z"}', "type", "leg"),
    (b'{"trip":"a","leg":1.5,"moment":"2013-01-01T00:00:00Z"}', "type", "leg"),
    (b'{"trip":"a","leg":true,"moment":"2013-01-01T00:00:00Z"}', "type", "leg"),
    (b'{"trip":"a","leg":2147483648,"moment":"2013-01-01T00:00:00Z"}', "type", "leg"),
    (b'{"trip":"a","leg":1e2,"moment":"2013-01-01T00:00:00Z"}', "type", "leg"),
    (b'{"trip":"a","leg":1,"moment":"2013-02-30T00:00:00Z"}', "type", "moment"),
    (b'{"trip":"a","leg":1,"moment":"2013-01-01T25:00"}', "type", "moment"),
    (b'{"trip":"a","leg":1,"moment":"2013-01-01T24:00:00Z"}', "type", "moment"),
    (b'{"trip":"a","leg":1,"moment":""}', "type", "moment"),
    (b'{"trip":"a","leg":1,"moment":"epoch"}', "type", "moment"),
    (b'{"trip":"a","leg":1,"moment":"2013-01-01T10:00:00 x"}', "type", "moment"),
    (b'{"trip":"a","leg":1,"moment":1767261600}', "type", "moment"),
    (b'{"trip":"a","leg":1,"moment":"2013-01-01","delay":-1440}', "check", "delay"),
    (b'{"trip":"a","leg":1,"moment":"2013-01-01","fare":1.005}', "type", "fare"),
    (b'{"trip":"a","leg":1,"moment":"2013-01-01","fare":"1.005"}', "type", "fare"),
    (b'{"trip":"a","leg":1,"moment":"2013-01-01","fare":12345678901.00}', "type", "fare"),
    (b'{"trip":"a","leg":1,"moment":"2013-01-01","weight":NaN}', "type", "weight"),
    (b'{"trip":"a","leg":1,"moment":"2013-01-01","weight":"abc"}', "type", "weight"),
    (b'{"trip":"a","leg":1,"moment":"2013-01-01","weight":1e400}', "type", "weight"),
    (b'{"trip":"a","leg":1,"moment":"2013-01-01","vip":1}', "type", "vip"),
    (b'{"trip":"a","leg":1,"moment":"2013-01-01","vip":"true"}', "type", "vip"),
    (b'{"trip":"a","leg":1,"moment":"2013-01-01","extra":{"seats":"many"}}', "type", "seats"),
)


@dataclass(frozen=True)
class Event:
    """The bytes of a record, and the values they spell, None where they must be rejected."""

    value: bytes | None
    row: Mapping[str, object] | None


_TEXTS = st.sampled_from(
    ["Oslo", "Rome", "", " ", "null", "a,b", "e\u0301", "\u00e9", 'q"q', "x\ny"]
)
_TIMES = st.integers(-40_000_000_000, 60_000_000_000).map(
    lambda micros: datetime(2013, 6, 1) + timedelta(microseconds=micros * 1000)  # noqa: DTZ001
)
_ZONES = st.sampled_from(["Z", "", "+02:00", "-05:30", " "])


@st.composite
def fitting(draw: st.DrawFn) -> Event:
    """An event that fits the declaration, its time written in one of the ways that are allowed."""
    at = draw(_TIMES)
    seats = draw(st.none() | st.integers(0, 500))
    extra = draw(st.sampled_from([None, {}, {"note": "n"}])) if seats is None else {"seats": seats}
    fare = draw(st.none() | st.decimals(-999, 9999, places=2, allow_nan=False))
    row: dict[str, object] = {
        "trip": draw(st.sampled_from(["a", "b", ""])),
        "leg": draw(st.integers(1, 2)),  # few ids, so that most lists repeat some
        "moment": at,
        "city": draw(st.none() | _TEXTS),
        "delay": draw(st.none() | st.integers(-1439, 2**31 - 1)),
        "distance": draw(st.none() | st.integers(-(2**63), 2**63 - 1)),
        "fare": fare,
        "weight": draw(st.none() | st.floats(allow_nan=False, allow_infinity=False)),
        "vip": draw(st.none() | st.booleans()),
    }
    spelled = {key: value for key, value in row.items() if value is not None or draw(st.booleans())}
    spelled["moment"] = _spelled(at, draw(_ZONES))
    spelled["fare"] = None if fare is None else draw(st.sampled_from([str(fare), float(fare)]))
    spelled["extra"] = extra
    spelled["unknown"] = draw(st.none() | st.integers())
    row["extra"] = None if extra is None else json.dumps(extra, separators=(",", ":"))
    row["seats"] = seats
    text = json.dumps(spelled, ensure_ascii=draw(st.booleans()))
    return Event(text.encode(), row)


def _spelled(at: datetime, zone: str) -> str:
    if zone == " ":
        return at.isoformat(sep=" ")
    if zone in ("Z", ""):
        return at.isoformat() + zone
    sign = 1 if zone[0] == "+" else -1
    hours, minutes = zone[1:].split(":")
    local = at + sign * timedelta(hours=int(hours), minutes=int(minutes))
    return local.isoformat() + zone


def events(least: int = 0, most: int = 30) -> st.SearchStrategy[list[Event]]:
    """Events as a broken world sends them: about one in eight fits no declaration."""
    malformed = st.sampled_from(MALFORMED).map(lambda bad: Event(bad[0], None))
    one = st.integers(0, 7).flatmap(lambda n: malformed if n == 0 else fitting())
    return st.lists(one, min_size=least, max_size=most)


START = datetime(2026, 1, 1, tzinfo=UTC)
