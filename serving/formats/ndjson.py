"""NDJSON: a JSON object per line and row, column name -> value."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from serving.formats.result import Result, distinct


def write(result: Result) -> Iterator[bytes]:
    encode = msgspec.json.Encoder().encode_lines
    names = distinct(result.names)
    for piece in result.pieces():
        yield encode([dict(zip(names, row, strict=False)) for row in piece.rows()])
