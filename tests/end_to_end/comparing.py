"""An answer over HTTP beside that of the oracle."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any


def _planes(told: float, exact: float) -> bool:
    """Standard error 1.1 %: five of them, and one where groups are small."""
    return abs(told - exact) <= max(1, 0.055 * exact)


def _delay(told: float, exact: float) -> bool:
    return abs(told - exact) <= 0.01 * abs(exact) * (1 + 1e-9)


APPROXIMATE: Mapping[str, Callable[[float, float], bool]] = {
    "planes": _planes,
    "p90_delay": _delay,
}
"""Columns of the example's views that are judged by their bound."""


def check_rows(
    view: str, at: Mapping[int, int], answer: Mapping[str, Any], right: list[tuple[object, ...]]
) -> None:
    """Every column is equal, or within its bound."""
    columns = answer["columns"]
    near = {n: APPROXIMATE[c["name"]] for n, c in enumerate(columns) if c["name"] in APPROXIMATE}
    found = [
        tuple(value(cell, column["type"]) for cell, column in zip(row, columns, strict=True))
        for row in answer["rows"]
    ]
    expected = [tuple(map(_hashable, row)) for row in right]
    apart = [_without(row, near) for row in found]
    assert Counter(apart) == Counter(_without(row, near) for row in expected), (view, at)
    exact = {_without(row, near): row for row in expected}
    for row, rest in zip(found, apart, strict=True):
        for place, judged in near.items():
            told, known = row[place], exact[rest][place]
            if told is None or known is None:
                assert told is known, (view, at, row)
            else:
                assert judged(float(str(told)), float(str(known))), (view, at, row, known)


def _without(row: tuple[object, ...], places: Mapping[int, object]) -> tuple[object, ...]:
    return tuple(cell for at, cell in enumerate(row) if at not in places)


def _hashable(cell: object) -> object:
    return tuple(cell) if isinstance(cell, list) else cell


def value(cell: Any, kind: str) -> object:
    """A JSON value as what Python has for its type."""
    if cell is None:
        return None
    if kind == "TIMESTAMP":
        return datetime.fromisoformat(cell).astimezone(UTC).replace(tzinfo=None)
    if kind == "DATE":
        return date.fromisoformat(cell)
    if isinstance(cell, list):
        return tuple(cell)
    return Decimal(cell) if kind.startswith("DECIMAL") else cell
