"""Rows of the master -> the events that count, typed as declared."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.compile import parse, sql
from schemas.language.scope import RECORD_COLUMNS


def counted(columns: Sequence[tuple[str, str]], source: str, first: int, last: int) -> str:
    """SELECT of record and declared columns of epochs `first` to `last`, duplicates left out.
    A file need not have kept a declared type (JSON is a text in Parquet), so each is cast."""
    typed = [
        f"CAST({sql.name(name)} AS {kind}) AS {sql.name(name)}"
        for name, kind in (*RECORD_COLUMNS, *columns)
    ]
    return f"SELECT {', '.join(typed)} FROM {source} WHERE {_within(first, last)}"


def accepted(source: str, first: int, last: int) -> str:
    """SELECT of the records of the same events, as they were sent."""
    return f"SELECT {sql.names(parse.RECORD)} FROM {source} WHERE {_within(first, last)}"


def _within(first: int, last: int) -> str:
    return f"NOT _duplicate AND _epoch BETWEEN {first} AND {last}"
