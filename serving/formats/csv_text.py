"""CSV by RFC 4180: a line with the names, then the rows; lines end with CR LF."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from serving.formats.result import Result

_quoted = re.compile('[,"\r\n]').search


def write(result: Result) -> Iterator[bytes]:
    yield (",".join(map(_cell, result.names)) + "\r\n").encode()
    for piece in result.pieces():
        columns = [_cells(column) for column in piece.columns]
        rows = zip(*columns, strict=True) if columns else [()] * piece.count
        yield ("\r\n".join(map(",".join, rows)) + "\r\n").encode()


def _cells(column: Sequence[Any]) -> Sequence[str]:
    """The cells of a column, whose values mostly are of one kind."""
    kinds = set(map(type, column))
    if kinds <= {int, float}:
        return list(map(str, column))
    if kinds == {str} and "" not in column and not _quoted("".join(column)):
        return column
    return list(map(_cell, column))


def _cell(value: Any) -> str:
    """NULL is nothing, an empty string a pair of quotes."""
    if value is None:
        return ""
    if isinstance(value, str):
        text = value
    elif isinstance(value, dict | list | bool):
        text = msgspec.json.encode(value).decode()
    else:
        return str(value)
    if text and not _quoted(text):
        return text
    return '"' + text.replace('"', '""') + '"'
