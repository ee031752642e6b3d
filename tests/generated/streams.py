"""Random streams, a reference beside them, and their events: bytes, and the values they spell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random

from tests.generated import values

Row = Mapping[str, object]
# what Kafka says of a record, beside the declared columns
RECORD = (
    ("_partition", "INTEGER"),
    ("_offset", "BIGINT"),
    ("_timestamp", "TIMESTAMP"),
    ("_key", "BLOB"),
)
_NAMES = ("k", "n", "Mixed", "s", "moment", "x1", "value", "name", "total", "day", "city", "z_9")
_SENT = datetime(2026, 1, 1)  # noqa: DTZ001


@dataclass(frozen=True)
class Event:
    """A record as it is in the log, and the row it counts as: all columns, typed; None for one that
    must be rejected."""

    partition: int
    offset: int
    timestamp: datetime
    key: bytes | None
    value: bytes | None
    row: Row | None


@dataclass(frozen=True)
class Column:
    """A declared column; `made` computes a generated one from the others."""

    name: str
    type: str
    text: str
    made: Callable[[Row], object] | None = field(default=None, compare=False)
    not_null: bool = False
    fits: Callable[[object], bool] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Stream:
    """A declaration with what its events mean."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    format: str
    null: str | None

    @property
    def text(self) -> str:
        """CREATE STREAM."""
        parts = [column.text for column in self.columns]
        if self.key:
            parts.append(f"PRIMARY KEY ({', '.join(self.key)})")
        null = f", null = '{self.null}'" if self.null else ""
        options = f"topic = '{self.name}', format = '{self.format}'{null}"
        if self.event_time:
            options += f", event_time = '{self.event_time}'"
        return f"CREATE STREAM {self.name} ({', '.join(parts)}) WITH ({options});"

    @property
    def event_time(self) -> str | None:
        """The first column of a time that there is."""
        times = (column.name for column in self.columns if column.type == "TIMESTAMP")
        return next(times, None)

    @property
    def typed(self) -> tuple[tuple[str, str], ...]:
        """Names and types of declared columns."""
        return tuple((column.name, column.type) for column in self.columns)


@dataclass(frozen=True)
class Reference:
    """A keyed table, its file and its rows; `dated` if its key ends with a time, and so is joined
    by ASOF."""

    name: str
    dated: bool
    columns: tuple[tuple[str, str], ...]
    data: bytes
    rows: tuple[Row, ...]

    @property
    def text(self) -> str:
        """CREATE TABLE."""
        key = ", ".join(n for n, _ in self.columns[: 1 + self.dated])
        listed = ", ".join(f"{n} {t}" for n, t in self.columns) + f", PRIMARY KEY ({key})"
        options = f"file = '{self.name}.csv', null = '{values.NULL}'"
        return f"CREATE TABLE {self.name} ({listed}) WITH ({options});"


def stream(chance: Random, name: str) -> Stream:
    """A declaration of five to nine columns that the language takes."""
    names = chance.sample(_NAMES, chance.randint(4, 7))
    kinds = ["VARCHAR", "INTEGER", *chance.choices(values.TYPES, k=len(names) - 2)]
    if chance.random() < 0.5:
        kinds[2] = "TIMESTAMP"
    plain = list(zip(names, kinds, strict=True))
    keyed = chance.random() < 0.4
    able = [n for n, kind in plain if kind in ("VARCHAR", "INTEGER", "DATE", "BIGINT")]
    key = tuple(chance.sample(able, chance.randint(1, min(2, len(able))))) if keyed else ()
    columns = [_plain(chance, n, kind, key) for n, kind in plain]
    for n, kind in plain:
        made = _made(chance, n, kind) if chance.random() < 0.3 else None
        if made is not None:
            columns.append(made)
    form = chance.choice(("json", "json", "csv"))
    null = values.NULL if chance.random() < 0.4 else None
    return Stream(name, tuple(columns), key, form, null)


def _plain(chance: Random, name: str, kind: str, key: tuple[str, ...]) -> Column:
    text, fits = f"{name} {kind}", None
    not_null = name in key or chance.random() < 0.15
    if not_null and (name not in key or chance.random() < 0.5):
        text += " NOT NULL"
    if kind in ("INTEGER", "BIGINT", "SMALLINT") and chance.random() < 0.3:
        text += f" CHECK ({name} <> 5)"
        fits = _not_five
    return Column(name, kind, text, None, not_null, fits)


def _not_five(given: object) -> bool:
    return given != 5


def _made(chance: Random, name: str, kind: str) -> Column | None:
    """A generated column that reads one other."""
    if kind == "VARCHAR":
        made = chance.choice(
            (
                ("INTEGER", f"length({name})", lambda v: None if v is None else len(v)),
                ("VARCHAR", f"{name} || '!'", lambda v: None if v is None else v + "!"),
                ("BOOLEAN", f"{name} IS NULL", lambda v: v is None),
            )
        )
    elif kind == "INTEGER":
        made = chance.choice(
            (
                ("BIGINT", f"{name}::BIGINT * 3", lambda v: None if v is None else v * 3),
                ("TINYINT", f"coalesce({name} > 2, false)::TINYINT", lambda v: int((v or 0) > 2)),
                (
                    "TIMESTAMP",
                    f"make_timestamp({name}::BIGINT * 1000000)",
                    lambda v: None if v is None else values.EPOCH + timedelta(seconds=v),
                ),
            )
        )
    elif kind == "DATE":
        made = ("INTEGER", f"year({name})", lambda v: None if v is None else v.year)
    else:
        return None
    result, text, compute = made
    declared = f"{name}_made {result} GENERATED ALWAYS AS ({text})"

    def of_row(row: Row) -> object:
        return compute(row[name])

    return Column(f"{name}_made", result, declared, of_row)


