"""Segments that no ledger row names: written by a task whose epoch was never committed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from schemas.storage import DataRoot, unfinished


def token_of(name: str) -> int | None:
    """The token that a segment was written under, finished or not; None for any other file."""
    name = unfinished(name) or name
    parts = name.removesuffix(".zip").split("-")
    numbered = len(parts) == 4 and all(part.isdigit() for part in parts[:3])
    return int(parts[2]) if numbered and name.endswith(".zip") else None


def remove_orphans(
    root: DataRoot, stream: str, token: int, named: Callable[[], Iterable[str]]
) -> list[str]:
    """Remove the segments of a stream written under tokens before `token` that are not `named`
    (paths relative to the root); returns their names. A file under the current token may be on
    its way into the ledger, and a file that is no segment is not ours: both stay."""
    folder: Path = root.local(f"segments/{stream}")
    if not folder.is_dir():
        return []
    old = [file for file in folder.iterdir() if (token_of(file.name) or token) < token]
    finished = any(unfinished(file.name) is None for file in old)
    keep = {path.rpartition("/")[2] for path in named()} if finished else set()
    gone = [file for file in old if file.name not in keep]
    for file in gone:
        file.unlink(missing_ok=True)
    return sorted(file.name for file in gone)
