"""The flights as an endless feed that is the same, record by record, for whoever asks for it.

A turn of the feed is the year 2013 in the order of departure; each further turn is the same year
one year later. In it some flights come late, some come twice, and before some comes a malformed
copy. What record `number` is depends on the number alone, and so does its partition, `number`
modulo the partitions. So the ends of a topic's partitions say which records are in it, and the feed
goes on behind them, whatever has been killed.

    number      0   1   2   3   4   5   6 ...          record 5 is in partition 1 of 2,
    partition   0   1   0   1   0   1   0              at offset 2
    offset      0   0   1   1   2   2   3

In memory are one year of lines and its order.
"""

from __future__ import annotations

import calendar
import random
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

SEED = 2013
LATE, REPEATED, MALFORMED = 0.03, 0.01, 0.003
"""Shares of the flights."""

DAY = 1 / 365
SHORTEST, LONGEST = DAY / 24, 28 * DAY
"""How long a late flight, or the copy of a flight, is held back: in years; hours to weeks."""

KINDS = ("malformed", "in time", "late", "repeated")


@dataclass(frozen=True)
class Record:
    """One record: its number from 0, its bytes, and what it is (one of KINDS)."""

    number: int
    value: bytes
    kind: str


class Feed:
    """Every record for a topic of so many partitions; `flights` is a year of lines, in order."""

    def __init__(self, flights: Sequence[bytes], partitions: int) -> None:
        self._flights, self.partitions = flights, partitions
        self._first, self._later = _turns(len(flights))

    def record(self, number: int) -> Record:
        turn, order, at = 0, self._first, number
        if number >= len(self._first):
            turn, at = divmod(number - len(self._first), len(self._later))
            turn, order = turn + 1, self._later
        place, kind = divmod(order[at], len(KINDS))
        years, flight = divmod(place, len(self._flights))
        value = moved(self._flights[flight], turn + years)
        if KINDS[kind] == "malformed":
            value = BENDS[flight % len(BENDS)](value)
        return Record(number, value, KINDS[kind])

    def partition(self, number: int) -> int:
        return number % self.partitions

    def number(self, partition: int, offset: int) -> int:
        """Which record lies at an offset of a partition."""
        return offset * self.partitions + partition

    def behind(self, ends: Mapping[int, int]) -> Iterator[Record]:
        """The records that are not in a topic yet whose partitions end there; without an end."""
        for number in count(min(self.number(*end) for end in ends.items())):
            if number >= self.number(self.partition(number), ends[self.partition(number)]):
                yield self.record(number)


def read(file: Path) -> list[bytes]:
    """The lines of flights.csv without its header, in the order of hour and minute."""
    with file.open("rb") as lines:
        next(lines)
        return sorted((line.rstrip() for line in lines), key=_when)


def _when(line: bytes) -> tuple[bytes, int]:
    _, minute, hour = line.rsplit(b",", 2)
    return hour, int(minute)


def _turns(flights: int) -> tuple[array[int], array[int]]:
    """The first turn and every later one, as `place` * len(KINDS) + kind.

    A place is the number of a flight; below 0 stands one of the year before, which was held back
    beyond its end. The first turn has none of these.
    """
    chance = random.Random(SEED)
    due: list[tuple[float, int, int]] = []
    for flight in range(flights):
        late, repeated, malformed = (chance.random() for _ in range(3))
        at = float(flight)
        if malformed < MALFORMED:
            due.append((at, flight, KINDS.index("malformed")))
        if late < LATE:
            at += _held(chance) * flights
        due.append((at, flight, KINDS.index("late" if late < LATE else "in time")))
        if repeated < REPEATED:
            at += _held(chance) * flights
            due.append((at, flight, KINDS.index("repeated")))
    first = sorted(each for each in due if each[0] < flights)
    over = [(at - flights, flight - flights, kind) for at, flight, kind in due if at >= flights]
    return _packed(first), _packed(sorted([*first, *over]))


def _held(chance: random.Random) -> float:
    """Short delays as often as ones that are ten times as long."""
    return float(SHORTEST * (LONGEST / SHORTEST) ** chance.random())


def _packed(order: Sequence[tuple[float, int, int]]) -> array[int]:
    return array("l", (place * len(KINDS) + kind for _, place, kind in order))


def moved(line: bytes, years: int) -> bytes:
    """A flight some years later: on the same day of the year, at the same hour.

    29 February has no flights. An evening in New York lies on the next day in UTC: that of
    28 February on the 29th, where there is one.
    """
    if not years:
        return line
    local, _, hour = line.rpartition(b",")
    day, year = hour[4:], int(hour[:4]) + years
    if local[4:].startswith(b",2,28,") and day.startswith(b"-03-01") and calendar.isleap(year):
        day = day.replace(b"-03-01", b"-02-29")
    return b"%d%s,%d%s" % (int(local[:4]) + years, local[4:], year, day)


# ---- malformed


def _short(line: bytes) -> bytes:
    return line.rpartition(b",")[0]


def _words(line: bytes) -> bytes:
    return b"this year" + line[4:]


def _no_hour(line: bytes) -> bytes:
    return line.rpartition(b"T")[0] + b"T25:00:00Z"


def _set(column: int, value: bytes) -> Callable[[bytes], bytes]:
    def bent(line: bytes) -> bytes:
        fields = line.split(b",")
        fields[column] = value
        return b",".join(fields)

    return bent


BENDS: tuple[Callable[[bytes], bytes], ...] = (
    _short,  # a column is missing
    _words,  # a text where a number is due
    _no_hour,
    _set(1, b"13"),  # month: a CHECK
    _set(9, b"NA"),  # carrier: NOT NULL
    _set(15, b"1400.5"),  # distance: an INTEGER
    _set(12, b"\xff\xfe"),  # origin: no UTF-8
)
