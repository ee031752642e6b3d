"""What the ledger tells of itself, for people: epochs, versions, publications, proofs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, select

from schemas.ledger import tables
from schemas.ledger.connect import Ledger, number

TOLD = 1000  # publications, and proofs


@dataclass(frozen=True)
class EpochsRow:
    """An epoch, or those of a sealed range."""

    stream: str
    first: int
    last: int
    sealed: bool
    instant: datetime  # UTC, of the last one
    accepted: int
    duplicates: int
    rejected: int
    position: Mapping[str, int]  # after it

    @classmethod
    def of(
        cls, counted: Any, first: int, last: int, position: Mapping[str, int], *, sealed: bool
    ) -> EpochsRow:
        """From a row of the ledger or an epoch that was read from it: both name their counts so."""
        return cls(
            stream=counted.stream,
            first=first,
            last=last,
            sealed=sealed,
            instant=counted.instant,
            accepted=counted.accepted,
            duplicates=counted.duplicates,
            rejected=counted.rejected,
            position=position,
        )


@dataclass(frozen=True)
class VersionRow:
    """A version of a view."""

    view: str
    version: str
    stream: str
    state: str  # served, being built, kept, retired, suspended
    registered: datetime
    first_epoch: int | None
    message: str | None  # of the error that suspended it
    since_epoch: int | None = None  # the first epoch it counts; None: from the first on


@dataclass(frozen=True)
class PublishedRow:
    """A publication with its proof."""

    id: int
    view: str
    version: str
    cut: int
    kind: str
    published: datetime
    replaced: datetime | None
    dropped: datetime | None
    full: bool


@dataclass(frozen=True)
class ProofRow:
    """What the comparison of a build came to."""

    build: int
    view: str
    version: str
    cut: int
    verdict: str
    instant: datetime
    evidence: Mapping[str, Any]


@dataclass(frozen=True)
class History:
    """All of it at one state."""

    state: int
    epochs: Sequence[EpochsRow]
    versions: Sequence[VersionRow]
    publications: Sequence[PublishedRow]
    proofs: Sequence[ProofRow]


def mark(ledger: Ledger) -> tuple[object, ...]:
    """Changes when `history` has something else to tell than unsealed epochs; cheap to ask."""
    s, p, m, f = tables.sealed.c, tables.publications.c, tables.moves.c, tables.proofs.c
    v, w = tables.versions.c, tables.views.c
    counted: tuple[Any, ...] = (
        select(func.max(s.added_state), func.count()).select_from(tables.sealed),
        select(func.max(m.added_state)),
        select(func.max(f.added_state)),
        select(func.count(), func.count(p.dropped)).select_from(tables.publications),
        select(
            func.count(),
            func.sum(v.first_epoch),
            func.count(v.first_epoch),
            func.count(v.suspended_epoch),
            func.count(v.retired_epoch),
            func.sum(v.since_epoch),
        ).select_from(tables.versions),
        select(func.count(w.wanted), func.max(w.wanted)),
    )
    with ledger.read() as connection:
        return tuple(value for query in counted for value in connection.execute(query).one())


def history(ledger: Ledger) -> History:
    """Everything there is to tell, in order; of publications and proofs the newest `TOLD`."""
    e, s = tables.epochs.c, tables.sealed.c
    p, b, f = tables.publications.c, tables.builds.c, tables.proofs.c
    ranges = select(tables.sealed).order_by(s.stream, s.until_epoch)
    single = select(tables.epochs).order_by(e.stream, e.epoch)
    published: Select[Any] = select(tables.publications, b.is_full).join(tables.builds)
    proven: Select[Any] = select(tables.proofs, b.view, b.version, b.cut).join(tables.builds)
    with ledger.read() as connection:
        state = number(connection)
        found_epochs = [
            *(
                EpochsRow.of(
                    row, row.from_epoch, row.until_epoch, json.loads(row.position), sealed=True
                )
                for row in connection.execute(ranges)
            ),
            *(
                EpochsRow.of(row, row.epoch, row.epoch, json.loads(row.position), sealed=False)
                for row in connection.execute(single)
            ),
        ]
        pointers = {row.name: row for row in connection.execute(select(tables.views))}
        v = tables.versions.c
        every = connection.execute(select(tables.versions).order_by(v.view, v.registered)).all()
        found_publications = [
            PublishedRow(
                id=row.id,
                view=row.view,
                version=row.version,
                cut=row.cut,
                kind=row.kind,
                published=row.published,
                replaced=row.replaced,
                dropped=row.dropped,
                full=row.is_full,
            )
            for row in connection.execute(published.order_by(p.id.desc()).limit(TOLD))
        ][::-1]
        found_proofs = [
            ProofRow(
                build=row.build,
                view=row.view,
                version=row.version,
                cut=row.cut,
                verdict=row.verdict,
                instant=row.instant,
                evidence=json.loads(row.evidence),
            )
            for row in connection.execute(proven.order_by(f.build.desc()).limit(TOLD))
        ][::-1]
    return History(
        state=state,
        epochs=sorted(found_epochs, key=lambda each: (each.stream, each.first)),
        versions=[
            VersionRow(
                view=row.view,
                version=row.id,
                stream=row.stream,
                state=_state(row, pointers[row.view]),
                registered=row.registered,
                first_epoch=row.first_epoch,
                message=row.suspended_message,
                since_epoch=row.since_epoch,
            )
            for row in every
        ],
        publications=found_publications,
        proofs=found_proofs,
    )


def _state(row: Any, pointer: Any) -> str:
    if row.suspended_epoch is not None:
        return "suspended"
    if row.retired_epoch is not None:
        return "retired"
    if row.id == pointer.version:
        return "served"
    return "being built" if row.id == pointer.wanted else "kept"