def reference(chance: Random, name: str, joined: Stream) -> Reference:
    """Rows for some of the values of one column of the stream, with or without a time."""
    able = [c for c in joined.columns if c.type in ("VARCHAR", "INTEGER") and c.made is None]
    column = chance.choice(able)
    dated = chance.random() < 0.4
    key = "code" if dated or chance.random() < 0.5 else column.name
    columns = (
        (key, column.type),
        *([("valid_from", "TIMESTAMP")] if dated else []),
        ("country", "VARCHAR"),
        ("people", "BIGINT"),
        ("share", "DOUBLE"),
    )
    rows: dict[object, Row] = {}
    for _ in range(chance.randint(0, 16 if dated else 8)):
        at = {n: values.value(chance, kind) for n, kind in columns[: 1 + dated]}
        others = {n: values.any_value(chance, kind) for n, kind in columns[1 + dated :]}
        rows[tuple(at.values())] = {**at, **others}
    lines = [",".join(n for n, _ in columns)]
    for row in rows.values():
        cells = [values.in_csv(chance, kind, row[n], values.NULL) for n, kind in columns]
        lines.append(",".join(cells))
    return Reference(name, dated, columns, ("\n".join(lines) + "\n").encode(), tuple(rows.values()))


def events(chance: Random, declared: Stream, most: int = 24) -> tuple[Event, ...]:
    """Events as a broken world sends them, in the order of the log. With a primary key all are of
    one partition, so that which of two events with one id counts does not depend on the split."""
    partitions = 1 if declared.key else 3
    offsets = [0] * partitions
    found: list[Event] = []
    for _ in range(chance.choice((0, 1, 2, *range(3, most + 1)))):
        if found and chance.random() < 0.08:
            old = chance.choice(found)
            value, row = old.value, old.row
        elif chance.random() < 0.1:
            value, row = _malformed(chance, declared), None
        else:
            value, row = _fitting(chance, declared)
        partition = chance.randrange(partitions)
        key = chance.choice((None, b"k", b"\xff"))
        sent = _SENT + timedelta(milliseconds=chance.randrange(4))
        found.append(Event(partition, offsets[partition], sent, key, value, row))
        offsets[partition] += chance.choice((1, 1, 1, 3))
    return tuple(found)


def _fitting(chance: Random, declared: Stream) -> tuple[bytes, Row | None]:
    row: dict[str, object] = {}
    for column in declared.columns:
        if column.made is not None:
            continue
        may_be_null = not column.not_null
        value = (values.any_value if may_be_null else values.value)(chance, column.type)
        if column.name in declared.key and column.type in ("INTEGER", "BIGINT"):
            value = chance.randint(0, 3)  # few ids, so that most lists repeat some
        row[column.name] = value
    spelled = _spelled(chance, declared, row)
    kept = all(
        c.fits is None or row[c.name] is None or c.fits(row[c.name]) for c in declared.columns
    )
    for column in declared.columns:
        if column.made is not None:
            row[column.name] = column.made(row)
    return spelled, row if kept else None


def _spelled(chance: Random, declared: Stream, row: Row) -> bytes:
    carried = [column for column in declared.columns if column.made is None]
    if declared.format == "csv":
        null = declared.null or ""
        cells = [values.in_csv(chance, c.type, row[c.name], null) for c in carried]
        return (",".join(cells) + chance.choice(("", "\n", "\r\n"))).encode()
    parts = []
    for column in chance.sample(carried, len(carried)):
        text = values.in_json(chance, column.type, row[column.name])
        if row[column.name] is None and chance.random() < 0.6:
            if declared.null is None or chance.random() < 0.5:
                continue
            text = f'"{declared.null}"'
        parts.append(f'"{column.name}": {text}')
    if chance.random() < 0.2:
        parts.append('"unknown": {"k": [1, null]}')
    return f"{{{', '.join(parts)}}}".encode()


def _malformed(chance: Random, declared: Stream) -> bytes | None:
    """Bytes that fit no such declaration."""
    kinds = [column.type for column in declared.columns if column.made is None]
    if declared.format == "csv":
        commas = b"," * (len(kinds) - 1)
        return chance.choice((None, b"", commas + b",", commas[1:], b'a"b' + commas, b"\xff"))
    wrong = {"VARCHAR": "5", "BOOLEAN": '"yes"', "JSON": "nonsense", "DATE": '"2013-02-30"'}
    column = chance.choice([c for c in declared.columns if c.made is None])
    row = {c.name: values.value(chance, c.type) for c in declared.columns if c.made is None}
    listed = [
        f'"{name}": {values.in_json(chance, kind, row[name])}'
        for name, kind in declared.typed
        if name in row and name != column.name
    ]
    listed.append(f'"{column.name}": {wrong.get(column.type, chr(34) + "x" + chr(34))}')
    whole = ("{" + ", ".join(listed) + "}").encode()
    return chance.choice((None, b"", b"[]", b'{"k":', b"{} {}", b'{"k": "\xff"}', whole, whole))
