"""The ledger's form, numbered from 1.

A new ledger gets the tables as they are now and is marked with every number. An older one gets the
missing steps in order. Either happens in one transaction, so there is no form in between.
A number, once released, is never reused or changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Column, Connection, func, insert, inspect, select, update

from schemas.errors import LedgerTooNew
from schemas.ledger import tables

Step = Callable[[Connection], None]


def _batch(connection: Connection) -> None:
    """2: sealed epochs, builds, proofs, publications; whose file it is and when it was removed."""
    added = (tables.sealed, tables.seal_requests, tables.builds, tables.proofs)
    for table in (*added, tables.publications, tables.moves):
        table.create(connection)
    for table, column in (
        (tables.views, tables.views.c.wanted),
        (tables.views, tables.views.c.publication),
        (tables.files, tables.files.c.removed),
        (tables.files, tables.files.c.version),
        (tables.files, tables.files.c.partials),
        (tables.files, tables.files.c.build),
    ):
        kind = column.type.compile(connection.dialect)
        connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {column.name} {kind}")
    for index in tables.files.indexes:
        index.create(connection, checkfirst=True)


def _stops(connection: Connection) -> None:
    """3: why a stream stopped, and which offsets it goes on without."""
    tables.losses.create(connection)
    column = tables.streams.c.stopped
    kind = column.type.compile(connection.dialect)
    connection.exec_driver_sql(f"ALTER TABLE streams ADD COLUMN {column.name} {kind}")


def _replays(connection: Connection) -> None:
    """4: rejects that are tried again; the declaration that a version of a view reads events by,
    which was the one that the stream has: none had changed where there were epochs."""
    tables.replays.create(connection)
    tables.replay_epochs.create(connection)
    column = tables.versions.c.stream_version
    kind = column.type.compile(connection.dialect)
    connection.exec_driver_sql(f"ALTER TABLE versions ADD COLUMN {column.name} {kind}")
    now = select(tables.streams.c.version).where(tables.streams.c.name == tables.versions.c.stream)
    connection.execute(update(tables.versions).values({column: now.scalar_subquery()}))


def _retention(connection: Connection) -> None:
    """5: what retention removed, what versions lack because of it, what builds began with; from
    when on views keep their groups."""
    tables.retentions.create(connection)
    tables.view_bounds.create(connection)
    for column in (
        tables.versions.c.since_epoch,
        tables.builds.c.retained,
        tables.builds.c.bound_key,
        tables.builds.c.bound,
    ):
        _add(connection, column)


def _observed(connection: Connection) -> None:
    """6: what was seen of event times and rejects; what differed when it was counted anew."""
    tables.mismatches.create(connection)
    _add(connection, tables.epochs.c.observed)
    _add(connection, tables.sealed.c.observed)


def _add(connection: Connection, column: Column[Any]) -> None:
    """Add a column, unless a step before made the whole table."""
    there = {each["name"] for each in inspect(connection).get_columns(column.table.name)}
    if column.name not in there:
        kind = column.type.compile(connection.dialect)
        connection.exec_driver_sql(
            f"ALTER TABLE {column.table.name} ADD COLUMN {column.name} {kind}"
        )


FIRST = 1
# number -> what turns a ledger of the number before into it
STEPS: Mapping[int, Step] = {2: _batch, 3: _stops, 4: _replays, 5: _retention, 6: _observed}
KNOWN = max(STEPS, default=FIRST)


def found(connection: Connection) -> int:
    """The number of a ledger; 0 where there are no tables."""
    if not inspect(connection).has_table(tables.migrations.name):
        return 0
    return connection.scalar(select(func.max(tables.migrations.c.number))) or 0


def refuse_newer(path: str, number: int) -> None:
    if number > KNOWN:
        raise LedgerTooNew(path, KNOWN, number)


def migrate(connection: Connection, path: str) -> None:
    """Bring a ledger to `KNOWN` inside the caller's transaction; `LedgerTooNew` if it is beyond."""
    number = found(connection)
    refuse_newer(path, number)
    if number == 0:
        tables.metadata.create_all(connection)
        connection.execute(insert(tables.state).values(id=1, number=0))
    else:
        for each in range(number + 1, KNOWN + 1):
            STEPS[each](connection)
    for each in range(number + 1, KNOWN + 1):
        connection.execute(insert(tables.migrations).values(number=each))
