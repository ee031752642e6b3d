"""What is registered: streams, views, their versions, and the references that these are about.

A view has one version that answers. Where its stream has epochs, another one that is registered is
folded from the next epoch on and built aside; its first publication makes it the one that answers.
A version that nothing needs any more retires: epochs no longer carry it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection, Row, func, insert, select, update

from schemas.bound import Bound
from schemas.errors import (
    EpochsMoved,
    NameTaken,
    StreamUnknown,
    TopicRecreated,
    ViewMoved,
    ViewUnknown,
)
from schemas.ledger import bounds, files, tables
from schemas.ledger.connect import Ledger, number
from schemas.ledger.instant import aware
from schemas.position import Position


@dataclass(frozen=True)
class ReferenceRow:
    """A reference pinned by content; its file lies at `references/<sha256>`."""

    name: str
    sha256: str
    definition: str
    bytes: int | None = None  # the size of the file; None where it was not told

    @property
    def file(self) -> str:
        """Where its content lies, relative to the data root."""
        return f"references/{self.sha256}"


@dataclass(frozen=True)
class StreamRow:
    """A stream and the version that accepts its events."""

    name: str
    topic: str
    version: str
    definition: str
    # what follows is not set by `register`
    topic_id: str | None = None  # None until the topic was seen
    stopped: str | None = None  # why it cannot go on
    lost: tuple[tuple[int, int, int], ...] = ()  # partition, start, until: what it goes on without
    declared: tuple[tuple[str, str], ...] = ()  # every version there was, and its definition

    def lost_below(self, position: Position) -> list[list[int]]:
        """What of `lost` an answer up to a position misses."""
        at = position.offsets
        return [list(each) for each in self.lost if each[1] < at.get(each[0], 0)]


@dataclass(frozen=True)
class ViewRow:
    """A view and a version of it: the one to register, the one that answers, or one to fold.
    `register` sets nothing after `references`."""

    name: str
    version: str
    stream: str
    definition: str
    references: tuple[ReferenceRow, ...] = ()
    first_epoch: int | None = None  # None until an epoch carries the version
    suspended_epoch: int | None = None
    suspended_message: str | None = None
    since_epoch: int | None = None  # the first epoch it counts; None: it counts from the first on
    stream_version: str | None = None  # by whose declaration it reads events; None: that of now
    # of the version that answers:
    publication: int | None = None  # whose batch view is served; None while speed holds everything
    cut: int = 0  # batch owns the epochs up to it
    wanted: str | None = None  # the version that is built aside to take its place
    bounds: tuple[Bound, ...] = ()  # from when on the view keeps its groups; none: all of them

    def being_built(self, epoch: int) -> bool:
        """Whether epochs up to the stream's `epoch` do not carry the version and no publication has
        them, so that it cannot answer yet."""
        nothing_missed = self.first_epoch == 1 or (self.first_epoch is None and epoch == 0)
        return self.publication is None and not nothing_missed


def register(
    ledger: Ledger,
    streams: Sequence[StreamRow],
    views: Sequence[ViewRow],
    now: datetime,
    expected_epochs: Mapping[str, int] | None = None,
) -> int:
    """Make these the declarations that count, in one transaction; gives the new state number.

    What is there already stays as it is; what is not named stays too. `expected_epochs` is the last
    epoch of each stream (0 where it is not named) that the caller decided on. Raises `EpochsMoved`
    where a stream that something changes about had none and has some now, `NameTaken` for a name
    that is registered in other case, `StreamUnknown` for a view over no stream, `ViewMoved` for
    one that counts epochs of another.
    """
    aware(now)
    with ledger.write() as connection:
        if expected_epochs is not None:
            for name in _changed(connection, streams, views):
                expected, found = expected_epochs.get(name, 0), last_epoch(connection, name)
                if expected == 0 < found:
                    raise EpochsMoved(name, expected, found)
        for stream in streams:
            _register_stream(connection, stream, now)
        for view in views:
            _register_view(connection, view, now)
        return number(connection)


def streams(ledger: Ledger) -> list[StreamRow]:
    """Every stream, by name."""
    lo, sv = tables.losses.c, tables.stream_versions.c
    with ledger.read() as connection:
        rows = connection.execute(_STREAMS).all()
        losses = select(tables.losses).order_by(lo.stream, lo.partition, lo.start)
        lost: dict[str, list[tuple[int, int, int]]] = {}
        for each in connection.execute(losses):
            lost.setdefault(each.stream, []).append((each.partition, each.start, each.until))
        declared: dict[str, list[tuple[str, str]]] = {}
        for each in connection.execute(select(tables.stream_versions).order_by(sv.registered)):
            declared.setdefault(each.stream, []).append((each.id, each.definition))
    return [
        StreamRow(
            name=row.name,
            topic=row.topic,
            version=row.version,
            definition=row.definition,
            topic_id=row.topic_id,
            stopped=None if row.stopped is None else json.loads(row.stopped)["message"],
            lost=tuple(lost.get(row.name, ())),
            declared=tuple(declared.get(row.name, ())),
        )
        for row in rows
    ]


def views(ledger: Ledger, stream: str | None = None) -> list[ViewRow]:
    """Every view, or every one over a stream, by name, with the version that answers."""
    with ledger.read() as connection:
        return served_views(connection, stream)


def served_views(connection: Connection, stream: str | None = None) -> list[ViewRow]:
    """`views` inside another transaction."""
    v, w, p = tables.versions.c, tables.views.c, tables.publications.c
    served = tables.views.join(tables.versions).outerjoin(
        tables.publications, w.publication == p.id
    )
    query = select(tables.versions, w.publication, w.wanted, p.cut).select_from(served)
    if stream is not None:
        query = query.where(v.stream == stream)
    rows = connection.execute(query.order_by(v.view)).all()
    references = _references(connection)
    kept = bounds.recorded(connection)
    return [
        replace(
            _view(row, references.get((row.view, row.id), ())),
            bounds=kept.get(row.view, ()),
            publication=row.publication,
            cut=row.cut or 0,
            wanted=row.wanted,
        )
        for row in rows
    ]


def folding(ledger: Ledger, stream: str) -> list[ViewRow]:
    """Every version that epochs of a stream carry, suspended ones too: those that answer, those
    that are built aside, and those that a rollback may go back to."""
    v = tables.versions.c
    query = select(tables.versions).where(v.stream == stream, v.retired_epoch.is_(None))
    with ledger.read() as connection:
        rows = connection.execute(query.order_by(v.view, v.id)).all()
        references = _references(connection)
    return [_view(row, references.get((row.view, row.id), ())) for row in rows]


def version(ledger: Ledger, view: str, version_id: str) -> ViewRow:
    """A version, retired or not; `ViewUnknown` where there is none."""
    v = tables.versions.c
    with ledger.read() as connection:
        query = select(tables.versions).where(v.view == view, v.id == version_id)
        row = connection.execute(query).first()
        if row is None:
            raise ViewUnknown(view, connection.scalars(select(tables.views.c.name)).all())
        references = _references(connection)
    return _view(row, references.get((row.view, row.id), ()))


def set_topic(ledger: Ledger, stream: str, topic_id: str) -> None:
    """Record the topic's id at first sight; `TopicRecreated` if another one is recorded."""
    with ledger.write() as connection:
        same_topic(connection, stream, topic_id)


