"""Sealing: many epochs become one range, and many ranges one, so that neither files nor rows of the
ledger grow with the rate of epochs.

    epochs   41 42 43 44 | 45 46 47 | 48 49           segments, one row each
    sealed   [  1 .. 40 ][ 41 .. 47]                   master, rejects, ids, runs; one row each
                                    ^ a sealed boundary: batch cuts fall on these alone

A range holds epochs of one stream version that carry the same versions of views, so a run is of
whole epochs and a version is in all of a range or in none of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, literal, select, update

from schemas.errors import SealingNotNext
from schemas.ledger import files, leases, retention, tables, versions
from schemas.ledger.connect import Ledger, number
from schemas.ledger.epochs import folded_members, lease_name, position_of
from schemas.ledger.files import IDS, RUN, SEALED, SEGMENT, DataFile, data_file
from schemas.position import Position, Range
from schemas.stored_file import StoredFile


@dataclass(frozen=True)
class SealedRange:
    """Epochs that were sealed together, or ranges that were merged since."""

    stream: str
    first: int  # the first epoch in it
    last: int  # the last one, which is in it too: a sealed boundary
    level: int  # how often ranges were merged to get it
    first_instant: datetime  # UTC, of its first epoch
    instant: datetime  # UTC, of its last one
    stream_version: str
    topic_id: str | None
    folded: frozenset[str]  # version ids, the same in each of its epochs
    accepted: int
    duplicates: int
    rejected: int
    ranges: tuple[Range, ...]  # the offsets that it covers, one per partition, by partition
    position: Position  # after it
    files: tuple[DataFile, ...]  # master, rejects, ids, runs


@dataclass(frozen=True)
class CountedIds:
    """The files that list the event ids that a stream counted."""

    sealed_until: int  # the last sealed epoch; 0 where none is
    sealed: tuple[StoredFile, ...]  # of sealed epochs
    epochs: tuple[tuple[int, tuple[StoredFile, ...]], ...]  # further ones, in order, without a hole


def sealed_until(ledger: Ledger, stream: str) -> int:
    """The last sealed epoch of a stream; 0 where none is."""
    with ledger.read() as connection:
        return last_sealed(connection, stream)


def sealed_ranges(ledger: Ledger, stream: str) -> list[SealedRange]:
    """Every range of a stream, in order."""
    s = tables.sealed.c
    with ledger.read() as connection:
        query = select(tables.sealed).where(s.stream == stream).order_by(s.until_epoch)
        rows = connection.execute(query).all()
        folded = folded_members(connection, {row.folded for row in rows})
        held = _files(connection, stream)
    return [
        SealedRange(
            stream=stream,
            first=row.from_epoch,
            last=row.until_epoch,
            level=row.level,
            first_instant=row.from_instant,
            instant=row.instant,
            stream_version=row.stream_version,
            topic_id=row.topic_id,
            folded=folded[row.folded],
            accepted=row.accepted,
            duplicates=row.duplicates,
            rejected=row.rejected,
            ranges=ranges_of(row),
            position=position_of(row),
            files=tuple(f for f in held if row.from_epoch <= f.first and f.last <= row.until_epoch),
        )
        for row in rows
    ]


def seal(
    ledger: Ledger,
    stream: str,
    token: int,
    first: int,
    last: int,
    added: Sequence[DataFile],
    now: datetime,
    segments: Iterable[str] | None = None,
) -> int:
    """Put a range and its files in the place of epochs `first` to `last` and of their segments, in
    one transaction; gives the new state number. `segments` are the paths of those that were read.

    Raises `StaleToken`, and `SealingNotNext` unless they are the next epochs, of one stream version
    and one set of folded versions, and their segments are still the ones that were read.
    """
    e, r = tables.epochs.c, tables.ranges.c
    with ledger.write() as connection:
        leases.check(connection, lease_name(stream), token)
        expected = last_sealed(connection, stream) + 1
        query = select(tables.epochs).where(e.stream == stream, e.epoch.between(first, last))
        rows = connection.execute(query.order_by(e.epoch)).all()
        if first != expected or [row.epoch for row in rows] != list(range(first, last + 1)):
            raise SealingNotNext(stream, f"epochs {expected}..", f"{first}..{last}")
        kinds = {(row.stream_version, row.folded) for row in rows}
        if len(kinds) != 1:
            found = f"{len(kinds)} kinds of epochs in {first}..{last}"
            raise SealingNotNext(stream, "epochs that carry the same versions", found)
        of_these = (r.stream == stream) & r.epoch.between(first, last)
        bounds = select(r.partition, func.min(r.start), func.max(r.until)).where(of_these)
        offsets = _json(connection.execute(bounds.group_by(r.partition)).all())
        _put(connection, rows, first, last, level=0, begun=rows[0].instant, ranges=offsets)
        connection.execute(delete(tables.ranges).where(of_these))
        connection.execute(
            delete(tables.epochs).where(e.stream == stream, e.epoch.between(first, last))
        )
        f = tables.files.c
        counting = select(f.id, f.path).where(f.stream == stream, f.kind == SEGMENT)
        counting = counting.where(f.from_epoch.between(first, last), f.removed_state.is_(None))
        held = {row.path: row.id for row in connection.execute(counting)}
        if segments is not None and held.keys() != set(segments):
            other = min(held.keys() ^ set(segments))
            raise SealingNotNext(stream, "the segments that count", f"a change of {other}")
        files.remove(connection, list(held.values()), now)
        files.add(connection, stream, token, _needed(connection, stream, added))
        return number(connection)


def merge_ranges(
    ledger: Ledger,
    stream: str,
    token: int,
    ranges: Sequence[SealedRange],
    added: Sequence[DataFile],
    removed: Sequence[DataFile],
    now: datetime,
) -> int:
    """Make adjacent ranges one of the next level; files in neither list stay as they are. Gives the
    new state number.

    Raises `StaleToken`, and `SealingNotNext` unless the ranges are there, are adjacent, carry the
    same versions, no kept boundary lies inside, and every file of `removed` still counts: one that
    was repaired meanwhile has another in its place.
    """
    s, f = tables.sealed.c, tables.files.c
    first, last = ranges[0].first, ranges[-1].last
    with ledger.write() as connection:
        leases.check(connection, lease_name(stream), token)
        these = (s.stream == stream) & (s.from_epoch >= first) & (s.until_epoch <= last)
        rows = connection.execute(select(tables.sealed).where(these).order_by(s.until_epoch)).all()
        if [(r.from_epoch, r.until_epoch) for r in rows] != [(r.first, r.last) for r in ranges]:
            raise SealingNotNext(stream, "ranges that are there", f"{first}..{last}")
        if len({(row.stream_version, row.folded) for row in rows}) != 1:
            raise SealingNotNext(stream, "ranges that carry the same versions", f"{first}..{last}")
        inside = sorted(b for b in _kept(connection, stream) if first <= b < last)
        if inside:
            expected = f"no range across the kept boundary {inside[0]}"
            raise SealingNotNext(stream, expected, f"{first}..{last}")
        connection.execute(delete(tables.sealed).where(these))
        level = max(row.level for row in rows) + 1
        offsets = _json((p, r.start, r.until) for p, r in covered(rows).items())
        _put(connection, rows, first, last, level=level, begun=rows[0].from_instant, ranges=offsets)
        wanted = {each.file.path for each in removed}
        counting = select(f.id, f.path).where(f.stream == stream, f.removed_state.is_(None))
        held = {row.path: row.id for row in connection.execute(counting) if row.path in wanted}
        gone = sorted(wanted - held.keys())
        if gone:
            raise SealingNotNext(stream, "files that count", f"{gone[0]}, which does not any more")
        files.remove(connection, list(held.values()), now)
        files.add(connection, stream, token, _needed(connection, stream, added))
        return number(connection)


def kept_boundaries(ledger: Ledger, stream: str) -> frozenset[int]:
    """The epochs at which a range has to end: cuts of kept publications and of builds at work, and
    where retention ends."""
    with ledger.read() as connection:
        return frozenset(_kept(connection, stream))


def request_seal(ledger: Ledger, stream: str) -> int:
    """Ask whoever streams to seal up to the newest epoch; gives that epoch."""
    q = tables.seal_requests.c
    with ledger.write() as connection:
        versions.stream_row(connection, stream)
        epoch = versions.last_epoch(connection, stream)
        this = update(tables.seal_requests).where(q.stream == stream)
        if not connection.execute(this.values(epoch=epoch)).rowcount:
            connection.execute(insert(tables.seal_requests).values(stream=stream, epoch=epoch))
        return epoch


def requested_seal(ledger: Ledger, stream: str) -> int:
    """The epoch up to which sealing was asked for; 0 where that much is sealed."""
    q = tables.seal_requests.c
    with ledger.read() as connection:
        epoch = connection.scalar(select(q.epoch).where(q.stream == stream)) or 0
        return int(epoch) if epoch > last_sealed(connection, stream) else 0


def counted_ids(
    ledger: Ledger, stream: str, after: int, since: datetime | None = None
) -> CountedIds:
    """Where the ids are: of sealed epochs, and of those after `after` that are not sealed. With
    `since` only what was counted later than that, as far as a file is (instants never fall)."""
    s, e, f = tables.sealed.c, tables.epochs.c, tables.files.c
    with ledger.read() as connection:
        until = last_sealed(connection, stream)
        counted = (f.stream == stream) & f.removed_state.is_(None)
        of_range = (s.stream == f.stream) & f.from_epoch.between(s.from_epoch, s.until_epoch)
        sealed = select(tables.files).join(tables.sealed, of_range).where(counted, f.kind == IDS)
        epochs = select(e.epoch).where(e.stream == stream, e.epoch > max(after, until))
        if since is not None:
            sealed, epochs = sealed.where(s.instant > since), epochs.where(e.instant > since)
        held: dict[int, list[StoredFile]] = {
            epoch: [] for epoch in connection.scalars(epochs.order_by(e.epoch))
        }
        first = min(held, default=0)
        segments = select(tables.files).where(counted, f.kind == SEGMENT, f.has_ids)
        for row in connection.execute(segments.where(f.from_epoch >= first).order_by(f.id)):
            if row.from_epoch in held:
                held[row.from_epoch].append(_stored(row))
        listed = connection.execute(sealed.order_by(f.from_epoch, f.id))
        return CountedIds(
            sealed_until=until,
            sealed=tuple(_stored(row) for row in listed),
            epochs=tuple((epoch, tuple(found)) for epoch, found in held.items()),
        )


def _stored(row: Row[tuple[object, ...]]) -> StoredFile:
    return StoredFile(row.path, row.sha256, row.bytes)


def last_sealed(connection: Connection, stream: str) -> int:
    """`sealed_until` inside another transaction."""
    s = tables.sealed.c
    return int(connection.scalar(select(func.max(s.until_epoch)).where(s.stream == stream)) or 0)


def covered(rows: Iterable[Row[tuple[object, ...]]]) -> dict[int, Range]:
    """The offsets that adjacent rows of `sealed` cover together, by partition."""
    found: dict[int, Range] = {}
    for row in rows:
        for each in ranges_of(row):
            start = found.get(each.partition, each).start
            found[each.partition] = Range(each.partition, start, each.until)
    return dict(sorted(found.items()))


def ranges_of(row: Row[tuple[object, ...]]) -> tuple[Range, ...]:
    """The offsets that a row of `sealed` covers."""
    told: Mapping[str, tuple[int, int]] = json.loads(row.ranges)
    return tuple(sorted(Range(int(p), start, until) for p, (start, until) in told.items()))


def _put(
    connection: Connection,
    rows: Sequence[Row[Any]],
    first: int,
    last: int,
    *,
    level: int,
    begun: datetime,
    ranges: str,
) -> None:
    """The row of a range in the place of `rows`, which are its epochs or the ranges in it, in order
    and of one kind. `begun` is the instant of its first epoch."""
    connection.execute(
        insert(tables.sealed).values(
            stream=rows[0].stream,
            until_epoch=last,
            from_epoch=first,
            level=level,
            from_instant=begun,
            instant=rows[-1].instant,
            stream_version=rows[0].stream_version,
            topic_id=rows[-1].topic_id,
            folded=rows[0].folded,
            accepted=sum(row.accepted for row in rows),
            duplicates=sum(row.duplicates for row in rows),
            rejected=sum(row.rejected for row in rows),
            ranges=ranges,
            position=rows[-1].position,
            uuid=rows[-1].uuid,
            added_state=number(connection),
            observed=rows[-1].observed,
        )
    )


def _needed(connection: Connection, stream: str, added: Sequence[DataFile]) -> Iterator[DataFile]:
    """Without the runs of versions that were given up while they were written."""
    v = tables.versions.c
    gone = select(v.id).where(v.stream == stream, v.retired_epoch.is_not(None))
    retired = set(connection.scalars(gone))
    return (each for each in added if each.kind != RUN or each.version not in retired)


def _json(ranges: Iterable[Sequence[int]]) -> str:
    return json.dumps({str(partition): [start, until] for partition, start, until in ranges})


def _kept(connection: Connection, stream: str) -> set[int]:
    p, b, le = tables.publications.c, tables.builds.c, tables.leases.c
    published = select(p.cut).where(p.stream == stream, p.dropped.is_(None))
    held = (le.name == literal("build/") + b.view) & (le.token == b.token) & le.host.is_not(None)
    at_work = select(b.cut, b.base_cut).join(tables.leases, held)
    at_work = at_work.where(b.stream == stream, b.state.in_(tables.BUILDS_AT_WORK))
    kept = set(connection.scalars(published))
    for cut, base_cut in connection.execute(at_work):
        kept |= {cut, base_cut}
    return kept | retention.boundaries(connection, stream)


def _files(connection: Connection, stream: str) -> list[DataFile]:
    f = tables.files.c
    query = select(tables.files).where(f.stream == stream, f.kind.in_(SEALED))
    query = query.where(f.removed_state.is_(None)).order_by(f.from_epoch, f.id)
    return [data_file(row) for row in connection.execute(query)]
