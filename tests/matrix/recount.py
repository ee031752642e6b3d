"""The recount: the answers, computed from what producers meant and where records lie.

Ints and Decimals of Python; nothing of everview (tests/matrix/test_matrix.py holds that).

A commit is (instant, positions after it); an event belongs to the first commit whose position is
behind its offset. Of the events with one id the first in the order of (commit, partition, offset)
counts, and one that comes `within` of the last that counted does not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Protocol

Meant = Mapping[str, Any]
Commit = tuple[datetime, Mapping[int, int]]
Answer = list[tuple[Any, ...]]


class Acknowledged(Protocol):
    """A line of the log."""

    @property
    def partition(self) -> int: ...

    @property
    def offset(self) -> int: ...

    @property
    def meant(self) -> Meant | None: ...


def in_order(
    acks: Iterable[Acknowledged], commits: Sequence[Commit]
) -> list[tuple[datetime, Acknowledged]]:
    """What is below the last commit's position, with the instant of the commit that took it."""
    placed = []
    for ack in acks:
        for number, (instant, position) in enumerate(commits):
            if ack.offset < position.get(ack.partition, 0):
                placed.append((number, ack.partition, ack.offset, instant, ack))
                break
    placed.sort(key=lambda each: each[:3])
    return [(each[3], each[4]) for each in placed]


def counted(
    acks: Iterable[Acknowledged],
    commits: Sequence[Commit],
    key: Sequence[str],
    within: timedelta,
) -> tuple[list[Meant], int]:
    """The events that count, and how many duplicates there are."""
    last: dict[tuple[Any, ...], datetime] = {}
    events: list[Meant] = []
    duplicates = 0
    for instant, ack in in_order(acks, commits):
        if ack.meant is None:
            continue
        if key:
            identity = tuple(ack.meant[column] for column in key)
            if identity in last and instant - last[identity] < within:
                duplicates += 1
                continue
            last[identity] = instant
        events.append(ack.meant)
    return events, duplicates


def by_key(events: Sequence[Meant]) -> Answer:
    """k, events, total, money, weight, low, high."""
    return [(k, *_measures(each)) for k, each in _groups(events, lambda event: event["k"])]


def by_hour(events: Sequence[Meant]) -> Answer:
    """hour, events, last."""

    def hour(event: Meant) -> datetime:
        return datetime.fromisoformat(event["ts"]).replace(minute=0, second=0, microsecond=0)

    return [(at, len(each), max(e["k"] for e in each)) for at, each in _groups(events, hour)]


def everything(events: Sequence[Meant]) -> Answer:
    """events, total, money."""
    return [(len(events), _sum(events, "n", int), _sum(events, "d", Decimal))]


VIEWS: Mapping[str, Callable[[Sequence[Meant]], Answer]] = {
    "by_key": by_key,
    "by_hour": by_hour,
    "everything": everything,
}


def _measures(events: Sequence[Meant]) -> tuple[Any, ...]:
    ns = [int(event["n"]) for event in events if event.get("n") is not None]
    xs = [float(event["x"]) for event in events if event.get("x") is not None]
    return (
        len(events),
        _sum(events, "n", int),
        _sum(events, "d", Decimal),
        max(xs, default=None),
        min(ns, default=None),
        max(ns, default=None),
    )


def _sum(events: Sequence[Meant], column: str, kind: Callable[[Any], Any]) -> Any:
    """NULL of nothing, as SQL has it."""
    values = [kind(event[column]) for event in events if event.get(column) is not None]
    return sum(values[1:], values[0]) if values else None


def _groups(
    events: Sequence[Meant], key: Callable[[Meant], Any]
) -> Iterable[tuple[Any, list[Meant]]]:
    found: dict[Any, list[Meant]] = defaultdict(list)
    for event in events:
        found[key(event)].append(event)
    return found.items()
