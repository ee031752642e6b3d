"""The ledger in numbers, for those who watch: as of one state, and of a size that does not grow
with the history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, func, insert, select

from schemas.ledger import tables
from schemas.ledger.connect import Ledger
from schemas.ledger.epochs import progress_in
from schemas.ledger.files import MASTER, SEGMENT
from schemas.ledger.instant import aware
from schemas.observed import Observed
from schemas.position import Position


@dataclass(frozen=True)
class StreamFigures:
    """A stream's epochs, added up."""

    epoch: int  # the last one; 0 before the first
    position: Position  # after it
    instant: datetime | None  # of it
    observed: Observed | None  # after it
    accepted: int  # duplicates included
    duplicates: int
    rejected: int
    segments: int  # files that are not sealed yet
    unsealed_since: datetime | None  # the instant of the first unsealed epoch
    master_bytes: int


@dataclass(frozen=True)
class ViewFigures:
    """A view's builds, added up."""

    stream: str
    cut: int
    cut_instant: datetime | None  # of that epoch; None at 0
    build_seconds: float | None  # the last build that was published took so long
    built: datetime | None  # when it was published
    proof_failures: int  # builds that their proof refused
    publications: int
    mismatches: int  # answers that `everview verify` found to differ


@dataclass(frozen=True)
class Figures:
    """All of it at one state."""

    streams: Mapping[str, StreamFigures]
    views: Mapping[str, ViewFigures]
    files: Mapping[str, int]  # that count, by kind
    leases: Mapping[str, int]  # tokens by name


def figures(ledger: Ledger) -> Figures:
    """What there is."""
    f, le = tables.files.c, tables.leases.c
    with ledger.read() as connection:
        names = connection.scalars(select(tables.streams.c.name).order_by(tables.streams.c.name))
        counting = select(f.kind, func.count()).where(f.removed_state.is_(None)).group_by(f.kind)
        return Figures(
            streams={name: _stream(connection, name) for name in names.all()},
            views=_views(connection),
            files={str(kind): int(count) for kind, count in connection.execute(counting)},
            leases={
                str(name): int(token)
                for name, token in connection.execute(select(le.name, le.token).order_by(le.name))
            },
        )


def differed(
    ledger: Ledger, view: str, epoch: int, cut: int, groups: int, instant: datetime
) -> None:
    """Record that an answer, counted anew, was another one in so many groups."""
    values = {"view": view, "epoch": epoch, "cut": cut, "groups": groups, "instant": aware(instant)}
    with ledger.write() as connection:
        connection.execute(insert(tables.mismatches).values(values))


def _stream(connection: Connection, name: str) -> StreamFigures:
    e, s, f = tables.epochs, tables.sealed, tables.files.c
    counts = [0, 0, 0]
    for table in (e, s):
        summed = select(*(func.sum(table.c[each]) for each in ("accepted", "duplicates")))
        summed = summed.add_columns(func.sum(table.c.rejected)).where(table.c.stream == name)
        found = connection.execute(summed).one()
        counts = [count + int(more or 0) for count, more in zip(counts, found, strict=True)]
    last = progress_in(connection, name)
    held = select(func.count(), func.coalesce(func.sum(f.bytes), 0))
    held = held.where(f.stream == name, f.removed_state.is_(None))
    segments, _ = connection.execute(held.where(f.kind == SEGMENT)).one()
    _, master = connection.execute(held.where(f.kind == MASTER)).one()
    oldest = select(e.c.instant).where(e.c.stream == name).order_by(e.c.epoch).limit(1)
    return StreamFigures(
        epoch=last.epoch,
        position=last.position,
        instant=last.instant,
        observed=last.observed,
        accepted=counts[0],
        duplicates=counts[1],
        rejected=counts[2],
        segments=int(segments),
        unsealed_since=connection.scalar(oldest),
        master_bytes=int(master),
    )


def _views(connection: Connection) -> dict[str, ViewFigures]:
    v, p, b = tables.views, tables.publications, tables.builds
    f, m, s = tables.proofs, tables.mismatches, tables.sealed
    served = v.join(tables.versions, v.c.name == tables.versions.c.view)
    of_version = tables.versions.c.id == v.c.version
    columns = (v.c.name, v.c.publication, tables.versions.c.stream)
    rows = connection.execute(select(*columns).select_from(served).where(of_version)).all()
    published = _counts(connection, select(p.c.view, func.count()).group_by(p.c.view))
    refused = select(b.c.view, func.count()).select_from(f.join(b))
    failed = _counts(connection, refused.where(f.c.verdict == "refused").group_by(b.c.view))
    differing = _counts(connection, select(m.c.view, func.count()).group_by(m.c.view))
    newest = select(func.max(p.c.id)).group_by(p.c.view)
    built = select(p.c.view, p.c.published, b.c.begun).select_from(p.join(b, p.c.id == b.c.id))
    last = {row.view: row for row in connection.execute(built.where(p.c.id.in_(newest)))}
    at = select(p.c.id, p.c.cut, s.c.instant).select_from(
        p.join(s, (s.c.stream == p.c.stream) & (s.c.until_epoch == p.c.cut), isouter=True)
    )
    pointed = [row.publication for row in rows if row.publication is not None]
    cuts = {row.id: row for row in connection.execute(at.where(p.c.id.in_(pointed)))}
    found = {}
    for row in sorted(rows, key=lambda row: str(row.name)):
        cut, build = cuts.get(row.publication), last.get(row.name)
        took = None if build is None else (build.published - build.begun).total_seconds()
        found[str(row.name)] = ViewFigures(
            stream=row.stream,
            cut=0 if cut is None else int(cut.cut),
            cut_instant=None if cut is None else cut.instant,
            build_seconds=took,
            built=None if build is None else build.published,
            proof_failures=failed.get(row.name, 0),
            publications=published.get(row.name, 0),
            mismatches=differing.get(row.name, 0),
        )
    return found


def _counts(connection: Connection, query: Select[Any]) -> dict[str, int]:
    return {str(name): int(count) for name, count in connection.execute(query)}
