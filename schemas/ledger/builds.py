"""Builds: a batch view from its beginning to its publication, step by step, each one transaction.

    begin -> building -> finish -> built -> prove -> equal | repair -> publish -> published
                |                             '-> refused
                '-> failed; abandoned when another build of the view begins

All steps are taken under the lease `build/<view>`, whose token the build keeps. Between two steps,
which may be two processes, the lease is parked: nobody's process holds it, only time ends it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Connection, Row, func, insert, select, update

from schemas.bound import Bound, latest
from schemas.errors import (
    BuildNotReady,
    BuildUnknown,
    CutGoesBack,
    LeaseHeld,
    NothingSealed,
    NothingToBuild,
    PublicationMoved,
    PublicationUnknown,
    RetentionMoved,
    StaleToken,
    VersionSuspended,
    ViewUnknown,
)
from schemas.ledger import bounds, files, leases, retention, tables, versions
from schemas.ledger.connect import Ledger, number
from schemas.ledger.declared import Declared, declared_in
from schemas.ledger.epochs import position_of
from schemas.ledger.files import BATCH, FINISHED, MASTER, RUN, DataFile, data_file
from schemas.ledger.leases import Holder, Lease
from schemas.ledger.master import must_be_whole
from schemas.ledger.sealing import covered
from schemas.position import Position, Range

Verdict = Literal["equal", "repair", "refused"]
AT_WORK = tables.BUILDS_AT_WORK
PROVEN = ("equal", "repair")


@dataclass(frozen=True)
class Build:
    """A build as the ledger has it."""

    id: int
    view: str
    version: str
    stream: str
    base: int | None  # the publication that it goes on from; None if it is the version's first
    base_cut: int  # 0 without a base
    cut: int  # the last epoch in it, a sealed boundary
    full: bool  # it folds the whole master, not only what follows the base
    token: int
    state: str
    files_hash: str | None
    message: str | None
    retained: int = 0  # the last epoch that the master did not have any more when it began
    bound: Bound | None = None  # from when on it keeps groups; None: all that were kept before


@dataclass(frozen=True)
class BuildInputs:
    """What a build reads, and what its proof compares it with; all as of one state."""

    master: tuple[DataFile, ...]  # to fold: of (base_cut, cut], or of (retained, cut]
    base: tuple[DataFile, ...]  # to merge with: the base's batch files, or what retention left
    whole_master: tuple[DataFile, ...]  # of (retained, cut]
    retained: tuple[DataFile, ...]  # partials of what retention removed from the master; or none
    base_batch: tuple[DataFile, ...]  # the base's batch files, whatever is folded
    runs: tuple[DataFile, ...]  # of the version, of (base_cut, cut]
    runs_whole: bool  # they are of every epoch of it
    bounds: tuple[Bound, ...]  # from when on its view keeps groups: neither side has others
    ranges: tuple[Range, ...]  # the offsets that (0, cut] covers, by partition
    position: Position  # after the cut
    declared: tuple[Declared, ...] = ()  # which version of the stream accepted which epochs


@dataclass(frozen=True)
class PublicationRow:
    """A publication; it is called by the number of its build."""

    id: int
    view: str
    version: str
    stream: str
    cut: int
    kind: str  # build, repair
    published: datetime
    replaced: datetime | None  # None while it is served
    dropped: datetime | None  # None while a rollback may go back to it

    @property
    def served(self) -> bool:
        return self.replaced is None

    @property
    def kept(self) -> bool:
        return self.dropped is None


def build_lease(view: str) -> str:
    """The lease under which a view's builds work."""
    return f"build/{view}"


def begin(
    ledger: Ledger,
    view: str,
    lease: Lease,
    now: datetime,
    *,
    full: bool = False,
    until: int | None = None,
    bound: Bound | None = None,
) -> Build:
    """Begin a build up to the newest sealed boundary (at most `until`); builds of the view that
    were not finished are given up.

    Raises `StaleToken`, `ViewUnknown`, `VersionSuspended`, `NothingSealed`, `CutGoesBack`, and
    `NothingToBuild` where the served publication has that cut and `full` is not asked for.
    """
    b = tables.builds.c
    with ledger.write() as connection:
        leases.check(connection, lease.name, lease.token)
        row = _view(connection, view)
        wanted = row.wanted or row.version
        known = _version(connection, view, wanted)
        if known.suspended_epoch is not None:
            told = known.suspended_message or ""
            raise VersionSuspended(view, wanted, known.suspended_epoch, told)
        served = None if row.publication is None else _publication(connection, row.publication)
        base = served if served is not None and served.version == wanted else None
        cut = _boundary(connection, view, known, until)
        if served is not None and cut < served.cut:
            raise CutGoesBack(view, served.cut, cut)
        if base is not None and cut == base.cut and not full:
            raise NothingToBuild(view, cut)
        _give_up(connection, view, now)
        values = {
            "view": view,
            "version": wanted,
            "stream": known.stream,
            "base": None if base is None else base.id,
            "base_cut": 0 if base is None else base.cut,
            "served": row.publication,
            "cut": cut,
            "is_full": full,
            "token": lease.token,
            "retained": retention.boundary(connection, known.stream),
            "bound_key": None if bound is None else bound.key,
            "bound": None if bound is None else bound.value,
            "state": "building",
            "begun": now,
            "changed": now,
            "added_state": number(connection),
        }
        made = connection.execute(insert(tables.builds).values(values).returning(b.id)).scalar_one()
        return _build(connection, int(made))


