"""Whether a publication was proven to be the one before it, merged with the epochs in between."""

from __future__ import annotations

import json
from dataclasses import dataclass

from sqlalchemy import Connection, select

from schemas.ledger import tables
from schemas.ledger.builds import PublicationRow


@dataclass(frozen=True)
class Succession:
    """The last move of a view went from `before` (None: speed held everything) to a build of the
    same version, and the proof of that build compared all partials: they equal those of `before`
    merged with every run since. Retention stood still between the two builds."""

    before: int | None


def succession(connection: Connection, publication: PublicationRow) -> Succession | None:
    """What the served publication was proven to follow; None where nothing says so: a repair, a
    rollback, another version, no base, runs with a hole, which compare nothing, or a master that
    retention has shortened since."""
    b, m, p = tables.builds.c, tables.moves.c, tables.proofs.c
    built = connection.execute(select(tables.builds).where(b.id == publication.id)).one()
    moves = select(tables.moves).where(m.view == publication.view).order_by(m.id.desc()).limit(1)
    move = connection.execute(moves).first()
    if move is None or (move.before, move.after) != (built.base, publication.id):
        return None
    proof = connection.execute(select(tables.proofs).where(p.build == publication.id)).first()
    if move.kind != "build" or proof is None or proof.files_hash != built.files_hash:
        return None
    evidence = json.loads(proof.evidence)
    if proof.verdict != "equal" or not evidence.get("partials"):
        return None
    earlier = None
    if built.base is not None:
        earlier = connection.scalar(select(b.retained).where(b.id == built.base))
    return Succession(built.base) if (earlier or 0) == (built.retained or 0) else None
