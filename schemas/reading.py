"""The events that count for a view, of files of the master, each read as the view has to: by its
typed columns, or by its bytes where another declaration of the stream accepted it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from schemas.compile import CompiledView, sql
from schemas.engine import Engine
from schemas.language.scope import RECORD_COLUMNS
from schemas.ledger.declared import Declared
from schemas.ledger.files import DataFile


@dataclass(frozen=True)
class Rows:
    """Rows of the master that one version of the stream accepted."""

    source: str  # a relation
    stream_version: str


def rows(
    engine: Engine, declared: Sequence[Declared], files: Iterable[tuple[DataFile, Path]]
) -> Iterator[Rows]:
    """The rows of files, those of one declaration together: others have other columns."""
    groups: dict[str, list[Path]] = {}
    for file, path in files:
        (version,) = (
            each.stream_version for each in declared if each.first <= file.first <= each.last
        )
        groups.setdefault(version, []).append(path)
    for version, paths in groups.items():
        yield Rows(engine.files(paths), version)


def counted(view: CompiledView, listed: Iterable[Rows], first: int, last: int) -> str:
    """SELECT of what counts for a view in epochs `first` to `last`."""
    selects = [view.counted(each.source, each.stream_version, first, last) for each in listed]
    if not selects:
        return f"FROM {empty([*RECORD_COLUMNS, *view.reads])}"
    return " UNION ALL BY NAME ".join(f"({each})" for each in selects)


def left_out(
    engine: Engine, view: CompiledView, listed: Iterable[Rows], first: int, last: int
) -> int:
    """How many of those events do not fit the view's declaration, and are not among what counts."""
    asked = [view.left_out(each.source, each.stream_version, first, last) for each in listed]
    counts = [engine.con.execute(each).fetchall()[0][0] for each in asked if each is not None]
    return int(sum(counts))


def empty(columns: Sequence[tuple[str, str]]) -> str:
    """A relation of these columns without rows."""
    nulls = ", ".join(f"CAST(NULL AS {kind}) AS {sql.name(name)}" for name, kind in columns)
    return f"(SELECT {nulls} WHERE false)"