def build(ledger: Ledger, build_id: int) -> Build:
    """A build as it is now; `BuildUnknown`."""
    with ledger.read() as connection:
        return _build(connection, build_id)


def builds_at_work(ledger: Ledger, view: str) -> list[Build]:
    """The builds of a view that may still write or publish; at most one, unless one was killed."""
    b = tables.builds.c
    query = select(tables.builds).where(b.view == view, b.state.in_(AT_WORK)).order_by(b.id)
    with ledger.read() as connection:
        return [_of(row) for row in connection.execute(query)]


def inputs(ledger: Ledger, build_id: int) -> BuildInputs:
    """What a build reads. Raises `MasterIncomplete` where the master lacks epochs of it, and
    `RetentionMoved` where they were removed since it began."""
    with ledger.read() as connection:
        made = _build(connection, build_id)
        _not_retained_since(connection, made)
        s, f = tables.sealed.c, tables.files.c
        master = files.counting(connection, made.stream, MASTER)
        whole = _between(master, made.retained, made.cut)
        must_be_whole(made.stream, whole, made.retained, made.cut)
        retained = retention.bases(connection, made.stream, made.version)
        own = () if made.bound is None else (made.bound,)
        kept = latest((*bounds.of(connection, made.view), *own))
        later = tuple(each for each in whole if each.first > made.base_cut)
        batch: tuple[DataFile, ...] = ()
        if made.base is not None:
            query = select(tables.files).where(f.build == made.base, f.kind == BATCH)
            rows = connection.execute(query.order_by(f.id))
            batch = tuple(data_file(row) for row in rows)
        ranges = select(tables.sealed).where(s.stream == made.stream, s.until_epoch <= made.cut)
        sealed = connection.execute(ranges.order_by(s.until_epoch)).all()
        accepted_by = declared_in(connection, made.stream)
        carrying = files.counting(connection, made.stream, RUN, made.version)
        runs = _between(carrying, made.base_cut, made.cut)
    carried = {(each.first, each.last) for each in runs}
    return BuildInputs(
        master=whole if made.full else later,
        base=retained if made.full or made.base is None else batch,
        whole_master=whole,
        retained=retained,
        bounds=kept,
        base_batch=batch,
        runs=runs,
        runs_whole=_covers(carried, made.base_cut, made.cut),
        ranges=tuple(covered(sealed).values()),
        position=position_of(sealed[-1]),
        declared=accepted_by,
    )


def finish(
    ledger: Ledger, build_id: int, token: int, made: Sequence[DataFile], now: datetime
) -> Build:
    """Name the files of a build, all of them. Raises `StaleToken`, `BuildNotReady`."""
    with ledger.write() as connection:
        found = _step(connection, build_id, token, ("building",))
        files.add(connection, found.stream, token, made, build=build_id)
        listed = "\n".join(sorted(f"{each.file.path} {each.file.sha256}" for each in made))
        digest = hashlib.sha256(listed.encode()).hexdigest()
        _change(connection, build_id, now, state="built", files_hash=digest)
        return _build(connection, build_id)


def position_at(ledger: Ledger, stream: str, cut: int) -> Position:
    """The position after a kept cut, which is a sealed boundary as long as it is kept."""
    s = tables.sealed.c
    query = select(tables.sealed).where(s.stream == stream, s.until_epoch == cut)
    with ledger.read() as connection:
        return position_of(connection.execute(query).one())


def build_files(ledger: Ledger, build_id: int) -> tuple[DataFile, ...]:
    """The files of a build, of either kind, in the order in which they were named."""
    f = tables.files.c
    query = select(tables.files).where(f.build == build_id).order_by(f.id)
    with ledger.read() as connection:
        return tuple(data_file(row) for row in connection.execute(query))


