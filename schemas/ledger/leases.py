"""One writer: a lease has a name, a holder and a token that grows each time it is taken.

A writer takes its lease once, renews it now and then, and names the token in every transaction
that commits; `check` compares it inside that transaction. So a writer that was paused and wakes up
late finds a larger token and commits nothing (invariant 3). The time that a lease runs for only
decides when somebody else may take it, never whether a commit is right.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection, Row, insert, select, update

from schemas.errors import LeaseHeld, StaleToken
from schemas.ledger.connect import Ledger
from schemas.ledger.instant import ZERO, aware
from schemas.ledger.tables import leases as table


@dataclass(frozen=True)
class Holder:
    """A process on a machine. `started` (seconds since 1970) tells two with one pid apart."""

    host: str
    pid: int
    started: float


@dataclass(frozen=True)
class Lease:
    """The right to write under `name` until somebody takes a larger token."""

    name: str
    holder: Holder
    token: int
    expires: datetime


def take(
    ledger: Ledger,
    name: str,
    holder: Holder,
    now: datetime,
    ttl: timedelta,
    alive: Callable[[Holder], bool],
) -> Lease:
    """Take a lease under a new token, larger than any before.

    Raises `LeaseHeld` if another holder's lease runs still. A holder on this host is asked for by
    `alive`, and holds nothing once its process is gone; of another host only time can tell.
    """
    expires = aware(now) + ttl
    with ledger.write() as connection:
        row = _row(connection, name)
        held = None if row is None else _lease(row)
        if held is not None and held.holder != holder and held.expires > now:
            gone = held.holder.host == holder.host and not alive(held.holder)
            if not gone:
                there = held.holder
                until = held.expires.isoformat()
                raise LeaseHeld(name, there.host, there.pid, held.token, until)
        lease = Lease(name, holder, 1 if row is None else row.token + 1, expires)
        values = {"token": lease.token, **row_of(holder, lease.expires)}
        if row is None:
            connection.execute(insert(table).values(name=name, **values))
        else:
            connection.execute(update(table).where(table.c.name == name).values(values))
    return lease


def renew(ledger: Ledger, lease: Lease, now: datetime, ttl: timedelta) -> Lease:
    """The same lease for longer; `StaleToken` if it is no longer ours."""
    renewed = replace(lease, expires=aware(now) + ttl)
    with ledger.write() as connection:
        check(connection, lease.name, lease.token)
        statement = update(table).where(table.c.name == lease.name)
        connection.execute(statement.values(expires=renewed.expires))
    return renewed


def release(ledger: Ledger, lease: Lease) -> None:
    """Give a lease back; nothing happens if it is no longer ours. Its token stays used."""
    ours = (table.c.name == lease.name) & (table.c.token == lease.token)
    with ledger.write() as connection:
        nobody = {"host": None, "pid": None, "started": None, "expires": None}
        connection.execute(update(table).where(ours).values(nobody))


def check(connection: Connection, name: str, token: int) -> None:
    """Inside the transaction that commits: raises `StaleToken` unless the token is the current one.

    The row stays locked until that transaction ends (in SQLite the whole ledger is).
    """
    row = _row(connection, name)
    held = None if row is None else _lease(row)
    if held is None or held.token != token:
        raise StaleToken(name, token, None if held is None else held.token)


@dataclass(frozen=True)
class Current:
    """The token that a lease is at, and who holds it until when."""

    token: int  # 0 where it was never taken
    holder: Holder | None
    expires: datetime


def current(connection: Connection, name: str) -> Current:
    """How a lease stands, inside a transaction that goes on with it."""
    row = _row(connection, name)
    if row is None or row.host is None:
        return Current(0 if row is None else row.token, None, ZERO)
    return Current(row.token, Holder(row.host, row.pid, row.started), row.expires)


def row_of(holder: Holder, expires: datetime) -> dict[str, object]:
    """What a row of `leases` says of its holder."""
    return {
        "host": holder.host,
        "pid": holder.pid,
        "started": holder.started,
        "expires": aware(expires),
    }


def leases(ledger: Ledger) -> list[Lease]:
    """The leases that somebody holds, by name; one that has expired is still listed."""
    with ledger.read() as connection:
        rows = connection.execute(select(table).order_by(table.c.name)).all()
    return [lease for lease in map(_lease, rows) if lease is not None]


def _row(connection: Connection, name: str) -> Row[tuple[object, ...]] | None:
    return connection.execute(select(table).where(table.c.name == name).with_for_update()).first()


def _lease(row: Row[tuple[object, ...]]) -> Lease | None:
    if row.host is None:
        return None
    return Lease(row.name, Holder(row.host, row.pid, row.started), row.token, row.expires)