def same_topic(connection: Connection, stream: str, topic_id: str) -> None:
    """`set_topic` inside another transaction."""
    s = tables.streams.c
    row = stream_row(connection, stream)
    if row.topic_id is None:
        statement = update(tables.streams).where(s.name == stream)
        connection.execute(statement.values(topic_id=topic_id))
    elif row.topic_id != topic_id:
        raise TopicRecreated(stream, row.topic, row.topic_id, topic_id)


def stream_row(connection: Connection, stream: str) -> Row[tuple[object, ...]]:
    """A row of `streams`, or `StreamUnknown`."""
    s = tables.streams.c
    row = connection.execute(select(tables.streams).where(s.name == stream)).first()
    if row is None:
        raise StreamUnknown(stream, connection.scalars(select(s.name)).all())
    return row


def to_fold(connection: Connection, stream: str) -> frozenset[str]:
    """The version ids that the next epoch of a stream has to carry: not suspended, not retired."""
    v = tables.versions.c
    query = select(v.id).where(v.stream == stream, v.retired_epoch.is_(None))
    return frozenset(connection.scalars(query.where(v.suspended_epoch.is_(None))))


_STREAMS = (
    select(tables.streams, tables.stream_versions.c.definition)
    .join(
        tables.stream_versions,
        (tables.stream_versions.c.stream == tables.streams.c.name)
        & (tables.stream_versions.c.id == tables.streams.c.version),
    )
    .order_by(tables.streams.c.name)
)


