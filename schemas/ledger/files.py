"""The files that the ledger names beside segments: sealed ones, and what builds wrote.

A file counts from the transaction that names it to the one that marks it removed; it stays on the
disk for a while longer, for readers that are still at an older state, and as long as a build at
work may read it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, Select, delete, func, insert, literal, select, update

from schemas.ledger import tables
from schemas.ledger.connect import Ledger, number
from schemas.ledger.instant import aware
from schemas.stored_file import StoredFile

SEGMENT = "segment"
MASTER, REJECTS, IDS, RUN = "master", "rejects", "ids", "run"
BATCH, FINISHED, BASE = "batch", "finished", "base"
SEALED = (MASTER, REJECTS, IDS, RUN)
AT_ONCE = 500  # values in one IN (...)
Value = TypeVar("Value")


@dataclass(frozen=True)
class DataFile:
    """A file of sealed epochs or of a build."""

    kind: str  # MASTER, REJECTS, IDS, RUN, BATCH, FINISHED, BASE
    file: StoredFile
    first: int  # the first epoch in it; 1 for what a build or retention wrote
    last: int  # the last epoch in it, which is in it too
    rows: int
    accepted: int = 0  # of MASTER: its rows
    duplicates: int = 0  # of MASTER: those of them that do not count
    rejected: int = 0  # of REJECTS: its rows
    version: str | None = None  # of RUN, BATCH, FINISHED, BASE
    table: str | None = None  # of RUN, BATCH and BASE: the partial table


def named(ledger: Ledger, kind: str, stream: str) -> frozenset[str]:
    """The path of every file of a kind that a row names, whether it still counts or not."""
    f = tables.files.c
    query = select(f.path).where(f.stream == stream, f.kind == kind)
    with ledger.read() as connection:
        return frozenset(connection.scalars(query))


def removable(ledger: Ledger, stream: str, before: datetime) -> list[str]:
    """Files that stopped counting before an instant, and before every build and retention at work
    began. One whose lease ran out before that instant is not at work."""
    f, b, r, le = tables.files.c, tables.builds.c, tables.retentions.c, tables.leases.c
    with ledger.read() as connection:
        held = (le.token == b.token) & (le.expires >= aware(before))
        at_work = select(func.min(b.added_state)).join(
            tables.leases, (le.name == literal("build/") + b.view) & held
        )
        at_work = at_work.where(b.stream == stream, b.state.in_(tables.BUILDS_AT_WORK))
        held = (le.token == r.token) & (le.expires >= aware(before))
        retaining = select(func.min(r.added_state)).join(
            tables.leases, (le.name == literal("retention/") + r.stream) & held
        )
        retaining = retaining.where(r.stream == stream, r.state == "working")
        query = select(f.path).where(f.stream == stream, f.removed < aware(before))
        for oldest in (connection.scalar(at_work), connection.scalar(retaining)):
            if oldest is not None:
                query = query.where(f.removed_state <= oldest)
        return list(connection.scalars(query.order_by(f.id)))


def forget(ledger: Ledger, paths: Sequence[str]) -> None:
    """Drop the rows of files that were unlinked; a row of one that still counts stays."""
    f = tables.files.c
    with ledger.write() as connection:
        for part in _parts(paths):
            gone = f.path.in_(part) & f.removed_state.is_not(None)
            connection.execute(delete(tables.files).where(gone))


def counting(
    connection: Connection, stream: str, kind: str, version: str | None = None
) -> tuple[DataFile, ...]:
    """The files of a kind that count, of one version or of all, in the order of their epochs."""
    f = tables.files.c
    query: Select[Any] = select(tables.files).where(f.stream == stream, f.kind == kind)
    if version is not None:
        query = query.where(f.version == version)
    query = query.where(f.removed_state.is_(None)).order_by(f.from_epoch, f.id)
    return tuple(data_file(row) for row in connection.execute(query))


def add(
    connection: Connection,
    stream: str,
    token: int,
    files: Iterable[DataFile],
    *,
    build: int | None = None,
) -> None:
    """Name files inside the caller's transaction."""
    at = number(connection)
    rows = [
        {
            "kind": each.kind,
            "stream": stream,
            "from_epoch": each.first,
            "until_epoch": each.last,
            "path": each.file.path,
            "sha256": each.file.sha256,
            "bytes": each.file.bytes,
            "rows": each.rows,
            "accepted": each.accepted,
            "duplicates": each.duplicates,
            "rejected": each.rejected,
            "has_ids": each.kind == IDS,
            "version": each.version,
            "partials": each.table,
            "build": build,
            "token": token,
            "added_state": at,
        }
        for each in files
    ]
    if rows:
        connection.execute(insert(tables.files), rows)


def remove(connection: Connection, ids: Sequence[int], now: datetime) -> None:
    """Files with these row numbers stop counting, inside the caller's transaction."""
    f = tables.files.c
    gone = {"removed_state": number(connection), "removed": aware(now)}
    for part in _parts(ids):
        these = f.id.in_(part) & f.removed_state.is_(None)
        connection.execute(update(tables.files).where(these).values(gone))


def data_file(row: Row[tuple[object, ...]]) -> DataFile:
    """A row of `files`."""
    return DataFile(
        kind=row.kind,
        file=StoredFile(row.path, row.sha256, row.bytes),
        first=row.from_epoch,
        last=row.until_epoch,
        rows=row.rows,
        accepted=row.accepted,
        duplicates=row.duplicates,
        rejected=row.rejected,
        version=row.version,
        table=row.partials,
    )


def _parts(values: Sequence[Value]) -> Iterable[Sequence[Value]]:
    for at in range(0, len(values), AT_ONCE):
        yield values[at : at + AT_ONCE]
