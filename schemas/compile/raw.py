"""The counted events of a stream as rows by the declaration of now: what `raw.<stream>` is made of.

Rows of the master that a declaration with the same columns accepted are used as they are typed.
Others are parsed again from their bytes, as views do; an event of which a column does not fit stays
a row with NULL in that column, and `_misfit` says why. A view that uses such a column leaves the
event out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from schemas.compile import parse, reading, sql
from schemas.language.scope import RECORD_COLUMNS
from schemas.language.stream import Stream

EPOCH, DUPLICATE, VALUE, MISFIT = "_epoch", "_duplicate", "_value", "_misfit"
HIDDEN = ((EPOCH, "BIGINT"), *RECORD_COLUMNS, (VALUE, "BLOB"))

# of repeated event ids, for all streams; `id` has the columns of the primary key
REPEATS = (
    ("stream", "VARCHAR"),
    ("id", "JSON"),
    ("epoch", "BIGINT"),
    ("partition", "INTEGER"),
    ("offset", "BIGINT"),
    ("timestamp", "TIMESTAMP"),
    ("key", "BLOB"),
    ("value", "BLOB"),
)
_PLACE = (EPOCH, *(column for column, _ in RECORD_COLUMNS), VALUE)


@dataclass(frozen=True)
class CompiledRaw:
    """A stream as a relation, by the declaration that accepts its events now."""

    stream: str
    version: str  # of the stream
    declared: tuple[tuple[str, str], ...]
    key: tuple[str, ...]
    typed: tuple[str, ...]  # versions of the stream whose typed columns are used as they are
    reread: str  # see `reading.whole`

    @property
    def columns(self) -> tuple[tuple[str, str], ...]:
        """What a statement sees, in this order."""
        return (*self.declared, *HIDDEN, (MISFIT, "VARCHAR"))

    @property
    def held(self) -> tuple[tuple[str, str], ...]:
        """The same, with what tells a repeated event."""
        return (*self.columns, (DUPLICATE, "BOOLEAN"))

    def rows(self, source: str, accepted_by: str) -> str:
        """SELECT of the columns `held` over a relation of master rows that one version of the
        stream accepted, repeated events among them."""
        if accepted_by in self.typed:
            misfit, relation = f"CAST(NULL AS VARCHAR) AS {MISFIT}", source
        else:
            why = "CASE WHEN _reason IS NOT NULL THEN concat_ws(' of ', _reason, _column) END"
            misfit = f"{why} AS {MISFIT}"
            accepted = f"SELECT {sql.names((*parse.RECORD, EPOCH, DUPLICATE))} FROM {source}"
            relation = f"({reading.over(accepted, self.reread)})"
        typed = [
            f"CAST({sql.name(name)} AS {kind}) AS {sql.name(name)}"
            for name, kind in (*self.declared, *HIDDEN)
        ]
        return f"SELECT {', '.join(typed)}, {misfit}, {DUPLICATE} FROM {relation}"

    def counted(self, held: str) -> str:
        """SELECT of the rows that count, of a relation of the columns `held`."""
        columns = sql.names(name for name, _ in self.columns)
        return f"SELECT {columns} FROM {held} WHERE NOT {DUPLICATE}"

    def repeats(self, held: str) -> str:
        """SELECT of the others, as `REPEATS`."""
        key = ", ".join(f"{sql.name(name)} := {sql.name(name)}" for name in self.key)
        return (
            f"SELECT {sql.text(self.stream)}, to_json(struct_pack({key})), {sql.names(_PLACE)} "
            f"FROM {held} WHERE {DUPLICATE}"
        )


def compile_raw(stream: Stream, version: str, typed: Sequence[str]) -> CompiledRaw:
    """The SQL of a stream's rows. `typed` are the versions of it that declare all columns alike."""
    return CompiledRaw(
        stream=stream.name,
        version=version,
        declared=tuple((column.name, column.type) for column in stream.columns.columns),
        key=stream.columns.key,
        typed=tuple(typed),
        reread=reading.whole(stream, (EPOCH, DUPLICATE)),
    )


def repeats(selects: Iterable[str]) -> str:
    """SELECT of the repeated events of several streams, or of none."""
    nothing = ", ".join(f"CAST(NULL AS {kind}) AS {sql.name(name)}" for name, kind in REPEATS)
    return " UNION ALL ".join([f"SELECT {nothing} WHERE false", *selects])
