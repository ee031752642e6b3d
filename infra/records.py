"""Files of events -> the bytes of records, as the format of a stream wants them, each with the
number of its line (its first one; of Parquet its row).

| file | `json` stream | `csv` stream |
|---|---|---|
| NDJSON | each line as it is | refused |
| CSV | an object per row | each row as it is; another order of columns is put right |
| Parquet | an object per row | a line per row |

What is malformed goes out as it came: the stream puts it to its rejects. Blank lines are skipped.
Of a line that is too long for any record no more is read than tells so.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import BadUse

NUMERIC = re.compile(
    r"(?:U?(?:TINY|SMALL|BIG|HUGE)?INT(?:EGER)?|FLOAT|REAL|DOUBLE|DECIMAL\b.*)", re.I
)
NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?")
KINDS = {
    ".csv": "csv",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".json": "ndjson",
    ".parquet": "parquet",
}
OTHERS = {
    b"ARROW1": "an Arrow file",
    b"BZh": "bzip2",
    b"Obj\x01": "Avro",
    b"ORC": "ORC",
    b"SQLite format 3": "SQLite",
    b"\xfd7zXZ": "xz",
}
"""What begins so is no file of events."""
LONGEST = 2**20
"""Bytes of a value that the producer and the broker take."""
Record = tuple[int, bytes]
JOINED_LINES = 1000
"""Lines after which a quote that does not close is taken for a stray one."""


@dataclass(frozen=True)
class Shape:
    """What a stream wants: its format, its text for NULL, its declared (name, DuckDB type)s."""

    format: str
    null: str | None
    columns: tuple[tuple[str, str], ...]

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.columns]


class Source:
    """One file, or stdin for '-'; gzip, zip and zstd are opened, whatever they are called."""

    def __init__(self, name: str, shape: Shape, kind: str | None = None) -> None:
        self.name, self._shape = name, shape
        if name != "-" and (not Path(name).exists() or Path(name).is_dir()):
            found = "is a folder" if Path(name).is_dir() else "does not"
            message = f"file {name!r} must exist; it {found}"
            raise BadUse(message)
        self.size = 0 if name == "-" else Path(name).stat().st_size
        self._kind = kind
        self._raw: BinaryIO | None = None

    @property
    def done(self) -> int:
        """How many bytes of the file (packed, if it is) have been read."""
        if self.name == "-" or self._raw is None:
            return 0
        return self.size if self._raw.closed else self._raw.tell()

    def records(self) -> Iterator[Record]:
        """(line from 1, value) of each record; in an archive lines start anew with each member.
        Raises BadUse for a file that cannot be read, or is none of events."""
        path = 0 if self.name == "-" else self.name
        try:
            with open(path, "rb", closefd=path != 0) as raw:
                self._raw = raw
                for name, file in _opened(raw, self.name):
                    yield from self._of(name, file)
        except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
            message = f"file {self.name!r} must be readable to its end; {error}"
            raise BadUse(message) from error

    def _of(self, name: str, file: BinaryIO) -> Iterator[Record]:
        known = KINDS.get(Path(name).suffix.lower())
        kind = self._kind or known or {"json": "ndjson"}.get(self._shape.format, "csv")
        if kind == "parquet":
            rows = _parquet(file, name)
            json_wanted = self._shape.format == "json"
            values = rows_as_json(rows) if json_wanted else rows_as_csv(rows, self._shape)
            return enumerate(values, 1)
        if kind == "csv":
            convert = csv_as_json if self._shape.format == "json" else csv_as_csv
            return convert(lines(file), self._shape)
        if self._shape.format != "json":
            message = f"{name}: a csv stream takes CSV or Parquet; got NDJSON"
            raise BadUse(message)
        return ndjson(lines(file))


def _opened(raw: io.BufferedReader, name: str) -> Iterator[tuple[str, BinaryIO]]:
    """The file itself, or what is packed in it, each with its name."""
    start = raw.peek(16)[:16]
    for mark, kind in OTHERS.items():
        if start.startswith(mark):
            message = f"file {name!r} must be NDJSON, CSV or Parquet; got {kind}"
            raise BadUse(message)
    if start.startswith(b"\x1f\x8b"):
        with gzip.open(raw) as file:
            yield name.removesuffix(".gz"), file  # type: ignore[misc]  # it reads as one
    elif start.startswith(b"\x28\xb5\x2f\xfd"):
        packed = pa.CompressedInputStream(raw, "zstd")
        yield name.removesuffix(".zst"), io.BufferedReader(packed)  # type: ignore[type-var]
    elif start.startswith(b"PK\x03\x04"):
        if name == "-":
            message = "a zip file must be given by its name; got one on stdin"
            raise BadUse(message)
        with zipfile.ZipFile(raw) as archive:
            for member in archive.namelist():
                if not member.endswith("/"):
                    with archive.open(member) as found:
                        yield member, found  # type: ignore[misc]
    elif start.startswith(b"PAR1") and not name.lower().endswith(".parquet"):
        yield f"{name}.parquet", raw
    else:
        yield name, raw


def lines(file: BinaryIO) -> Iterator[bytes]:
    """Lines with their ends. Of a longer one than a record may be the rest is not kept."""
    while line := file.readline(LONGEST + 2):
        rest = line
        while len(rest) == LONGEST + 2 and not rest.endswith(b"\n"):
            rest = file.readline(LONGEST + 2)
        yield line


def ndjson(file: Iterable[bytes]) -> Iterator[Record]:
    for number, line in enumerate(file, 1):
        if line.strip():
            yield number, line.rstrip(b"\r\n")


# ---- CSV


def fields(record: bytes) -> list[bytes] | None:
    """The fields of a CSV record as they are written, quotes and all; None if one stays open."""
    if b'"' not in record:
        return record.split(b",")
    found, start = [], 0
    while True:
        end = start
        if record[start : start + 1] == b'"':
            end = start + 1
            while True:
                end = record.find(b'"', end)
                if end < 0:
                    return None
                if record[end + 1 : end + 2] != b'"':
                    break
                end += 2
        end = record.find(b",", end)
        if end < 0:
            found.append(record[start:])
            return found
        found.append(record[start:end])
        start = end + 1


def csv_records(file: Iterable[bytes]) -> Iterator[Record]:
    """CSV records as they are written, without their line ends; quoted line breaks stay inside."""
    read = iter(file)
    again: list[bytes] = []  # lines to look at once more, the next one last
    after = 1
    while True:
        line = again.pop() if again else next(read, None)
        if line is None:
            return
        number, after = after, after + 1
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line.strip():
            continue
        joined, record = 1, line
        more: list[bytes] = []
        while b'"' in record and fields(record) is None:
            following = again.pop() if again else next(read, None)
            if following is not None:
                more.append(following)
            if following is None or joined == JOINED_LINES or len(record) > LONGEST:
                again += reversed(more)  # a stray quote: its line is a record of its own
                joined, record = 1, line
                break
            joined, record = joined + 1, record + following
        after = number + joined
        yield number, record.rstrip(b"\r\n")


def text_of(field: bytes) -> str:
    """A field's value; bytes that are no UTF-8 come back as they were when it is encoded again."""
    if field.startswith(b'"') and field.endswith(b'"') and len(field) > 1:
        field = field[1:-1].replace(b'""', b'"')
    return field.decode("utf-8", "surrogateescape")


