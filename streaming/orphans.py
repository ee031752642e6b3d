"""Files that no ledger row names: written by a task whose epoch or sealing was never committed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from sqlalchemy import select

from schemas.ledger import tables
from schemas.ledger.connect import Ledger
from schemas.ledger.files import IDS, MASTER, REJECTS, RUN, SEGMENT, named
from schemas.storage import DataRoot, unfinished

FOLDERS = {SEGMENT: "segments", MASTER: "master", REJECTS: "rejects", IDS: "ids"}  # of a stream
ENDINGS = (".zip", ".parquet", ".arrow")


def token_of(name: str) -> int | None:
    """The token that a file of ours was written under, finished or not; None for any other file."""
    name = unfinished(name) or name
    stem = next((name.removesuffix(end) for end in ENDINGS if name.endswith(end)), "")
    parts = stem.split("-")
    numbered = len(parts) == 4 and all(part.isdigit() for part in parts[:3])
    return int(parts[2]) if numbered else None


def remove_orphans(root: DataRoot, ledger: Ledger, stream: str, token: int) -> list[str]:
    """Remove what was written for a stream under tokens before `token` and is not named, whether it
    counts or not; returns the names."""
    gone = []
    for kind, folder in FOLDERS.items():
        gone += remove_unnamed(
            [root.local(f"{folder}/{stream}")], token, partial(named, ledger, kind, stream)
        )
    # tokens are a stream's own, so versions of other streams are left alone
    runs = [
        table
        for view, version in _versions(ledger, stream)
        for table in _folders(root.local(f"runs/{view}/{version}"))
    ]
    gone += remove_unnamed(runs, token, partial(named, ledger, RUN, stream))
    return gone


def remove_unnamed(
    folders: Iterable[Path], token: int, named: Callable[[], Iterable[str]]
) -> list[str]:
    """Remove the files in these folders written under tokens before `token` that are not `named`
    (paths; file names are unique); returns their names. A file under the current token may be on
    its way into the ledger, and a file without a token is not ours: both stay."""
    listed = [file for folder in folders if folder.is_dir() for file in folder.iterdir()]
    old = [file for file in listed if (token_of(file.name) or token) < token]
    finished = any(unfinished(file.name) is None for file in old)
    keep = {path.rpartition("/")[2] for path in named()} if finished else set()
    gone = [file for file in old if file.name not in keep]
    for file in gone:
        file.unlink(missing_ok=True)
    return sorted(file.name for file in gone)


def _versions(ledger: Ledger, stream: str) -> list[tuple[str, str]]:
    """View and id of every version over a stream, retired ones too."""
    v = tables.versions.c
    with ledger.read() as connection:
        rows = connection.execute(select(v.view, v.id).where(v.stream == stream))
        return [(row.view, row.id) for row in rows]


def _folders(folder: Path) -> list[Path]:
    return [each for each in folder.iterdir() if each.is_dir()] if folder.is_dir() else []