def prove(
    ledger: Ledger,
    build_id: int,
    token: int,
    verdict: Verdict,
    evidence: Mapping[str, Any],
    now: datetime,
    message: str | None = None,
) -> Build:
    """Record what the comparison of a build came to. Raises `StaleToken`, `BuildNotReady`."""
    p = tables.proofs.c
    with ledger.write() as connection:
        found = _step(connection, build_id, token, ("built", *PROVEN))
        values = {
            "files_hash": found.files_hash,
            "verdict": verdict,
            "evidence": json.dumps(evidence, sort_keys=True),
            "instant": now,
            "added_state": number(connection),
        }
        known = update(tables.proofs).where(p.build == build_id)
        if not connection.execute(known.values(values)).rowcount:
            connection.execute(insert(tables.proofs).values(build=build_id, **values))
        _change(connection, build_id, now, state=verdict, message=message)
        return _build(connection, build_id)


def publish(
    ledger: Ledger, build_id: int, token: int, now: datetime, rollback_window: timedelta
) -> PublicationRow:
    """Make a proven build the one that is served; a repeat gives the publication of the first time.

    Publications that were replaced longer than `rollback_window` ago are dropped, with the runs
    and versions that only they needed. Raises `StaleToken`, `BuildNotReady`, `PublicationMoved`
    if what is served changed since the build began, `RetentionMoved` if the master did, and
    `VersionSuspended` for a new version that cannot go on as the one before can.
    """
    p, b = tables.publications.c, tables.builds.c
    with ledger.write() as connection:
        found = _build(connection, build_id)
        if found.state == "published":
            return _publication(connection, build_id)
        _step(connection, build_id, token, PROVEN)
        proven = select(tables.proofs.c.files_hash).where(tables.proofs.c.build == build_id)
        if connection.scalar(proven) != found.files_hash:
            raise BuildNotReady(build_id, found.view, "proven for its files", "proven for others")
        row = _view(connection, found.view)
        began_with = connection.scalar(select(b.served).where(b.id == build_id))
        if row.publication != began_with:
            raise PublicationMoved(build_id, found.view, began_with, row.publication)
        _not_retained_since(connection, found)
        if (row.wanted or row.version) != found.version:
            expected = "of the version that is wanted"
            raise BuildNotReady(build_id, found.view, expected, f"of version {found.version}")
        version = _version(connection, found.view, found.version)
        if found.version != row.version and version.suspended_epoch is not None:
            told = version.suspended_message or ""
            raise VersionSuspended(found.view, found.version, version.suspended_epoch, told)
        _tell_since(connection, found, version.since_epoch)
        if found.bound is not None:
            bounds.move(connection, found.view, (found.bound,), now)
        kind = "repair" if found.state == "repair" else "build"
        connection.execute(
            insert(tables.publications).values(
                id=build_id,
                view=found.view,
                version=found.version,
                stream=found.stream,
                cut=found.cut,
                kind=kind,
                published=now,
                added_state=number(connection),
            )
        )
        _change(connection, build_id, now, state="published")
        _point(connection, row, build_id, found.version, kind, now)
        late = (p.view == found.view) & (p.replaced <= now - rollback_window)
        drop = connection.scalars(select(p.id).where(late, p.dropped.is_(None))).all()
        _drop(connection, found.view, drop, now)
        return _publication(connection, build_id)


def fail(ledger: Ledger, build_id: int, token: int, message: str, now: datetime) -> None:
    """Record why a build ended without a proof. Raises `StaleToken`."""
    with ledger.write() as connection:
        _step(connection, build_id, token, AT_WORK)
        _change(connection, build_id, now, state="failed", message=message)


def publications(ledger: Ledger, view: str) -> list[PublicationRow]:
    """Every publication of a view, the newest first. Raises `ViewUnknown`."""
    p = tables.publications.c
    with ledger.read() as connection:
        _view(connection, view)
        query = select(tables.publications).where(p.view == view).order_by(p.id.desc())
        return [published_row(row) for row in connection.execute(query)]


