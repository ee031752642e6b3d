"""Where a stream stands in its log: ranges of offsets, and the position after them.

Laws (tests/laws/test_position.py): `<=` is a partial order; a position never goes back by
advancing; advancing by one range and then by its continuation is advancing by both at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from schemas.errors import RangeInvalid, RangeNotContiguous


@dataclass(frozen=True, order=True)
class Range:
    """The offsets `[start, until)` of one partition. May be empty."""

    partition: int
    start: int
    until: int

    def __post_init__(self) -> None:
        if self.partition < 0 or self.start < 0 or self.until < self.start:
            raise RangeInvalid(self.partition, f"{self.start}..{self.until}")

    @property
    def size(self) -> int:
        """How many offsets, which may be more than there are records."""
        return self.until - self.start


@dataclass(frozen=True)
class Position:
    """Partition -> next offset to read; partially ordered, a missing partition is below all."""

    offsets: Mapping[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for partition, offset in self.offsets.items():
            if partition < 0 or offset < 0:
                raise RangeInvalid(partition, f"next offset {offset}")
        object.__setattr__(self, "offsets", MappingProxyType(dict(sorted(self.offsets.items()))))

    def advance(self, ranges: Iterable[Range]) -> Position:
        """The position after the ranges, taken in order.

        A partition not seen before may start anywhere; any other range must start where its
        partition stands, or `RangeNotContiguous` is raised.
        """
        offsets = dict(self.offsets)
        for each in ranges:
            expected = offsets.get(each.partition, each.start)
            if each.start != expected:
                raise RangeNotContiguous(each.partition, expected, each.start)
            offsets[each.partition] = each.until
        return Position(offsets)

    def json(self) -> dict[str, int]:
        """The form in answers and in the ledger: `{"0": 12}`."""
        return {str(partition): offset for partition, offset in self.offsets.items()}

    @classmethod
    def from_json(cls, offsets: Mapping[str, int]) -> Position:
        return cls({int(partition): offset for partition, offset in offsets.items()})

    def __le__(self, other: Position) -> bool:
        return all(offset <= other.offsets.get(p, -1) for p, offset in self.offsets.items())

    def __lt__(self, other: Position) -> bool:
        return self <= other and self != other

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Position) and dict(self.offsets) == dict(other.offsets)

    def __hash__(self) -> int:
        return hash(tuple(self.offsets.items()))

    def __reduce__(self) -> tuple[type[Position], tuple[dict[int, int]]]:
        return Position, (dict(self.offsets),)
