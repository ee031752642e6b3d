"""JSON: one object, whose rows stand before what is known only when they are all there."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from serving.formats.result import Result


def write(result: Result) -> Iterator[bytes]:
    encode = msgspec.json.Encoder().encode
    columns = [
        {"name": name, "type": str(type_)}
        for name, type_ in zip(result.names, result.types, strict=True)
    ]
    yield b'{"columns":' + encode(columns) + b',"rows":['
    comma = b""
    for piece in result.pieces():
        yield comma + encode(piece.rows())[1:-1]
        comma = b","
    known = {
        "row_count": result.row_count,
        "truncated": result.truncated,
        "elapsed_ms": result.elapsed_ms(),
        "coverage": result.coverage,
    }
    yield b"]," + encode(known)[1:]
