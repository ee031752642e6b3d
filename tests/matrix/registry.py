"""The rows of the fault matrix: what is broken, what plays it, and where else it is shown.

A row is `played` by a function, `shown` by tests elsewhere (named beside a function too), or
`outside`, with the reason. Numbers are those of the matrix: F of faults, E of bad events.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.matrix.stage import Stage

Scenario = Callable[[Stage], None]


@dataclass(frozen=True)
class Row:
    """One fault. `what` is a sentence for people; `tests` are node ids."""

    number: str
    what: str
    scenario: Scenario | None
    tests: tuple[str, ...]
    reason: str | None  # why nothing plays it here, or what of it is not

    @property
    def order(self) -> tuple[str, int]:
        return self.number[0], int(self.number[1:])


ROWS: dict[str, Row] = {}


def played(
    number: str, what: str, *tests: str, reason: str | None = None
) -> Callable[[Scenario], Scenario]:
    """Registers the function that plays a row; `tests` show more of it."""

    def keep(scenario: Scenario) -> Scenario:
        _add(Row(number, what, scenario, tests, reason))
        return scenario

    return keep


def shown(number: str, what: str, *tests: str, reason: str | None = None) -> None:
    """A row that other tests play."""
    assert tests
    _add(Row(number, what, None, tests, reason))


def outside(number: str, what: str, reason: str) -> None:
    """A row that nothing plays yet."""
    _add(Row(number, what, None, (), reason))


def in_order() -> list[Row]:
    return sorted(ROWS.values(), key=lambda row: (row.order[0] != "F", row.order))


def _add(row: Row) -> None:
    assert row.number not in ROWS, row.number
    ROWS[row.number] = row
