"""A stream that cannot go on, and the decision to go on without what is lost.

    offsets gone, topic recreated -> stopped: said on every answer  --accept_loss--> losses
                                         '-- cleared when the stream goes on --'

A loss that was accepted stays recorded for ever, and every answer that misses it says so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import delete, insert, select, update

from schemas.errors import NothingLost
from schemas.ledger import leases, tables, versions
from schemas.ledger.connect import Ledger, number
from schemas.ledger.epochs import lease_name
from schemas.ledger.instant import aware
from schemas.position import Range


def stop(
    ledger: Ledger, stream: str, token: int, message: str, missing: Sequence[Range], now: datetime
) -> None:
    """Record why a stream stopped, and the offsets that it misses, if that is why. `StaleToken`."""
    ranges = [(each.partition, each.start, each.until) for each in missing]
    told = {"message": message, "missing": ranges, "instant": aware(now).isoformat()}
    s = tables.streams.c
    with ledger.write() as connection:
        leases.check(connection, lease_name(stream), token)
        statement = update(tables.streams).where(s.name == stream)
        connection.execute(statement.values(stopped=json.dumps(told)))


def stopped(ledger: Ledger, stream: str) -> bool:
    """Whether a stream is recorded as stopped. Raises `StreamUnknown`."""
    with ledger.read() as connection:
        return versions.stream_row(connection, stream).stopped is not None


def went_on(
    ledger: Ledger,
    stream: str,
    token: int,
    starts: Mapping[int, int],
    log_starts: Mapping[int, int],
) -> None:
    """The stream goes on from these offsets: what stopped it is over. Of a loss that is still
    ahead, what Kafka has (again) is none: the log begins at `log_starts`. Raises `StaleToken`."""
    ahead = [
        each
        for each in accepted(ledger, stream)
        if each.partition in starts and each.start >= starts[each.partition]
    ]
    there = {each: log_starts[each.partition] for each in ahead}
    changed = {each: first for each, first in there.items() if first < each.until}
    if not changed and not stopped(ledger, stream):
        return
    lo = tables.losses.c
    with ledger.write() as connection:
        leases.check(connection, lease_name(stream), token)
        statement = update(tables.streams).where(tables.streams.c.name == stream)
        connection.execute(statement.values(stopped=None))
        for each, first in changed.items():
            this = (lo.stream == stream) & (lo.partition == each.partition)
            this &= lo.start == each.start
            if first <= each.start:
                connection.execute(delete(tables.losses).where(this))
            else:
                connection.execute(update(tables.losses).where(this).values(until=first))


def accept_loss(ledger: Ledger, stream: str, now: datetime) -> tuple[Range, ...]:
    """Record as lost what the stream stopped for, so that it goes on; gives the ranges.

    Raises `StreamUnknown`, and `NothingLost` where it did not stop for want of offsets.
    """
    lo = tables.losses.c
    with ledger.write() as connection:
        row = versions.stream_row(connection, stream)
        ranges = () if row.stopped is None else tuple(_missing(str(row.stopped)))
        if not ranges:
            raise NothingLost(stream)
        for each in ranges:
            # what was accepted before, and has grown since, is one loss
            same = (lo.stream == stream) & (lo.partition == each.partition)
            connection.execute(delete(tables.losses).where(same, lo.start == each.start))
            connection.execute(
                insert(tables.losses).values(
                    stream=stream,
                    partition=each.partition,
                    start=each.start,
                    until=each.until,
                    instant=aware(now),
                    added_state=number(connection),
                )
            )
        statement = update(tables.streams).where(tables.streams.c.name == stream)
        connection.execute(statement.values(stopped=None))
    return ranges


def accepted(ledger: Ledger, stream: str) -> list[Range]:
    """The offsets that a stream goes on without, in order."""
    lo = tables.losses.c
    query = select(tables.losses).where(lo.stream == stream).order_by(lo.partition, lo.start)
    with ledger.read() as connection:
        return [Range(row.partition, row.start, row.until) for row in connection.execute(query)]


def _missing(told: str) -> list[Range]:
    return [Range(*each) for each in json.loads(told)["missing"]]