def rollback(ledger: Ledger, view: str, to: int | None, now: datetime) -> PublicationRow:
    """Serve an older publication again, by default the last one before the served one; no build
    that is at work can publish any more.

    Raises `ViewUnknown`, and `PublicationUnknown` for one that is not kept or is served already.
    """
    p = tables.publications.c
    with ledger.write() as connection:
        row = _view(connection, view)
        query = select(tables.publications).where(p.view == view, p.dropped.is_(None))
        kept = [published_row(each) for each in connection.execute(query.order_by(p.id.desc()))]
        others = [each for each in kept if each.id != row.publication]
        earlier = [each for each in others if row.publication and each.id < row.publication]
        chosen = earlier[:1] if to is None else [each for each in others if each.id == to]
        if not chosen:
            raise PublicationUnknown(view, to, [each.id for each in others])
        target = chosen[0]
        _raise_token(connection, build_lease(view))
        _give_up(connection, view, now)
        _point(connection, row, target.id, target.version, "rollback", now)
        connection.execute(
            update(tables.publications).where(p.id == target.id).values(replaced=None)
        )
        versions.retire(connection, view, now)
        return _publication(connection, target.id)


def park(ledger: Ledger, lease: Lease, build_id: int, now: datetime, idle: timedelta) -> None:
    """Keep a build's lease for the process of its next step, for `idle` at most."""
    held = leases.row_of(Holder(f"build {build_id}, between two steps", 0, 0.0), now + idle)
    with ledger.write() as connection:
        leases.check(connection, lease.name, lease.token)
        statement = update(tables.leases).where(tables.leases.c.name == lease.name)
        connection.execute(statement.values(held))


def resume(
    ledger: Ledger,
    build_id: int,
    holder: Holder,
    now: datetime,
    ttl: timedelta,
    alive: Callable[[Holder], bool],
) -> Lease:
    """Take a build's lease for its next step, under the token that the build has.

    Raises `StaleToken` if the lease was taken by another build, and `LeaseHeld` while another
    process works on this one.
    """
    with ledger.write() as connection:
        found = _build(connection, build_id)
        name = build_lease(found.view)
        current = leases.current(connection, name)
        if current.token != found.token:
            raise StaleToken(name, found.token, current.token)
        there = current.holder
        held = there is not None and there != holder and there.pid and current.expires > now
        if held and there is not None and (there.host != holder.host or alive(there)):
            until = current.expires.isoformat()
            raise LeaseHeld(name, there.host, there.pid, current.token, until)
        statement = update(tables.leases).where(tables.leases.c.name == name)
        connection.execute(statement.values(leases.row_of(holder, now + ttl)))
        return Lease(name, holder, found.token, now + ttl)


def _view(connection: Connection, view: str) -> Row[tuple[object, ...]]:
    v = tables.views.c
    row = connection.execute(select(tables.views).where(v.name == view)).first()
    if row is None:
        raise ViewUnknown(view, connection.scalars(select(v.name)).all())
    return row


def _version(connection: Connection, view: str, version: str) -> Row[tuple[object, ...]]:
    v = tables.versions.c
    return connection.execute(select(tables.versions).where(v.view == view, v.id == version)).one()


def _boundary(
    connection: Connection, view: str, version: Row[tuple[object, ...]], until: int | None
) -> int:
    """The newest sealed boundary behind which the runs of the version are whole."""
    s = tables.sealed.c
    query = select(func.max(s.until_epoch)).where(s.stream == version.stream)
    if until is not None:
        query = query.where(s.until_epoch <= until)
    cut = int(connection.scalar(query) or 0)
    first = version.first_epoch
    # an epoch that comes carries it; the last one without it must be in the batch view
    least = (versions.last_epoch(connection, version.stream) + 1 if first is None else first) - 1
    if cut == 0 or cut < least:
        raise NothingSealed(view, least)
    return cut


def _between(found: Sequence[DataFile], after: int, until: int) -> tuple[DataFile, ...]:
    return tuple(each for each in found if each.first > after and each.last <= until)


def _not_retained_since(connection: Connection, made: Build) -> None:
    """Invariant 3: a build is published over the master that it was begun with."""
    found = retention.boundary(connection, made.stream)
    if found != made.retained:
        raise RetentionMoved(made.id, made.view, made.retained, found)


def _tell_since(connection: Connection, made: Build, known: int | None) -> None:
    """Record the first epoch that a version counts, where those before were removed and it has no
    base of them."""
    v = tables.versions.c
    since = retention.begins_with_hole(connection, made.stream, made.version)
    if since is not None and known is None:
        this = (v.view == made.view) & (v.id == made.version)
        connection.execute(update(tables.versions).where(this).values(since_epoch=since))


def _covers(spans: set[tuple[int, int]], after: int, until: int) -> bool:
    """Whether spans of epochs follow each other from `after` to `until`."""
    reached = after
    for first, last in sorted(spans):
        if first != reached + 1:
            return False
        reached = last
    return reached == until


