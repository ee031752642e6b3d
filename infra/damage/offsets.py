"""Which offsets the epochs of a file cover, as far as that is known without the file.

The ledger knows the offsets of each sealed range and of each unsealed epoch. A file may hold a part
of a sealed range, whose epochs the ledger has as one: then the whole files beside it tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from schemas.ledger.repairs import Span
from schemas.parquet import Description
from schemas.position import Position, Range


@dataclass(frozen=True)
class Covered:
    """Offsets per partition; where they are not `exact`, those of the range that the epochs are
    in."""

    ranges: tuple[Range, ...]
    exact: bool

    @property
    def words(self) -> str:
        listed = [f"{each.partition}: {each.start}..{each.until - 1}" for each in self.sized]
        told = "offsets " + ", ".join(listed) if listed else "no offsets"
        return told if self.exact else f"{told} at most"

    @property
    def sized(self) -> list[Range]:
        """Those with an offset in them."""
        return [each for each in self.ranges if each.size]

    def json(self) -> list[list[int]]:
        return [[each.partition, each.start, each.until] for each in self.ranges]


def covered(
    spans: Sequence[Span], whole: Iterable[Description], first: int, last: int
) -> Covered | None:
    """The offsets of epochs `first` to `last`, which lie in one span or are all up to its end;
    `whole` is what other files say that were found whole. None where the ledger has no such
    epochs."""
    if first == 1 and any(each.last == last for each in spans):
        return Covered(_from_the_start(spans, last), True)
    around = next((each for each in spans if each.first <= first and last <= each.last), None)
    if around is None:
        return None
    if (around.first, around.last) == (first, last):
        return Covered(around.ranges, True)
    same = next((each for each in whole if (each.first, each.last) == (first, last)), None)
    if same is not None:
        return Covered(same.ranges, True)
    begin, end = _after(spans, around, whole, first - 1), _after(spans, around, whole, last)
    if begin is None or end is None:
        return Covered(around.ranges, False)
    starts = {each.partition: each.start for each in around.ranges} | dict(begin.offsets)
    found = [
        Range(partition, starts[partition], until)
        for partition, until in end.offsets.items()
        if partition in starts and starts[partition] <= until
    ]
    return Covered(tuple(each for each in found if each.size), True)


def _from_the_start(spans: Sequence[Span], last: int) -> tuple[Range, ...]:
    starts: dict[int, int] = {}
    ends: dict[int, int] = {}
    for span in spans:
        if span.last <= last:
            for each in span.ranges:
                starts.setdefault(each.partition, each.start)
                ends[each.partition] = each.until
    return tuple(Range(each, starts[each], ends[each]) for each in sorted(starts))


def _after(
    spans: Sequence[Span], around: Span, whole: Iterable[Description], epoch: int
) -> Position | None:
    """The position after an epoch of a span; None where no whole file begins or ends there."""
    if epoch == around.last:
        return around.position
    start = {each.partition: each.start for each in around.ranges}
    before = next((each.position for each in spans if each.last == around.first - 1), Position())
    at = dict(start) | dict(before.offsets)
    if epoch == around.first - 1:
        return Position(at)
    parts = sorted(
        {
            (each.first, each.last): each
            for each in whole
            if around.first <= each.first and each.last <= around.last
        }.values(),
        key=lambda each: (each.first, -each.last),
    )
    reached = around.first - 1
    while reached < epoch:
        step = next((e for e in parts if e.first == reached + 1 and e.last <= epoch), None)
        if step is None:
            return _before(around, parts, epoch)
        at |= {each.partition: each.until for each in step.ranges}
        reached = step.last
    return Position(at)


def _before(around: Span, parts: Sequence[Description], epoch: int) -> Position | None:
    """The position after an epoch, told by the files from the next one to the end of the span."""
    at = dict(around.position.offsets)
    reached = around.last
    while reached > epoch:
        step = next((e for e in parts if e.last == reached and e.first > epoch), None)
        if step is None:
            return None
        at |= {each.partition: each.start for each in step.ranges}
        reached = step.first - 1
    return Position(at)
