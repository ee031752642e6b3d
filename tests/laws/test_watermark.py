"""Low watermarks: the split of a log into epochs and tasks does not matter; what each case says.

Times in the cases are minutes after `START`.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.ledger.instant import microseconds
from schemas.observed import Epoch, Mark, Observed, Seen

START = datetime(2026, 1, 1, 10, tzinfo=UTC)
MINUTE = 60_000_000


def one(time: int | None) -> Seen:
    return Seen() if time is None else Seen(time, time, time)


def together(parts: Iterable[Seen]) -> Seen:
    return functools.reduce(Seen.then, parts, Seen())


@given(st.lists(st.none() | st.integers(-100, 100), max_size=12), st.data())
def test_any_split_tells_the_same(times: list[int | None], data: st.DataObject) -> None:
    whole = together(map(one, times))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(times)), max_size=3)))
    bounds = itertools.pairwise([0, *cuts, len(times)])
    assert together(together(map(one, times[a:b])) for a, b in bounds) == whole
    known = [time for time in times if time is not None]
    assert (whole.newest, whole.oldest) == (max(known, default=None), min(known, default=None))
    behind = (a - b for a, b in itertools.combinations(known, 2))  # an earlier one, a later one
    assert whole.disorder == max(0, *behind, 0)


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def seen(times: Sequence[float | None], instant: datetime) -> Seen:
    """Of event times in the order of their offsets."""
    latest = microseconds(instant)
    exact = [None if time is None else microseconds(at(time)) for time in times]
    parts = [
        Seen() if time is None else Seen(time, min(time, latest), min(time, latest))
        for time in exact
    ]
    return together(parts)


@dataclass(frozen=True)
class Planned:
    """An epoch: its instant, the event times by partition, and which were read to their end."""

    instant: float
    times: Mapping[int, Sequence[float | None]]
    ended: frozenset[int] = frozenset({0, 1})
    timed: bool = True


def observed(epochs: Iterable[Planned], known: Observed | None = None) -> Observed:
    found = known or Observed()
    for each in epochs:
        instant = at(each.instant)
        told = {p: seen(times, instant) for p, times in each.times.items()}
        found = found.advance(instant, Epoch(told, instant, each.ended, timed=each.timed))
    return found


def minutes(micros: int | None) -> float | None:
    return None if micros is None else (micros - microseconds(START)) / MINUTE


ONLY_0 = frozenset({0})
NONE: frozenset[int] = frozenset()
# what it is about: the epochs, the low watermark of partitions 0 and 1, that of the stream
CASES: dict[str, tuple[list[Planned], tuple[float | None, float | None], float | None]] = {
    "active partitions, nothing late": (
        [Planned(1, {0: [0, 1], 1: [0.5]}), Planned(2, {0: [1, 2], 1: [1.5, 2]})],
        (2, 2),
        2,
    ),
    "an idle partition read to its end does not hold the stream": (
        [Planned(1, {0: [1], 1: [1]}), Planned(9, {0: [9]})],
        (9, 9),
        9,
    ),
    "an idle partition has the delay of the others": (
        [Planned(1, {0: [1], 1: [1]}), Planned(5, {0: [0.5]}), Planned(9, {0: [9]})],
        (8.5, 8.5),
        8.5,
    ),
    "a partition with unread records stays at what it last said": (
        [Planned(1, {0: [1], 1: [1]}), Planned(9, {0: [9]}, ONLY_0)],
        (9, 1),
        1,
    ),
    "a backlog moves by its events": (
        [Planned(50, {0: [1, 3]}, NONE), Planned(51, {0: [4, 6], 1: [2]}, NONE)],
        (6, 2),
        2,
    ),
    "disorder within an epoch": (
        [Planned(50, {0: [1, 7, 4, 9], 1: [9]}, NONE)],
        (6, 9),
        6,
    ),
    "disorder between epochs": (
        [Planned(50, {0: [7], 1: [9]}, NONE), Planned(51, {0: [4, 9]}, NONE)],
        (6, 9),
        6,
    ),
    "an event later than the end of the log takes it back": (
        [Planned(10, {0: [10], 1: [10]}), Planned(20, {0: [4], 1: [20]})],
        (14, 20),
        14,
    ),
    "one late event is forgotten after the next full hour": (
        [
            Planned(10, {0: [10], 1: [10]}),
            Planned(20, {0: [4], 1: [20]}),
            Planned(110, {0: [110], 1: [110]}),
            Planned(125, {0: [125], 1: [125]}),
        ],
        (125, 125),
        125,
    ),
    "or when nothing came for hours": (
        [
            Planned(10, {0: [10], 1: [10]}),
            Planned(20, {0: [4], 1: [20]}),
            Planned(320, {0: [320], 1: [320]}),
        ],
        (320, 320),
        320,
    ),
    "and not before": (
        [
            Planned(10, {0: [10], 1: [10]}),
            Planned(20, {0: [4], 1: [20]}),
            Planned(119, {0: [119], 1: [119]}),
        ],
        (113, 119),
        113,
    ),
    "an event of the future is no claim about it": (
        [Planned(10, {0: [99], 1: [10]}, NONE), Planned(11, {0: [10.5], 1: [11]}, NONE)],
        (10.5, 11),
        10.5,
    ),
    "event times that are NULL say nothing": (
        [Planned(1, {0: [1, None], 1: [None]}), Planned(5, {0: [None], 1: [None]})],
        (5, 5),
        5,
    ),
    "a new partition is known once it is read": (
        [Planned(1, {0: [1]}, ONLY_0), Planned(2, {0: [2], 1: [1.5]}, ONLY_0)],
        (2, 1.5),
        1.5,
    ),
    "a partition that was not read yet is unknown": (
        [Planned(1, {0: [1]}, ONLY_0)],
        (1, None),
        None,
    ),
    "an epoch of a replay changes nothing": (
        [Planned(1, {0: [1], 1: [1]}), Planned(9, {}, NONE)],
        (1, 1),
        1,
    ),
    "no event time, no watermark": (
        [Planned(1, {0: [None], 1: [None]}, timed=False)],
        (None, None),
        None,
    ),
    "times of the past are their own clock": (
        [
            Planned(50_000, {0: [1], 1: [1]}),
            Planned(50_001, {0: [3], 1: [3]}),
            Planned(50_002, {0: [6], 1: [6]}),
        ],
        (6, 6),
        6,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_low_watermark(case: str) -> None:
    epochs, lows, lowest = CASES[case]
    found = observed(epochs)
    assert tuple(minutes(found.low(partition)) for partition in (0, 1)) == lows
    assert minutes(found.lowest((0, 1))) == lowest
    assert Observed.from_json(found.json()) == found


def test_rejects_and_the_future_add_up() -> None:
    found = Observed().advance(at(0), Epoch(reasons={"json": 2}, future=1))
    found = found.advance(at(1), Epoch(reasons={"json": 1, "check": 4}, future=2))
    assert (found.reasons, found.future) == ({"json": 3, "check": 4}, 3)
    assert Observed.from_json(found.json()) == found


@given(st.lists(st.lists(st.integers(0, 300), min_size=1, max_size=3), max_size=8))
def test_it_never_passes_the_clock_and_the_newest_is_the_newest(epochs: list[list[int]]) -> None:
    planned = [Planned(10 * n, {0: times}) for n, times in enumerate(epochs, 1)]
    found = observed(planned)
    low = minutes(found.low(0))
    assert low is None or low <= 10 * len(epochs)
    newest = found.marks.get(0, Mark()).newest
    assert minutes(newest) == max(itertools.chain(*epochs), default=None)
