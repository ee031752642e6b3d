"""Answers in five formats, written while they are read. One documented form for each value.

| type | JSON |
|---|---|
| integers of every width, DECIMAL without a scale | number, or string on request |
| DECIMAL with a scale | string with all its digits |
| FLOAT, DOUBLE | number; `"NaN"`, `"Infinity"`, `"-Infinity"` |
| BOOLEAN; VARCHAR, ENUM, UUID, BIT | true, false; string |
| JSON | string, as it is |
| TIMESTAMP of every precision, with or without zone | ISO 8601 in UTC, `2026-01-01T10:00:00.12Z` |
| DATE, TIME | `2026-01-01`, `10:00:00` |
| INTERVAL | `{"months": 1, "days": 2, "microseconds": 3}` |
| BLOB | string, base64 |
| LIST, ARRAY, TUPLE | array |
| STRUCT | object |
| MAP | array of `[key, value]` |
| UNION | the value |

Seconds have as many digits as there are. Years past 9999 and before 0 have a sign: `+99999-01-01`.
Infinite dates are `infinity` and `-infinity`. NULL is null in all.

| format | media type | what it is |
|---|---|---|
| json | `application/json` | one object: columns, rows, then what is known at the end |
| ndjson | `application/x-ndjson` | a line per row: an object, column name -> value as in JSON |
| csv | `text/csv` | RFC 4180, the first line has the names |
| arrow | `application/vnd.apache.arrow.stream` | an Arrow IPC stream |
| parquet | `application/vnd.apache.parquet` | a Parquet file |

CSV has the forms of JSON as text: NULL as nothing (so in an answer of one column an empty line), an
empty string as `""`, nested values as JSON, booleans as true and false. A cell that starts with `=`
stays as it is.

Arrow and Parquet have the types of Arrow. UUID, JSON and BIT are strings. HUGEINT and UHUGEINT are
decimal(38, 0), and a value of more digits fails the answer. In Parquet, which lacks both, INTERVAL
is a struct of months, days and microseconds, and UNION a struct with all of its members, of which
one is not NULL.

Equal column names stay as they are in JSON, CSV and Arrow. NDJSON and Parquet tell columns apart by
name: a name that was there (whatever its case) gets the first of `_1`, `_2`, ... that makes it a
new one, an empty name is `column_` and its place from 1.

TIME WITH TIME ZONE, VARIANT, BIGNUM and other types that have no form here are refused: cast them.

What is streamed can break off: a connection that ends in the middle is how a client learns of an
error. JSON says at its end whether it was cut at `max_rows`. In the other formats a header does
where the answer is short. A streamed answer has no such header: with fewer rows than `max_rows` it
is whole, with exactly `max_rows` it may have been cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from serving.envelope import Code, RequestError
from serving.formats import arrow, csv_text, json_text, ndjson, parquet
from serving.formats.media import (
    ARROW_TYPE,
    CSV_TYPE,
    JSON_TYPE,
    NDJSON_TYPE,
    PARQUET_TYPE,
    accepted,
    named,
    not_acceptable,
)
from serving.formats.result import BATCH_BYTES, BATCH_ROWS, Result, Write

__all__ = [
    "ARROW_TYPE",
    "BATCH_BYTES",
    "BATCH_ROWS",
    "CSV_TYPE",
    "JSON_TYPE",
    "NDJSON_TYPE",
    "PARQUET_TYPE",
    "Result",
    "accepted",
    "encode",
    "named",
    "not_acceptable",
]

CHUNK_BYTES = 256 * 1024

WRITERS: Mapping[str, Write] = {
    JSON_TYPE: json_text.write,
    NDJSON_TYPE: ndjson.write,
    CSV_TYPE: csv_text.write,
    ARROW_TYPE: arrow.write,
    PARQUET_TYPE: parquet.write,
}


def encode(media_type: str, result: Result) -> Iterator[bytes]:
    """The body in chunks of at most `CHUNK_BYTES`, none empty; it holds a batch of rows or, for
    Parquet, a row group. After the last chunk `result` knows its count.

    Raises RequestError for what has no form; what reading the result raises comes through.
    """
    if media_type not in WRITERS:
        raise RequestError(Code.INTERNAL, f"no format is called {media_type!r}")
    for data in WRITERS[media_type](result):
        if len(data) <= CHUNK_BYTES:
            if data:
                yield data
        else:
            for at in range(0, len(data), CHUNK_BYTES):
                yield data[at : at + CHUNK_BYTES]
