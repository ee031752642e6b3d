"""From when on views keep their groups: recorded, and never going back. Every reader filters by it,
so files may hold what is below it still, or not any more."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Connection, insert, select, update

from schemas.bound import Bound
from schemas.ledger import tables
from schemas.ledger.connect import Ledger, number


def recorded(connection: Connection) -> dict[str, tuple[Bound, ...]]:
    """The bounds of every view that has some, by name; of one view in the order of their keys."""
    b = tables.view_bounds.c
    found: dict[str, tuple[Bound, ...]] = {}
    for row in connection.execute(select(tables.view_bounds).order_by(b.view, b.key)):
        found[row.view] = (*found.get(row.view, ()), Bound(row.key, row.bound))
    return found


def of(connection: Connection, view: str) -> tuple[Bound, ...]:
    """The bounds of one view."""
    return recorded(connection).get(view, ())


def move(connection: Connection, view: str, bounds: Iterable[Bound], now: datetime) -> bool:
    """Record bounds that are later than what is recorded; whether one was."""
    b = tables.view_bounds.c
    known = {each.key: each for each in of(connection, view)}
    moved = False
    for each in bounds:
        values = {"bound": each.value, "instant": now, "added_state": number(connection)}
        before = known.get(each.key)
        if before is None:
            named = {"view": view, "key": each.key, **values}
            connection.execute(insert(tables.view_bounds).values(named))
        elif before < each:
            this = (b.view == view) & (b.key == each.key)
            connection.execute(update(tables.view_bounds).where(this).values(values))
        else:
            continue
        moved = True
    return moved


def move_bound(ledger: Ledger, view: str, bound: Bound, now: datetime) -> bool:
    """`move` in a transaction of its own; none where nothing would move."""
    with ledger.read() as connection:
        if any(each >= bound for each in of(connection, view) if each.key == bound.key):
            return False
    with ledger.write() as connection:
        return move(connection, view, (bound,), now)