def _changed(
    connection: Connection, streams: Sequence[StreamRow], views: Sequence[ViewRow]
) -> list[str]:
    """The names of the streams that would accept or fold otherwise than they do now."""
    s, v = tables.streams.c, tables.views.c
    accepted = {row.name: row.version for row in connection.execute(select(s.name, s.version))}
    wanted = func.coalesce(v.wanted, v.version).label("wanted")
    served = {row.name: row.wanted for row in connection.execute(select(v.name, wanted))}
    changed = [each.name for each in streams if accepted.get(each.name) != each.version]
    changed += [each.stream for each in views if served.get(each.name) != each.version]
    return list(dict.fromkeys(changed))


def _same_case(kind: str, name: str, registered: Iterable[str]) -> None:
    """Names that differ by case alone are one name, in statements and so here."""
    for each in registered:
        if each.lower() == name.lower() and each != name:
            raise NameTaken(kind, name, each)


def _register_stream(connection: Connection, stream: StreamRow, now: datetime) -> None:
    s, v = tables.streams.c, tables.stream_versions.c
    _same_case("stream", stream.name, connection.scalars(select(s.name)))
    values: dict[str, str | None] = {"topic": stream.topic, "version": stream.version}
    this = s.name == stream.name
    known_topic = connection.scalar(select(s.topic).where(this))
    if known_topic is None:
        connection.execute(insert(tables.streams).values(name=stream.name, **values))
    else:
        if known_topic != stream.topic and last_epoch(connection, stream.name) == 0:
            values["topic_id"] = None  # it is the id of a topic of which nothing was counted
        connection.execute(update(tables.streams).where(this).values(values))
    known = select(v.id).where(v.stream == stream.name, v.id == stream.version)
    if connection.execute(known).first() is None:
        connection.execute(
            insert(tables.stream_versions).values(
                stream=stream.name,
                id=stream.version,
                definition=stream.definition,
                registered=now,
            )
        )


def _register_view(connection: Connection, view: ViewRow, now: datetime) -> None:
    accepts = str(stream_row(connection, view.stream).version)
    v = tables.versions.c
    this = (v.view == view.name) & (v.id == view.version)
    epoch = last_epoch(connection, view.stream)
    _stays(connection, view)
    known = connection.execute(select(tables.versions).where(this)).first()
    if known is None:
        _add_version(connection, view, accepts, now)
    elif known.retired_epoch is not None:
        # its runs are gone, and epochs may have come without it
        again = {"retired_epoch": None, "first_epoch": None, "since_epoch": None}
        connection.execute(update(tables.versions).where(this).values(again))
    _want(connection, view, epoch)
    retire(connection, view.name, now)


def _stays(connection: Connection, view: ViewRow) -> None:
    """Numbers of epochs, cuts and publications are those of one stream."""
    v = tables.versions.c
    for stream in connection.scalars(select(v.stream).where(v.view == view.name).distinct()):
        if stream != view.stream and last_epoch(connection, stream):
            raise ViewMoved(view.name, stream, view.stream)


def retire(connection: Connection, view: str, now: datetime) -> None:
    """Give up the versions of a view that neither answer nor are built nor can be gone back to,
    with their runs and bases. Inside another transaction."""
    v, w, p, f = tables.versions.c, tables.views.c, tables.publications.c, tables.files.c
    row = connection.execute(select(tables.views).where(w.name == view)).one()
    kept = select(p.version).where(p.view == view, p.dropped.is_(None))
    needed = {row.version, row.wanted, *connection.scalars(kept)}
    query = select(v.id, v.stream).where(v.view == view, v.retired_epoch.is_(None))
    gone = [each for each in connection.execute(query) if each.id not in needed]
    for each in gone:
        values = {"retired_epoch": last_epoch(connection, each.stream)}
        this = (v.view == view) & (v.id == each.id)
        connection.execute(update(tables.versions).where(this).values(values))
        own = f.kind.in_((files.RUN, files.BASE)) & (f.version == each.id)
        held = select(f.id).where(f.stream == each.stream, own, f.removed_state.is_(None))
        files.remove(connection, connection.scalars(held).all(), now)


