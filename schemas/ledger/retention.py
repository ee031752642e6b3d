"""Retention of the master: whole sealed epochs leave at its old end, in the transaction that names
the bases that hold their partials.

    epochs  1 ........... before | before+1 ......... epoch | epoch+1 ....... cut ...... sealed
            base, the old one    | folded into the new base | master
                                                            ^ a sealed boundary, old enough, behind
                                                              which nothing needs the detail
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Select, func, insert, literal, select, update

from schemas.bound import Bound
from schemas.errors import RetentionNotNext
from schemas.failpoints import failpoint
from schemas.ledger import bounds, files, leases, tables
from schemas.ledger.connect import Ledger, number
from schemas.ledger.files import BASE, BATCH, IDS, MASTER, REJECTS, DataFile, data_file
from schemas.ledger.leases import Lease

WORKING, RETAINED, REFUSED, FAILED = "working", "retained", "refused", "failed"


@dataclass(frozen=True)
class Hold:
    """Something that needs the epochs after `epoch`, in words."""

    epoch: int
    what: str


@dataclass(frozen=True)
class KeptVersion:
    """A version that needs a base, and what that is compared with."""

    view: str
    version: str
    since: int  # the first epoch that it counts
    publication: int  # its newest one
    cut: int
    base: tuple[DataFile, ...]  # of the epochs that are removed already; may be none
    batch: tuple[DataFile, ...]  # of the publication
    bounds: tuple[Bound, ...]  # from when on its view keeps groups


@dataclass(frozen=True)
class Plan:
    """What would be removed; nothing where `epoch` is `before`."""

    stream: str
    before: int  # the last epoch that is removed already; 0 where none is
    epoch: int  # the last one to remove
    wanted: int  # the last one that is old enough
    span: timedelta  # between the first event to remove and the last
    holds: tuple[Hold, ...]  # what keeps it from going up to `wanted`
    versions: tuple[KeptVersion, ...]
    master: tuple[DataFile, ...]  # after `before`, up to the last cut of `versions`
    events: int  # accepted ones to remove
    rejects: int
    removed_files: int
    removed_bytes: int
    id: int | None = None  # of the row of `retentions`; None where it was only asked for

    @property
    def empty(self) -> bool:
        return self.epoch == self.before


@dataclass(frozen=True)
class Remains:
    """What there is of the past of a version beside its batch view, as of one state."""

    retained: int  # the last epoch that is not in the master any more; 0: it is whole
    base: tuple[DataFile, ...]  # the partials of those that it counts
    master: tuple[DataFile, ...]  # the files of the epochs after
    bounds: tuple[Bound, ...]  # from when on its view keeps groups


def lease_name(stream: str) -> str:
    """The lease under which a stream's master is let go."""
    return f"retention/{stream}"


def boundary(connection: Connection, stream: str) -> int:
    """The last epoch that was removed from the master of a stream; 0 where none was."""
    r = tables.retentions.c
    query = select(func.max(r.epoch)).where(r.stream == stream, r.state == RETAINED)
    return int(connection.scalar(query) or 0)


def boundaries(connection: Connection, stream: str) -> set[int]:
    """The epochs at which a sealed range has to end: the boundary, and the one at work."""
    r = tables.retentions.c
    query = select(r.epoch).where(r.stream == stream, r.state == WORKING)
    return {boundary(connection, stream), *connection.scalars(query)} - {0}


def retained_until(ledger: Ledger, stream: str) -> int:
    """`boundary`, in a transaction of its own."""
    with ledger.read() as connection:
        return boundary(connection, stream)


def remains(ledger: Ledger, stream: str, view: str, version: str) -> Remains:
    """What a recount of a version reads of sealed epochs."""
    with ledger.read() as connection:
        return Remains(
            boundary(connection, stream),
            bases(connection, stream, version),
            files.counting(connection, stream, MASTER),
            bounds.of(connection, view),
        )


def bases(connection: Connection, stream: str, version: str) -> tuple[DataFile, ...]:
    """The base of a version; no file where it has none."""
    return files.counting(connection, stream, BASE, version)


def plan(ledger: Ledger, stream: str, older_than: datetime, now: datetime) -> Plan:
    """What could be removed of the epochs that are older than an instant."""
    with ledger.read() as connection:
        return _plan(connection, stream, older_than, now)


