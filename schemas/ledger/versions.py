"""What is registered: streams, views, their versions, and the references that these are about.

A view has one version that answers. When another takes its place, the one before retires: epochs
no longer carry it, and it comes back only while no epoch was missed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Row, func, insert, select, update

from schemas.errors import EpochsMoved, NameTaken, StreamUnknown, TopicRecreated, VersionRetired
from schemas.ledger import tables
from schemas.ledger.connect import Ledger, number
from schemas.ledger.instant import aware


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
    topic_id: str | None = None  # None until the topic was seen; `register` does not set it


@dataclass(frozen=True)
class ViewRow:
    """A view and the version that answers. `register` sets nothing after `references`."""

    name: str
    version: str
    stream: str
    definition: str
    references: tuple[ReferenceRow, ...] = ()
    first_epoch: int | None = None  # None until an epoch carries the version
    suspended_epoch: int | None = None
    suspended_message: str | None = None


def register(
    ledger: Ledger,
    streams: Sequence[StreamRow],
    views: Sequence[ViewRow],
    now: datetime,
    expected_epochs: Mapping[str, int] | None = None,
) -> int:
    """Make these the declarations that count, in one transaction; gives the new state number.

    What is there already stays as it is; what is not named stays too. `expected_epochs` is the last
    epoch of each stream (0 where it is not named) that the caller decided on; streams that this
    changes nothing about may have moved on. Raises `EpochsMoved` where a stream to change did,
    `NameTaken` for a name that is registered in other case, `StreamUnknown` for a view over no
    stream, `VersionRetired` for a version that missed epochs.
    """
    aware(now)
    with ledger.write() as connection:
        if expected_epochs is not None:
            for name in _changed(connection, streams, views):
                expected, found = expected_epochs.get(name, 0), last_epoch(connection, name)
                if expected != found:
                    raise EpochsMoved(name, expected, found)
        for stream in streams:
            _register_stream(connection, stream, now)
        for view in views:
            _register_view(connection, view, now)
        return number(connection)


def streams(ledger: Ledger) -> list[StreamRow]:
    """Every stream, by name."""
    with ledger.read() as connection:
        rows = connection.execute(_STREAMS).all()
    return [StreamRow(r.name, r.topic, r.version, r.definition, r.topic_id) for r in rows]


def views(ledger: Ledger, stream: str | None = None) -> list[ViewRow]:
    """Every view, or every one over a stream, by name, with the version that answers."""
    v = tables.versions.c
    served = tables.views.join(tables.versions)
    query = select(tables.versions).select_from(served).order_by(v.view)
    if stream is not None:
        query = query.where(v.stream == stream)
    with ledger.read() as connection:
        rows = connection.execute(query).all()
        references = _references(connection)
    return [_view(row, references.get((row.view, row.id), ())) for row in rows]


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
    served = {row.name: row.version for row in connection.execute(select(v.name, v.version))}
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
    stream_row(connection, view.stream)
    v = tables.versions.c
    this = (v.view == view.name) & (v.id == view.version)
    epoch = last_epoch(connection, view.stream)
    known = connection.execute(select(tables.versions).where(this)).first()
    if known is None:
        _add_version(connection, view, now)
    elif known.retired_epoch is not None:
        if known.first_epoch is not None and known.retired_epoch < epoch:
            raise VersionRetired(view.name, view.version, known.retired_epoch, epoch)
        connection.execute(update(tables.versions).where(this).values(retired_epoch=None))
    others = (v.view == view.name) & (v.id != view.version) & v.retired_epoch.is_(None)
    connection.execute(update(tables.versions).where(others).values(retired_epoch=epoch))
    _serve(connection, view)


def _add_version(connection: Connection, view: ViewRow, now: datetime) -> None:
    connection.execute(
        insert(tables.versions).values(
            view=view.name,
            id=view.version,
            stream=view.stream,
            definition=view.definition,
            registered=now,
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


def _serve(connection: Connection, view: ViewRow) -> None:
    v = tables.views.c
    _same_case("view", view.name, connection.scalars(select(v.name)))
    this = v.name == view.name
    if connection.execute(select(v.name).where(this)).first() is None:
        statement = insert(tables.views).values(name=view.name, version=view.version)
        connection.execute(statement)
    else:
        connection.execute(update(tables.views).where(this).values(version=view.version))


def last_epoch(connection: Connection, stream: str) -> int:
    """The number of a stream's last epoch; 0 before the first."""
    e = tables.epochs.c
    return int(connection.scalar(select(func.max(e.epoch)).where(e.stream == stream)) or 0)


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
    )
