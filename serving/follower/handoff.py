"""Whether batch and speed meet without a gap or an overlap, as the loaded files themselves say.

Every file of partials says which offsets its epochs cover. Laid side by side, per partition:

    batch   [0 ......... 40)
    runs                [40 .. 62)[62 . 70)
    epochs                                 [70)[71 73)
                                               ^ a gap where nothing is, a double where two are

The ledger's word is not asked: this finds what the ledger does not know.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

from schemas.position import Range

Pairs = tuple[tuple[int, int], ...]  # [start, until), sorted, disjoint, not adjacent


@dataclass(frozen=True)
class Spans:
    """The offsets that files cover, by partition."""

    parts: Mapping[int, Pairs] = field(default_factory=dict)
    doubles: int = 0  # offsets that came again

    @property
    def gaps(self) -> int:
        """Offsets between covered ones that nothing covers."""
        return sum(
            after[0] - before[1]
            for pairs in self.parts.values()
            for before, after in pairwise(pairs)
        )

    def add(self, ranges: Iterable[Range]) -> Spans:
        parts, doubles = dict(self.parts), self.doubles
        for each in ranges:
            if not each.size:
                continue
            pairs = parts.get(each.partition, ())
            if pairs and pairs[-1][1] == each.start:
                parts[each.partition] = (*pairs[:-1], (pairs[-1][0], each.until))
            else:
                parts[each.partition], double = _with(pairs, each.start, each.until)
                doubles += double
        return Spans(parts, doubles)


@dataclass(frozen=True)
class Handoff:
    """What the files behind a view's answers cover. `tables` has each partial table of the view, as
    a file may hold one of them alone."""

    tables: Mapping[str, Spans]
    batch_epochs: int = 0
    speed_epochs: int = 0

    @classmethod
    def of(cls, tables: Iterable[str]) -> Handoff:
        return cls({table: Spans() for table in tables})

    @property
    def gaps(self) -> int:
        """Of the table that lacks most."""
        return max((spans.gaps for spans in self.tables.values()), default=0)

    @property
    def doubles(self) -> int:
        return max((spans.doubles for spans in self.tables.values()), default=0)

    def with_file(self, table: str, ranges: Iterable[Range]) -> Handoff:
        """With a file of one table."""
        return replace(self, tables={**self.tables, table: self.tables[table].add(ranges)})

    def with_epoch(self, ranges: tuple[Range, ...]) -> Handoff:
        """With the segments of an epoch, which hold every table."""
        tables = {name: spans.add(ranges) for name, spans in self.tables.items()}
        return Handoff(tables, self.batch_epochs, self.speed_epochs + 1)


def _with(pairs: Pairs, start: int, until: int) -> tuple[Pairs, int]:
    """The pairs with another one, and how many of its offsets were there already."""
    first = bisect_left(pairs, start, key=lambda pair: pair[1])  # the first that ends at or after
    last = first
    double = 0
    low, high = start, until
    while last < len(pairs) and pairs[last][0] <= until:
        begin, end = pairs[last]
        double += max(0, min(end, until) - max(begin, start))
        low, high = min(low, begin), max(high, end)
        last += 1
    return (*pairs[:first], (low, high), *pairs[last:]), double