def begin(ledger: Ledger, stream: str, lease: Lease, older_than: datetime, now: datetime) -> Plan:
    """The plan, recorded as what is at work unless there is nothing to do; what was at work before
    has failed. Raises `StaleToken`."""
    r, s = tables.retentions.c, tables.sealed.c
    with ledger.write() as connection:
        leases.check(connection, lease.name, lease.token)
        left = update(tables.retentions).where(r.stream == stream, r.state == WORKING)
        told = "it did not come to its end"
        connection.execute(left.values(state=FAILED, message=told, changed=now))
        found = _plan(connection, stream, older_than, now)
        if found.empty:
            return found
        at = select(s.position).where(s.stream == stream, s.until_epoch == found.epoch)
        values = {
            "stream": stream,
            "before": found.before,
            "epoch": found.epoch,
            "token": lease.token,
            "state": WORKING,
            "position": connection.scalar(at),
            "begun": now,
            "changed": now,
            "added_state": number(connection),
        }
        made = insert(tables.retentions).values(values).returning(r.id)
        chosen = connection.execute(made).scalar_one()
        return Plan(**{**vars(found), "id": int(chosen)})


def commit(
    ledger: Ledger,
    plan: Plan,
    token: int,
    made: Sequence[DataFile],
    evidence: Mapping[str, Any],
    dedup_within: timedelta,
    now: datetime,
) -> None:
    """Name the bases and let the master go up to the plan's epoch, with its rejects, and with ids
    that make no duplicate any more: those that were counted so long before the last sealed epoch.
    Streaming looked since that was sealed which files of ids it needs, so it has none of these.

    Raises `StaleToken`, and `RetentionNotNext` where something needs those epochs by now or was
    not folded: a build, a version, a file.
    """
    f, r, s = tables.files.c, tables.retentions.c, tables.sealed.c
    with ledger.write() as connection:
        leases.check(connection, lease_name(plan.stream), token)
        _must_be_next(connection, plan, now)
        own = (f.stream == plan.stream) & f.removed_state.is_(None)
        old = select(f.id).where(own, f.kind == BASE)
        files.remove(connection, connection.scalars(old).all(), now)
        files.add(connection, plan.stream, token, made)
        gone = select(f.id, f.accepted, f.rejected).where(own, f.until_epoch <= plan.epoch)
        rows = connection.execute(gone.where(f.kind.in_((MASTER, REJECTS)))).all()
        last = connection.scalar(select(func.max(s.instant)).where(s.stream == plan.stream))
        known = select(func.max(s.until_epoch)).where(s.stream == plan.stream)
        known = known.where(s.until_epoch <= plan.epoch, s.instant < last - dedup_within)
        ids = select(f.id).where(own, f.kind == IDS, f.until_epoch <= (known.scalar_subquery()))
        files.remove(connection, [*(row.id for row in rows), *connection.scalars(ids)], now)
        values = {
            "state": RETAINED,
            "events": sum(row.accepted for row in rows),
            "rejects": sum(row.rejected for row in rows),
            "evidence": json.dumps(evidence, sort_keys=True),
            "changed": now,
        }
        connection.execute(update(tables.retentions).where(r.id == plan.id).values(values))
        failpoint("retention.in_commit")


def end(
    ledger: Ledger,
    plan: Plan,
    token: int,
    state: str,
    message: str,
    now: datetime,
    evidence: Mapping[str, Any] | None = None,
) -> None:
    """Record why one at work was refused, or failed. Raises `StaleToken`."""
    r = tables.retentions.c
    values = {"state": state, "message": message, "changed": now}
    with ledger.write() as connection:
        leases.check(connection, lease_name(plan.stream), token)
        told = None if evidence is None else json.dumps(evidence, sort_keys=True)
        this = update(tables.retentions).where(r.id == plan.id, r.state == WORKING)
        connection.execute(this.values(evidence=told, **values))


def begins_with_hole(connection: Connection, stream: str, version: str) -> int | None:
    """The first epoch that a version can count whose batch view is built now; None: the first."""
    retained = boundary(connection, stream)
    return retained + 1 if retained and not bases(connection, stream, version) else None


def _plan(connection: Connection, stream: str, older_than: datetime, now: datetime) -> Plan:
    s, f = tables.sealed.c, tables.files.c
    before = boundary(connection, stream)
    query = select(s.until_epoch, s.from_instant, s.instant)
    query = query.where(s.stream == stream, s.until_epoch > before)
    rows = connection.execute(query.order_by(s.until_epoch)).all()
    old = [row for row in rows if row.instant < older_than]
    wanted = old[-1].until_epoch if old else before
    holds = sorted(_holds(connection, stream, now), key=lambda each: (each.epoch, each.what))
    most = min((each.epoch for each in holds), default=wanted)
    chosen = [row for row in old if row.until_epoch <= most]
    epoch = chosen[-1].until_epoch if chosen else before
    kept = _versions(connection, stream)
    last = max((each.cut for each in kept), default=before)
    held: Select[Any] = select(tables.files).where(f.stream == stream, f.removed_state.is_(None))
    master = held.where(f.kind == MASTER, f.from_epoch > before, f.from_epoch <= last)
    gone = held.where(f.kind.in_((MASTER, REJECTS)), f.until_epoch <= epoch)
    leaving = connection.execute(gone).all()
    return Plan(
        stream=stream,
        before=before,
        epoch=epoch,
        wanted=wanted,
        span=chosen[-1].instant - chosen[0].from_instant if chosen else timedelta(0),
        holds=tuple(each for each in holds if each.epoch < wanted),
        versions=kept,
        master=tuple(data_file(row) for row in connection.execute(master.order_by(f.from_epoch))),
        events=sum(row.accepted for row in leaving),
        rejects=sum(row.rejected for row in leaving),
        removed_files=len(leaving),
        removed_bytes=sum(row.bytes for row in leaving),
    )


