"""Compiled definitions: SQL text with the columns it works on. Plain values, so that they travel
into tasks and processes as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from schemas.bound import Bound
from schemas.compile import (
    cast,
    dedup,
    exact,
    fold,
    kept,
    master,
    parse,
    partials,
    present,
    reading,
    sql,
)
from schemas.compile.exact import Compared
from schemas.compile.partials import Finish, PartialTable
from schemas.compile.references import CompiledReference
from schemas.language.stream import Stream
from schemas.language.view import View

# in the order in which an event meets them; the MEANING of each is part of every version
PASSES = (cast, parse, dedup, fold, partials, present)


@dataclass(frozen=True)
class CompiledStream:
    """What a task runs for every record of a stream.

    `parse` goes from the table `records` (`_partition` INTEGER, `_offset` BIGINT, `_timestamp`
    TIMESTAMP, `_key` BLOB, `_value` BLOB, `_headers`) to `parsed`; `dedup` from there and from
    `ids` to `events`. `master`, `rejects` and `ids` are the SELECTs for a segment. `$instant` and
    `$since` stand for TIMESTAMP literals.
    """

    name: str
    version: str
    columns: tuple[tuple[str, str], ...]
    key: tuple[str, ...]
    parse: tuple[str, ...]
    dedup: tuple[str, ...]
    master: str
    rejects: str
    ids: str
    event_time: str | None = None  # the column that says when an event happened

    @property
    def key_types(self) -> tuple[tuple[str, str], ...]:
        """The columns of the primary key, with their types."""
        types = dict(self.columns)
        return tuple((name, types[name]) for name in self.key)


@dataclass(frozen=True)
class CompiledView:
    """What each layer runs for a view: tasks fold, everybody merges, serving presents."""

    name: str
    version: str
    stream: str
    keys: tuple[tuple[str, str], ...]
    tables: tuple[PartialTable, ...]
    finishes: tuple[Finish, ...]
    columns: tuple[tuple[str, str], ...]
    references: tuple[CompiledReference, ...]
    presentation: str
    # what each of its aggregates comes to in a group: column, type, expression over its row
    called: tuple[tuple[str, str, str], ...]
    over_called: str
    select: str  # the view's own text
    exact: str  # the same, with what an approximate aggregate estimates in its place
    compared: tuple[Compared, ...]  # per output, what the answer and `exact` must agree on
    # the stream's columns that its text names, as it is declared for this version
    reads: tuple[tuple[str, str], ...]
    reread: str  # see `reading.select`
    typed: tuple[str, ...] = ()  # versions of the stream whose typed columns are what it reads
    # this view with columns for calls that its own are computed from and that are judged alone;
    # None where there are none
    by_calls: CompiledView | None = None

    def counted(self, source: str, accepted_by: str, first: int, last: int) -> str:
        """SELECT of the events that count in epochs `first` to `last`, of a relation of master
        rows that one version of the stream accepted: what the view folds, and what its own SELECT
        is about."""
        if accepted_by in self.typed:
            return master.counted(self.reads, source, first, last)
        read = reading.over(master.accepted(source, first, last), self.reread)
        return f"SELECT * EXCLUDE (_reason) FROM ({read}) WHERE _reason IS NULL"

    def left_out(self, source: str, accepted_by: str, first: int, last: int) -> str | None:
        """SELECT of how many of those events do not fit this version; None where all do."""
        if accepted_by in self.typed:
            return None
        read = reading.over(master.accepted(source, first, last), self.reread)
        return f"SELECT count(*) FROM ({read}) WHERE _reason IS NOT NULL"

    def finished(self, core: str, wide: Mapping[str, str]) -> str:
        """SELECT of keys, core values and finished columns over merged relations: what `present`
        takes. `wide` gives the relation of each wide table by its name."""
        columns = sql.names([*(name for name, _ in self.keys), *self._core_values()], "c.")
        joins = []
        for at, finish in enumerate(self.finishes):
            keys = [
                f"c.{sql.name(key)} IS NOT DISTINCT FROM f{at}.{sql.name(key)}"
                for key, _ in finish.group
            ]
            columns += f", f{at}.{sql.name(finish.column)}"
            finished = finish.select(wide[finish.table])
            joins.append(f"LEFT JOIN ({finished}) f{at} ON {' AND '.join(keys) or 'true'}")
        return f"SELECT {columns} FROM {core} c {' '.join(joins)}".rstrip()

    @property
    def time_keys(self) -> tuple[str, ...]:
        """The group keys by which it can be said from when on groups are kept."""
        return kept.time_keys(self.keys, self.columns)

    def within(self, source: str, bounds: Sequence[Bound]) -> str:
        """The rows of a relation of its partials, or of its own, whose groups are kept."""
        where = kept.condition(self.keys, self.columns, bounds)
        return f"(SELECT * FROM {source} WHERE {where})" if where else source

    def _core_values(self) -> list[str]:
        return [name for name, _, _ in self.tables[0].values]

    def present(self, source: str) -> str:
        """The view's select list over one row per group: keys, core values, finished columns (NULL
        where a group has no row in a wide table)."""
        return present.over(self.presentation, source)

    def present_called(self, source: str) -> str:
        """The same over rows that have keys and what is `called`."""
        return present.over(self.over_called, source)


def compile_stream(stream: Stream, version: str) -> CompiledStream:
    """The SQL of a stream."""
    columns = tuple((column.name, column.type) for column in stream.columns.columns)
    own = sql.names([*parse.RECORD, *(name for name, _ in columns)])
    record = sql.names([*parse.RECORD, parse.HEADERS])
    return CompiledStream(
        name=stream.name,
        version=version,
        columns=columns,
        key=stream.columns.key,
        parse=parse.statements(stream),
        dedup=dedup.statements(stream),
        master=f"SELECT {own}, _duplicate FROM events ORDER BY _partition, _offset",
        rejects=f"SELECT {record}, _reason, _column, _expected, _found FROM parsed "
        "WHERE _reason IS NOT NULL ORDER BY _partition, _offset",
        ids=dedup.ids(stream),
        event_time=_event_time(stream),
    )


def _event_time(stream: Stream) -> str | None:
    """As the column is spelled where it is declared."""
    wanted = (stream.event_time or "").lower()
    names = (column.name for column in stream.columns.columns)
    return next((name for name in names if name.lower() == wanted), None)


def compile_view(
    view: View,
    version: str,
    references: Sequence[CompiledReference],
    typed: tuple[str, ...] = (),
) -> CompiledView:
    """The SQL of a view. `references` are those that it joins, `typed` the versions of its stream
    whose typed columns it reads."""
    stream = view.scope.stream
    sources = {view.stream.lower(): "counted"}
    sources |= {reference.name.lower(): reference.table for reference in references}
    found = CompiledView(
        name=view.name,
        version=version,
        stream=view.stream,
        keys=tuple((key.name, key.type) for key in view.keys),
        tables=fold.tables(view, sources),
        finishes=present.finishes(view),
        columns=tuple((output.name, output.type) for output in view.outputs),
        references=tuple(references),
        presentation=present.statement(view),
        called=present.called(view),
        over_called=present.over_called(view),
        select=view.statement.body,
        exact=exact.text(view),
        compared=exact.compared(view),
        reads=tuple(
            (column.name, column.type)
            for column in stream.columns.columns
            if column.name in view.columns
        ),
        reread=reading.select(stream, view.columns),
        typed=typed,
    )
    calls = exact.inside(view)
    if not calls:
        return found
    compared = exact.of_calls(view, calls)
    by_calls = replace(
        found,
        columns=(*found.columns, *((each.column, each.type) for each in compared)),
        compared=(*found.compared, *compared),
        presentation=present.statement(view, calls),
        over_called=present.over_called(view, calls),
        exact=exact.text(view, calls),
    )
    return replace(found, by_calls=by_calls)
