"""A copy of a ledger taken while others write to it, and what it needs to be whole elsewhere.

<state>/backups/ledger-<state number>.db    the newest few, taken at each publication and deploy
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import select, update

from schemas.errors import EverviewError, LedgerMissing, LedgerTaken
from schemas.failpoints import failpoint
from schemas.ledger import tables
from schemas.ledger.connect import NAME, Ledger
from schemas.storage import fsync_folder
from schemas.stored_file import StoredFile

BACKUPS = "backups"  # a folder of the state
KEPT = 5
PREFIX, ENDING = "ledger-", ".db"


def _stderr(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def back_up(state: Path, say: Callable[[str], None] = _stderr) -> Path | None:
    """Keep a copy of the ledger as it is now, whole and durable before it has its name, and the
    `KEPT` newest ones in all. Trouble is said, never raised: whatever it follows has happened."""
    try:
        with _alone(state / BACKUPS) as folder:
            copy_ledger(state, folder)
            copied = folder / NAME
            with copied.open("rb") as file:
                os.fsync(file.fileno())
            with closing(sqlite3.connect(copied)) as connection:
                ((number,),) = connection.execute("SELECT number FROM state").fetchall()
            named = folder / f"{PREFIX}{number}{ENDING}"
            failpoint("backup.before_name")
            copied.replace(named)
            fsync_folder(folder)
            for old in backups(state)[KEPT:]:
                old.unlink()
            return named
    except (EverviewError, OSError, sqlite3.Error) as error:
        say(f"the ledger was not backed up: {error}")
        return None


def backups(state: Path) -> list[Path]:
    """The copies that are kept, the newest first."""
    found = [
        (int(each.stem.removeprefix(PREFIX)), each)
        for each in (state / BACKUPS).glob(f"{PREFIX}*{ENDING}")
        if each.stem.removeprefix(PREFIX).isdigit()
    ]
    return [each for _, each in sorted(found, reverse=True)]


@contextmanager
def _alone(folder: Path) -> Iterator[Path]:
    """One at a time; what one that was killed left goes."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        for left in (folder / NAME, *folder.glob(f".{NAME}*")):
            left.unlink(missing_ok=True)
        yield folder
    finally:
        os.close(descriptor)


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