def csv_as_csv(file: Iterable[bytes], shape: Shape) -> Iterator[Record]:
    """Records as they are; a header that names declared columns is dropped, its order put right."""
    records = csv_records(file)
    first = next(records, None)
    if first is None:
        return
    order = _order(first[1], shape)
    if order is None:
        yield first
    width, missing = len(fields(first[1]) or []), (shape.null or "").encode()
    if order is None or order == list(range(width)):
        yield from records
        return
    for number, record in records:
        found = fields(record)
        if found is None or len(found) != width or len(record) > LONGEST:
            yield number, record
        else:
            yield number, b",".join(missing if at is None else found[at] for at in order)


def _order(first: bytes, shape: Shape) -> list[int | None] | None:
    """If the first record is a header: where each declared column stands in it (None: nowhere)."""
    header = [text_of(field).strip() for field in fields(first) or []]
    if len(set(header)) != len(header):
        return None
    known = set(shape.names)
    if not (set(header) >= known or set(header) <= known):
        return None
    return [header.index(name) if name in header else None for name in shape.names]


def csv_as_json(file: Iterable[bytes], shape: Shape) -> Iterator[Record]:
    """An object per row, its keys from the header. A row of another width becomes an array."""
    records = csv_records(file)
    first = next(records, None)
    if first is None:
        return
    names = [text_of(field).strip() for field in fields(first[1]) or []]
    types = dict(shape.columns)
    keys = [json.dumps(name, ensure_ascii=False) for name in names]
    numeric = [bool(NUMERIC.fullmatch(types.get(name, ""))) for name in names]
    plain = [types.get(name, "").upper() in ("BOOLEAN", "JSON") for name in names]
    for number, record in records:
        if len(record) > LONGEST:
            yield number, record
            continue
        found = [text_of(field) for field in fields(record) or [record]]
        if len(found) != len(names):
            yield number, _encoded(json.dumps(found, ensure_ascii=False))
            continue
        values = map(_literal, found, numeric, plain, [shape.null] * len(found))
        yield number, _encoded("{" + ",".join(map("{}:{}".format, keys, values)) + "}")


