"""How a view reads events that another declaration of its stream accepted.

Where both declare the columns that the view uses alike, the typed columns are what the view's own
declaration would have made of the bytes, and are used as they are. Else the bytes are parsed again
by the view's own declaration. An event of which a used column does not fit is left out; NOT NULL
and CHECK decide what a stream accepts, not how it is read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from schemas.compile import parse, sql
from schemas.language.scope import RECORD_COLUMNS
from schemas.language.stream import Stream
from schemas.language.table import Column, Columns

ACCEPTED = "$accepted"  # rows of the master, by the columns of parse.RECORD
Facts = tuple[object, ...]


def used(stream: Stream, names: Iterable[str]) -> tuple[Column, ...]:
    """The columns of these names, and those that their expressions read, as declared."""
    wanted = {name.lower() for name in names}
    while True:
        found = [column for column in stream.columns.columns if column.name.lower() in wanted]
        read = (parse.named(column) for column in found if column.generated is not None)
        more = set[str]().union(*read) - wanted
        if not more:
            return tuple(found)
        wanted |= more


def facts(stream: Stream, names: Iterable[str]) -> Facts:
    """What two declarations must have in common for the typed columns of one to be the other's."""
    columns = [(each.name, each.type, each.generated) for each in used(stream, names)]
    return stream.format, stream.null, places(stream, names), *columns


def places(stream: Stream, names: Iterable[str]) -> tuple[int, ...]:
    """Where the fields of these columns stand in a CSV line, from 0 on; JSON knows no order."""
    if stream.format != "csv":
        return ()
    carried = [each.name for each in stream.columns.columns if each.generated is None]
    return tuple(carried.index(each.name) for each in used(stream, names) if each.generated is None)


def select(stream: Stream, names: Iterable[str]) -> str:
    """SELECT over ACCEPTED of the record, the columns of these names, and `_reason`, NULL for an
    event that fits."""
    wanted = {name.lower() for name in names}
    shown = [each.name for each in stream.columns.columns if each.name.lower() in wanted]
    columns = sql.names([*(name for name, _ in RECORD_COLUMNS), *shown, "_reason"])
    parsed = parse.select(_reduced(stream, used(stream, names)), sql.name(ACCEPTED), parse.RECORD)
    return f"SELECT {columns} FROM ({parsed})"


def whole(stream: Stream, beside: Iterable[str]) -> str:
    """SELECT over ACCEPTED of the record with its value, the columns `beside` it, every declared
    column, and `_reason` and `_column`, NULL for an event that fits."""
    names = [each.name for each in stream.columns.columns]
    record = (*parse.RECORD, *beside)
    parsed = parse.select(_reduced(stream, used(stream, names)), sql.name(ACCEPTED), record)
    columns = sql.names([*record, *names, "_reason", "_column"])
    return f"SELECT {columns} FROM ({parsed})"


def over(accepted: str, select: str) -> str:
    """A `select` of this module over the rows of another SELECT."""
    return f"WITH {sql.name(ACCEPTED)} AS NOT MATERIALIZED ({accepted}) {select}"


def _reduced(stream: Stream, kept: tuple[Column, ...]) -> Stream:
    """A declaration by which nothing but the used columns is judged. Fields of a CSV line go by
    their place, so all stay, as texts."""
    columns = [replace(each, not_null=False) for each in kept]
    carried = [each for each in stream.columns.columns if each.generated is None]
    if stream.format == "csv":
        names = {each.name for each in kept}
        plain = [each if each.name in names else replace(each, type="VARCHAR") for each in carried]
        columns = [replace(each, not_null=False) for each in plain]
        columns += [replace(each, not_null=False) for each in kept if each.generated is not None]
    elif all(each.generated is not None for each in kept):
        columns.append(replace(carried[0], type="JSON", not_null=False))  # fits whatever it is
    return replace(stream, columns=Columns(tuple(columns), (), ()))
