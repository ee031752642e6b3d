"""From when on a view keeps its groups, by one of its keys that is a time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, order=True)
class Bound:
    """Groups whose `key` is before `value` are not kept; one without a time is."""

    key: str
    value: datetime  # aware

    def iso(self) -> str:
        """`2026-01-01T10:00:00Z`"""
        return self.value.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def latest(bounds: Iterable[Bound]) -> tuple[Bound, ...]:
    """One per key: a bound never goes back."""
    found: dict[str, Bound] = {}
    for each in sorted(bounds):
        found[each.key] = each
    return tuple(found.values())
