"""A copy of a ledger taken while others write to it, and what it needs to be whole elsewhere."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import select, update

from schemas.errors import LedgerMissing, LedgerTaken
from schemas.ledger import tables
from schemas.ledger.connect import NAME, Ledger
from schemas.stored_file import StoredFile


def copy_ledger(state: Path, to: Path) -> None:
    """Copy the ledger of a state, as of one transaction, into another folder; `LedgerMissing` where
    there is none, `LedgerTaken` where there is one already. By SQLite's own backup, which writers
    do not disturb. `keep_wal` makes of it one to work with."""
    source, target = state.absolute() / NAME, to.absolute() / NAME
    if not source.exists():
        raise LedgerMissing(str(source))
    if target.exists():
        raise LedgerTaken(str(target))
    beside = target.with_name(f".{NAME}.part")
    beside.unlink(missing_ok=True)
    with (
        closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True)) as one,
        closing(sqlite3.connect(beside)) as other,
    ):
        one.backup(other)
        other.execute("PRAGMA journal_mode = DELETE")  # readers leave nothing beside it
    beside.replace(target)


def needed_files(ledger: Ledger) -> tuple[list[StoredFile], list[str]]:
    """Every data file that counts, and the paths of references, which have no length on record."""
    f, r = tables.files.c, tables.references_.c
    with ledger.read() as connection:
        counted = select(f.path, f.sha256, f.bytes).where(f.removed_state.is_(None))
        rows = connection.execute(counted.order_by(f.id)).all()
        references = connection.scalars(select(r.file).distinct().order_by(r.file)).all()
    return [StoredFile(row.path, row.sha256, row.bytes) for row in rows], list(references)


def disown(ledger: Ledger) -> None:
    """Nobody who wrote to the original holds a lease of this copy. Tokens stay used."""
    nobody = {"host": None, "pid": None, "started": None, "expires": None}
    with ledger.write() as connection:
        connection.execute(update(tables.leases).values(nobody))