def _literal(text: str, numeric: bool, plain: bool, null: str | None) -> str:
    """A CSV field as JSON; `plain`: for a column of type BOOLEAN or JSON."""
    if text in ("", null):
        return "null"
    if numeric and NUMBER.fullmatch(text):
        return text
    if plain and (text in ("true", "false") or _is_json(text)):
        return text
    return json.dumps(text, ensure_ascii=False)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return "\n" not in text


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


# ---- Parquet


def _parquet(file: BinaryIO, name: str) -> Iterator[dict[str, object]]:
    seekable = file if file.seekable() else io.BytesIO(file.read())
    try:
        parquet = pq.ParquetFile(seekable)
    except pa.ArrowInvalid as error:
        message = f"{name}: must be Parquet; {error}"
        raise BadUse(message) from None
    for batch in parquet.iter_batches(batch_size=4096):
        yield from batch.to_pylist()


def rows_as_json(rows: Iterable[dict[str, object]]) -> Iterator[bytes]:
    for row in rows:
        yield _encoded(as_json(row))


def as_json(value: object) -> str:
    """A Python value as JSON text. Numbers keep every digit; NaN and infinities become strings."""
    if isinstance(value, dict):
        items = (f"{json.dumps(str(k), ensure_ascii=False)}:{as_json(v)}" for k, v in value.items())
        return "{" + ",".join(items) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(as_json, value)) + "]"
    if isinstance(value, Decimal) and value.is_finite():
        return f"{value:f}"
    if isinstance(value, bool | int | None) or (isinstance(value, float) and value - value == 0):
        return json.dumps(value)
    return json.dumps(_text(value), ensure_ascii=False)


def rows_as_csv(rows: Iterable[dict[str, object]], shape: Shape) -> Iterator[bytes]:
    """A line per row with the declared columns; NULL is the stream's own text for it."""
    null = shape.null or ""
    for row in rows:
        yield _encoded(",".join(_field(row.get(name), null) for name in shape.names))


def _field(value: object, null: str) -> str:
    if value is None:
        return null
    nested = isinstance(value, dict | list | tuple)
    text = as_json(value) if nested or not isinstance(value, str) else value
    if not isinstance(value, str) and not nested and text.startswith('"'):
        text = str(json.loads(text))
    if text in ("", null) or any(mark in text for mark in ',"\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text


def _text(value: object) -> str:
    if isinstance(value, datetime):
        utc = value.astimezone(UTC) if value.tzinfo else value
        return utc.replace(tzinfo=None).isoformat() + "Z"
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, float):
        return json.dumps(value)  # NaN, Infinity or -Infinity
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return str(value)