def _step(connection: Connection, build_id: int, token: int, allowed: Sequence[str]) -> Build:
    """A build that is at work under this token and in one of these states."""
    found = _build(connection, build_id)
    leases.check(connection, build_lease(found.view), token)
    if found.token != token:
        raise StaleToken(build_lease(found.view), found.token, token)
    if found.state not in allowed:
        raise BuildNotReady(build_id, found.view, " or ".join(allowed), found.state)
    return found


def _change(connection: Connection, build_id: int, now: datetime, **values: str | None) -> None:
    statement = update(tables.builds).where(tables.builds.c.id == build_id)
    connection.execute(statement.values(changed=now, **values))


def _give_up(connection: Connection, view: str, now: datetime) -> None:
    """Builds of a view that will not go on: the files that they named stop counting."""
    b, f = tables.builds.c, tables.files.c
    these = (b.view == view) & (b.state != "published")
    left = select(b.id).where(these)
    at_work = update(tables.builds).where(b.view == view, b.state.in_(AT_WORK))
    connection.execute(at_work.values(state="abandoned", changed=now))
    held = select(f.id).where(f.build.in_(left), f.removed_state.is_(None))
    files.remove(connection, connection.scalars(held).all(), now)


def _point(
    connection: Connection,
    row: Row[tuple[object, ...]],
    to: int,
    version: str,
    kind: str,
    now: datetime,
) -> None:
    """Move the pointer of a view; the version that answers is that of the publication. What was
    built aside goes on being, unless this is it or this goes back to another version."""
    p, v = tables.publications.c, tables.views.c
    if row.publication is not None:
        before = update(tables.publications).where(p.id == row.publication)
        connection.execute(before.values(replaced=now))
    wanted = row.wanted if version == row.version else None
    values = {"publication": to, "version": version, "wanted": wanted}
    connection.execute(update(tables.views).where(v.name == row.name).values(values))
    connection.execute(
        insert(tables.moves).values(
            view=row.name,
            before=row.publication,
            after=to,
            kind=kind,
            instant=now,
            added_state=number(connection),
        )
    )


def _drop(connection: Connection, view: str, ids: Sequence[int], now: datetime) -> None:
    """Publications that nothing goes back to any more, and what only they needed: their files, the
    runs up to the oldest cut that is left, versions without a publication."""
    p, f = tables.publications.c, tables.files.c
    dropped = update(tables.publications).where(p.id.in_(ids))
    connection.execute(dropped.values(dropped=now))
    written = (f.build.in_(ids)) & f.kind.in_((BATCH, FINISHED)) & f.removed_state.is_(None)
    files.remove(connection, connection.scalars(select(f.id).where(written)).all(), now)
    kept = select(p.version, func.min(p.cut)).where(p.view == view, p.dropped.is_(None))
    for version, cut in connection.execute(kept.group_by(p.version)).all():
        below = (f.kind == RUN) & (f.version == version) & (f.until_epoch <= cut)
        query = select(f.id).where(below, f.removed_state.is_(None))
        files.remove(connection, connection.scalars(query).all(), now)
    versions.retire(connection, view, now)


def _raise_token(connection: Connection, name: str) -> None:
    """Whoever holds the lease holds it no longer."""
    le = tables.leases.c
    nobody = {"host": None, "pid": None, "started": None, "expires": None}
    this = update(tables.leases).where(le.name == name)
    connection.execute(this.values(token=le.token + 1, **nobody))


def _build(connection: Connection, build_id: int) -> Build:
    query = select(tables.builds).where(tables.builds.c.id == build_id)
    row = connection.execute(query).first()
    if row is None:
        raise BuildUnknown(build_id)
    return _of(row)


def _of(row: Row[tuple[object, ...]]) -> Build:
    return Build(
        id=row.id,
        view=row.view,
        version=row.version,
        stream=row.stream,
        base=row.base,
        base_cut=row.base_cut,
        cut=row.cut,
        full=row.is_full,
        token=row.token,
        state=row.state,
        files_hash=row.files_hash,
        message=row.message,
        retained=row.retained or 0,
        bound=None if row.bound_key is None else Bound(row.bound_key, row.bound),
    )


def _publication(connection: Connection, publication: int) -> PublicationRow:
    p = tables.publications.c
    query = select(tables.publications).where(p.id == publication)
    return published_row(connection.execute(query).one())


def published_row(row: Row[tuple[object, ...]]) -> PublicationRow:
    """A row of `publications`."""
    return PublicationRow(
        id=row.id,
        view=row.view,
        version=row.version,
        stream=row.stream,
        cut=row.cut,
        kind=row.kind,
        published=row.published,
        replaced=row.replaced,
        dropped=row.dropped,
    )