def _must_be_next(connection: Connection, plan: Plan, now: datetime) -> None:
    """That nothing changed which the plan relied on."""
    f, r, s = tables.files.c, tables.retentions.c, tables.sealed.c
    state = connection.scalar(select(r.state).where(r.id == plan.id))
    before = boundary(connection, plan.stream)
    if state != WORKING or before != plan.before:
        found = f"it is {state}, and they are removed up to epoch {before}"
        raise RetentionNotNext(plan.stream, f"epochs removed up to {plan.before}", found)
    end_ = select(s.until_epoch).where(s.stream == plan.stream, s.until_epoch == plan.epoch)
    own = (f.stream == plan.stream) & f.removed_state.is_(None) & f.kind.in_((MASTER, REJECTS))
    across = select(func.count()).select_from(tables.files)
    across = across.where(own, f.from_epoch <= plan.epoch, f.until_epoch > plan.epoch)
    if connection.scalar(end_) is None or connection.scalar(across):
        raise RetentionNotNext(plan.stream, f"a sealed boundary at {plan.epoch}", "none")
    for each in _holds(connection, plan.stream, now):
        if each.epoch < plan.epoch:
            raise RetentionNotNext(plan.stream, f"epoch {plan.epoch} needed by nothing", each.what)
    folded = {(each.view, each.version) for each in plan.versions}
    if {(each.view, each.version) for each in _versions(connection, plan.stream)} != folded:
        raise RetentionNotNext(plan.stream, "the versions that were folded", "others")


def _holds(connection: Connection, stream: str, now: datetime) -> Iterable[Hold]:
    """What needs detail, and after which epoch."""
    p, v, w = tables.publications.c, tables.versions.c, tables.views.c
    b, le = tables.builds.c, tables.leases.c
    kept = select(tables.publications).where(p.stream == stream, p.dropped.is_(None))
    published = set()
    for row in connection.execute(kept):
        published.add((row.view, row.version))
        what = "is served" if row.replaced is None else "a rollback may go back to"
        yield Hold(row.cut, f"publication {row.id} of view {row.view!r}, which {what}")
    live = select(v.view, v.id, v.suspended_epoch, w.version.label("served"))
    live = live.join(tables.views, w.name == v.view)
    for row in connection.execute(live.where(v.stream == stream, v.retired_epoch.is_(None))):
        stays_out = row.suspended_epoch is not None and row.id != row.served
        if (row.view, row.id) not in published and not stays_out:
            way = f"`everview rebuild {row.view}` builds one"
            yield Hold(0, f"version {row.id} of view {row.view!r} has no batch view: {way}")
    rp = tables.replays.c
    asked = select(rp.id).where(rp.stream == stream, rp.finished.is_(None))
    for number_ in connection.scalars(asked):
        yield Hold(0, f"replay {number_} of its rejects, which is not finished")
    held = (le.name == literal("build/") + b.view) & (le.token == b.token) & (le.expires > now)
    at_work = select(b.id, b.view).join(tables.leases, held)
    at_work = at_work.where(b.stream == stream, b.state.in_(tables.BUILDS_AT_WORK))
    for row in connection.execute(at_work):
        yield Hold(0, f"build {row.id} of view {row.view!r}, which is at work")


def _versions(connection: Connection, stream: str) -> tuple[KeptVersion, ...]:
    """The live versions with a publication, each with its newest one."""
    p, v, f = tables.publications.c, tables.versions.c, tables.files.c
    newest = select(func.max(p.id)).where(p.stream == stream, p.dropped.is_(None))
    newest = newest.group_by(p.view, p.version)
    query: Select[Any] = select(tables.publications, v.since_epoch).join(
        tables.versions, (v.view == p.view) & (v.id == p.version)
    )
    query = query.where(p.id.in_(newest), v.retired_epoch.is_(None))
    found, kept_from = [], bounds.recorded(connection)
    for row in connection.execute(query.order_by(p.view, p.id)).all():
        batch = select(tables.files).where(f.build == row.id, f.kind == BATCH).order_by(f.id)
        kept = KeptVersion(
            view=row.view,
            version=row.version,
            since=row.since_epoch or 1,
            publication=row.id,
            cut=row.cut,
            base=bases(connection, row.stream, row.version),
            batch=tuple(data_file(each) for each in connection.execute(batch)),
            bounds=kept_from.get(row.view, ()),
        )
        found.append(kept)
    return tuple(found)