def _add_version(connection: Connection, view: ViewRow, stream_version: str, now: datetime) -> None:
    connection.execute(
        insert(tables.versions).values(
            view=view.name,
            id=view.version,
            stream=view.stream,
            definition=view.definition,
            registered=now,
            stream_version=stream_version,
        )
    )
    for reference in dict.fromkeys(view.references):
        connection.execute(
            insert(tables.version_references).values(
                view=view.name,
                version=view.version,
                reference=_reference_id(connection, reference),
            )
        )


def _reference_id(connection: Connection, reference: ReferenceRow) -> int:
    r = tables.references_.c
    same = (r.name == reference.name) & (r.sha256 == reference.sha256)
    query = select(r.id).where(same, r.definition == reference.definition)
    found = connection.scalar(query)
    if found is not None:
        return int(found)
    values = {
        "name": reference.name,
        "sha256": reference.sha256,
        "definition": reference.definition,
        "file": reference.file,
        "bytes": reference.bytes,
    }
    insertion = insert(tables.references_).values(values).returning(r.id)
    return int(connection.execute(insertion).scalar_one())


def _want(connection: Connection, view: ViewRow, epoch: int) -> None:
    """On a stream without epochs the version answers at once; else it is built aside, unless there
    is none yet that could answer meanwhile."""
    v = tables.views.c
    _same_case("view", view.name, connection.scalars(select(v.name)))
    this = v.name == view.name
    row = connection.execute(select(tables.views).where(this)).first()
    if row is None:
        statement = insert(tables.views).values(name=view.name, version=view.version)
        connection.execute(statement)
        return
    if row.version == view.version:
        values: dict[str, str | None] = {"wanted": None}
    elif epoch == 0 or _never_answered(connection, view.name, row.version):
        values = {"version": view.version, "wanted": None}
    else:
        values = {"wanted": view.version}
    connection.execute(update(tables.views).where(this).values(values))


def _never_answered(connection: Connection, view: str, version_id: str) -> bool:
    """Whether the version of a view is itself one that is still built aside."""
    v, w = tables.versions.c, tables.views.c
    served = connection.scalar(select(w.publication).where(w.name == view))
    query = select(v.first_epoch).where(v.view == view, v.id == version_id)
    return served is None and connection.scalar(query) != 1


def last_epoch(connection: Connection, stream: str) -> int:
    """The number of a stream's last epoch, sealed or not; 0 before the first."""
    e, s = tables.epochs.c, tables.sealed.c
    last = connection.scalar(select(func.max(e.epoch)).where(e.stream == stream))
    if last is None:
        last = connection.scalar(select(func.max(s.until_epoch)).where(s.stream == stream))
    return int(last or 0)


def _references(connection: Connection) -> dict[tuple[str, str], tuple[ReferenceRow, ...]]:
    link, r = tables.version_references.c, tables.references_.c
    query = select(link.view, link.version, tables.references_).join(tables.references_)
    rows = connection.execute(query.order_by(r.name)).all()
    return _grouped(
        ((row.view, row.version), ReferenceRow(row.name, row.sha256, row.definition, row.bytes))
        for row in rows
    )


def _grouped(
    pairs: Iterable[tuple[tuple[str, str], ReferenceRow]],
) -> dict[tuple[str, str], tuple[ReferenceRow, ...]]:
    groups: dict[tuple[str, str], tuple[ReferenceRow, ...]] = {}
    for key, reference in pairs:
        groups[key] = (*groups.get(key, ()), reference)
    return groups


def _view(row: Row[tuple[object, ...]], references: tuple[ReferenceRow, ...]) -> ViewRow:
    return ViewRow(
        name=row.view,
        version=row.id,
        stream=row.stream,
        definition=row.definition,
        references=references,
        first_epoch=row.first_epoch,
        suspended_epoch=row.suspended_epoch,
        suspended_message=row.suspended_message,
        since_epoch=row.since_epoch,
        stream_version=row.stream_version,
    )
