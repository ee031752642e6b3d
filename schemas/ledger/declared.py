"""Which declaration of a stream accepted which epochs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from sqlalchemy import Connection, select

from schemas.ledger import tables
from schemas.ledger.connect import Ledger


@dataclass(frozen=True)
class Declared:
    """Adjacent epochs that one version of a stream accepted."""

    first: int
    last: int  # which is among them
    stream_version: str


def declared(ledger: Ledger, stream: str) -> tuple[Declared, ...]:
    """All epochs of a stream, sealed or not, in order."""
    with ledger.read() as connection:
        return declared_in(connection, stream)


def declared_in(connection: Connection, stream: str) -> tuple[Declared, ...]:
    """`declared` inside another transaction."""
    s, e = tables.sealed.c, tables.epochs.c
    sealed = select(s.from_epoch, s.until_epoch, s.stream_version).where(s.stream == stream)
    single = select(e.epoch, e.epoch, e.stream_version).where(e.stream == stream)
    rows = [
        Declared(*row)
        for query in (sealed.order_by(s.until_epoch), single.order_by(e.epoch))
        for row in connection.execute(query)
    ]
    return tuple(_joined(rows))


def _joined(spans: Iterable[Declared]) -> list[Declared]:
    found: list[Declared] = []
    for each in spans:
        if found and found[-1].stream_version == each.stream_version:
            found[-1] = replace(found[-1], last=each.last)
        else:
            found.append(each)
    return found
